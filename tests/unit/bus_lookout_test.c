// What is told of changed keys and endpoints: at once by the file system, else by looking.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/bus/lookout.h"
#include "common/io/log.h"

static char home[] = "/tmp/twinspan-lookout-XXXXXX";

static struct scene {
	struct loop *loop;
	struct bus_lookout lookout;
	struct deadline limit;
	bool begun;
	unsigned calls;
} scene;

static void run(const char *command)
{
	assert_int_equal(system(command), 0);
}

static void on_change(void *context)
{
	(void)context;
	scene.calls++;
	loop_stop(scene.loop);
}

static void on_limit(void *context)
{
	(void)context;
	loop_stop(scene.loop);
}

static bool is_told_within(duration most)
{
	scene.calls = 0;
	deadline_arm(&scene.limit, now() + most);
	loop_run(scene.loop);
	deadline_disarm(&scene.limit);
	return scene.calls > 0;
}

// Sooner than any look that nothing asked for.
static bool is_told(void)
{
	return is_told_within(SECONDS(5));
}

// Lets what belongs to a change that was told go by.
static void settle(void)
{
	while (is_told_within(MILLISECONDS(300))) {
	}
}

static void begin_at(const char *keys, const char *endpoints)
{
	bus_lookout_begin(&scene.lookout, scene.loop, keys, endpoints, on_change, NULL);
	scene.begun = true;
}

// What was read may have been half written: no second look at it.
static void forget_doubts(void)
{
	scene.lookout.keys.again = scene.lookout.endpoints.again = false;
}

static int set_up(void **state)
{
	(void)state;
	char name[] = "/tmp/twinspan-lookout-XXXXXX";
	assert_non_null(mkdtemp(name));
	memcpy(home, name, sizeof home);
	assert_int_equal(chdir(home), 0);
	run("mkdir keys && echo a > keys/a.public && echo x > endpoints");
	scene = (struct scene){.loop = loop_new()};
	deadline_init(&scene.limit, scene.loop, on_limit, NULL);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	if (scene.begun) {
		bus_lookout_end(&scene.lookout);
	}
	loop_free(&scene.loop);
	assert_int_equal(chdir("/"), 0);
	char *command = format_text("rm -rf %s", home);
	run(command);
	free(command);
	return 0;
}

static void a_key_that_comes_goes_or_is_written_over_is_told(void **state)
{
	(void)state;
	static const char *const changes[] = {
	    "echo b > keys/b.public",    "echo c > keys/b.public",     "rm keys/b.public",
	    "mv keys/a.public keys/off", "mv keys/off keys/a.public", "ln -s a.public keys/d.public",
	};
	begin_at("keys/", "endpoints");
	for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
		run(changes[i]);
		assert_true(is_told());
		settle();
	}
}

static void endpoints_that_are_written_or_replaced_are_told(void **state)
{
	(void)state;
	static const char *const changes[] = {
	    "echo y > endpoints", "echo z > new && mv new endpoints", "echo y > endpoints", "rm endpoints", "echo y > endpoints",
	};
	begin_at("keys", "endpoints");
	for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
		run(changes[i]);
		assert_true(is_told());
		settle();
	}
}

static void another_file_of_the_same_directory_is_not_told(void **state)
{
	(void)state;
	run("cp endpoints keys/endpoints");
	begin_at("keys", "keys/endpoints");
	run("echo b > keys/b.secret && echo c > other && mkdir keys/sub && echo d > keys/socket");
	assert_false(is_told_within(SECONDS(1)));
	run("echo y > keys/endpoints");
	assert_true(is_told());
}

// What was renamed into its place is watched from then on, and what it replaced is not.
static void a_directory_that_is_replaced_is_told_and_watched(void **state)
{
	(void)state;
	begin_at("keys", "endpoints");
	run("mkdir new && echo b > new/b.public && mv keys old && mv new keys");
	assert_true(is_told());
	settle();
	run("rm keys/b.public");
	assert_true(is_told());
	settle();
	run("rm old/a.public");
	assert_false(is_told_within(SECONDS(1)));
}

static void a_link_that_leads_elsewhere_is_told_and_followed(void **state)
{
	(void)state;
	run("mkdir new && echo b > new/b.public && ln -s keys link && ln -s endpoints where && echo y > there");
	begin_at("link", "where");
	run("ln -s new link2 && mv -T link2 link");
	assert_true(is_told());
	settle();
	run("rm new/b.public");
	assert_true(is_told());
	settle();
	run("ln -s there where2 && mv -T where2 where");
	assert_true(is_told());
	settle();
	run("echo z > there");
	assert_true(is_told());
}

// A Kubernetes volume: files lead through a link "..data", which alone is replaced.
static void a_volume_whose_inner_link_is_replaced_is_told(void **state)
{
	(void)state;
	run("mkdir -p volume/..1 volume/..2 && echo a > volume/..1/a.public && echo x > volume/..1/endpoints && "
	    "echo y > volume/..2/endpoints && cd volume && ln -s ..1 ..data && ln -s ..data/a.public a.public && "
	    "ln -s ..data/endpoints endpoints");
	begin_at("volume", "volume/endpoints");
	run("cd volume && ln -s ..2 ..data_tmp && mv -T ..data_tmp ..data");
	assert_true(is_told());
	settle();
	run("echo z > volume/..2/endpoints");
	assert_true(is_told());
}

static void a_directory_that_is_being_filled_is_not_read_for_every_file(void **state)
{
	(void)state;
	begin_at("keys", "endpoints");
	unsigned calls = 0;
	instant begun = now();
	for (int i = 0; i < 50; i++) {
		char *command = format_text("echo x > keys/n%d.public", i);
		run(command);
		free(command);
		calls += is_told_within(MILLISECONDS(10));
	}
	assert_in_range(calls, 1, 2 + (now() - begun) / MILLISECONDS(200));
	settle();
}

// No watch can be had: it is looked at, each second.
static void what_nobody_tells_of_is_found_by_looking(void **state)
{
	(void)state;
	struct rlimit limit, none;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = (struct rlimit){0, limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	begin_at("keys", "endpoints");
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(scene.lookout.fd, -1);
	forget_doubts();
	run("rm keys/a.public");
	assert_true(is_told());
	forget_doubts();
	run("echo yy > endpoints");
	assert_true(is_told());
}

// A link further up leads elsewhere: nothing that is watched changes.
static void what_changes_out_of_sight_is_found_by_looking(void **state)
{
	(void)state;
	run("mkdir -p one/keys two/keys && ln -s one top && echo a > two/keys/a.public");
	begin_at("top/keys", "endpoints");
	run("ln -s two top2 && mv -T top2 top");
	assert_true(is_told_within(SECONDS(15)));
	settle();
	run("rm two/keys/a.public");
	assert_true(is_told());
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(a_key_that_comes_goes_or_is_written_over_is_told),
	    TEST(endpoints_that_are_written_or_replaced_are_told),
	    TEST(another_file_of_the_same_directory_is_not_told),
	    TEST(a_directory_that_is_replaced_is_told_and_watched),
	    TEST(a_link_that_leads_elsewhere_is_told_and_followed),
	    TEST(a_volume_whose_inner_link_is_replaced_is_told),
	    TEST(a_directory_that_is_being_filled_is_not_read_for_every_file),
	    TEST(what_nobody_tells_of_is_found_by_looking),
	    TEST(what_changes_out_of_sight_is_found_by_looking),
	};
	log_init("test", NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
