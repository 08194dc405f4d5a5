// One table as a replica follows it. A stream is a conversation: opened under a number that no other has, its frames are
// believed only in the order in which the owner sent them; at the first that does not fit the stream is opened anew, with what
// is whole by then.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/bus/replica_state.h"

enum {
	REFUSED_TICKS = 10, // until a refused one is tried again
};

static void send_frame(struct replica *replica, const Twinspan__BusFrame *frame)
{
	replica->link->world.send(replica->link->world.context, bus_frame_write(&replica->link->room, frame));
}

// ---- what is applied ----

static uint64_t applied(const struct replica *replica)
{
	if (replica->held_count == 0) {
		return replica->sequence;
	}
	// Of what an earlier incarnation sent something is held still: of this one nothing can count yet.
	return replica->held[0].epoch == replica->epoch ? replica->held[0].before : 0;
}

static void send_applied(struct replica *replica)
{
	memset(&replica->unanswered, 0, sizeof replica->unanswered);
	if (replica->stream == 0 || replica->refused) {
		return;
	}
	Twinspan__BusFrame frame;
	Twinspan__BusApplied mark;
	twinspan__bus_frame__init(&frame);
	twinspan__bus_applied__init(&mark);
	frame.kind_case = TWINSPAN__BUS_FRAME__KIND_APPLIED;
	frame.applied = &mark;
	mark.table = replica->table;
	mark.stream = replica->stream;
	mark.epoch = replica->epoch;
	mark.sequence = applied(replica);
	send_frame(replica, &frame);
}

void replica_open(struct replica *replica)
{
	Twinspan__BusFrame frame;
	Twinspan__BusOpen open;
	twinspan__bus_frame__init(&frame);
	twinspan__bus_open__init(&open);
	frame.kind_case = TWINSPAN__BUS_FRAME__KIND_OPEN;
	frame.open = &open;
	assembly_clear(&replica->assembly);
	replica->stream = replica->link->next_stream++;
	replica->refused = replica->answered = false;
	replica->ticks = 0;
	open.table = replica->table;
	open.filter = replica->filter;
	open.epoch = replica->epoch;
	open.sequence = replica->sequence;
	open.stream = replica->stream;
	open.follower = replica->follower;
	send_frame(replica, &frame);
	if (replica->epoch != 0) {
		send_applied(replica); // that it has these rows does not say that they are applied: some may be held
	}
}

uint64_t replica_hold(struct replica *replica)
{
	replica->hold_asked = true;
	return replica->changes;
}

void replica_release(struct replica *replica, uint64_t number)
{
	size_t kept = 0;
	for (size_t i = 0; i < replica->held_count; i++) {
		if (replica->held[i].number != number) {
			replica->held[kept++] = replica->held[i];
		}
	}
	bool released = kept != replica->held_count;
	replica->held_count = kept;
	if (released) {
		send_applied(replica);
	} else if (replica->in_callback && number == replica->changes) {
		replica->hold_asked = false; // within the callback that asked for it
	}
}

// ---- whose word counts ----

static void free_set(void *set)
{
	struct map *at = set;
	map_free(&at, NULL);
}

static void note_hidden(struct replica *replica, struct bytes key, bool hidden)
{
	struct bytes tunnel = bus_admission_id(key);
	struct map *keys = map_find(replica->hidden, tunnel);
	if (hidden && !keys) {
		keys = map_new(NULL);
		map_insert(replica->hidden, tunnel, keys);
	}
	if (hidden) {
		map_insert(keys, key, replica);
	} else if (keys) {
		map_remove(keys, key);
		if (map_count(keys) == 0) {
			map_remove(replica->hidden, tunnel);
			free_set(keys);
		}
	}
}

static bool hides(const struct replica *replica, struct bytes key)
{
	const struct bus_link_world *world = &replica->link->world;
	return replica->judged && world->judge(world->context, replica->table, key) != ROW_SHOWN;
}

static void judge_staged(struct replica *replica)
{
	if (replica->judged && replica->assembly.snapshot) {
		map_free(&replica->hidden, free_set);
		replica->hidden = map_new(NULL);
	}
	for (struct map_cursor at = {0}; replica->judged && map_next(replica->assembly.staged, &at);) {
		struct held_row *staged = at.value;
		staged->hidden = !staged->removed && hides(replica, at.key);
		note_hidden(replica, at.key, staged->hidden);
	}
}

struct again {
	struct replica_row *rows;
	size_t count, capacity;
};

