// See auth.h. The directory is read again when it has changed: a new node's keys are admitted, a removed file's are not any
// more, without a restart. A handshake looks for itself, so that a new key need not wait until its file is told of.
#include "common/bus/auth.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/bus/change.h"
#include "common/bus/keys.h"
#include "common/bus/watch.h"

enum { KEY_OCTETS = 32 };

struct bus_auth {
	char *directory;
	void *socket;
	struct bus_watch watch;
	struct map *identities; // public key as text → identity
	struct bus_change change;
	bool unread; // the last reading came to no end
	struct bus_auth_world world;
};

// NULL when something other than the files themselves stood in the way: that revokes nobody's key.
static struct map *read_identities(const char *path)
{
	DIR *directory = opendir(path);
	if (!directory) {
		return NULL;
	}
	struct map *identities = map_new(NULL);
	for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
		char *dot = strrchr(entry->d_name, '.');
		char key[BUS_KEY_TEXT];
		if (!dot || strcmp(dot, ".public") != 0) {
			continue;
		}
		*dot = '\0';
		if (bus_key_read(path, entry->d_name, "public", key)) {
			free(map_insert_text(identities, key, duplicate_text(entry->d_name)));
		} else if (bus_key_hindered(errno)) {
			map_free(&identities, free);
			break;
		}
	}
	closedir(directory);
	return identities;
}

void bus_auth_refresh(struct bus_auth *auth)
{
	struct map *present = read_identities(auth->directory), *former = auth->identities;
	auth->unread = !present;
	if (!present) {
		return;
	}
	auth->identities = present;
	for (struct map_cursor at = {0}; map_next(former, &at);) {
		const char *identity = map_find(present, at.key);
		if (!identity || strcmp(identity, at.value) != 0) {
			auth->world.revoked(auth->world.context, at.value);
		}
	}
	map_free(&former, free);
}

const char *bus_auth_identity(const struct bus_auth *auth, const char *user_id)
{
	return map_find_text(auth->identities, user_id);
}

enum { REQUEST_FRAMES = 7 }; // version, request id, domain, address, routing id, mechanism, credentials

// The key as text, when it is somebody's.
static bool admit(struct bus_auth *auth, zmq_msg_t *key, char text[static BUS_KEY_TEXT])
{
	if (zmq_msg_size(key) != KEY_OCTETS || !zmq_z85_encode(text, zmq_msg_data(key), KEY_OCTETS)) {
		return false;
	}
	if (bus_changed(&auth->change, auth->directory) || auth->unread) {
		bus_auth_refresh(auth);
	}
	return bus_auth_identity(auth, text) != NULL;
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
	char key[BUS_KEY_TEXT];
	bool admitted = known_form && admit(auth, &frames[6], key);
	send_text(auth, "1.0", true);
	zmq_send(auth->socket, zmq_msg_data(&frames[1]), zmq_msg_size(&frames[1]), ZMQ_DONTWAIT | ZMQ_SNDMORE);
	send_text(auth, admitted ? "200" : "400", true);
	send_text(auth, admitted ? "OK" : "unknown key", true);
	send_text(auth, admitted ? key : "", true);
	send_text(auth, "", false);
	if (!admitted) {
		auth->world.failed(auth->world.context);
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

struct bus_auth *bus_auth_new(void *zmq, struct loop *loop, const char *directory, const struct bus_auth_world *world)
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
	*auth = (struct bus_auth){
	    .directory = duplicate_text(directory), .socket = socket, .identities = map_new(NULL), .world = *world};
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
