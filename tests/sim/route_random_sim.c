// Random events into the route core, and after each batch the published rows must be those that a from-scratch computation
// gives (route_naive.h, route_naive_vpc.h). SEEDS sets how many run, SEED runs a single one.
#include "tests/sim/route_events.h"
#include "tests/sim/route_naive_vpc.h"

// ---- what the core published ----
struct published {
	struct map *rows[ROUTE_TABLE_COUNT];
	const struct world *world;
	uint64_t order[GATEWAYS][PREFIXES];
};

static unsigned prefix_index(const struct prefix *prefix)
{
	for (unsigned i = 0; i < PREFIXES; i++) {
		if (prefix_equal(prefix, &parsed[i])) {
			return i;
		}
	}
	fail_msg("unknown prefix");
	return 0;
}

static int compare_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *describe_group(const struct route_action *action)
{
	char *text = format_text("%s:", action->group.gateway_id);
	for (size_t i = 0; i < action->group.member_count; i++) {
		const struct route_member *m = &action->group.members[i];
		char *member = format_text("%s@%s/%s", m->tunnel_id, m->node_id, m->connection_id);
		text = join(text, member);
		free(member);
	}
	const char *ids[CONNECTIONS];
	for (size_t i = 0; i < action->group.connection_count; i++) {
		ids[i] = action->group.connection_ids[i];
	}
	qsort(ids, action->group.connection_count, sizeof ids[0], compare_text);
	text = join(text, "of");
	for (size_t i = 0; i < action->group.connection_count; i++) {
		text = join(text, ids[i]);
	}
	return text;
}

static char *describe(const struct route_action *action)
{
	switch (action->table) {
	case ROUTE_TABLE_GROUP:
		return describe_group(action);
	case ROUTE_TABLE_EFFECTIVE:
		return duplicate_text(action->effective.attachment_id ? action->effective.attachment_id
		                                                      : action->effective.group_id);
	case ROUTE_TABLE_SHOWN: {
		char *as = as_text(action->shown.as_path, action->shown.as_count);
		char *text =
		    format_text("%s %s %s %u %s %s", action->shown.to_attachment ? "att" : "vpn", action->shown.next_hop_id,
		                action->shown.type, action->shown.metric, as, action->shown.effective ? "yes" : "no");
		free(as);
		text = action->shown.refused ? join(text, "refused") : text;
		if (action->shown.type[1] == 'B') { // EBGP, IBGP
			char attributes[32];
			snprintf(attributes, sizeof attributes, "%u:%u", action->shown.origin, action->shown.med);
			text = join(text, attributes);
		}
		for (size_t i = 0; i < action->shown.tunnel_count; i++) {
			text = join(text, action->shown.tunnel_ids[i]);
		}
		assert_true(action->shown.effective == (action->shown.reason[0] == '\0'));
		return text;
	}
	case ROUTE_TABLE_ADVERTISED:
		return told_text(action->advertised.as_path, action->advertised.as_count, action->advertised.origin,
		                 action->advertised.communities, action->advertised.community_count);
	case ROUTE_TABLE_VPC: {
		char *as = as_text(action->vpc.as_path, action->vpc.as_count);
		char *text =
		    format_text("%s@%s %s %s %s %s", action->vpc.vpc_id, action->vpc.host_id, action->vpc.attachment_id,
		                action->vpc.effective ? "yes" : "no", as, action->vpc.group_id);
		free(as);
		assert_true(action->vpc.effective == (action->vpc.reason[0] == '\0'));
		return text;
	}
	case ROUTE_TABLE_COUNT:
		break;
	}
	return NULL;
}

static void assert_nobody_refers(const struct published *out, const char *group)
{
	static const enum route_table tables[] = {ROUTE_TABLE_EFFECTIVE, ROUTE_TABLE_VPC};
	for (size_t i = 0; i < 2; i++) {
		struct map_cursor cursor = {0};
		while (map_next(out->rows[tables[i]], &cursor)) {
			assert_null(strstr(cursor.value, group));
		}
	}
}

static void publish(void *context, const struct route_action *action)
{
	struct published *out = context;
	struct map *rows = out->rows[action->table];
	char *value = action->removed ? NULL : describe(action);
	char *before = value ? map_insert_text(rows, action->key, value) : map_remove_text(rows, action->key);
	assert_true(value || before); // nothing is removed that was not there
	free(before);
	if (action->table == ROUTE_TABLE_SHOWN && !action->removed && action->shown.order && !action->shown.to_attachment) {
		out->order[action->shown.gateway_id[1] - '0'][prefix_index(&action->shown.destination)] = action->shown.order;
	}
	if (action->table == ROUTE_TABLE_GROUP &&
	    !action->removed) { // a member is alive at the very moment it is said to be one
		for (size_t i = 0; i < action->group.member_count; i++) {
			unsigned t = (unsigned)(action->group.members[i].tunnel_id[1] - '0');
			assert_true(out->world->tunnel[t].here && out->world->tunnel[t].up);
		}
	}
	if (action->table == ROUTE_TABLE_GROUP && action->removed) {
		assert_nobody_refers(out, action->key);
	}
	// A row never refers to a group that is not there.
	const char *group = action->removed ? NULL
	                    : action->table == ROUTE_TABLE_EFFECTIVE && !action->effective.attachment_id
	                        ? action->effective.group_id
	                    : action->table == ROUTE_TABLE_VPC && action->vpc.group_id[0] ? action->vpc.group_id
	                                                                                  : NULL;
	assert_true(!group || map_find_text(out->rows[ROUTE_TABLE_GROUP], group));
}

