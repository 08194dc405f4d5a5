// One table as a replica follows it. A stream is a conversation: opened under a number that no other has, its frames are
// believed only in the order in which the owner sent them; at the first that does not fit the stream is opened anew, with what
// is whole by then.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/bus/replica_state.h"

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
	invariant(replica->held_count <= replica->held_capacity);
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
	mark.parts = replica->assembly.active && replica->assembly.snapshot ? replica->assembly.next_part : 0;
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
	invariant(replica->stream != 0);
	replica->refused = replica->answered = false;
	replica->ticks = 0;
	open.table = replica->table;
	open.filter = replica->filter;
	open.epoch = replica->epoch;
	open.sequence = replica->sequence;
	open.stream = replica->stream;
	open.follower = replica->follower;
	open.parts = true;
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

// ---- what is not taken ----

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

static void refuse(struct replica *replica, const char *reason, unsigned ticks)
{
	invariant(ticks > 0);
	replica->refused = true;
	replica->retry_ticks = ticks;
	replica->ticks = 0;
	replica->link->world.refused(replica->link->world.context, replica->table, reason);
}

// /readyz says why a table that was too large is waited for.
static void say_waiting(struct replica *replica, bool waiting)
{
	if (waiting != replica->said_too_large) {
		replica->said_too_large = waiting;
		char *what = format_text("%s (larger than this process takes)", replica->table);
		replica->link->world.ready(replica->link->world.context, what, !waiting);
		free(what);
	}
}

// ---- batches ----

// Shows the whole change to the service. false when the service freed the replica in the call.
static bool show(struct replica *replica)
{
	size_t count;
	replica_judge(replica);
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
	invariant(epoch != replica->epoch || sequence > replica->sequence);
	invariant(epoch != 0 && !replica->assembly.active);
	replica->epoch = epoch;
	replica->sequence = sequence;
	if (replica->hold_asked) {
		hold(replica, before);
	}
	replica->hold_asked = false;
	answer(replica, octets, lazy);
	replica->too_large_ticks = 0;
	if (first) {
		say_waiting(replica, false);
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
	// What changed while a snapshot was under way is in it; one that was begun anew is another.
	bool follows = batch->snapshot ? batch->previous == assembly->previous && batch->sequence >= assembly->sequence
	                               : batch->sequence == assembly->sequence;
	if (!assembly->active || batch->epoch != assembly->epoch || !follows || batch->snapshot != assembly->snapshot ||
	    batch->part > assembly->next_part) {
		return GAP;
	}
	bool question = batch->n_rows == 0 && !batch->last; // how much has arrived?
	return batch->part == assembly->next_part && !question ? TAKE : IGNORE;
}

// Opening anew would fetch the same: the stream is closed, and what it says is asked for again when it may have shrunk.
static void too_large(struct replica *replica)
{
	const struct bus_link_world *world = &replica->link->world;
	world->dropped(world->context, "too large");
	assembly_clear(&replica->assembly);
	send_close(replica);
	if (replica->too_large_ticks == 0 && replica->epoch == 0 && !replica->optional) {
		world->ready(world->context, replica->table, true);
		say_waiting(replica, true);
	}
	unsigned ticks = replica->too_large_ticks ? 2 * replica->too_large_ticks : TOO_LARGE_TICKS;
	replica->too_large_ticks = ticks < TOO_LARGE_MOST_TICKS ? ticks : TOO_LARGE_MOST_TICKS;
	refuse(replica, "larger than this process takes", replica->too_large_ticks);
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
		too_large(replica);
		return;
	}
	if (verdict == GAP) {
		link->world.dropped(link->world.context, "gap");
		replica_open(replica);
	} else if (verdict == IGNORE) {
		send_applied(replica); // it does not know what is applied, or lost the answer
	} else if (batch->last) {
		finish(replica, batch->lazy);
	} else if (batch->snapshot) {
		send_applied(replica); // credit for more of it
	}
}

void replica_refuse(struct replica *replica, const char *reason)
{
	if (replica->refused) {
		return; // its first answer stands
	}
	if (strcmp(reason, "unknown stream") == 0) {
		replica_open(replica); // the owner let go of it after a silence
		return;
	}
	refuse(replica, reason, REFUSED_TICKS);
}

void replica_tick(struct replica *replica)
{
	replica->ticks++;
	if (replica->refused) {
		if (replica->ticks >= replica->retry_ticks) {
			replica_open(replica);
		}
	} else if (replica->stream == 0) {
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
	replica->optional = true;
	replica->link->world.ready(replica->link->world.context, replica->table, true);
	say_waiting(replica, false);
}

void replica_tell_state(struct replica *replica)
{
	if (replica->state) {
		replica->state(replica->state_context);
	}
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
	say_waiting(replica, false);
	assembly_clear(&replica->assembly);
	map_free(&replica->rows, free);
	replica_forget_hidden(replica);
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