// A held row whose verdict is another now: it is shown, or taken back.
static void look_again(struct replica *replica, struct bytes key, struct again *again)
{
	struct held_row *held = map_find(replica->rows, key);
	bool hidden = held && hides(replica, key);
	if (!held || hidden == held->hidden) {
		return;
	}
	held->hidden = hidden;
	if (again->count == again->capacity) {
		again->capacity = again->capacity ? 2 * again->capacity : 16;
		again->rows = reallocate(again->rows, again->capacity, sizeof *again->rows);
	}
	uint8_t *copy = allocate(key.length + 1); // the sets that the key is in change before it is shown
	memcpy(copy, key.data, key.length);
	again->rows[again->count++] = (struct replica_row){
	    .key = {copy, key.length}, .value = {held->value, hidden ? 0 : held->length}, .removed = hidden};
}

void replica_reconsider(struct replica *replica, const struct map *tunnels)
{
	struct again again = {0};
	bool moved = false;
	for (struct map_cursor at = {0}; replica->judged && map_next(tunnels, &at);) {
		const struct map *keys = map_find(replica->hidden, at.key);
		moved = moved || at.value;
		for (struct map_cursor key = {0}; keys && map_next(keys, &key);) {
			look_again(replica, key.key, &again);
		}
	}
	for (struct map_cursor at = {0}; moved && map_next(replica->rows, &at);) {
		if (map_find(tunnels, bus_admission_id(at.key))) {
			look_again(replica, at.key, &again);
		}
	}
	for (size_t i = 0; i < again.count; i++) {
		note_hidden(replica, again.rows[i].key, again.rows[i].removed);
	}
	if (again.count > 0) {
		replica->changes++;
		replica->in_callback = true;
		replica->changed(replica->context, again.rows, again.count);
		replica->in_callback = replica->hold_asked = false;
	}
	for (size_t i = 0; i < again.count; i++) {
		free((uint8_t *)(uintptr_t)again.rows[i].key.data);
	}
	free(again.rows);
	if (replica->freed) {
		replica_delete(replica);
	}
}

// ---- batches ----

// Shows the whole change to the service. false when the service freed the replica in the call.
static bool show(struct replica *replica)
{
	size_t count;
	judge_staged(replica);
	struct replica_row *rows = assembly_difference(&replica->assembly, replica->rows, &count);
	replica->changes++;
	replica->hold_asked = false;
	const struct bus_link_world *world = &replica->link->world;
	if (count > 0 && replica->places && world->placed) {
		world->placed(world->context, rows, count);
	}
	if (count > 0) {
		replica->in_callback = true;
		replica->changed(replica->context, rows, count);
		replica->in_callback = false;
	}
	free(rows);
	if (replica->freed) {
		replica_delete(replica);
		return false;
	}
	return true;
}

static void hold(struct replica *replica, uint64_t before)
{
	if (replica->held_count == replica->held_capacity) {
		replica->held_capacity = replica->held_capacity ? replica->held_capacity * 2 : 16;
		replica->held = reallocate(replica->held, replica->held_capacity, sizeof *replica->held);
	}
	replica->held[replica->held_count++] = (struct held_change){replica->changes, replica->epoch, before};
}

static void answer(struct replica *replica, size_t octets, bool lazy)
{
	replica->unanswered.batches++;
	replica->unanswered.octets += octets;
	if (!lazy || replica->unanswered.batches >= BUS_LAZY_BATCHES || replica->unanswered.octets >= BUS_LAZY_OCTETS) {
		send_applied(replica);
	}
}

static void finish(struct replica *replica, bool lazy)
{
	uint64_t epoch = replica->assembly.epoch, sequence = replica->assembly.sequence;
	size_t octets = replica->assembly.octets;
	uint64_t before = epoch == replica->epoch ? replica->sequence : 0;
	bool first = replica->epoch == 0;
	if (!show(replica)) {
		return;
	}
	assembly_apply(&replica->assembly, &replica->rows);
	replica->epoch = epoch;
	replica->sequence = sequence;
	if (replica->hold_asked) {
		hold(replica, before);
	}
	replica->hold_asked = false;
	answer(replica, octets, lazy);
	if (first) {
		replica->link->world.ready(replica->link->world.context, replica->table, true);
		replica_tell_state(replica);
	}
}

enum verdict { TAKE, IGNORE, GAP };

static enum verdict judge_first(const struct replica *replica, const Twinspan__BusBatch *batch)
{
	bool known = batch->epoch == replica->epoch && batch->sequence <= replica->sequence;
	if (batch->part != 0 || batch->epoch == 0) {
		return GAP;
	}
	if (batch->snapshot) {
		return known && replica->epoch != 0 ? IGNORE : TAKE;
	}
	if (batch->epoch != replica->epoch || replica->epoch == 0) {
		return GAP;
	}
	if (known) {
		return IGNORE;
	}
	return batch->previous == replica->sequence ? TAKE : GAP;
}

static enum verdict judge_next(const struct replica *replica, const Twinspan__BusBatch *batch)
{
	const struct assembly *assembly = &replica->assembly;
	if (batch->epoch == replica->epoch && batch->sequence <= replica->sequence) {
		return IGNORE;
	}
	if (!assembly->active || batch->epoch != assembly->epoch || batch->sequence != assembly->sequence ||
	    batch->snapshot != assembly->snapshot || batch->part > assembly->next_part) {
		return GAP;
	}
	return batch->part == assembly->next_part ? TAKE : IGNORE;
}