// ---- comparison ----
static void read_published(const struct published *out, struct lines *lines, struct lines *groups)
{
	for (unsigned table = 0; table < ROUTE_TABLE_COUNT; table++) {
		struct map_cursor cursor = {0};
		while (map_next(out->rows[table], &cursor)) {
			char key[ROUTE_KEY_TEXT];
			snprintf(key, sizeof key, "%.*s", (int)cursor.key.length, (const char *)cursor.key.data);
			const char *value = cursor.value, *id = strstr(value, "nhg-");
			if (table == ROUTE_TABLE_GROUP) {
				add(groups, format_text("0 %s = %s", key, value));
				continue;
			}
			const char *group = id ? map_find_text(out->rows[ROUTE_TABLE_GROUP], id) : "";
			assert_non_null(group);
			int before = id ? (int)(id - value) : (int)strlen(value);
			add(lines, format_text("%u %s = %.*s%s", table, key, before, value, group));
		}
	}
}

static void clear(struct lines *lines)
{
	for (size_t i = 0; i < lines->count; i++) {
		free(lines->items[i]);
	}
	lines->count = 0;
}

static void sort_unique(struct lines *lines)
{
	qsort(lines->items, lines->count, sizeof lines->items[0], compare_text);
	size_t kept = 0;
	for (size_t i = 0; i < lines->count; i++) {
		if (kept > 0 && strcmp(lines->items[kept - 1], lines->items[i]) == 0) {
			free(lines->items[i]);
		} else {
			lines->items[kept++] = lines->items[i];
		}
	}
	lines->count = kept;
}

static bool same(const struct lines *a, const struct lines *b, const char *what)
{
	size_t i = 0;
	while (i < a->count && i < b->count && strcmp(a->items[i], b->items[i]) == 0) {
		i++;
	}
	if (i == a->count && i == b->count) {
		return true;
	}
	print_error("%s: core has   %s\n%s: should be  %s\n", what, i < a->count ? a->items[i] : "(end)", what,
	            i < b->count ? b->items[i] : "(end)");
	return false;
}

static void strip_keys(struct lines *lines) // group ids are the core's own: compare contents, and how many there are
{
	for (size_t i = 0; i < lines->count; i++) {
		char *content = duplicate_text(strstr(lines->items[i], " = "));
		free(lines->items[i]);
		lines->items[i] = content;
	}
	qsort(lines->items, lines->count, sizeof lines->items[0], compare_text);
}

static bool compare(const struct world *w, const struct published *out)
{
	static struct lines core, core_groups, naive, naive_groups;
	read_published(out, &core, &core_groups);
	for (unsigned g = 0; g < GATEWAYS; g++) {
		naive_gateway(w, g, &naive, &naive_groups);
	}
	for (unsigned i = 0; i < TABLES; i++) {
		for (unsigned prefix = 0; w->table[i].here && w->vpc[w->table[i].vpc].here && prefix < PREFIXES; prefix++) {
			naive_entry(w, i, prefix, &naive);
		}
	}
	sort_unique(&core);
	sort_unique(&naive);
	sort_unique(&naive_groups);
	strip_keys(&core_groups);
	strip_keys(&naive_groups);
	bool equal = same(&core, &naive, "rows") && same(&core_groups, &naive_groups, "groups");
	clear(&core);
	clear(&core_groups);
	clear(&naive);
	clear(&naive_groups);
	return equal;
}

static bool settle(struct sim *sim, uint64_t time, size_t limit)
{
	update_places(&sim->world);
	return route_settle(sim->route, time, limit, sim->sink);
}

static void run(uint64_t seed)
{
	struct sim sim = {0};
	random_init_number(&sim.random, seed);
	sim.route = route_new();
	struct published out = {.world = &sim.world};
	sim.sink = (struct route_sink){publish, &out};
	for (unsigned i = 0; i < ROUTE_TABLE_COUNT; i++) {
		out.rows[i] = map_new(NULL);
	}
	unsigned batches = 60;
	for (unsigned batch = 0; batch < batches; batch++) {
		unsigned events = batch == 0 ? 80 : 1 + below(&sim, 5);
		for (unsigned i = 0; i < events; i++) {
			unsigned what = below(&sim, 20);
			if (what < 10) {
				step_tunnel(&sim, what);
			} else {
				step_row(&sim);
			}
			if (below(&sim, 4) == 0) { // settled in portions, with events between them
				settle(&sim, seed + batch, 1 + below(&sim, 3));
			}
		}
		while (settle(&sim, seed + batch, 1 + below(&sim, 8))) {
		}
		memcpy(sim.world.order, out.order, sizeof sim.world.order);
		if (!compare(&sim.world, &out)) {
			fail_msg("seed %llu, batch %u: SEED=%llu runs it alone", (unsigned long long)seed, batch,
			         (unsigned long long)seed);
		}
	}
	route_free(&sim.route);
	for (unsigned i = 0; i < ROUTE_TABLE_COUNT; i++) {
		map_free(&out.rows[i], free);
	}
}

static void test_random(void **state)
{
	(void)state;
	for (unsigned i = 0; i < PREFIXES; i++) {
		assert_true(prefix_parse(pool[i], &parsed[i]));
	}
	for (unsigned i = 0; i < ADDRESSES; i++) {
		assert_true(address_parse(addresses[i], &parsed_addresses[i]));
	}
	const char *one = getenv("SEED"), *many = getenv("SEEDS");
	if (one) {
		run(strtoull(one, NULL, 10));
		return;
	}
	unsigned long seeds = many ? strtoul(many, NULL, 10) : 600;
	for (uint64_t seed = 1; seed <= seeds; seed++) {
		run(seed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
