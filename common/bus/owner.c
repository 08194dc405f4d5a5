// See owner.h. Here: peers and admission, and the owning half of bus.h.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/base/map.h"
#include "common/bus/bus.h"
#include "common/bus/owner_state.h"

void owner_unsettle(struct bus_owner *owner)
{
	if (!owner->unsettled) {
		owner->unsettled = true;
		owner->world.unsettled(owner->world.context);
	}
}

// ---- peers ----

bool peer_send(struct peer *peer, struct bytes frame)
{
	if (!peer->gone && !peer->owner->world.send(peer->owner->world.context, peer->id, frame)) {
		peer->gone = true;
		owner_unsettle(peer->owner);
	}
	return !peer->gone;
}

static void send_heartbeat(struct peer *peer)
{
	Twinspan__BusFrame frame;
	Twinspan__BusHeartbeat heartbeat;
	twinspan__bus_frame__init(&frame);
	twinspan__bus_heartbeat__init(&heartbeat);
	frame.kind_case = TWINSPAN__BUS_FRAME__KIND_HEARTBEAT;
	frame.heartbeat = &heartbeat;
	heartbeat.epoch = peer->owner->epoch;
	heartbeat.interval_ms = BUS_TICK_MS;
	peer_send(peer, bus_frame_write(&peer->owner->room, &frame));
}

static void send_refused(struct peer *peer, const char *table, uint64_t stream, const char *reason)
{
	Twinspan__BusFrame frame;
	Twinspan__BusRefused refused;
	twinspan__bus_frame__init(&frame);
	twinspan__bus_refused__init(&refused);
	frame.kind_case = TWINSPAN__BUS_FRAME__KIND_REFUSED;
	frame.refused = &refused;
	refused.table = (char *)(uintptr_t)table;
	refused.stream = stream;
	refused.reason = (char *)(uintptr_t)reason;
	peer_send(peer, bus_frame_write(&peer->owner->room, &frame));
}

static void peer_free(void *context)
{
	struct peer *peer = context;
	while (peer->streams) {
		stream_free(peer->streams);
	}
	invariant(peer->stream_count == 0);
	free((uint8_t *)(uintptr_t)peer->id.data);
	free(peer->reader);
	free(peer);
}

// The peer of a connection, made at its first frame. NULL when there are too many.
static struct peer *peer_of(struct bus_owner *owner, struct bytes id, const char *reader)
{
	struct peer *peer = map_find(owner->peers, id);
	if (peer && (peer->gone || strcmp(peer->reader, reader) != 0)) {
		map_remove(owner->peers, id); // the transport gave an old name to a new connection
		peer_free(peer);
		peer = NULL;
	}
	if (!peer && map_count(owner->peers) < MOST_PEERS) {
		peer = allocate(sizeof *peer);
		uint8_t *copy = allocate(id.length);
		memcpy(copy, id.data, id.length);
		*peer = (struct peer){.owner = owner, .id = {copy, id.length}, .reader = duplicate_text(reader)};
		map_insert(owner->peers, id, peer);
		invariant(map_count(owner->peers) <= MOST_PEERS);
		send_heartbeat(peer);
	}
	return peer;
}

// ---- frames ----

static struct table *find_table(const struct bus_owner *owner, const char *name)
{
	struct table *table = owner->tables;
	while (table && strcmp(table->rule->name, name) != 0) {
		table = table->next;
	}
	return table;
}

// What of the table `reader` sees when it asks for `filter`; NULL: nothing. `room` holds a node.
static const char *scope_for(const struct table_rule *rule, const char *reader, const char *filter, char room[static 64])
{
	char service[32];
	if (!identity_split(reader, service, room)) {
		return NULL;
	}
	if (rule->scope == TABLE_REGION || room[0] == '\0') {
		return filter;
	}
	return filter[0] == '\0' || strcmp(filter, room) == 0 ? room : NULL;
}

