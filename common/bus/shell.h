// What bus.c, connection.c and question.c share: a process's ends of the bus with their sockets.
#ifndef TWINSPAN_BUS_SHELL_H
#define TWINSPAN_BUS_SHELL_H

#include "common/base/map.h"
#include "common/base/random.h"
#include "common/bus/auth.h"
#include "common/bus/bus.h"
#include "common/bus/endpoints.h"
#include "common/bus/lookout.h"
#include "common/bus/owner.h"
#include "common/bus/replica.h"
#include "common/bus/socket.h"

struct connection { // to one owner
	struct bus *bus;
	char *owner;
	struct bus_socket socket; // closed while the owner's endpoint or key is not known
	bool unknown;             // one of them is not there: it is told when that changes
	const char *endpoint;     // and key: those it was opened with
	char key[BUS_KEY_TEXT];
	struct bus_link *link;
	bool quick; // its silence makes a node count as gone
	struct connection *next;
};

struct bus {
	struct loop *loop;
	struct health *health;
	void *zmq; // ZeroMQ's context
	char *identity;
	const char *keys_directory;
	struct bus_lookout lookout;
	struct bus_keys keys;
	struct bus_endpoints *endpoints;
	struct random random;
	struct bus_auth *auth;
	struct bus_socket router; // when there is an endpoint for this identity
	struct bus_owner *owner;
	struct connection *connections;
	struct deadline tick;
	struct soon settle, probe;
	unsigned probes; // left to be made, one a tick
	struct bus_admission *admission;
	struct map *placed; // tunnels that were placed anew: id → itself when it has moved, else NULL
	struct soon reconsider;
	struct map *questions; // id → what was asked and is not answered
	struct map *handlers;  // name → who answers
	uint64_t next_question;
};

// The connection to an owner, made when it is first wanted.
struct connection *bus_connection(struct bus *bus, const char *owner);
// That it stands still is noticed within 3 seconds from now on.
void bus_connection_be_quick(struct connection *connection);
// Endpoints or keys may be others than before.
void bus_connection_look(struct connection *connection);
void bus_connection_tick(struct connection *connection);
void bus_connection_free(struct connection *connection);

void bus_question_received(struct bus *bus, struct bytes peer, const char *asker, const char *name, struct bytes body,
                           uint64_t id);
void bus_question_answered(struct bus *bus, uint64_t id, const char *error, struct bytes body);
void bus_questions_free(struct bus *bus);
// A tunnel is on `node` (NULL: nowhere any more): what waits for that is looked at again at the end of the batch.
void bus_place(struct bus *bus, struct bytes tunnel, const char *node);
void bus_count_dropped(const char *reason);
void bus_count_refused(const char *metric_name, const char *table, const char *reason, const char *help);

#endif