void replica_receive(struct replica *replica, const Twinspan__BusBatch *batch)
{
	struct bus_link *link = replica->link;
	replica->answered = true;
	enum verdict verdict = batch->first ? judge_first(replica, batch) : judge_next(replica, batch);
	if (verdict == TAKE && batch->first) {
		assembly_begin(&replica->assembly, batch);
	}
	if (verdict == TAKE && !assembly_add(&replica->assembly, batch)) {
		link->world.dropped(link->world.context, "too large");
		assembly_clear(&replica->assembly);
		return; // opening anew would fetch the same
	}
	if (verdict == GAP) {
		link->world.dropped(link->world.context, "gap");
		replica_open(replica);
	} else if (verdict == IGNORE) {
		send_applied(replica); // it does not know what is applied, or lost the answer
	} else if (batch->last) {
		finish(replica, batch->lazy);
	}
}

void replica_refuse(struct replica *replica, const char *reason)
{
	struct bus_link *link = replica->link;
	if (replica->refused) {
		return; // its first answer stands
	}
	if (strcmp(reason, "unknown stream") == 0) {
		replica_open(replica); // the owner let go of it after a silence
		return;
	}
	replica->refused = true;
	replica->ticks = 0;
	link->world.refused(link->world.context, replica->table, reason);
}

void replica_tick(struct replica *replica)
{
	replica->ticks++;
	if (replica->stream == 0 || (replica->refused && replica->ticks >= REFUSED_TICKS)) {
		replica_open(replica);
	} else if (!replica->answered || replica->ticks >= BUS_REPEAT_TICKS ||
	           (replica->unanswered.batches > 0 && ++replica->unanswered.ticks >= BUS_LAZY_TICKS)) {
		send_applied(replica); // should the owner not know the stream, it says so
		replica->ticks = 0;
	}
}

// ---- bus.h ----

bool replica_has_snapshot(const struct replica *replica)
{
	return replica->epoch != 0;
}

bool replica_owner_alive(const struct replica *replica)
{
	return replica->link->alive;
}

void replica_on_state(struct replica *replica, loop_fn *fn, void *context)
{
	replica->state = fn;
	replica->state_context = context;
}

void replica_optional(struct replica *replica)
{
	replica->link->world.ready(replica->link->world.context, replica->table, true);
}

void replica_tell_state(struct replica *replica)
{
	if (replica->state) {
		replica->state(replica->state_context);
	}
}

static void send_close(struct replica *replica)
{
	Twinspan__BusFrame frame;
	Twinspan__BusClose close;
	twinspan__bus_frame__init(&frame);
	twinspan__bus_close__init(&close);
	frame.kind_case = TWINSPAN__BUS_FRAME__KIND_CLOSE;
	frame.close = &close;
	close.table = replica->table;
	close.stream = replica->stream;
	send_frame(replica, &frame);
}

void replica_delete(struct replica *replica)
{
	if (replica->stream != 0 && !replica->refused) {
		send_close(replica);
	}
	for (struct replica **at = &replica->link->replicas; *at; at = &(*at)->next) {
		if (*at == replica) {
			*at = replica->next;
			break;
		}
	}
	replica->link->world.ready(replica->link->world.context, replica->table, true);
	assembly_clear(&replica->assembly);
	map_free(&replica->rows, free);
	map_free(&replica->hidden, free_set);
	free(replica->table);
	free(replica->filter);
	free(replica->held);
	free(replica);
}

void replica_free(struct replica **replica_at)
{
	struct replica *replica = *replica_at;
	*replica_at = NULL;
	if (!replica) {
		return;
	}
	if (replica->in_callback) {
		replica->freed = true;
	} else {
		replica_delete(replica);
	}
}

size_t replica_count(const struct replica *replica)
{
	return map_count(replica->rows);
}

bool replica_find(const struct replica *replica, struct bytes key, struct bytes *value)
{
	const struct held_row *row = map_find(replica->rows, key);
	if (!row || row->hidden) {
		return false;
	}
	*value = (struct bytes){row->value, row->length};
	return true;
}

void replica_each(const struct replica *replica, void (*visit)(void *context, struct bytes key, struct bytes value),
                  void *context)
{
	for (struct map_cursor at = {0}; map_next(replica->rows, &at);) {
		const struct held_row *row = at.value;
		if (!row->hidden) {
			visit(context, at.key, (struct bytes){row->value, row->length});
		}
	}
}

uint64_t replica_epoch(const struct replica *replica)
{
	return replica->epoch;
}

uint64_t replica_sequence(const struct replica *replica)
{
	return replica->sequence;
}