static void refuse_open(struct peer *peer, const Twinspan__BusOpen *open, const char *reason)
{
	struct bus_owner *owner = peer->owner;
	// The name comes from a stranger: a counter has it only when the matrix knows it.
	const char *table = table_rule_find(open->table) ? open->table : "unknown";
	owner->world.refused(owner->world.context, peer->reader, table, reason);
	send_refused(peer, open->table, open->stream, reason);
}

// What a reader had of the same table and filter on another connection ends with this one, so that the applied mark of a
// process that was killed does not outlive it; on this connection only what the same replica had: another part of the service
// may follow the same table.
static void replace_streams(const struct table *table, const struct peer *peer, const Twinspan__BusOpen *open)
{
	for (struct stream *stream = table->streams, *next; stream; stream = next) {
		next = stream->next_of_table;
		if (strcmp(stream->peer->reader, peer->reader) == 0 && strcmp(stream->filter, open->filter) == 0 &&
		    (stream->peer != peer || stream->follower == open->follower)) {
			stream_free(stream);
		}
	}
}

static void on_open(struct peer *peer, const Twinspan__BusOpen *open)
{
	struct table *table = find_table(peer->owner, open->table);
	const struct table_rule *rule = table_rule_find(open->table);
	char node[64];
	if (!rule || !table_admits(rule, peer->owner->identity, peer->reader)) {
		refuse_open(peer, open, "not admitted");
		return;
	}
	const char *scope = scope_for(rule, peer->reader, open->filter, node);
	if (!scope || strlen(open->filter) >= STREAM_NAME) {
		refuse_open(peer, open, "foreign scope");
		return;
	}
	if (!table) {
		refuse_open(peer, open, "not owned");
		return;
	}
	replace_streams(table, peer, open);
	if (peer->stream_count >= MOST_STREAMS) {
		refuse_open(peer, open, "too many streams");
		return;
	}
	struct stream *stream = stream_new(table, peer, open, scope);
	invariant(peer->stream_count <= MOST_STREAMS);
	stream_push(stream);
	if (table->complete && stream->flying_count == 1 && stream->flying_octets == 0) {
		stream_ask(stream); // it lacks nothing: that is its answer
	}
}

static void on_applied(struct peer *peer, const Twinspan__BusApplied *applied)
{
	for (struct stream *stream = peer->streams; stream; stream = stream->next_of_peer) {
		if (stream->id == applied->stream && strcmp(stream->table->rule->name, applied->table) == 0) {
			if (stream_applied(stream, applied->epoch, applied->sequence)) {
				stream_arrived(stream, applied->parts);
				return;
			}
			// More than was sent: it follows another course than this stream's.
			peer->owner->world.dropped(peer->owner->world.context, peer->reader, "impossible");
			break;
		}
	}
	send_refused(peer, applied->table, applied->stream, "unknown stream");
}

static void on_close(const struct peer *peer, const Twinspan__BusClose *close)
{
	for (struct stream *stream = peer->streams, *next; stream; stream = next) {
		next = stream->next_of_peer;
		if (stream->id == close->stream && strcmp(stream->table->rule->name, close->table) == 0) {
			stream_free(stream);
		}
	}
}

static void on_question(struct peer *peer, const Twinspan__BusQuestion *question)
{
	struct bus_owner *owner = peer->owner;
	char name[96];
	snprintf(name, sizeof name, "question/%s", question->name);
	const struct table_rule *rule = table_rule_find(name);
	if (!rule || !table_admits(rule, owner->identity, peer->reader)) {
		owner->world.refused(owner->world.context, peer->reader, rule ? rule->name : "unknown", "not admitted");
		bus_owner_answer(owner, peer->id, question->id, "not admitted", (struct bytes){0});
		return;
	}
	owner->world.question(owner->world.context, peer->id, peer->reader, question->name,
	                      (struct bytes){question->body.data, question->body.len}, question->id, question->deadline_ms);
}

