// See auth.h. The directory is read again when it has changed: a new node's keys are admitted, a removed file's are not any
// more, without a restart. (Key files are made and removed, never written over.)
#include "common/bus/auth.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zmq.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/bus/keys.h"
#include "common/bus/watch.h"

enum { KEY_OCTETS = 32 };

struct bus_auth {
	char *directory;
	void *socket;
	struct bus_watch watch;
	struct map *identities;  // public key as text → identity
	struct timespec read_at; // the directory's time of change then
	loop_fn *failed;
	void *context;
};

static void read_directory(struct bus_auth *auth)
{
	struct stat status;
	if (stat(auth->directory, &status) < 0 ||
	    (status.st_mtim.tv_sec == auth->read_at.tv_sec && status.st_mtim.tv_nsec == auth->read_at.tv_nsec)) {
		return;
	}
	DIR *directory = opendir(auth->directory);
	if (!directory) {
		return;
	}
	auth->read_at = status.st_mtim;
	map_free(&auth->identities, free);
	auth->identities = map_new(NULL);
	for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
		char *dot = strrchr(entry->d_name, '.');
		char key[BUS_KEY_TEXT];
		if (!dot || strcmp(dot, ".public") != 0) {
			continue;
		}
		*dot = '\0';
		if (bus_key_read(auth->directory, entry->d_name, "public", key)) {
			free(map_insert_text(auth->identities, key, duplicate_text(entry->d_name)));
		}
	}
	closedir(directory);
}

enum { REQUEST_FRAMES = 7 }; // version, request id, domain, address, routing id, mechanism, credentials

static const char *identity_of(struct bus_auth *auth, zmq_msg_t *key)
{
	char text[BUS_KEY_TEXT];
	if (zmq_msg_size(key) != KEY_OCTETS || !zmq_z85_encode(text, zmq_msg_data(key), KEY_OCTETS)) {
		return NULL;
	}
	read_directory(auth);
	return map_find_text(auth->identities, text);
}

static bool says(zmq_msg_t *frame, const char *text)
{
	return bytes_equal((struct bytes){zmq_msg_data(frame), zmq_msg_size(frame)}, text_bytes(text));
}

static void send_text(struct bus_auth *auth, const char *text, bool more)
{
	zmq_send(auth->socket, text, strlen(text), ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0));
}

static void answer(struct bus_auth *auth, zmq_msg_t *frames, size_t count)
{
	bool known_form =
	    count == REQUEST_FRAMES && says(&frames[0], "1.0") && says(&frames[2], BUS_DOMAIN) && says(&frames[5], "CURVE");
	const char *identity = known_form ? identity_of(auth, &frames[6]) : NULL;
	send_text(auth, "1.0", true);
	zmq_send(auth->socket, zmq_msg_data(&frames[1]), zmq_msg_size(&frames[1]), ZMQ_DONTWAIT | ZMQ_SNDMORE);
	send_text(auth, identity ? "200" : "400", true);
	send_text(auth, identity ? "OK" : "unknown key", true);
	send_text(auth, identity ? identity : "", true);
	send_text(auth, "", false);
	if (!identity) {
		auth->failed(auth->context);
	}
}

static bool receive_request(void *context)
{
	struct bus_auth *auth = context;
	zmq_msg_t frames[REQUEST_FRAMES], rest;
	size_t count = 0;
	for (size_t i = 0; i < REQUEST_FRAMES; i++) {
		zmq_msg_init(&frames[i]);
	}
	zmq_msg_init(&rest);
	bool more = true;
	while (more && count < REQUEST_FRAMES && zmq_msg_recv(&frames[count], auth->socket, ZMQ_DONTWAIT) >= 0) {
		more = zmq_msg_more(&frames[count++]);
	}
	bool received = count > 0;
	while (received && more && zmq_msg_recv(&rest, auth->socket, ZMQ_DONTWAIT) >= 0) {
		more = zmq_msg_more(&rest);
		count = REQUEST_FRAMES + 1; // no request of this form
	}
	if (received) {
		answer(auth, frames, count);
	}
	zmq_msg_close(&rest);
	for (size_t i = 0; i < REQUEST_FRAMES; i++) {
		zmq_msg_close(&frames[i]);
	}
	return received;
}

struct bus_auth *bus_auth_new(void *zmq, struct loop *loop, const char *directory, loop_fn *failed, void *context)
{
	void *socket = zmq_socket(zmq, ZMQ_REP);
	if (!socket || zmq_bind(socket, "inproc://zeromq.zap.01") < 0) {
		int error = errno;
		if (socket) {
			zmq_close(socket);
		}
		errno = error;
		return NULL;
	}
	struct bus_auth *auth = allocate(sizeof *auth);
	*auth = (struct bus_auth){.directory = duplicate_text(directory),
	                          .socket = socket,
	                          .identities = map_new(NULL),
	                          .failed = failed,
	                          .context = context};
	bus_watch_begin(&auth->watch, loop, socket, receive_request, auth);
	return auth;
}

void bus_auth_free(struct bus_auth **auth_at)
{
	struct bus_auth *auth = *auth_at;
	if (!auth) {
		return;
	}
	bus_watch_end(&auth->watch);
	zmq_close(auth->socket);
	map_free(&auth->identities, free);
	free(auth->directory);
	free(auth);
	*auth_at = NULL;
}
