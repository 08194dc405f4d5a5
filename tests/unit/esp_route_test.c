// Which routes to tunnels lie beneath a route to an attachment, against a list of all routes; and the walk through a part of
// the FIB.
#include "tests/unit/esp_pair.h"

#include "common/base/random.h"
#include "services/esp/fib.h"

enum { ROUTES_MAX = 512 };

struct route {
	struct prefix prefix;
	bool present, attachment, told;
};
static struct route routes[ROUTES_MAX];
static size_t route_count;
static size_t calls;

static struct route *route_of(const struct prefix *prefix)
{
	for (size_t i = 0; i < route_count; i++) {
		if (prefix_equal(&routes[i].prefix, prefix)) {
			return &routes[i];
		}
	}
	assert_true(route_count < ROUTES_MAX);
	routes[route_count] = (struct route){.prefix = *prefix};
	return &routes[route_count++];
}

static void told(void *context, const char *gateway, const struct prefix *destination, bool wanted)
{
	(void)context;
	assert_string_equal(gateway, "bgw");
	struct route *route = route_of(destination);
	assert_int_not_equal(route->told, wanted); // never the same twice
	route->told = wanted;
	calls++;
}

static bool is_beneath(const struct route *route)
{
	for (size_t i = 0; i < route_count; i++) {
		if (routes[i].present && routes[i].attachment && routes[i].prefix.length < route->prefix.length &&
		    prefix_contains(&routes[i].prefix, &route->prefix)) {
			return true;
		}
	}
	return false;
}

// Few addresses and many lengths, so that prefixes lie in each other many times over.
static struct prefix any_prefix(struct random *random)
{
	struct address address = {.length = random_below(random, 4) ? 4 : 16};
	address.octets[0] = 10;
	for (unsigned i = 1; i < 3; i++) {
		address.octets[i] = (uint8_t)(random_below(random, 4) * 0x55);
	}
	static const uint8_t lengths[] = {0, 1, 7, 8, 9, 12, 15, 16, 17, 20, 23, 24, 25, 32};
	return prefix_of(&address, lengths[random_below(random, sizeof lengths)]);
}

static void beneath_as_the_list_says(void **state)
{
	(void)state;
	struct esp *esp = esp_new(&(struct esp_config){.workers = 1, .outer_mtu = 1500, .hash_seed = 3});
	struct random random;
	random_init_number(&random, 12);
	esp_on_beneath(esp, told, NULL);
	for (int step = 0; step < 20000; step++) {
		struct prefix prefix = any_prefix(&random);
		struct route *route = route_of(&prefix);
		switch (random_below(&random, 4)) {
		case 0:
		case 1:
			route->present = true;
			route->attachment = random_below(&random, 4) == 0;
			esp_route_set(esp, "bgw", &prefix, route->attachment ? NULL : "nhg");
			break;
		default:
			route->present = false;
			esp_route_remove(esp, "bgw", &prefix);
		}
		for (size_t i = 0; i < route_count; i++) {
			bool wanted = routes[i].present && !routes[i].attachment && is_beneath(&routes[i]);
			assert_int_equal(routes[i].told, wanted);
		}
	}
	assert_true(calls > 5000);
	esp_free(&esp);
}

static void count_inside(void *context, const struct prefix *prefix, uint32_t value)
{
	(void)prefix;
	(void)value;
	++*(size_t *)context;
}

// A change of one attachment's route looks at what lies inside it, not at a table of a hundred thousand beside it.
static void the_walk_finds_what_lies_inside(void **state)
{
	(void)state;
	struct fib *fib = fib_new(1);
	for (unsigned i = 0; i < 100000; i++) {
		struct prefix prefix = {.address = {4, {20, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}}, .length = 32};
		fib_set(fib, &prefix, 2);
	}
	static const char *const inside[] = {"10.1.0.0/17", "10.1.0.0/18", "10.1.64.0/18",
	                                     "10.1.1.0/24", "10.1.1.1/32", "10.1.128.0/24"};
	static const char *const outside[] = {"10.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "10.0.0.0/24", "10.2.0.0/24"};
	for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++) {
		struct prefix prefix = prefix_text(inside[i]);
		fib_set(fib, &prefix, 3);
	}
	for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
		struct prefix prefix = prefix_text(outside[i]);
		fib_set(fib, &prefix, 4);
	}
	static const struct {
		const char *outer;
		size_t found;
	} cases[] = {{"10.1.0.0/16", 6}, {"10.0.0.0/8", 9},  {"10.0.0.0/15", 8},    {"10.1.0.0/17", 4},    {"10.1.1.0/24", 1},
	             {"10.1.1.1/32", 0}, {"10.3.0.0/16", 0}, {"0.0.0.0/0", 100010}, {"20.0.0.0/16", 65536}};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct prefix outer = prefix_text(cases[i].outer);
		size_t found = 0;
		fib_each_inside(fib, &outer, count_inside, &found);
		assert_int_equal(found, cases[i].found);
	}
	fib_free(&fib);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(beneath_as_the_list_says),
	    cmocka_unit_test(the_walk_finds_what_lies_inside),
	};
	return cmocka_run_group_tests_name("esp_route", tests, NULL, NULL);
}