void bus_owner_receive(struct bus_owner *owner, struct bytes id, const char *reader, struct bytes octets)
{
	Twinspan__BusFrame *frame = bus_frame_read(octets);
	struct peer *peer = frame ? peer_of(owner, id, reader) : NULL;
	if (!peer) {
		owner->world.dropped(owner->world.context, reader, frame ? "too many connections" : "malformed");
		bus_frame_free(&frame);
		return;
	}
	peer->silent_ticks = 0;
	switch (frame->kind_case) {
	case TWINSPAN__BUS_FRAME__KIND_OPEN:
		on_open(peer, frame->open);
		break;
	case TWINSPAN__BUS_FRAME__KIND_APPLIED:
		on_applied(peer, frame->applied);
		break;
	case TWINSPAN__BUS_FRAME__KIND_QUESTION:
		on_question(peer, frame->question);
		break;
	case TWINSPAN__BUS_FRAME__KIND_CLOSE:
		on_close(peer, frame->close);
		break;
	case TWINSPAN__BUS_FRAME__KIND_HEARTBEAT:
		break;
	default:
		owner->world.dropped(owner->world.context, reader, "not for an owner");
		break;
	}
	bus_frame_free(&frame);
}

// ---- time ----

void bus_owner_tick(struct bus_owner *owner)
{
	for (struct map_cursor at = {0}; map_next(owner->peers, &at);) {
		struct peer *peer = at.value;
		if (++peer->silent_ticks > BUS_SILENT_TICKS) {
			peer->gone = true;
			owner_unsettle(owner);
			continue;
		}
		for (struct stream *stream = peer->streams; stream; stream = stream->next_of_peer) {
			stream_tick(stream);
		}
	}
}

void bus_owner_probe(struct bus_owner *owner)
{
	for (struct map_cursor at = {0}; map_next(owner->peers, &at);) {
		send_heartbeat(at.value);
	}
}

void bus_owner_settle(struct bus_owner *owner)
{
	if (!owner->unsettled) {
		return;
	}
	for (struct map_cursor at = {0}; map_next(owner->peers, &at);) {
		struct peer *peer = at.value;
		if (peer->gone) {
			map_remove(owner->peers, at.key);
			peer_free(peer);
		}
	}
	owner->unsettled = false;
	for (struct table *table = owner->tables; table; table = table->next) {
		if (table->applied_moved) {
			table->applied_moved = false;
			if (table->applied) {
				table->applied(table->applied_context);
			}
		}
	}
}

bool bus_owner_answer(struct bus_owner *owner, struct bytes id, uint64_t question, const char *error, struct bytes body)
{
	struct peer *peer = map_find(owner->peers, id);
	if (!peer) {
		return false;
	}
	Twinspan__BusFrame frame;
	Twinspan__BusAnswer answer;
	twinspan__bus_frame__init(&frame);
	twinspan__bus_answer__init(&answer);
	frame.kind_case = TWINSPAN__BUS_FRAME__KIND_ANSWER;
	frame.answer = &answer;
	answer.id = question;
	if (error) {
		answer.error = (char *)(uintptr_t)error;
	}
	answer.body = (ProtobufCBinaryData){body.length, (uint8_t *)(uintptr_t)body.data};
	return peer_send(peer, bus_frame_write(&owner->room, &frame));
}

// ---- life ----

struct bus_owner *bus_owner_new(const char *identity, uint64_t epoch, const struct bus_owner_world *world)
{
	struct bus_owner *owner = allocate(sizeof *owner);
	*owner =
	    (struct bus_owner){.identity = duplicate_text(identity), .epoch = epoch, .world = *world, .peers = map_new(NULL)};
	return owner;
}

void bus_owner_free(struct bus_owner **owner_at)
{
	struct bus_owner *owner = *owner_at;
	if (!owner) {
		return;
	}
	owner->unsettled = true; // nobody is to be told any more
	map_free(&owner->peers, peer_free);
	while (owner->tables) {
		struct table *table = owner->tables;
		invariant(!table->streams);
		owner->tables = table->next;
		table_rows_free(&table->rows);
		free(table);
	}
	frame_room_free(&owner->room);
	free(owner->identity);
	free(owner);
	*owner_at = NULL;
}

