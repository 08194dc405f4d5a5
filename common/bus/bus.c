// The bus of a process (bus.h): its keys, its owner's socket, its clock; the table protocol itself is in owner.c,
// stream.c, link.c and replica.c, which know of neither.
#include "common/bus/bus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "common/base/alloc.h"
#include "common/base/secret.h"
#include "common/bus/frame.h"
#include "common/bus/process_id.h"
#include "common/bus/shell.h"
#include "common/bus/tables.h"
#include "common/io/config.h"
#include "common/io/entropy.h"
#include "common/io/log.h"
#include "common/io/process.h"

enum {
	MOST_SOCKETS = 65535, // of ZeroMQ: three for each connection
	PROBES = 2,           // after a connection has ended
};

// ---- counting ----

void bus_count_dropped(const char *reason)
{
	char *labels = format_text("reason=\"%s\"", reason);
	metric_add(
	    metric(METRIC_COUNTER, "twinspan_bus_dropped_total", labels, "Frames of the table protocol that were not believed"),
	    1);
	free(labels);
}

void bus_count_refused(const char *metric_name, const char *table, const char *reason, const char *help)
{
	char *labels = format_text("table=\"%s\",reason=\"%s\"", table, reason);
	metric_add(metric(METRIC_COUNTER, metric_name, labels, help), 1);
	free(labels);
}

static void count_handshake_failure(const char *reason)
{
	char *labels = format_text("reason=\"%s\"", reason);
	metric_add(
	    metric(METRIC_COUNTER, "twinspan_bus_handshake_failures_total", labels, "Connections that did not get past CURVE"),
	    1);
	free(labels);
	log_limited(LOG_WARNING, "bus-handshake-failed", "reason", reason, NULL);
}

// ---- the owner's world ----

