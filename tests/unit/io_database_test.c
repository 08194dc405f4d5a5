// The database against a PostgreSQL of its own, which is stopped and started under it.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/io/database.h"
#include "common/io/log.h"

#define BIN "/usr/lib/postgresql/15/bin"

static char directory[] = "/tmp/twinspan-database-XXXXXX";

// Runs as the user postgres, as the server will not run as root.
static int postgres(const char *command)
{
	char *whole = format_text("cd %s && %s sh -c '%s' >>%s/output 2>&1", directory,
	                          geteuid() == 0 ? "runuser -u postgres --" : "", command, directory);
	int result = system(whole);
	free(whole);
	return result;
}

static int start_server(void)
{
	char *command = format_text(
	    BIN "/pg_ctl -D data -w -t 10 -l log -o \"-F -k %s -c listen_addresses= -c port=5499\" start", directory);
	int result = postgres(command);
	free(command);
	return result;
}

static int stop_server(void)
{
	return postgres(BIN "/pg_ctl -D data -w -m immediate stop");
}

static int set_up(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(directory));
	chmod(directory, 0777);
	if (access(BIN "/initdb", X_OK) < 0) {
		return 0; // each test says that it skips
	}
	assert_int_equal(postgres(BIN "/initdb -D data -A trust -U postgres --no-sync"), 0);
	assert_int_equal(start_server(), 0);
	char *where = format_text("host=%s port=5499 dbname=postgres user=postgres", directory);
	setenv("TWINSPAN_DATABASE", where, 1);
	setenv("TWINSPAN_DATABASE_TIMEOUT", "500", 1);
	setenv("TWINSPAN_LOG_LEVEL", "error", 1);
	free(where);
	log_init("test", NULL);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	stop_server();
	char *command = format_text("rm -rf %s", directory);
	int result = system(command);
	free(command);
	return result;
}

static const struct migration migrations[] = {
    {"0001_things", "CREATE TABLE thing (id text PRIMARY KEY, number int NOT NULL)"},
    {"0002_more", "ALTER TABLE thing ADD COLUMN more text; CREATE INDEX ON thing (more)"},
};

struct bench {
	struct loop *loop;
	struct database *database;
	struct deadline limit;
	int ups;
};

static void on_up(void *context)
{
	struct bench *bench = context;
	bench->ups++;
	loop_stop(bench->loop);
}

static void on_limit(void *context)
{
	loop_stop(((struct bench *)context)->loop);
}

static void turn(struct bench *bench, duration most)
{
	deadline_arm(&bench->limit, now() + most);
	loop_run(bench->loop);
	deadline_disarm(&bench->limit);
}

static void bench_init(struct bench *bench, size_t migration_count)
{
	*bench = (struct bench){.loop = loop_new()};
	deadline_init(&bench->limit, bench->loop, on_limit, bench);
	bench->database = database_new(bench->loop, NULL, "resource", migrations, migration_count, on_up, bench);
	turn(bench, SECONDS(5));
	assert_int_equal(bench->ups, 1);
}

static void bench_fini(struct bench *bench)
{
	database_free(&bench->database);
	loop_free(&bench->loop);
}

#define NEEDS_SERVER()                                                                                                         \
	if (access(BIN "/initdb", X_OK) < 0) {                                                                                 \
		print_message("PostgreSQL is not installed\n");                                                                \
		skip();                                                                                                        \
	}

static bool insert(struct database *database, const char *id, const char *number, char sqlstate[6])
{
	const char *values[] = {id, number};
	PGresult *result = database_query(database, "INSERT INTO thing (id, number) VALUES ($1, $2)", values, 2, sqlstate);
	PQclear(result);
	return result != NULL;
}

static int count_things(struct database *database)
{
	PGresult *result = database_query(database, "SELECT count(*) FROM thing", NULL, 0, NULL);
	int count = result ? atoi(PQgetvalue(result, 0, 0)) : -1;
	PQclear(result);
	return count;
}

