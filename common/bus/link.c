// The link to one owner (replica.h): whether it lives, and which replica a frame is for.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/bus/replica_state.h"

struct bus_link *bus_link_new(uint64_t first_stream, const struct bus_link_world *world)
{
	struct bus_link *link = allocate(sizeof *link);
	// Far from overflow, and never 0.
	*link = (struct bus_link){.world = *world, .next_stream = (first_stream >> 1) + 1};
	return link;
}

void bus_link_free(struct bus_link **link_at)
{
	struct bus_link *link = *link_at;
	if (!link) {
		return;
	}
	while (link->replicas) {
		link->replicas->stream = 0; // the connection ends: nobody has to be told
		replica_delete(link->replicas);
	}
	frame_room_free(&link->room);
	free(link);
	*link_at = NULL;
}

static void judge_life(struct bus_link *link)
{
	bool alive = link->up && link->heard;
	if (alive == link->alive) {
		return;
	}
	link->alive = alive;
	for (struct replica *replica = link->replicas, *next; replica; replica = next) {
		next = replica->next;
		replica_tell_state(replica);
	}
}

void bus_link_up(struct bus_link *link)
{
	link->up = true;
	link->heard = false;
	for (struct replica *replica = link->replicas; replica; replica = replica->next) {
		replica_open(replica);
	}
	judge_life(link);
}

void bus_link_down(struct bus_link *link)
{
	link->up = false;
	for (struct replica *replica = link->replicas; replica; replica = replica->next) {
		replica->stream = 0;
		assembly_clear(&replica->assembly);
	}
	judge_life(link);
}

bool bus_link_is_up(const struct bus_link *link)
{
	return link->up;
}

static struct replica *find_stream(const struct bus_link *link, uint64_t stream, const char *table)
{
	for (struct replica *replica = link->replicas; stream && replica; replica = replica->next) {
		if (replica->stream == stream && strcmp(replica->table, table) == 0) {
			return replica;
		}
	}
	return NULL;
}

static void on_batch(struct bus_link *link, const Twinspan__BusBatch *batch)
{
	struct replica *replica = find_stream(link, batch->stream, batch->table);
	if (replica && !replica->refused) {
		replica_receive(replica, batch);
	} else {
		link->world.dropped(link->world.context, "stale");
	}
}

static void on_refused(struct bus_link *link, const Twinspan__BusRefused *refused)
{
	struct replica *replica = find_stream(link, refused->stream, refused->table);
	if (replica) {
		replica_refuse(replica, refused->reason);
	} else {
		link->world.dropped(link->world.context, "stale");
	}
}

void bus_link_receive(struct bus_link *link, struct bytes octets)
{
	Twinspan__BusFrame *frame = bus_frame_read(octets);
	if (!frame) {
		link->world.dropped(link->world.context, "malformed");
		return;
	}
	link->heard = true;
	judge_life(link);
	switch (frame->kind_case) {
	case TWINSPAN__BUS_FRAME__KIND_BATCH:
		on_batch(link, frame->batch);
		break;
	case TWINSPAN__BUS_FRAME__KIND_REFUSED:
		on_refused(link, frame->refused);
		break;
	case TWINSPAN__BUS_FRAME__KIND_ANSWER:
		link->world.answer(link->world.context, frame->answer->id,
		                   frame->answer->error[0] ? frame->answer->error : NULL,
		                   (struct bytes){frame->answer->body.data, frame->answer->body.len});
		break;
	case TWINSPAN__BUS_FRAME__KIND_HEARTBEAT:
		break;
	default:
		link->world.dropped(link->world.context, "not for a replica");
		break;
	}
	bus_frame_free(&frame);
}

void bus_link_tick(struct bus_link *link)
{
	if (!link->up) {
		return;
	}
	for (struct replica *replica = link->replicas; replica; replica = replica->next) {
		replica_tick(replica);
	}
}

void bus_link_reconsider(struct bus_link *link, const struct map *tunnels)
{
	for (struct replica *replica = link->replicas, *next; replica; replica = next) {
		next = replica->next;
		replica_reconsider(replica, tunnels);
	}
}

struct replica *bus_link_replica(struct bus_link *link, const char *table, const char *filter, replica_fn *changed,
                                 void *context)
{
	const struct table_rule *rule = table_rule_find(table);
	struct replica *replica = allocate(sizeof *replica);
	*replica = (struct replica){
	    .link = link,
	    .follower = ++link->followers,
	    .table = duplicate_text(table),
	    .filter = duplicate_text(filter),
	    .changed = changed,
	    .context = context,
	    .rows = map_new(NULL),
	    .hidden = map_new(NULL),
	    .judged = rule && rule->marks & (TABLE_OF_TUNNELS | TABLE_OF_NODES) && link->world.judge,
	    .places = rule && rule->marks & TABLE_PLACES_TUNNELS,
	    .next = link->replicas,
	};
	link->replicas = replica;
	link->world.ready(link->world.context, table, false);
	if (link->up) {
		replica_open(replica);
	}
	return replica;
}

void bus_link_ask(struct bus_link *link, uint64_t id, const char *name, struct bytes body, uint64_t deadline_ms)
{
	Twinspan__BusFrame frame;
	Twinspan__BusQuestion question;
	twinspan__bus_frame__init(&frame);
	twinspan__bus_question__init(&question);
	frame.kind_case = TWINSPAN__BUS_FRAME__KIND_QUESTION;
	frame.question = &question;
	question.id = id;
	question.name = (char *)(uintptr_t)name;
	question.body = (ProtobufCBinaryData){body.length, (uint8_t *)(uintptr_t)body.data};
	question.deadline_ms = deadline_ms;
	link->world.send(link->world.context, bus_frame_write(&link->room, &frame));
}
