// PostgreSQL servers of their own for the tests of the database, on Unix sockets, as the user postgres (the server will not run
// as root).
#ifndef TWINSPAN_TESTS_IO_DATABASE_SERVER_H
#define TWINSPAN_TESTS_IO_DATABASE_SERVER_H

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
#define NEEDS_SERVER()                                                                                                         \
	if (access(BIN "/initdb", X_OK) < 0) {                                                                                 \
		print_message("PostgreSQL is not installed\n");                                                                \
		skip();                                                                                                        \
	}

static char directory[] = "/tmp/twinspan-database-XXXXXX";

__attribute__((format(printf, 1, 2), unused)) static int postgres(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	char *command;
	assert_true(vasprintf(&command, format, arguments) > 0);
	va_end(arguments);
	char *whole = format_text("cd %s && %s sh -c '%s' >>%s/output 2>&1", directory,
	                          geteuid() == 0 ? "runuser -u postgres --" : "", command, directory);
	int result = system(whole);
	free(whole);
	free(command);
	return result;
}

// A server is a folder below `directory`; its socket's port is its number.
__attribute__((unused)) static int start_server(const char *name, int port)
{
	return postgres(BIN "/pg_ctl -D %s -w -t 20 -l log -o \"-F -k %s -c listen_addresses= -c port=%d\" start", name,
	                directory, port);
}

__attribute__((unused)) static int stop_server(const char *name)
{
	return postgres(BIN "/pg_ctl -D %s -w -m immediate stop", name);
}

// A session of the test's own, beside the one under test.
__attribute__((unused)) static PGconn *session(int port)
{
	char *where = format_text("host=%s port=%d dbname=postgres user=postgres", directory, port);
	PGconn *connection = PQconnectdb(where);
	free(where);
	assert_int_equal(PQstatus(connection), CONNECTION_OK);
	return connection;
}

__attribute__((unused)) static void say(PGconn *connection, const char *sql)
{
	PGresult *result = PQexec(connection, sql);
	ExecStatusType status = PQresultStatus(result);
	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
		fail_msg("%s: %s", sql, PQresultErrorMessage(result));
	}
	PQclear(result);
}

__attribute__((unused)) static void query_server(int port, const char *sql)
{
	PGconn *connection = session(port);
	say(connection, sql);
	PQfinish(connection);
}

__attribute__((unused)) static int make_server(void)
{
	assert_non_null(mkdtemp(directory));
	chmod(directory, 0777);
	if (access(BIN "/initdb", X_OK) < 0) {
		return 0; // each test says that it skips
	}
	assert_int_equal(postgres(BIN "/initdb -D data -A trust -U postgres --no-sync"), 0);
	setenv("TWINSPAN_DATABASE_TIMEOUT", "500", 1);
	setenv("TWINSPAN_LOG_LEVEL", "error", 0);
	log_init("test", NULL);
	return start_server("data", 5499);
}

__attribute__((unused)) static int remove_servers(void)
{
	stop_server("data");
	stop_server("standby");
	char *command = format_text("rm -rf %s", directory);
	int result = system(command);
	free(command);
	return result;
}

// ---- a database on a loop that is turned by hand ----
struct bench {
	struct loop *loop;
	struct database *database;
	struct deadline limit;
	int ups;
	bool limited;
};

__attribute__((unused)) static void on_up(void *context)
{
	struct bench *bench = context;
	bench->ups++;
	loop_stop(bench->loop);
}

static void on_limit(void *context)
{
	struct bench *bench = context;
	bench->limited = true;
	loop_stop(bench->loop);
}

// Turns until something stops the loop; false when nothing does in time.
static bool turn(struct bench *bench, duration most)
{
	bench->limited = false;
	deadline_arm(&bench->limit, now() + most);
	loop_run(bench->loop);
	deadline_disarm(&bench->limit);
	return !bench->limited;
}

__attribute__((unused)) static void turn_until_up(struct bench *bench, int ups)
{
	for (instant limit = now() + SECONDS(20); bench->ups < ups;) {
		assert_true(now() < limit);
		turn(bench, SECONDS(1));
	}
}

__attribute__((unused)) static void bench_start(struct bench *bench, const char *where, const struct migration *migrations,
                                                size_t count)
{
	*bench = (struct bench){.loop = loop_new()};
	setenv("TWINSPAN_DATABASE", where, 1);
	deadline_init(&bench->limit, bench->loop, on_limit, bench);
	bench->database = database_new(bench->loop, NULL, "resource", migrations, count, on_up, bench);
}

__attribute__((unused)) static void bench_fini(struct bench *bench)
{
	database_free(&bench->database);
	loop_free(&bench->loop);
}

// ---- work whose outcome is waited for ----
struct waited {
	struct bench *bench;
	bool done;
	enum database_outcome outcome;
	char sqlstate[6];
	size_t statement;
	PGresult *last; // the last statement's
};

__attribute__((unused)) static void on_done(void *context, struct database_answer *answer)
{
	struct waited *waited = context;
	assert_false(waited->done);
	waited->done = true;
	waited->outcome = answer->outcome;
	waited->statement = answer->statement;
	memcpy(waited->sqlstate, answer->sqlstate, sizeof waited->sqlstate);
	if (answer->outcome == DATABASE_DONE) {
		waited->last = answer->results[answer->count - 1];
		answer->results[answer->count - 1] = NULL;
	}
	loop_stop(waited->bench->loop);
}

__attribute__((unused)) static void submit(struct bench *bench, struct waited *waited, struct database_work *work)
{
	*waited = (struct waited){.bench = bench};
	database_submit(&work, on_done, waited);
}

__attribute__((unused)) static enum database_outcome wait_for(struct waited *waited)
{
	for (instant limit = now() + SECONDS(20); !waited->done;) {
		assert_true(now() < limit);
		turn(waited->bench, SECONDS(1));
	}
	return waited->outcome;
}

__attribute__((unused)) static int number_of(struct bench *bench, const char *sql)
{
	struct waited waited;
	struct database_work *work = database_work_new(bench->database, DATABASE_PLAIN);
	database_work_add(work, sql, NULL, 0, DATABASE_ANY_ROWS);
	submit(bench, &waited, work);
	int number = wait_for(&waited) == DATABASE_DONE ? atoi(PQgetvalue(waited.last, 0, 0)) : -1;
	PQclear(waited.last);
	return number;
}

#endif
