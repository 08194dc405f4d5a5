// Listening stream sockets by name: "address:port", "[address]:port" or "unix:/path" (health.h).
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/io/health.h"

enum { BACKLOG = 128 };

static int fail(int fd, int error)
{
	if (fd >= 0) {
		close(fd);
	}
	errno = error;
	return -1;
}

// Removes the socket file that a killed process left. One that somebody answers at stays, and so does what is not a socket.
static int remove_stale(const struct sockaddr_un *name)
{
	struct stat status;
	if (lstat(name->sun_path, &status) < 0) {
		return errno == ENOENT ? 0 : -1;
	}
	if (!S_ISSOCK(status.st_mode)) {
		return fail(-1, EEXIST);
	}
	int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0) {
		return -1;
	}
	int result = connect(probe, (const struct sockaddr *)name, sizeof *name);
	bool alive = result == 0 || errno == EAGAIN;
	close(probe);
	return alive ? fail(-1, EADDRINUSE) : unlink(name->sun_path);
}

static int listen_unix(const char *path)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof name.sun_path || path[0] == '\0') {
		return fail(-1, ENAMETOOLONG);
	}
	strcpy(name.sun_path, path);
	if (remove_stale(&name) < 0) {
		return -1;
	}
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) < 0 || chmod(path, 0666) < 0 || listen(fd, BACKLOG) < 0) {
		return fail(fd, errno);
	}
	return fd;
}

static int listen_tcp(const char *where)
{
	char host[64];
	const char *colon = strrchr(where, ':');
	size_t length = colon ? (size_t)(colon - where) : 0;
	if (length == 0 || length >= sizeof host) {
		return fail(-1, EINVAL);
	}
	bool bracketed = where[0] == '[' && where[length - 1] == ']';
	snprintf(host, sizeof host, "%.*s", (int)(bracketed ? length - 2 : length), bracketed ? where + 1 : where);
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	if (getaddrinfo(host, colon + 1, &hints, &found) != 0) {
		return fail(-1, EINVAL);
	}
	int one = 1;
	int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
	    bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
		int error = errno;
		freeaddrinfo(found);
		return fail(fd, error);
	}
	freeaddrinfo(found);
	return fd;
}

int listen_at(const char *where)
{
	return strncmp(where, "unix:", 5) == 0 ? listen_unix(where + 5) : listen_tcp(where);
}
