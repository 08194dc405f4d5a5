// The sorted map against a plain array under random insertions and removals; the index against looking at every row.
#include "tests/unit/resource_region.h"

#include "services/resource/index.h"
#include "services/resource/sorted.h"

enum { KEYS = 512 };

static bool next_of(const bool there[KEYS], unsigned from, unsigned *out)
{
	while (from < KEYS && !there[from]) {
		from++;
	}
	*out = from;
	return from < KEYS;
}

static struct bytes key_of(unsigned n, char text[static 12])
{
	snprintf(text, 12, "%04u", n);
	return (struct bytes){(const uint8_t *)text, 4};
}

static void test_sorted(void **state)
{
	(void)state;
	static char values[KEYS];
	struct random random;
	random_init_number(&random, 7);
	struct sorted *sorted = sorted_new();
	bool there[KEYS] = {0};
	size_t count = 0;
	for (unsigned step = 0; step < 20000; step++) {
		char text[12];
		// Runs of neighbours too: what leans to one side is what a tree has to balance.
		unsigned n = step % 3000 < 500 ? step % KEYS : random_below(&random, KEYS);
		struct bytes key = key_of(n, text);
		if (random_below(&random, 2)) {
			assert_int_equal(sorted_insert(sorted, key, &values[n]), !there[n]);
			count += !there[n];
			there[n] = true;
		} else {
			assert_ptr_equal(sorted_remove(sorted, key), there[n] ? &values[n] : NULL);
			count -= there[n];
			there[n] = false;
		}
		assert_int_equal(sorted_count(sorted), count);
		for (int at = 0; at < 2; at++) {
			struct sorted_entry entry;
			unsigned wanted, from = random_below(&random, KEYS);
			bool some = next_of(there, from + (at ? 0 : 1), &wanted);
			assert_int_equal(sorted_after(sorted, key_of(from, text), at, &entry), some);
			if (some) {
				assert_ptr_equal(entry.value, &values[wanted]);
			}
		}
	}
	sorted_free(&sorted, NULL);
	assert_null(sorted);
}

// A key that begins another one comes before it, and is another one.
static void test_sorted_prefixes(void **state)
{
	(void)state;
	struct sorted *sorted = sorted_new();
	struct sorted_entry entry;
	int a, b;
	assert_true(sorted_insert(sorted, text_bytes("tun-1"), &b));
	assert_true(sorted_insert(sorted, text_bytes("tun"), &a));
	assert_true(sorted_insert(sorted, (struct bytes){NULL, 0}, &a));
	assert_false(sorted_insert(sorted, text_bytes("tun"), &b));
	assert_true(sorted_after(sorted, text_bytes("tun"), false, &entry));
	assert_ptr_equal(entry.value, &b);
	assert_false(sorted_after(sorted, text_bytes("tun-1"), false, &entry));
	sorted_free(&sorted, NULL);
}

static struct resource *store; // what walks need, and cmocka has no other way to pass

static size_t count_by_looking(enum resource_kind kind, const char *path, const char *text)
{
	size_t count = 0;
	for (struct row_cursor c = {0}; resource_next(store, kind, &c);) {
		count += record_is(c.row, path, text);
	}
	return count;
}

// What refers to a row is found without looking at all rows: every single reference has an index, and so has every tenant.
static void test_every_reference_is_indexed(void **state)
{
	(void)state;
	for (size_t i = 0; i < field_rule_count; i++) {
		const struct field_rule *rule = &field_rules[i];
		struct field_shape shape = field_shape_of(rule->kind, rule->path);
		bool reference = (rule->format == FORMAT_ID || rule->format == FORMAT_ID_ANY) && !shape.list;
		if ((reference && !strchr(rule->path, '.')) || strcmp(rule->path, "tenant") == 0 ||
		    strcmp(rule->path, "name") == 0) {
			if (!is_indexed(rule->kind, rule->path)) {
				fail_msg("%s %s", kind_rules[rule->kind].message, rule->path);
			}
		}
	}
}

// Through creations, changes and deletions: uniqueness and counts hold, which stand on the index alone.
static void test_index_follows_changes(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	store = r.resource;
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(request(&r, ACTION_ADD_TUNNELS, RESOURCE_VPN_CONNECTION, t.connection, "{}"), 0);
		char one[64], two[64];
		strcpy(one, r.id);
		strcpy(two, r.second);
		assert_true(record_is(resource_find(store, RESOURCE_VPN_TUNNEL, one), "insideCidr", "169.254.6.0/30"));
		assert_int_equal(
		    request(&r, ACTION_UPDATE, RESOURCE_VPN_TUNNEL, one, "{'adminState':'DOWN','insideCidr':'169.254.9.0/30'}"),
		    0);
		assert_int_equal(
		    request(&r, ACTION_UPDATE, RESOURCE_VPN_TUNNEL, two, "{'adminState':'DOWN','insideCidr':'169.254.9.0/30'}"),
		    409);
		assert_refused(&r, 409, "overlap", "insideCidr");
		// What was given up is free at once; its own is no hindrance, and the default is the first free one.
		assert_int_equal(
		    request(&r, ACTION_UPDATE, RESOURCE_VPN_TUNNEL, two, "{'adminState':'DOWN','insideCidr':'169.254.6.0/30'}"),
		    0);
		assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPN_TUNNEL, two, "{'insideCidr':null}"), 0);
		assert_true(record_is(resource_find(store, RESOURCE_VPN_TUNNEL, two), "insideCidr", "169.254.6.0/30"));
		assert_int_equal(count_by_looking(RESOURCE_VPN_TUNNEL, "vpnConnectionId", t.connection), 2);
		assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPN_CONNECTION, t.connection, NULL), 409);
		assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPN_TUNNEL, one, NULL), 0);
		assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPN_TUNNEL, two, NULL), 0);
	}
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPN_CONNECTION, t.connection, NULL), 0);
	region_free(&r);
}

// Segment identifiers are drawn at random: one that another attachment has is drawn again.
static void test_segment_identifiers_differ(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPC_ATTACHMENT, t.attachment, NULL), 0);
	static const char form[] = "{'vpcId':'%s','borderGatewayId':'%s'}";
	struct random before = r.random;
	make(&r, RESOURCE_VPC_ATTACHMENT, form, t.vpc, t.gateway);
	uint64_t first = record_number(resource_find(r.resource, RESOURCE_VPC_ATTACHMENT, r.id), "vni");
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPC_ATTACHMENT, r.id, NULL), 0);
	struct record *other = record_new(RESOURCE_VPC_ATTACHMENT);
	record_set_text(other, "id", "att-aaaaaaaaaa");
	record_set_number(other, "vni", first);
	record_set_number(other, "order", 70);
	resource_load(r.resource, other);
	r.random = before; // the same is drawn again
	make(&r, RESOURCE_VPC_ATTACHMENT, form, t.vpc, t.gateway);
	const struct record *second = resource_find(r.resource, RESOURCE_VPC_ATTACHMENT, r.id);
	assert_int_not_equal(record_number(second, "vni"), first);
	assert_int_equal(record_number(second, "order"), 71);
	region_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sorted),
	    cmocka_unit_test(test_sorted_prefixes),
	    cmocka_unit_test(test_every_reference_is_indexed),
	    cmocka_unit_test(test_index_follows_changes),
	    cmocka_unit_test(test_segment_identifiers_differ),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
