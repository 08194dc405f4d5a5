// Longest-prefix match against a plain list, under random changes; and a large table.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <urcu-qsbr.h>

#include <cmocka.h>

#include "common/base/random.h"
#include "services/esp/fib.h"

struct entry {
	struct prefix prefix;
	uint32_t value;
};

static struct prefix random_prefix(struct random *random, bool ipv6)
{
	struct address address = {.length = ipv6 ? 16 : 4};
	// Few distinct octets, so that prefixes nest and hide each other often.
	for (unsigned i = 0; i < address.length; i++) {
		address.octets[i] =
		    (uint8_t)(random_below(random, 3) * 0x55 ^ (random_below(random, 8) == 0 ? random_u32(random) : 0));
	}
	unsigned bits = random_below(random, ipv6 ? 65 : 33);
	return prefix_of(&address, (uint8_t)bits);
}

static uint32_t naive(const struct entry *list, size_t count, const struct address *address)
{
	int best = -1;
	uint32_t value = 0;
	for (size_t i = 0; i < count; i++) {
		if (list[i].value && list[i].prefix.length > best && prefix_contains_address(&list[i].prefix, address)) {
			best = list[i].prefix.length;
			value = list[i].value;
		}
	}
	return value;
}

static void run(uint64_t seed, bool ipv6)
{
	enum { LIST = 400 };
	static struct entry list[LIST];
	memset(list, 0, sizeof list);
	struct random random;
	random_init_number(&random, seed);
	struct fib *fib = fib_new(seed);
	size_t held = 0;
	for (int step = 0; step < 6000; step++) {
		struct entry *at = &list[random_below(&random, LIST)];
		if (at->value) {
			assert_int_equal(fib_find(fib, &at->prefix), at->value);
			if (random_below(&random, 2)) {
				assert_int_equal(fib_remove(fib, &at->prefix), at->value);
				at->value = 0;
				held--;
			} else {
				uint32_t value = 1 + random_below(&random, 1000);
				assert_int_equal(fib_set(fib, &at->prefix, value), at->value);
				at->value = value;
			}
		} else {
			at->prefix = random_prefix(&random, ipv6);
			if (fib_find(fib, &at->prefix) == 0) {
				at->value = 1 + random_below(&random, 1000);
				assert_int_equal(fib_set(fib, &at->prefix, at->value), 0);
				held++;
			}
		}
		assert_int_equal(fib_count(fib), held);
		for (int i = 0; i < 3; i++) {
			struct prefix near = random_prefix(&random, ipv6);
			struct address address =
			    random_below(&random, 2) ? prefix_nth(&near, random_u32(&random)) : near.address;
			assert_int_equal(fib_lookup(fib, address.octets, address.length), naive(list, LIST, &address));
		}
	}
	for (size_t i = 0; i < LIST; i++) {
		if (list[i].value) {
			assert_int_equal(fib_remove(fib, &list[i].prefix), list[i].value);
		}
	}
	struct fib *empty = fib_new(1);
	// Only the hash table may have grown: every node is given back.
	assert_true(fib_memory(fib) - fib_memory(empty) <= 1024 * 24);
	rcu_barrier();
	fib_free(&empty);
	fib_free(&fib);
}

static void ipv4_against_a_list(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++) {
		run(seed, false);
	}
}

static void ipv6_against_a_list(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		run(seed, true);
	}
}

static void default_route_and_host_route(void **state)
{
	(void)state;
	struct fib *fib = fib_new(3);
	struct prefix all = {.address.length = 4};
	struct prefix host = {.address = {.length = 4, .octets = {10, 1, 2, 3}}, .length = 32};
	assert_int_equal(fib_lookup(fib, host.address.octets, 4), 0);
	assert_int_equal(fib_remove(fib, &all), 0);
	fib_set(fib, &all, 5);
	fib_set(fib, &host, 6);
	assert_int_equal(fib_lookup(fib, host.address.octets, 4), 6);
	assert_int_equal(fib_lookup(fib, (uint8_t[]){10, 1, 2, 4}, 4), 5);
	fib_remove(fib, &host);
	assert_int_equal(fib_lookup(fib, host.address.octets, 4), 5);
	rcu_barrier();
	fib_free(&fib);
}

static void a_million_prefixes(void **state)
{
	(void)state;
	struct fib *fib = fib_new(9);
	struct random random;
	random_init_number(&random, 4);
	size_t wanted = 0;
	for (uint32_t i = 0; i < 1000000; i++) {
		struct address address = {.length = 4};
		random_fill(&random, address.octets, 4);
		struct prefix prefix = prefix_of(&address, (uint8_t)(20 + i % 5));
		wanted += fib_set(fib, &prefix, 1 + i % 4000) == 0;
	}
	assert_int_equal(fib_count(fib), wanted);
	assert_true(fib_memory(fib) < (size_t)256 << 20);
	print_message("%zu prefixes in %zu MB\n", wanted, fib_memory(fib) >> 20);
	fib_free(&fib);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(ipv4_against_a_list),
	    cmocka_unit_test(ipv6_against_a_list),
	    cmocka_unit_test(default_route_and_host_route),
	    cmocka_unit_test(a_million_prefixes),
	};
	return cmocka_run_group_tests_name("esp_fib", tests, NULL, NULL);
}
