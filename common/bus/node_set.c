// See node_set.h.
#include "common/bus/node_set.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/base/map.h"

struct set_node {
	struct node_set *set;
	char *id;
	struct feed *feeds[NODE_INPUTS_MAX];
	struct deadline silence;
	instant made;
	bool alive, gone;
};

struct node_set {
	struct node_set_settings settings;
	struct feed *rows;
	struct map *nodes;
};

static void settled(void *context)
{
	const struct node_set *set = context;
	if (set->settings.settled) {
		set->settings.settled(set->settings.context);
	}
}

// ---- liveness ----

static void set_gone(struct set_node *node, bool gone)
{
	const struct node_set_settings *settings = &node->set->settings;
	if (node->gone == gone) {
		return;
	}
	node->gone = gone;
	if (settings->gone) {
		settings->gone(settings->context, node->id, gone);
	}
	settled(node->set);
}

static void on_silence(void *context)
{
	struct set_node *node = context;
	invariant(!node->alive);
	set_gone(node, true);
}

static void on_state(void *context)
{
	struct set_node *node = context;
	const struct node_set_settings *settings = &node->set->settings;
	bool alive = false;
	for (size_t i = 0; i < settings->input_count; i++) {
		alive = alive || (node->feeds[i] && feed_owner_alive(node->feeds[i]));
	}
	bool fell_silent = node->alive && !alive;
	node->alive = alive;
	if (alive) {
		deadline_disarm(&node->silence);
		set_gone(node, false);
	} else if (fell_silent && settings->timeout > 0) {
		deadline_arm(&node->silence, now() + settings->timeout);
	} else if (fell_silent) {
		set_gone(node, true);
	}
	if (settings->state) {
		settings->state(settings->context);
	}
}

// ---- nodes ----

static void node_add(struct node_set *set, const char *id)
{
	const struct node_set_settings *settings = &set->settings;
	struct set_node *node = allocate(sizeof *node);
	*node = (struct set_node){.set = set, .id = duplicate_text(id), .made = now()};
	map_insert_text(set->nodes, id, node);
	deadline_init(&node->silence, settings->loop, on_silence, node);
	if (settings->timeout > 0) {
		deadline_arm(&node->silence, node->made + settings->timeout); // one that is never heard is gone as well
	}
	for (size_t i = 0; i < settings->input_count; i++) {
		char *owner = format_text("%s.%s", settings->inputs[i].service, id);
		node->feeds[i] = feed_new(settings->bus, owner, settings->inputs[i].kind, "", settings->context);
		feed_on_state(node->feeds[i], on_state, node);
		free(owner);
	}
}

static void node_free(void *value)
{
	struct set_node *node = value;
	deadline_disarm(&node->silence);
	for (size_t i = 0; i < NODE_INPUTS_MAX; i++) {
		feed_free(&node->feeds[i]);
	}
	free(node->id);
	free(node);
}

static void node_remove(struct node_set *set, const char *id)
{
	struct set_node *node = map_remove_text(set->nodes, id);
	if (node) {
		for (size_t i = 0; i < set->settings.input_count; i++) {
			feed_withdraw(&node->feeds[i]);
		}
		node_free(node);
	}
}

static const char *take_node(void *context, const struct row_key *key, const void *message)
{
	struct node_set *set = context;
	if (!message) {
		node_remove(set, key->text);
	}
	const char *why = set->settings.row ? set->settings.row(set->settings.context, key->text, message) : NULL;
	if (message && !why && !map_find_text(set->nodes, key->text)) {
		node_add(set, key->text);
	}
	return why;
}

static const struct feed_kind node_rows = {"node", &twinspan__node__descriptor, take_node, settled};

// ---- life ----

static void rows_state(void *context)
{
	const struct node_set *set = context;
	if (set->settings.state) {
		set->settings.state(set->settings.context);
	}
}

struct node_set *node_set_new(const struct node_set_settings *settings)
{
	invariant(settings->input_count <= NODE_INPUTS_MAX);
	struct node_set *set = allocate(sizeof *set);
	*set = (struct node_set){.settings = *settings, .nodes = map_new(NULL)};
	set->rows = feed_new(settings->bus, "resource", &node_rows, "", set);
	feed_on_state(set->rows, rows_state, set);
	return set;
}

void node_set_free(struct node_set **set_at)
{
	struct node_set *set = *set_at;
	if (!set) {
		return;
	}
	feed_free(&set->rows);
	map_free(&set->nodes, node_free);
	free(set);
	*set_at = NULL;
}

bool node_set_has_snapshot(const struct node_set *set)
{
	return feed_has_snapshot(set->rows);
}

static bool node_heard(const struct set_node *node, duration absent, duration silent)
{
	for (size_t i = 0; i < node->set->settings.input_count; i++) {
		const struct feed *feed = node->feeds[i];
		duration patience = feed_owner_alive(feed) ? silent : absent;
		if (!feed_has_snapshot(feed) && now() < node->made + patience) {
			return false;
		}
	}
	return true;
}

bool node_set_heard(const struct node_set *set, duration absent, duration silent)
{
	for (struct map_cursor at = {0}; map_next(set->nodes, &at);) {
		if (!node_heard(at.value, absent, silent)) {
			return false;
		}
	}
	return true;
}
