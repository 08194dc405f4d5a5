// The rows of a replica that are held and shown to nobody, because their owner's word does not count for them (admission.h).
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/bus/replica_state.h"

static void free_set(void *set)
{
	struct map *at = set;
	map_free(&at, NULL);
}

void replica_forget_hidden(struct replica *replica)
{
	map_free(&replica->hidden, free_set);
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

void replica_judge(struct replica *replica)
{
	if (replica->judged && replica->assembly.snapshot) {
		replica_forget_hidden(replica);
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
