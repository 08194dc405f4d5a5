// A process's connections to the owners whose tables it follows.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "common/base/alloc.h"
#include "common/bus/shell.h"
#include "common/bus/tables.h"
#include "common/io/log.h"
#include "proto/resource.pb-c.h"

// ---- the link's world ----

static void send_frame(void *context, struct bytes frame)
{
	struct connection *connection = context;
	void *handle = connection->socket.handle;
	if (!handle) {
		return;
	}
	bus_watch_touched(&connection->socket.watch);
	if (zmq_send(handle, frame.data, frame.length, ZMQ_DONTWAIT) < 0 && errno == EAGAIN) {
		// Asking for the events makes the socket take over a connection that has just been made; a frame that finds
		// none is lost, which the link knows how to live with.
		int events;
		size_t length = sizeof events;
		zmq_getsockopt(handle, ZMQ_EVENTS, &events, &length);
		zmq_send(handle, frame.data, frame.length, ZMQ_DONTWAIT);
	}
}

static void on_refused(void *context, const char *table, const char *reason)
{
	struct connection *connection = context;
	bus_count_refused("twinspan_bus_refusals_received_total", table, reason,
	                  "Streams that an owner refused to this process");
	log_limited(LOG_ERROR, "bus-open-refused", "owner", connection->owner, "table", table, "reason", reason, NULL);
}

static void on_dropped(void *context, const char *reason)
{
	struct connection *connection = context;
	bus_count_dropped(reason);
	log_limited(LOG_DEBUG, "bus-dropped", "owner", connection->owner, "reason", reason, NULL);
}

static void on_ready(void *context, const char *table, bool ready)
{
	struct connection *connection = context;
	if (connection->bus->health) {
		char *what = format_text("table %s from %s", table, connection->owner);
		health_wait(connection->bus->health, what, !ready);
		free(what);
	}
}

static enum row_verdict judge(void *context, const char *table, struct bytes key)
{
	struct connection *connection = context;
	enum row_verdict verdict = bus_admission_judge(connection->bus->admission, table_rule_find(table), connection->owner,
	                                               connection->bus->identity, key);
	if (verdict == ROW_REFUSED) {
		char *labels = format_text("table=\"%s\",owner=\"%s\"", table, connection->owner);
		metric_add(metric(METRIC_COUNTER, "twinspan_bus_refused_rows_total", labels,
		                  "Rows that a service of one node said of another node's tunnel, or of another node"),
		           1);
		free(labels);
		char *text = format_text("%.*s", (int)(key.length < 200 ? key.length : 200), (const char *)key.data);
		log_limited(LOG_WARNING, "bus-row-refused", "owner", connection->owner, "table", table, "key", text, "reason",
		            "it is another node's to say", NULL);
		free(text);
	}
	return verdict;
}

static void on_placed(void *context, const struct replica_row *rows, size_t count)
{
	struct connection *connection = context;
	for (size_t i = 0; i < count; i++) {
		Twinspan__VpnTunnel *row =
		    rows[i].removed ? NULL : twinspan__vpn_tunnel__unpack(NULL, rows[i].value.length, rows[i].value.data);
		bus_place(connection->bus, rows[i].key, row ? row->node_id : NULL);
		if (row) {
			twinspan__vpn_tunnel__free_unpacked(row, NULL);
		}
	}
}

static void on_answer(void *context, uint64_t id, const char *error, struct bytes body)
{
	bus_question_answered(((struct connection *)context)->bus, id, error, body);
}

// ---- the socket ----

static void on_event(void *context, enum bus_event event)
{
	struct connection *connection = context;
	switch (event) {
	case BUS_CONNECTED:
		log_event(LOG_DEBUG, "bus-connected", "owner", connection->owner, NULL);
		bus_link_up(connection->link);
		break;
	case BUS_DISCONNECTED:
		log_event(LOG_DEBUG, "bus-disconnected", "owner", connection->owner, NULL);
		bus_link_down(connection->link);
		break;
	default:
		log_limited(LOG_WARNING, "bus-handshake-failed", "owner", connection->owner, NULL);
		break;
	}
}

