// See bus_auth.h. The directory is read again when it has changed: a new node's keys are admitted, a removed file's are not any
// more, without a restart. (Key files are made and removed, never written over.)
#include "common/bus/auth.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/bus/keys.h"
#include "common/io/log.h"

enum { KEY_OCTETS = 32, REQUESTS_AT_A_TIME = 64 };

struct bus_auth {
	struct loop *loop;
	char *directory;
	zsock_t *socket;
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

static const char *identity_of(struct bus_auth *auth, zframe_t *key)
{
	char text[BUS_KEY_TEXT];
	if (!key || zframe_size(key) != KEY_OCTETS || !zmq_z85_encode(text, zframe_data(key), KEY_OCTETS)) {
		return NULL;
	}
	read_directory(auth);
	return map_find_text(auth->identities, text);
}

// Frames of a request: version, request id, domain, address, routing id, mechanism, credentials.
static void answer(struct bus_auth *auth, zmsg_t *request)
{
	zframe_t *frames[7] = {0};
	size_t count = 0;
	for (zframe_t *frame = zmsg_first(request); frame && count < 7; frame = zmsg_next(request)) {
		frames[count++] = frame;
	}
	bool known_form = count == 7 && zframe_streq(frames[0], "1.0") && zframe_streq(frames[2], BUS_DOMAIN) &&
	                  zframe_streq(frames[5], "CURVE");
	const char *identity = known_form ? identity_of(auth, frames[6]) : NULL;
	zmsg_t *reply = zmsg_new();
	zmsg_addstr(reply, "1.0");
	zmsg_addmem(reply, count > 1 ? zframe_data(frames[1]) : NULL, count > 1 ? zframe_size(frames[1]) : 0);
	zmsg_addstr(reply, identity ? "200" : "400");
	zmsg_addstr(reply, identity ? "OK" : "unknown key");
	zmsg_addstr(reply, identity ? identity : "");
	zmsg_addmem(reply, "", 0);
	zmsg_send(&reply, auth->socket);
	if (!identity) {
		auth->failed(auth->context);
	}
}

static void on_request(void *context)
{
	struct bus_auth *auth = context;
	for (int i = 0; i < REQUESTS_AT_A_TIME && zsock_events(auth->socket) & ZMQ_POLLIN; i++) {
		zmsg_t *request = zmsg_recv(auth->socket);
		if (!request) {
			return;
		}
		answer(auth, request);
		zmsg_destroy(&request);
	}
}

struct bus_auth *bus_auth_new(struct loop *loop, const char *directory, loop_fn *failed, void *context)
{
	zsock_t *socket = zsock_new(ZMQ_REP);
	if (!socket || zsock_bind(socket, "inproc://zeromq.zap.01") < 0) {
		zsock_destroy(&socket);
		return NULL;
	}
	struct bus_auth *auth = allocate(sizeof *auth);
	*auth = (struct bus_auth){.loop = loop,
	                          .directory = duplicate_text(directory),
	                          .socket = socket,
	                          .identities = map_new(NULL),
	                          .failed = failed,
	                          .context = context};
	loop_socket(loop, socket, on_request, auth);
	return auth;
}

void bus_auth_free(struct bus_auth **auth_at)
{
	struct bus_auth *auth = *auth_at;
	if (!auth) {
		return;
	}
	loop_socket_end(auth->loop, auth->socket);
	zsock_destroy(&auth->socket);
	map_free(&auth->identities, free);
	free(auth->directory);
	free(auth);
	*auth_at = NULL;
}