static void migrates_once_and_forward(void **state)
{
	(void)state;
	NEEDS_SERVER();
	struct bench bench;
	bench_init(&bench, 1);
	assert_int_equal(count_things(bench.database), 0);
	bench_fini(&bench);
	for (int i = 0; i < 2; i++) {
		bench_init(&bench, 2);
		PGresult *result =
		    database_query(bench.database, "SELECT name FROM resource.migration ORDER BY name", NULL, 0, NULL);
		assert_int_equal(PQntuples(result), 2);
		assert_string_equal(PQgetvalue(result, 1, 0), "0002_more");
		PQclear(result);
		bench_fini(&bench);
	}
}

static void statements_and_refusals(void **state)
{
	(void)state;
	NEEDS_SERVER();
	struct bench bench;
	bench_init(&bench, 2);
	char sqlstate[6];
	assert_true(insert(bench.database, "a", "1", sqlstate));
	assert_string_equal(sqlstate, "");
	assert_false(insert(bench.database, "a", "1", sqlstate));
	assert_string_equal(sqlstate, "23505");
	assert_false(insert(bench.database, "b'; DROP TABLE thing; --", NULL, sqlstate));
	assert_string_equal(sqlstate, "23502");
	assert_null(database_query(bench.database, "SELECT nonsense", NULL, 0, sqlstate));
	assert_string_equal(sqlstate, "42703");
	assert_int_equal(count_things(bench.database), 1);
	bench_fini(&bench);
}

static void a_transaction_is_all_or_nothing(void **state)
{
	(void)state;
	NEEDS_SERVER();
	struct bench bench;
	bench_init(&bench, 2);
	int before = count_things(bench.database);
	assert_true(database_begin(bench.database));
	database_rollback(bench.database);
	assert_true(database_begin(bench.database));
	assert_true(insert(bench.database, "t1", "1", NULL));
	assert_false(insert(bench.database, "t1", "1", NULL));
	assert_false(insert(bench.database, "t2", "1", NULL)); // nothing more is tried
	assert_false(database_commit(bench.database));
	assert_int_equal(count_things(bench.database), before);
	assert_true(database_begin(bench.database));
	assert_true(insert(bench.database, "t3", "1", NULL));
	assert_true(database_commit(bench.database));
	assert_int_equal(count_things(bench.database), before + 1);
	bench_fini(&bench);
}

static void a_slow_statement_is_ended(void **state)
{
	(void)state;
	NEEDS_SERVER();
	struct bench bench;
	bench_init(&bench, 2);
	char sqlstate[6];
	instant started = now();
	assert_null(database_query(bench.database, "SELECT pg_sleep(30)", NULL, 0, sqlstate));
	assert_true(now() - started < SECONDS(2));
	assert_string_equal(sqlstate, "57014");
	assert_true(database_is_up(bench.database));
	bench_fini(&bench);
}

static void it_goes_and_comes_back(void **state)
{
	(void)state;
	NEEDS_SERVER();
	struct bench bench;
	bench_init(&bench, 2);
	int before = count_things(bench.database);
	assert_true(database_begin(bench.database));
	assert_true(insert(bench.database, "lost", "1", NULL));
	assert_int_equal(stop_server(), 0);
	assert_false(insert(bench.database, "lost2", "1", NULL));
	assert_false(database_is_up(bench.database));
	assert_false(database_commit(bench.database));
	assert_false(insert(bench.database, "lost3", "1", NULL));
	turn(&bench, MILLISECONDS(700)); // several attempts in vain
	assert_int_equal(bench.ups, 1);
	assert_int_equal(start_server(), 0);
	turn(&bench, SECONDS(6));
	assert_int_equal(bench.ups, 2);
	assert_int_equal(count_things(bench.database), before);
	// Idle, too, it notices.
	assert_int_equal(stop_server(), 0);
	turn(&bench, MILLISECONDS(200));
	assert_false(database_is_up(bench.database));
	assert_int_equal(start_server(), 0);
	turn(&bench, SECONDS(6));
	assert_true(database_is_up(bench.database));
	bench_fini(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(migrates_once_and_forward),       cmocka_unit_test(statements_and_refusals),
	    cmocka_unit_test(a_transaction_is_all_or_nothing), cmocka_unit_test(a_slow_statement_is_ended),
	    cmocka_unit_test(it_goes_and_comes_back),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
