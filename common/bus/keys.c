// See keys.h.
#include "common/bus/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "common/base/secret.h"
#include "common/bus/tables.h"

enum { PATH = 512 };

static bool path_of(const char *directory, const char *identity, const char *suffix, char out[static PATH])
{
	char service[32], node[64];
	// An identity is a part of a file's name: nothing that leads out of the directory.
	if (!identity_split(identity, service, node) || strchr(identity, '/') || identity[0] == '.') {
		errno = EINVAL;
		return false;
	}
	if (snprintf(out, PATH, "%s/%s.%s", directory, identity, suffix) >= PATH) {
		errno = ENAMETOOLONG;
		return false;
	}
	return true;
}

static bool write_file(const char *path, mode_t mode, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0) {
		return false;
	}
	char line[BUS_KEY_TEXT + 1];
	int length = snprintf(line, sizeof line, "%s\n", text);
	bool written = fchmod(fd, mode) == 0 && write(fd, line, (size_t)length) == length && fsync(fd) == 0;
	int error = errno;
	wipe(line, sizeof line);
	close(fd);
	if (!written) {
		unlink(path);
		errno = error;
	}
	return written;
}

bool bus_keys_write(const char *directory, const char *identity)
{
	char secret_path[PATH], public_path[PATH], public_key[BUS_KEY_TEXT], secret_key[BUS_KEY_TEXT];
	if (!path_of(directory, identity, "secret", secret_path) || !path_of(directory, identity, "public", public_path) ||
	    zmq_curve_keypair(public_key, secret_key) != 0) {
		return false;
	}
	// The secret first: a public key without one would be a door that nobody can use, and nobody can make anew.
	bool written = write_file(secret_path, 0600, secret_key);
	wipe(secret_key, sizeof secret_key);
	if (written && !write_file(public_path, 0644, public_key)) {
		int error = errno;
		unlink(secret_path);
		errno = error;
		written = false;
	}
	return written;
}

bool bus_key_read(const char *directory, const char *identity, const char *suffix, char out[static BUS_KEY_TEXT])
{
	char path[PATH], text[64];
	uint8_t octets[32];
	if (!path_of(directory, identity, suffix, path)) {
		return false;
	}
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return false;
	}
	ssize_t length = read(fd, text, sizeof text);
	int error = errno;
	close(fd);
	errno = error;
	if (length == BUS_KEY_TEXT && text[BUS_KEY_TEXT - 1] == '\n') {
		length--;
	}
	bool good = length == BUS_KEY_TEXT - 1;
	if (good) {
		text[BUS_KEY_TEXT - 1] = '\0';
		good = zmq_z85_decode(octets, text) != NULL;
	}
	if (good) {
		memcpy(out, text, BUS_KEY_TEXT);
	}
	wipe(text, sizeof text);
	wipe(octets, sizeof octets);
	if (!good && length >= 0) {
		errno = EINVAL;
	}
	return good;
}

bool bus_key_hindered(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM || error == EINTR || error == EIO;
}