static bool receive_one(void *context)
{
	struct connection *connection = context;
	zmq_msg_t message;
	zmq_msg_init(&message);
	bool received = zmq_msg_recv(&message, connection->socket.handle, ZMQ_DONTWAIT) >= 0;
	if (received) {
		bus_link_receive(connection->link, (struct bytes){zmq_msg_data(&message), zmq_msg_size(&message)});
	}
	zmq_msg_close(&message);
	return received;
}

static void try_connect(struct connection *connection)
{
	struct bus *bus = connection->bus;
	const char *endpoint = bus_endpoints_find(bus->endpoints, connection->owner);
	connection->endpoint = endpoint;
	bool key = bus_key_read(bus->keys_directory, connection->owner, "public", connection->key);
	connection->unknown = !endpoint || (!key && !bus_key_hindered(errno));
	if (!endpoint || !key) {
		log_limited(LOG_WARNING, "bus-owner-unknown", "owner", connection->owner, "lacks",
		            endpoint ? "public key" : "endpoint", NULL);
		return;
	}
	const struct bus_socket_settings settings = {bus->zmq, bus->loop, &bus->keys, on_event, receive_one, connection};
	if (!bus_socket_connect(&connection->socket, &settings, connection->key, endpoint, connection->quick)) {
		log_limited(LOG_ERROR, "bus-connect-failed", "owner", connection->owner, "endpoint", endpoint, "error",
		            strerror(errno), NULL);
	}
}

struct connection *bus_connection(struct bus *bus, const char *owner)
{
	for (struct connection *connection = bus->connections; connection; connection = connection->next) {
		if (strcmp(connection->owner, owner) == 0) {
			return connection;
		}
	}
	struct connection *connection = allocate(sizeof *connection);
	const struct bus_link_world world = {.send = send_frame,
	                                     .refused = on_refused,
	                                     .dropped = on_dropped,
	                                     .ready = on_ready,
	                                     .judge = judge,
	                                     .placed = on_placed,
	                                     .answer = on_answer,
	                                     .context = connection};
	*connection = (struct connection){.bus = bus,
	                                  .owner = duplicate_text(owner),
	                                  .link = bus_link_new(random_u64(&bus->random), &world),
	                                  .next = bus->connections};
	bus->connections = connection;
	try_connect(connection);
	return connection;
}

static void disconnect(struct connection *connection)
{
	bus_socket_close(&connection->socket);
	bus_link_down(connection->link);
}

void bus_connection_be_quick(struct connection *connection)
{
	if (connection->quick) {
		return;
	}
	connection->quick = true;
	if (connection->socket.handle) { // the option is a connection's from its beginning
		disconnect(connection);
		try_connect(connection);
	}
}

// Is the owner elsewhere now, or its key another one, or gone? One whose endpoint alone is not there any more stays connected:
// the file may be in the middle of being written.
static bool is_outdated(const struct connection *connection)
{
	const struct bus *bus = connection->bus;
	const char *endpoint = bus_endpoints_find(bus->endpoints, connection->owner);
	char key[BUS_KEY_TEXT];
	bool known = bus_key_read(bus->keys_directory, connection->owner, "public", key);
	return (endpoint && strcmp(endpoint, connection->endpoint) != 0) ||
	       (known ? strcmp(key, connection->key) != 0 : !bus_key_hindered(errno));
}

void bus_connection_look(struct connection *connection)
{
	if (connection->socket.handle && is_outdated(connection)) {
		log_event(LOG_WARNING, "bus-owner-moved", "owner", connection->owner, "was", connection->endpoint, NULL);
		disconnect(connection);
	}
	if (!connection->socket.handle) {
		try_connect(connection);
	}
}

void bus_connection_tick(struct connection *connection)
{
	if (!connection->socket.handle && !connection->unknown) {
		try_connect(connection);
	}
	bus_link_tick(connection->link);
}

void bus_connection_free(struct connection *connection)
{
	bus_socket_close(&connection->socket);
	bus_link_free(&connection->link);
	free(connection->owner);
	free(connection);
}