static bool send_to_peer(void *context, struct bytes peer, struct bytes frame)
{
	struct bus *bus = context;
	void *handle = bus->router.handle;
	if (!handle) {
		return false;
	}
	bus_watch_touched(&bus->router.watch);
	return zmq_send(handle, peer.data, peer.length, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
	       zmq_send(handle, frame.data, frame.length, ZMQ_DONTWAIT) >= 0;
}

static void on_refused(void *context, const char *reader, const char *table, const char *reason)
{
	(void)context;
	bus_count_refused("twinspan_bus_refused_total", table, reason, "Streams and questions refused to a reader");
	log_limited(LOG_WARNING, "bus-refused", "reader", reader, "table", table, "reason", reason, NULL);
}

static void on_dropped(void *context, const char *reader, const char *reason)
{
	(void)context;
	bus_count_dropped(reason);
	log_limited(LOG_WARNING, "bus-dropped", "reader", reader, "reason", reason, NULL);
}

// ---- where tunnels are ----

void bus_place(struct bus *bus, struct bytes tunnel, const char *node)
{
	bool moved;
	if (bus_admission_place(bus->admission, tunnel, node, &moved)) {
		map_insert(bus->placed, tunnel, moved ? (void *)bus : NULL);
		loop_soon(bus->loop, &bus->reconsider);
	}
}

static void on_placed(void *context, struct bytes tunnel, const char *node)
{
	bus_place(context, tunnel, node);
}

static void reconsider(void *context)
{
	struct bus *bus = context;
	struct map *tunnels = bus->placed;
	bus->placed = map_new(NULL);
	for (struct connection *connection = bus->connections; connection; connection = connection->next) {
		bus_link_reconsider(connection->link, tunnels);
	}
	map_free(&tunnels, NULL);
}

static void on_unsettled(void *context)
{
	struct bus *bus = context;
	loop_soon(bus->loop, &bus->settle);
}

static void on_question(void *context, struct bytes peer, const char *asker, const char *name, struct bytes body, uint64_t id,
                        uint64_t deadline_ms)
{
	(void)deadline_ms; // the asker's own clock ends the wait
	bus_question_received(context, peer, asker, name, body, id);
}

static void settle(void *context)
{
	struct bus *bus = context;
	bus_owner_settle(bus->owner);
}

// ---- the owner's socket ----

// Takes one message: the connection's name, then one frame. false when there is none.
static bool receive_one(void *context)
{
	struct bus *bus = context;
	void *handle = bus->router.handle;
	zmq_msg_t peer, frame;
	zmq_msg_init(&peer);
	zmq_msg_init(&frame);
	bool received = zmq_msg_recv(&peer, handle, ZMQ_DONTWAIT) >= 0;
	if (received) {
		bool whole = zmq_msg_more(&peer) && zmq_msg_recv(&frame, handle, ZMQ_DONTWAIT) >= 0;
		const char *key = whole ? zmq_msg_gets(&frame, "User-Id") : NULL;
		const char *reader = key ? bus_auth_identity(bus->auth, key) : NULL;
		bool single = whole && !zmq_msg_more(&frame);
		if (single && reader) {
			bus_owner_receive(bus->owner, (struct bytes){zmq_msg_data(&peer), zmq_msg_size(&peer)}, reader,
			                  (struct bytes){zmq_msg_data(&frame), zmq_msg_size(&frame)});
		} else {
			on_dropped(bus, reader ? reader : "-", single && key ? "revoked key" : "malformed");
		}
		while (whole && zmq_msg_more(&frame)) {
			zmq_msg_close(&frame);
			zmq_msg_init(&frame);
			whole = zmq_msg_recv(&frame, handle, ZMQ_DONTWAIT) >= 0;
		}
	}
	zmq_msg_close(&frame);
	zmq_msg_close(&peer);
	return received;
}

static void on_event(void *context, enum bus_event event)
{
	struct bus *bus = context;
	switch (event) {
	case BUS_CONNECTED:
		break;
	case BUS_DISCONNECTED:
		loop_soon(bus->loop, &bus->probe); // once for all that end together
		bus->probes = PROBES;              // and again: ZeroMQ says that a connection has ended before its socket knows
		break;
	case BUS_HANDSHAKE_CLOSED:
		count_handshake_failure("closed");
		break;
	case BUS_HANDSHAKE_PROTOCOL:
		count_handshake_failure("protocol");
		break;
	}
}

static void on_unknown_key(void *context)
{
	(void)context;
	count_handshake_failure("unknown key");
}

static void on_revoked(void *context, const char *identity)
{
	struct bus *bus = context;
	log_event(LOG_WARNING, "bus-key-revoked", "identity", identity, NULL);
	bus_owner_forget(bus->owner, identity);
}

static void probe(void *context)
{
	struct bus *bus = context;
	bus_owner_probe(bus->owner);
}

static void bind_owner(struct bus *bus, const char *endpoint)
{
	const struct bus_auth_world world = {.failed = on_unknown_key, .revoked = on_revoked, .context = bus};
	bus->auth = bus_auth_new(bus->zmq, bus->loop, bus->keys_directory, &world);
	if (!bus->auth) {
		fprintf(stderr, "the bus's authenticator cannot listen: %s\n", strerror(errno));
		exit(2);
	}
	const struct bus_socket_settings settings = {bus->zmq, bus->loop, &bus->keys, on_event, receive_one, bus};
	while (!bus_socket_bind(&bus->router, &settings, endpoint)) {
		if (!process_wait_for("TWINSPAN_BUS", endpoint, errno)) {
			fprintf(stderr, "TWINSPAN_BUS: cannot bind %s for %s: %s\n", endpoint, bus->identity, strerror(errno));
			exit(2);
		}
	}
}

// ---- life ----

// Keys or endpoints may be others than they were.
static void look_around(void *context)
{
	struct bus *bus = context;
	if (bus->auth) {
		bus_auth_refresh(bus->auth);
	}
	bus_endpoints_refresh(bus->endpoints);
	for (struct connection *connection = bus->connections; connection; connection = connection->next) {
		bus_connection_look(connection);
	}
}

static void tick(void *context)
{
	struct bus *bus = context;
	if (bus->probes > 0) {
		bus->probes--;
		bus_owner_probe(bus->owner);
	}
	bus_owner_tick(bus->owner);
	bus_owner_settle(bus->owner);
	for (struct connection *connection = bus->connections; connection; connection = connection->next) {
		bus_connection_tick(connection);
	}
	deadline_arm(&bus->tick, beat_after(now(), MILLISECONDS(BUS_TICK_MS)));
}

static void read_keys(struct bus *bus)
{
	bus->keys_directory = config_text("TWINSPAN_KEYS", NULL);
	if (!bus_key_read(bus->keys_directory, bus->identity, "public", bus->keys.public_key) ||
	    !bus_key_read(bus->keys_directory, bus->identity, "secret", bus->keys.secret_key)) {
		fprintf(stderr, "TWINSPAN_KEYS: %s has no readable key pair of %s\n", bus->keys_directory, bus->identity);
		exit(2);
	}
}

struct bus *bus_new(struct loop *loop, struct health *health, const char *identity)
{
	struct bus *bus = allocate(sizeof *bus);
	*bus = (struct bus){.loop = loop, .health = health, .identity = duplicate_text(identity)};
	entropy_seed(&bus->random);
	read_keys(bus);
	process_id_remember();
	bus->zmq = zmq_ctx_new();
	if (!bus->zmq || zmq_ctx_set(bus->zmq, ZMQ_MAX_SOCKETS, MOST_SOCKETS) < 0) {
		fprintf(stderr, "ZeroMQ: %s\n", strerror(errno));
		exit(2);
	}
	const char *endpoints_file = config_text("TWINSPAN_BUS", NULL);
	bus_lookout_begin(&bus->lookout, loop, bus->keys_directory, endpoints_file, look_around, bus);
	bus->endpoints = bus_endpoints_new(endpoints_file);
	bus->admission = bus_admission_new();
	bus->placed = map_new(NULL);
	soon_init(&bus->reconsider, reconsider, bus);
	bus->questions = map_new(NULL);
	bus->handlers = map_new(NULL);
	bus->next_question = random_u64(&bus->random);
	deadline_init(&bus->tick, loop, tick, bus);
	soon_init(&bus->settle, settle, bus);
	soon_init(&bus->probe, probe, bus);
	const struct bus_owner_world world = {.send = send_to_peer,
	                                      .refused = on_refused,
	                                      .dropped = on_dropped,
	                                      .placed = on_placed,
	                                      .unsettled = on_unsettled,
	                                      .question = on_question,
	                                      .context = bus};
	uint64_t epoch = random_u64(&bus->random);
	bus->owner = bus_owner_new(identity, epoch ? epoch : 1, &world);
	const char *endpoint = bus_endpoints_find(bus->endpoints, identity);
	if (endpoint) {
		bind_owner(bus, endpoint);
	}
	deadline_arm(&bus->tick, beat_after(now(), MILLISECONDS(BUS_TICK_MS)));
	return bus;
}

void bus_free(struct bus **bus_at)
{
	struct bus *bus = *bus_at;
	if (!bus) {
		return;
	}
	while (bus->connections) {
		struct connection *first = bus->connections;
		bus->connections = first->next;
		bus_connection_free(first);
	}
	bus_questions_free(bus);
	bus_socket_close(&bus->router);
	bus_owner_free(&bus->owner);
	bus_auth_free(&bus->auth);
	deadline_disarm(&bus->tick);
	bus_lookout_end(&bus->lookout);
	soon_cancel(&bus->settle);
	soon_cancel(&bus->probe);
	soon_cancel(&bus->reconsider);
	bus_admission_free(&bus->admission);
	map_free(&bus->placed, NULL);
	zmq_ctx_term(bus->zmq);
	bus_endpoints_free(&bus->endpoints);
	wipe(&bus->keys, sizeof bus->keys);
	wipe(&bus->random, sizeof bus->random);
	free(bus->identity);
	free(bus);
	*bus_at = NULL;
}

const char *bus_endpoint(const struct bus *bus, const char *identity)
{
	return bus_endpoints_find(bus->endpoints, identity);
}

struct table *table_own(struct bus *bus, const char *name)
{
	struct table *table = bus_owner_table(bus->owner, name);
	if (!table) {
		fprintf(stderr, "%s does not own the table %s\n", bus->identity, name);
		abort(); // the service's code and the matrix disagree
	}
	return table;
}

struct replica *replica_new(struct bus *bus, const char *owner, const char *table, const char *filter, replica_fn *changed,
                            void *context)
{
	struct connection *connection = bus_connection(bus, owner);
	const struct table_rule *rule = table_rule_find(table);
	if (rule && rule->marks & TABLE_OF_NODES) {
		bus_connection_be_quick(connection);
	}
	return bus_link_replica(connection->link, table, filter, changed, context);
}
