// The replay window at its edges, against a list of all numbers that came.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/random.h"
#include "services/esp/replay.h"

static void edges(void **state)
{
	(void)state;
	static const uint32_t windows[] = {64, 65, 100, 1024, 1000, 4095, 4096};
	for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
		uint32_t w = windows[i];
		struct replay replay;
		replay_init(&replay, w, 0);
		assert_false(replay_check(&replay, 0)); // RFC 4303 section 3.3.3: numbers begin with 1
		assert_true(replay_accept(&replay, 1));
		assert_false(replay_accept(&replay, 1));
		assert_true(replay_accept(&replay, 5000));
		assert_true(replay_check(&replay, 5000 - w + 1)); // the lowest inside
		assert_false(replay_check(&replay, 5000 - w));    // the highest outside
		assert_false(replay_check(&replay, 5000 - w - 1));
		assert_true(replay_accept(&replay, 5000 - w + 1));
		assert_false(replay_accept(&replay, 5000 - w + 1));
		assert_true(replay_accept(&replay, 5001)); // slides by one: the lowest falls out
		assert_false(replay_check(&replay, 5001 - w));
		assert_true(replay_accept(&replay, 4999));
		assert_true(replay_accept(&replay, UINT32_MAX)); // a jump clears the whole ring
		for (uint64_t s = UINT32_MAX - w + 1; s < UINT32_MAX; s++) {
			assert_true(replay_accept(&replay, s));
			assert_false(replay_accept(&replay, s));
		}
	}
}

static void checking_moves_nothing(void **state)
{
	(void)state;
	struct replay replay, before;
	replay_init(&replay, 128, 0);
	assert_true(replay_accept(&replay, 300));
	before = replay;
	replay_check(&replay, 1000000);
	replay_check(&replay, 299);
	replay_infer(&replay, 7);
	assert_memory_equal(&before, &replay, sizeof replay);
}

// What an earlier window had reached counts as seen; above it everything is new, in the same word of the ring too.
static void begins_where_another_ended(void **state)
{
	(void)state;
	static const uint32_t windows[] = {0, 64, 100, 1024, 4096};
	for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
		for (uint64_t highest = 1; highest < 9000; highest += 37) {
			struct replay replay;
			uint32_t w = windows[i];
			replay_init(&replay, w, highest);
			for (uint64_t n = 0; w > 0 && n <= highest; n++) {
				assert_false(replay_check(&replay, n));
			}
			for (uint64_t n = highest + 63; w > 0 && n > highest; n--) {
				assert_true(replay_accept(&replay, n));
			}
			assert_int_equal(replay_infer(&replay, (uint32_t)highest + 5), highest + 5);
		}
		struct replay replay;
		replay_init(&replay, windows[i], ((uint64_t)7 << 32) + 5);
		assert_int_equal(replay_infer(&replay, 6), ((uint64_t)7 << 32) + 6);
	}
}

static void off_takes_all(void **state)
{
	(void)state;
	struct replay replay;
	replay_init(&replay, 0, 0);
	for (int i = 0; i < 3; i++) {
		assert_true(replay_accept(&replay, 77));
		assert_true(replay_accept(&replay, 5));
	}
	assert_false(replay_accept(&replay, 0));
}

static void against_a_list(void **state)
{
	(void)state;
	enum { SPAN = 20000 };
	static uint8_t seen[SPAN];
	struct random random;
	random_init_number(&random, 1);
	for (int round = 0; round < 20; round++) {
		uint32_t w = 64 + random_below(&random, 4096 - 63);
		struct replay replay;
		replay_init(&replay, w, 0);
		memset(seen, 0, sizeof seen);
		uint64_t highest = 0;
		for (int i = 0; i < 20000; i++) {
			uint64_t around = highest > w ? highest - w : 0;
			uint64_t s = 1 + (around + random_below(&random, w + 50)) % (SPAN - 1);
			bool wanted = s > highest || (highest - s < w && !seen[s]);
			assert_int_equal(replay_check(&replay, s), wanted);
			assert_int_equal(replay_accept(&replay, s), wanted);
			seen[s] |= wanted;
			highest = s > highest ? s : highest;
		}
	}
}

static void extended_numbers_cross_the_wrap(void **state)
{
	(void)state;
	struct replay replay;
	replay_init(&replay, 1024, 0);
	// From below 2^32 to above it and back inside the window.
	for (uint64_t s = 0xfffffe00; s < 0x100000400; s += 3) {
		assert_int_equal(replay_infer(&replay, (uint32_t)s), s);
		assert_true(replay_accept(&replay, s));
	}
	assert_int_equal(replay_infer(&replay, 0xffffffff), 0xffffffff);
	assert_int_equal(replay_infer(&replay, 0x00000001), 0x100000001);
	assert_int_equal(replay_infer(&replay, 0xfffffe00), 0x1fffffe00); // too old: it can only be the next round
	assert_int_equal(replay_infer(&replay, 0x7fffffff), 0x17fffffff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(edges),
	    cmocka_unit_test(checking_moves_nothing),
	    cmocka_unit_test(begins_where_another_ended),
	    cmocka_unit_test(off_takes_all),
	    cmocka_unit_test(against_a_list),
	    cmocka_unit_test(extended_numbers_cross_the_wrap),
	};
	return cmocka_run_group_tests_name("esp_replay", tests, NULL, NULL);
}
