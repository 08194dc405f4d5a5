// The tables below the sessions: prefixes against a plain model, attribute sets shared and released, AS paths written and
// merged.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/random.h"
#include "services/bgp/as_path.h"
#include "services/bgp/attribute_set.h"
#include "services/bgp/prefix_table.h"
#include "tests/unit/bgp_prefix.h"

enum { UNIVERSE = 4096 };

// Of both families, of lengths that differ and of addresses that differ in one half only.
static struct prefix prefix_number(uint32_t number)
{
	struct prefix prefix = ipv4(number >> 2 << 8, (uint8_t)(24 + (number >> 1) % 2));
	if (number % 2) {
		struct address address = {16, {0xfd}};
		memcpy(address.octets + (number & 4 ? 1 : 12), prefix.address.octets + 1, 3);
		prefix = (struct prefix){address, (uint8_t)(127 + (number >> 1) % 2)};
	}
	return prefix;
}

static void prefixes_agree_with_a_model(void **state)
{
	(void)state;
	static bool model[UNIVERSE];
	struct random random;
	random_init_number(&random, 7);
	struct prefix_table table;
	prefix_table_init(&table, random_u64(&random));
	size_t count = 0;
	for (int i = 0; i < 200000; i++) {
		uint32_t number = random_below(&random, i % 40000 < 20000 ? UNIVERSE : UNIVERSE / 16);
		struct prefix prefix = prefix_number(number);
		struct prefix_slot *slot = prefix_table_find(&table, &prefix);
		assert_int_equal(slot != NULL, model[number]);
		if (slot && random_below(&random, 2)) {
			prefix_table_remove(&table, &prefix, slot);
			model[number] = false;
			count--;
		} else if (!slot) {
			prefix_table_insert(&table, &prefix)->known = 1;
			model[number] = true;
			count++;
		}
		assert_int_equal(table.count, count);
	}
	// Every slot is visited though the one in hand is removed.
	size_t at = 0, visited = 0;
	struct prefix prefix;
	for (struct prefix_slot *slot; (slot = prefix_table_next(&table, &at, &prefix));) {
		assert_ptr_equal(prefix_table_find(&table, &prefix), slot);
		if (slot->known) {
			visited++;
		}
		slot->known = 0;
		if (random_below(&random, 2)) {
			prefix_table_remove(&table, &prefix, slot);
		} else {
			at++;
		}
	}
	assert_int_equal(visited, count);
	prefix_table_fini(&table);
	assert_int_equal(table.count, 0);
}

static void sets_are_shared(void **state)
{
	(void)state;
	static const uint8_t key[16], path_octets[] = {2, 1, 0, 0, 0xfd, 0xe9}, community[] = {0, 1, 0, 2};
	struct attribute_pool pool;
	attribute_pool_init(&pool, key);
	struct attribute_draft draft = {.as_path = {path_octets, sizeof path_octets}, .next_hop = ipv4(1, 32).address};
	struct bgp_attributes *first = attributes_intern(&pool, &draft), *second = attributes_intern(&pool, &draft);
	assert_ptr_equal(first, second);
	// The same octets in another attribute are another set.
	draft.communities = (struct bytes){community, sizeof community};
	struct bgp_attributes *third = attributes_intern(&pool, &draft);
	draft.large_communities = draft.communities;
	draft.communities = (struct bytes){NULL, 0};
	struct bgp_attributes *fourth = attributes_intern(&pool, &draft);
	assert_ptr_not_equal(third, first);
	assert_ptr_not_equal(third, fourth);
	assert_int_equal(pool.count, 3);
	attributes_release(&pool, first);
	attributes_release(&pool, second);
	attributes_release(&pool, third);
	assert_int_equal(pool.count, 1);
	// A dead one can be read until it is buried.
	struct bgp_attributes_view view;
	bgp_attributes_view(third, &view);
	assert_int_equal(view.communities.length, 4);
	attribute_pool_bury(&pool);
	attributes_release(&pool, fourth);
	for (uint32_t i = 0; i < 1000; i++) { // it grows
		draft.next_hop = ipv4(i, 32).address;
		attributes_intern(&pool, &draft);
	}
	assert_int_equal(pool.count, 1000);
	attribute_pool_fini(&pool);
}

static void our_as_goes_first(void **state)
{
	(void)state;
	uint32_t list[300];
	uint8_t octets[4096], written[4096];
	for (uint32_t i = 0; i < 300; i++) {
		list[i] = i + 1;
	}
	static const size_t counts[] = {0, 1, 254, 255, 256, 300};
	for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
		struct writer path = writer_of(octets, sizeof octets), w = writer_of(written, sizeof written);
		as_path_from_list(list, counts[i], &path);
		as_path_write(&w, 65000, writer_bytes(&path), 4);
		uint32_t flat[302];
		assert_int_equal(bgp_as_path_flatten(writer_bytes(&w), flat, 302), counts[i] + 1);
		assert_int_equal(as_path_length(writer_bytes(&w)), counts[i] + 1);
		assert_int_equal(flat[0], 65000);
		assert_memory_equal(flat + 1, list, counts[i] * sizeof list[0]);
		struct writer again = writer_of(octets, sizeof octets);
		assert_true(as_path_read(writer_bytes(&w), 4, &again));
		assert_true(bytes_equal(writer_bytes(&w), writer_bytes(&again)));
	}
	// A set in front is not joined.
	static const uint8_t set[] = {1, 1, 0, 0, 0, 7};
	struct writer w = writer_of(written, sizeof written);
	as_path_write(&w, 65000, (struct bytes){set, sizeof set}, 4);
	static const uint8_t expected[] = {2, 1, 0, 0, 0xfd, 0xe8, 1, 1, 0, 0, 0, 7};
	assert_true(bytes_equal(writer_bytes(&w), (struct bytes){expected, sizeof expected}));
}

static void what_no_network_has(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool martian;
	} rows[] = {{"0.0.0.0/0", false},   {"0.0.0.0/8", true},   {"127.1.0.0/16", true},  {"169.254.7.0/24", true},
	            {"169.0.0.0/8", false}, {"240.0.0.0/4", true}, {"223.0.0.0/8", false},  {"192.168.0.0/16", false},
	            {"::/0", false},        {"::1/128", true},     {"::ffff:0:0/96", true}, {"fe80::/64", true},
	            {"fc00::/7", false},    {"fec0::/10", false},  {"ff02::/16", true},     {"2001:db8::/32", false}};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct prefix prefix;
		assert_true(prefix_parse(rows[i].text, &prefix));
		assert_int_equal(family_is_martian(&prefix), rows[i].martian);
	}
	assert_int_equal(family_find(1, 1), FAMILY_IPV4);
	assert_int_equal(family_find(2, 1), FAMILY_IPV6);
	assert_int_equal(family_find(1, 128), FAMILIES); // VPN-IPv4
	assert_int_equal(family_find(25, 70), FAMILIES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(prefixes_agree_with_a_model),
	    cmocka_unit_test(sets_are_shared),
	    cmocka_unit_test(what_no_network_has),
	    cmocka_unit_test(our_as_goes_first),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