size_t bus_owner_streams(const struct bus_owner *owner)
{
	size_t count = 0;
	for (struct map_cursor at = {0}; map_next(owner->peers, &at);) {
		count += ((const struct peer *)at.value)->stream_count;
	}
	return count;
}

struct table *bus_owner_table(struct bus_owner *owner, const char *name)
{
	struct table *table = find_table(owner, name);
	if (table) {
		return table;
	}
	const struct table_rule *rule = table_rule_find(name);
	char service[32], node[64];
	if (!rule || !identity_split(owner->identity, service, node) || strcmp(rule->owner, service) != 0) {
		return NULL;
	}
	table = allocate(sizeof *table);
	*table = (struct table){
	    .owner = owner, .rule = rule, .rows = table_rows_new(rule->marks & TABLE_SECRET), .next = owner->tables};
	owner->tables = table;
	return table;
}

// ---- the owning half of bus.h ----

static void place(const struct table *table, struct bytes key, const char *node)
{
	const struct bus_owner_world *world = &table->owner->world;
	if (table->rule->marks & TABLE_PLACES_TUNNELS && world->placed) {
		world->placed(world->context, key, node);
	}
}

void table_put(struct table *table, const char *scope, struct bytes key, struct bytes value)
{
	if (key.length + value.length > BUS_ROW) {
		abort(); // a service's own fault: no row is made of so much
	}
	table_rows_put(table->rows, scope, key, value);
	place(table, key, scope);
}

void table_remove(struct table *table, struct bytes key)
{
	table_rows_remove(table->rows, key);
	place(table, key, NULL);
}

bool table_has(const struct table *table, struct bytes key)
{
	return table_rows_has(table->rows, key);
}

uint64_t table_commit(struct table *table)
{
	uint64_t before = table_rows_sequence(table->rows);
	uint64_t sequence = table_rows_commit(table->rows, false);
	invariant(sequence == before || sequence == before + 1);
	for (struct stream *stream = table->streams; sequence != before && stream; stream = stream->next_of_table) {
		stream_push(stream);
	}
	return sequence;
}

void table_complete(struct table *table)
{
	if (!table->complete) {
		table->complete = true;
		// At least 1, so that 0 means that a reader has nothing, also of an empty table.
		table_rows_commit(table->rows, table_rows_sequence(table->rows) == 0);
		for (struct stream *stream = table->streams; stream; stream = stream->next_of_table) {
			stream_push(stream);
		}
	}
}

bool table_is_complete(const struct table *table)
{
	return table->complete;
}

uint64_t table_sequence(const struct table *table)
{
	return table_rows_sequence(table->rows);
}

uint64_t table_applied(const struct table *table, const char *reader)
{
	uint64_t least = UINT64_MAX;
	for (const struct stream *stream = table->streams; stream; stream = stream->next_of_table) {
		if (!stream->peer->gone && strcmp(stream->peer->reader, reader) == 0) {
			uint64_t mark = stream_mark(stream);
			least = mark < least ? mark : least;
		}
	}
	return least == UINT64_MAX ? 0 : least;
}

void table_on_applied(struct table *table, loop_fn *fn, void *context)
{
	table->applied = fn;
	table->applied_context = context;
}

void bus_owner_forget(struct bus_owner *owner, const char *reader)
{
	for (struct map_cursor at = {0}; map_next(owner->peers, &at);) {
		struct peer *peer = at.value;
		if (strcmp(peer->reader, reader) != 0) {
			continue;
		}
		while (peer->streams) {
			struct stream *stream = peer->streams;
			send_refused(peer, stream->table->rule->name, stream->id, "key revoked");
			stream_free(stream);
		}
		peer->gone = true;
		owner_unsettle(owner);
	}
}
