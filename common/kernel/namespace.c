// See namespace.h. The mounts are made as iproute2 makes them: /run/netns is a shared mount of its own (bound onto itself when
// it is not a mount yet, which also covers a plain chroot), a namespace is /proc/thread-self/ns/net bound onto an empty file in
// it. A file without a mount is what a maker killed half-way leaves behind, and is used again.
#include "common/kernel/namespace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static const char directory[] = "/run/netns";

enum { PATH = sizeof directory + 1 + NAMESPACE_NAME };

static bool path_of(const char *name, char path[static PATH])
{
	size_t length = strlen(name);
	if (length == 0 || length >= NAMESPACE_NAME || strchr(name, '/') || name[0] == '.') {
		errno = EINVAL;
		return false;
	}
	snprintf(path, PATH, "%s/%s", directory, name);
	return true;
}

static bool is_namespace(int fd)
{
	struct statfs where;
	return fstatfs(fd, &where) == 0 && where.f_type == NSFS_MAGIC;
}

int namespace_open(const char *name)
{
	char path[PATH];
	if (!path_of(name, path)) {
		return -1;
	}
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && !is_namespace(fd)) {
		close(fd);
		errno = ENOENT;
		return -1;
	}
	return fd;
}

int namespace_current(void)
{
	return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

int namespace_enter(int target)
{
	int previous = namespace_current();
	if (previous < 0) {
		return -1;
	}
	if (setns(target, CLONE_NEWNET) != 0) {
		int error = errno;
		close(previous);
		errno = error;
		return -1;
	}
	return previous;
}

void namespace_leave(int previous)
{
	int error = errno;
	if (setns(previous, CLONE_NEWNET) != 0) {
		abort();
	}
	close(previous);
	errno = error;
}

// Shared, so that other mount namespaces that follow this one see what is made in it, and that an unmount here takes effect
// there.
static bool prepare_directory(void)
{
	if (mkdir(directory, 0755) != 0 && errno != EEXIST) {
		return false;
	}
	if (mount("", directory, "none", MS_SHARED | MS_REC, NULL) == 0) {
		return true;
	}
	if (errno != EINVAL) {
		return false;
	}
	return mount(directory, directory, "none", MS_BIND | MS_REC, NULL) == 0 &&
	       mount("", directory, "none", MS_SHARED | MS_REC, NULL) == 0;
}

static void loopback_up(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		return;
	}
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	ioctl(fd, SIOCSIFFLAGS, &request);
	close(fd);
}

// Makes a namespace and binds it onto `path`.
static bool bind_new(const char *path)
{
	int previous = namespace_current();
	if (previous < 0) {
		return false;
	}
	bool made = false;
	if (unshare(CLONE_NEWNET) == 0) {
		loopback_up();
		made = mount("/proc/thread-self/ns/net", path, "none", MS_BIND, NULL) == 0;
	}
	namespace_leave(previous);
	return made;
}

int namespace_make(const char *name, bool *made)
{
	char path[PATH];
	if (made) {
		*made = false;
	}
	int fd = namespace_open(name);
	if (fd >= 0 || errno != ENOENT) {
		return fd;
	}
	if (!path_of(name, path) || !prepare_directory()) {
		return -1;
	}
	int file = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0);
	if (file < 0) {
		return -1;
	}
	close(file);
	if (!bind_new(path)) {
		int error = errno;
		unlink(path);
		errno = error;
		return -1;
	}
	if (made) {
		*made = true;
	}
	return namespace_open(name);
}

bool namespace_remove(const char *name)
{
	char path[PATH];
	if (!path_of(name, path)) {
		return false;
	}
	// Several mounts may lie on each other when two makers raced.
	while (umount2(path, MNT_DETACH) == 0) {
	}
	return unlink(path) == 0 || errno == ENOENT;
}

void namespace_list(const char *prefix, void (*found)(void *context, const char *name), void *context)
{
	DIR *names = opendir(directory);
	if (!names) {
		return;
	}
	for (struct dirent *entry = readdir(names); entry; entry = readdir(names)) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0) {
			continue;
		}
		int fd = namespace_open(entry->d_name);
		if (fd >= 0) {
			close(fd);
			found(context, entry->d_name);
		}
	}
	closedir(names);
}

int namespace_socket(int target, int family, int type, int protocol)
{
	int previous = namespace_enter(target);
	if (previous < 0) {
		return -1;
	}
	int fd = socket(family, type | SOCK_CLOEXEC, protocol);
	namespace_leave(previous);
	return fd;
}

// A proc instance that is mounted nowhere; the plain /proc where the kernel or the container does not allow one.
static int open_proc(void)
{
	int instance = fsopen("proc", FSOPEN_CLOEXEC);
	if (instance >= 0) {
		int root = -1;
		if (fsconfig(instance, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0) {
			root = fsmount(instance, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
		}
		close(instance);
		if (root >= 0) {
			return root;
		}
	}
	return open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

// /proc/sys/net shows the namespace of the thread that looks the name up, so the lookup is done inside.
static int open_sysctl(int target, const char *path, int flags)
{
	char name[256];
	if ((size_t)snprintf(name, sizeof name, "sys/net/%s", path) >= sizeof name) {
		errno = ENAMETOOLONG;
		return -1;
	}
	int previous = namespace_enter(target);
	if (previous < 0) {
		return -1;
	}
	int fd = -1;
	int proc = open_proc();
	if (proc >= 0) {
		fd = openat(proc, name, flags | O_CLOEXEC);
		int error = errno;
		close(proc);
		errno = error;
	}
	namespace_leave(previous);
	return fd;
}

bool namespace_sysctl(int target, const char *path, const char *value)
{
	int fd = open_sysctl(target, path, O_WRONLY);
	if (fd < 0) {
		return false;
	}
	ssize_t written = write(fd, value, strlen(value));
	int error = errno;
	close(fd);
	errno = error;
	return written == (ssize_t)strlen(value);
}

bool namespace_sysctl_read(int target, const char *path, char *value, size_t capacity)
{
	int fd = open_sysctl(target, path, O_RDONLY);
	if (fd < 0) {
		return false;
	}
	ssize_t length = read(fd, value, capacity - 1);
	int error = errno;
	close(fd);
	errno = error;
	if (length < 0) {
		return false;
	}
	value[length] = '\0';
	value[strcspn(value, "\n")] = '\0';
	return true;
}
