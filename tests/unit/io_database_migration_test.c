// Migrations: forward, once, whoever comes first; and what a release does with the schema of a newer one.
#include "io_database_server.h"

static int set_up(void **state)
{
	(void)state;
	return make_server();
}

static int tear_down(void **state)
{
	(void)state;
	return remove_servers();
}

static const struct migration migrations[] = {
    {.name = "0001_things", .sql = "CREATE TABLE thing (id text PRIMARY KEY)"},
    {.name = "0002_more", .sql = "ALTER TABLE thing ADD COLUMN more text; CREATE INDEX ON thing (more)"},
    // Longer than a statement may take.
    {.name = "0003_slow", .sql = "SELECT pg_sleep(0.8); ALTER TABLE thing ADD COLUMN slow text"},
    {.name = "0004_breaking", .sql = "ALTER TABLE thing DROP COLUMN more", .breaking = true},
};

static void begin(struct bench *bench, const struct migration *list, size_t count)
{
	char *where = format_text("host=%s port=5499 dbname=postgres user=postgres", directory);
	bench_start(bench, where, list, count);
	free(where);
}

static int applied(struct bench *bench)
{
	return number_of(bench, "SELECT count(*) FROM resource.migration");
}

static void begin_anew(void)
{
	query_server(5499, "DROP SCHEMA IF EXISTS resource CASCADE");
}

static void forward_and_once(void **state)
{
	(void)state;
	NEEDS_SERVER();
	begin_anew();
	struct bench bench;
	for (size_t count = 1; count <= 3; count++) {
		for (int again = 0; again < 2; again++) {
			begin(&bench, migrations, count);
			turn_until_up(&bench, 1);
			assert_int_equal(applied(&bench), count);
			bench_fini(&bench);
		}
	}
	// An earlier release made the table without the column that says what breaks.
	query_server(5499, "ALTER TABLE resource.migration DROP COLUMN breaking");
	begin(&bench, migrations, 3);
	turn_until_up(&bench, 1);
	assert_int_equal(number_of(&bench, "SELECT count(*) FROM resource.migration WHERE NOT breaking"), 3);
	bench_fini(&bench);
}

// All or none: one that fails leaves no trace of those before it, and the service tries again.
static void a_failing_one_undoes_all(void **state)
{
	(void)state;
	NEEDS_SERVER();
	begin_anew();
	static const struct migration bad[] = {
	    {.name = "0001_things", .sql = "CREATE TABLE thing (id text PRIMARY KEY)"},
	    {.name = "0002_bad", .sql = "CREATE TABLE other (id int); SELECT 1 / 0"},
	};
	struct bench bench;
	begin(&bench, bad, 2);
	assert_false(turn(&bench, SECONDS(1)));
	assert_false(database_is_up(bench.database));
	bench_fini(&bench);
	begin(&bench, bad, 1);
	turn_until_up(&bench, 1);
	assert_int_equal(applied(&bench), 1);
	assert_int_equal(number_of(&bench, "SELECT count(*) FROM pg_tables WHERE schemaname = 'resource'"), 2);
	bench_fini(&bench);
}

// Whoever is at the migrations is waited for, longer than a statement may take.
static void it_waits_for_who_migrates(void **state)
{
	(void)state;
	NEEDS_SERVER();
	begin_anew();
	PGconn *other = session(5499);
	say(other, "SELECT pg_advisory_lock(hashtextextended('twinspan.resource', 0))");
	struct bench bench;
	begin(&bench, migrations, 2);
	assert_false(turn(&bench, SECONDS(2)));
	assert_int_equal(bench.ups, 0);
	PQfinish(other);
	turn_until_up(&bench, 1);
	bench_fini(&bench);
}

// Several at once: one waits for the other, and finds it done.
static void one_at_a_time(void **state)
{
	(void)state;
	NEEDS_SERVER();
	begin_anew();
	struct bench benches[3];
	for (size_t i = 0; i < 3; i++) {
		begin(&benches[i], migrations, 3);
	}
	instant limit = now() + SECONDS(20);
	for (bool all = false; !all;) {
		assert_true(now() < limit);
		all = true;
		for (size_t i = 0; i < 3; i++) {
			turn(&benches[i], MILLISECONDS(5));
			all = all && benches[i].ups == 1;
		}
	}
	assert_int_equal(applied(&benches[0]), 3);
	for (size_t i = 0; i < 3; i++) {
		bench_fini(&benches[i]);
	}
}

static void a_newer_schema(void **state)
{
	(void)state;
	NEEDS_SERVER();
	begin_anew();
	struct bench bench;
	begin(&bench, migrations, 3);
	turn_until_up(&bench, 1);
	bench_fini(&bench);
	// It was only expanded: the release before goes on.
	begin(&bench, migrations, 2);
	turn_until_up(&bench, 1);
	assert_int_equal(applied(&bench), 3);
	bench_fini(&bench);
	begin(&bench, migrations, 4);
	turn_until_up(&bench, 1);
	assert_int_equal(number_of(&bench, "SELECT count(*) FROM resource.migration WHERE breaking"), 1);
	bench_fini(&bench);
	// It was changed so that the release before cannot work with it: that one refuses, and works when it is changed back.
	begin(&bench, migrations, 3);
	assert_false(turn(&bench, SECONDS(1)));
	assert_int_equal(bench.ups, 0);
	query_server(5499, "DELETE FROM resource.migration WHERE name = '0004_breaking'");
	turn_until_up(&bench, 1);
	bench_fini(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(forward_and_once),
	    cmocka_unit_test(a_failing_one_undoes_all),
	    cmocka_unit_test(it_waits_for_who_migrates),
	    cmocka_unit_test(one_at_a_time),
	    cmocka_unit_test(a_newer_schema),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
