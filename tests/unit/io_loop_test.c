// The loop's clockwork: beats.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/io/log.h"
#include "common/io/loop.h"

static void a_beat_is_the_next_whole_one(void **state)
{
	(void)state;
	assert_int_equal(beat_after(MILLISECONDS(10300), SECONDS(1)), SECONDS(11));
	assert_int_equal(beat_after(SECONDS(11) - 1, SECONDS(1)), SECONDS(11));
	assert_int_equal(beat_after(SECONDS(11), SECONDS(1)), SECONDS(12)); // what is armed again on a beat is not called at once
	assert_int_equal(beat_after(MILLISECONDS(10300), MILLISECONDS(500)), MILLISECONDS(10500));
}

static struct {
	struct loop *loop;
	struct deadline first, second;
	unsigned turns, called, called_in[2];
} scene;

static void on_turn(void *context)
{
	(void)context;
	scene.turns++;
	if (scene.called == 2) {
		loop_stop(scene.loop);
	}
}

static void on_beat(void *context)
{
	(void)context;
	scene.called_in[scene.called++] = scene.turns;
}

static void what_is_armed_for_a_beat_happens_in_one_turn(void **state)
{
	(void)state;
	scene.loop = loop_new();
	loop_after_batch(scene.loop, on_turn, NULL);
	deadline_init(&scene.first, scene.loop, on_beat, NULL);
	deadline_init(&scene.second, scene.loop, on_beat, NULL);
	instant at = now();
	deadline_arm(&scene.first, beat_after(at, MILLISECONDS(200)));
	deadline_arm(&scene.second, beat_after(beat_after(at, MILLISECONDS(200)) - 1, MILLISECONDS(200)));
	loop_run(scene.loop);
	assert_int_equal(scene.called, 2);
	assert_int_equal(scene.called_in[0], scene.called_in[1]);
	loop_free(&scene.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_beat_is_the_next_whole_one),
	    cmocka_unit_test(what_is_armed_for_a_beat_happens_in_one_turn),
	};
	log_init("test", NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
