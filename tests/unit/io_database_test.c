// The work of the database, against a PostgreSQL of its own, which is stopped and started under it: what becomes of a piece of
// work in each case.
#include "io_database_server.h"

#include <signal.h>

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
    {.name = "0001_things", .sql = "CREATE TABLE thing (id text PRIMARY KEY, number int NOT NULL)"},
    {.name = "0002_more", .sql = "ALTER TABLE thing ADD COLUMN more text; CREATE INDEX ON thing (more)"},
};

static void bench_init(struct bench *bench, size_t migration_count)
{
	char *where = format_text("host=%s port=5499 dbname=postgres user=postgres", directory);
	bench_start(bench, where, migrations, migration_count);
	turn_until_up(bench, 1);
	free(where);
}

static const char insert_sql[] = "INSERT INTO thing (id, number) VALUES ($1, $2::int)";

static struct database_work *inserting(struct bench *bench, enum database_access access, const char *id, const char *number)
{
	struct database_work *work = database_work_new(bench->database, access);
	database_work_add(work, insert_sql, (const char *[]){id, number}, 2, access == DATABASE_LOCKED ? 1 : DATABASE_ANY_ROWS);
	return work;
}

static enum database_outcome insert(struct bench *bench, struct waited *waited, const char *id, const char *number)
{
	submit(bench, waited, inserting(bench, DATABASE_LOCKED, id, number));
	enum database_outcome outcome = wait_for(waited);
	PQclear(waited->last);
	return outcome;
}

static int count_things(struct bench *bench)
{
	return number_of(bench, "SELECT count(*) FROM resource.thing");
}

static void statements_and_refusals(void **state)
{
	(void)state;
	NEEDS_SERVER();
	struct bench bench;
	struct waited waited;
	bench_init(&bench, 2);
	assert_int_equal(insert(&bench, &waited, "a", "1"), DATABASE_DONE);
	assert_int_equal(insert(&bench, &waited, "a", "1"), DATABASE_REFUSED);
	assert_string_equal(waited.sqlstate, "23505");
	assert_int_equal(insert(&bench, &waited, "b'; DROP TABLE thing; --", NULL), DATABASE_REFUSED);
	assert_string_equal(waited.sqlstate, "23502");
	// A statement that cannot be prepared is refused each time, and another after it is not.
	for (int i = 0; i < 2; i++) {
		struct database_work *work = database_work_new(bench.database, DATABASE_PLAIN);
		database_work_add(work, "SELECT nonsense", NULL, 0, DATABASE_ANY_ROWS);
		submit(&bench, &waited, work);
		assert_int_equal(wait_for(&waited), DATABASE_REFUSED);
		assert_string_equal(waited.sqlstate, "42703");
		assert_int_equal(count_things(&bench), 1);
	}
	bench_fini(&bench);
}

static void all_or_nothing(void **state)
{
	(void)state;
	NEEDS_SERVER();
	struct bench bench;
	struct waited waited;
	bench_init(&bench, 2);
	int before = count_things(&bench);
	for (enum database_access access = DATABASE_PLAIN; access <= DATABASE_LOCKED; access++) {
		struct database_work *work = inserting(&bench, access, "t1", "1");
		database_work_add(work, insert_sql, (const char *[]){"t2", "1"}, 2, DATABASE_ANY_ROWS);
		database_work_add(work, insert_sql, (const char *[]){"t1", "1"}, 2, DATABASE_ANY_ROWS);
		database_work_add(work, insert_sql, (const char *[]){"t3", "1"}, 2, DATABASE_ANY_ROWS);
		submit(&bench, &waited, work);
		assert_int_equal(wait_for(&waited), DATABASE_REFUSED);
		assert_int_equal(waited.statement, 2);
		assert_int_equal(count_things(&bench), before);
	}
	// A statement that touches another number of rows than it must undoes the others.
	struct database_work *work = inserting(&bench, DATABASE_LOCKED, "t1", "1");
	database_work_add(work, "UPDATE thing SET number = 2 WHERE id = 'nobody'", NULL, 0, 1);
	submit(&bench, &waited, work);
	assert_int_equal(wait_for(&waited), DATABASE_RACED);
	assert_int_equal(waited.statement, 1);
	assert_int_equal(count_things(&bench), before);
	assert_int_equal(insert(&bench, &waited, "t1", "1"), DATABASE_DONE);
	assert_int_equal(count_things(&bench), before + 1);
	bench_fini(&bench);
}

// A constraint that is looked at by the commit: nothing was done, and it says so.
static void refused_at_the_commit(void **state)
{
	(void)state;
	NEEDS_SERVER();
	struct bench bench;
	struct waited waited;
	bench_init(&bench, 2);
	query_server(5499, "CREATE TABLE resource.late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)");
	struct database_work *work = database_work_new(bench.database, DATABASE_LOCKED);
	database_work_add(work, "INSERT INTO resource.late VALUES (1), (1)", NULL, 0, 2);
	submit(&bench, &waited, work);
	assert_int_equal(wait_for(&waited), DATABASE_REFUSED);
	assert_string_equal(waited.sqlstate, "23505");
	assert_true(database_is_up(bench.database));
	assert_int_equal(number_of(&bench, "SELECT count(*) FROM resource.late"), 0);
	bench_fini(&bench);
}

static void note_order(void *context, struct database_answer *answer)
{
	char *order = context;
	assert_int_equal(answer->outcome, DATABASE_DONE);
	strcat(order, PQgetvalue(answer->results[0], 0, 0));
}

static void order_is_kept_and_the_loop_turns(void **state)
{
	(void)state;
	NEEDS_SERVER();
	struct bench bench;
	struct waited waited;
	setenv("TWINSPAN_DATABASE_TIMEOUT", "20000", 1);
	bench_init(&bench, 2);
	setenv("TWINSPAN_DATABASE_TIMEOUT", "500", 1);
	PGconn *holder = session(5499);
	say(holder, "SELECT pg_advisory_lock(78)");
	char order[16] = "";
	for (int i = 0; i < 3; i++) {
		static const char *const sql[] = {"SELECT 'a' FROM pg_advisory_lock(78)", "SELECT 'b'",
		                                  "SELECT 'c' FROM pg_sleep(0.1)"};
		struct database_work *work = database_work_new(bench.database, DATABASE_PLAIN);
		database_work_add(work, sql[i], NULL, 0, DATABASE_ANY_ROWS);
		database_submit(&work, note_order, order);
	}
	// Deadlines go on while the first statement waits.
	assert_false(turn(&bench, MILLISECONDS(10)));
	assert_string_equal(order, "");
	say(holder, "SELECT pg_advisory_unlock(78)");
	PQfinish(holder);
	assert_int_equal(count_things(&bench) >= 0, true);
	assert_string_equal(order, "abc");
	// A long text and many statements: more than the socket's buffers hold, both ways.
	char *big = allocate((1 << 20) + 1);
	memset(big, 'x', 1 << 20);
	struct database_work *work = database_work_new(bench.database, DATABASE_LOCKED);
	for (int i = 0; i < 20; i++) {
		database_work_add(work, "SELECT $1::text", (const char *[]){big}, 1, 1);
	}
	submit(&bench, &waited, work);
	assert_int_equal(wait_for(&waited), DATABASE_DONE);
	assert_int_equal(PQgetlength(waited.last, 0, 0), 1 << 20);
	PQclear(waited.last);
	free(big);
	bench_fini(&bench);
}

static void a_slow_statement_is_ended(void **state)
{
	(void)state;
	NEEDS_SERVER();
	struct bench bench;
	struct waited waited;
	bench_init(&bench, 2);
	struct database_work *work = database_work_new(bench.database, DATABASE_PLAIN);
	database_work_add(work, "SELECT pg_sleep(30)", NULL, 0, DATABASE_ANY_ROWS);
	submit(&bench, &waited, work);
	assert_int_equal(wait_for(&waited), DATABASE_REFUSED);
	assert_string_equal(waited.sqlstate, "57014");
	assert_true(database_is_up(bench.database));
	bench_fini(&bench);
}

static void it_goes_and_comes_back(void **state)
{
	(void)state;
	NEEDS_SERVER();
	struct bench bench;
	struct waited waited, second;
	bench_init(&bench, 2);
	int before = count_things(&bench);
	// Under way and waiting when it goes: nothing was told to commit.
	struct database_work *work = inserting(&bench, DATABASE_LOCKED, "lost", "1");
	database_work_add(work, "SELECT pg_sleep(30)", NULL, 0, DATABASE_ANY_ROWS);
	submit(&bench, &waited, work);
	submit(&bench, &second, inserting(&bench, DATABASE_LOCKED, "lost2", "1"));
	turn(&bench, MILLISECONDS(50));
	assert_int_equal(stop_server("data"), 0);
	assert_int_equal(wait_for(&waited), DATABASE_AWAY);
	assert_int_equal(wait_for(&second), DATABASE_AWAY);
	assert_false(database_is_up(bench.database));
	assert_int_equal(insert(&bench, &waited, "lost3", "1"), DATABASE_AWAY);
	turn(&bench, MILLISECONDS(700)); // several attempts in vain
	assert_int_equal(bench.ups, 1);
	assert_int_equal(start_server("data", 5499), 0);
	turn_until_up(&bench, 2);
	assert_int_equal(count_things(&bench), before);
	// Idle, too, it notices.
	assert_int_equal(stop_server("data"), 0);
	for (instant limit = now() + SECONDS(10); database_is_up(bench.database);) {
		assert_true(now() < limit);
		turn(&bench, MILLISECONDS(50));
	}
	assert_int_equal(start_server("data", 5499), 0);
	turn_until_up(&bench, 3);
	bench_fini(&bench);
}

// A plain piece of work that is not answered may have been done; a locked one only when its commit was on its way.
static void what_nobody_knows(void **state)
{
	(void)state;
	NEEDS_SERVER();
	struct bench bench;
	struct waited waited;
	bench_init(&bench, 2);
	int pid = number_of(&bench, "SELECT pg_backend_pid()");
	int before = count_things(&bench);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	submit(&bench, &waited, inserting(&bench, DATABASE_PLAIN, "perhaps", "1"));
	assert_int_equal(wait_for(&waited), DATABASE_UNKNOWN);
	turn_until_up(&bench, 2);
	kill(pid, SIGCONT);
	for (instant limit = now() + SECONDS(10); count_things(&bench) == before;) {
		assert_true(now() < limit); // and it was
	}
	pid = number_of(&bench, "SELECT pg_backend_pid()");
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(insert(&bench, &waited, "not", "1"), DATABASE_AWAY);
	turn_until_up(&bench, 3);
	kill(pid, SIGCONT);
	for (instant limit = now() + SECONDS(10);
	     number_of(&bench, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'") > 1;) {
		assert_true(now() < limit);
	}
	assert_int_equal(count_things(&bench), before + 1);
	bench_fini(&bench);
}

// A commit that the server takes longer for than anybody waits: a deferred trigger waits in it for a lock that the test holds.
// After the reconnection, what is read under the schema's lock is read only when that commit is decided.
static void a_commit_without_an_answer_holds_the_lock(void **state)
{
	(void)state;
	NEEDS_SERVER();
	struct bench bench;
	struct waited waited;
	bench_init(&bench, 2);
	int before = count_things(&bench);
	PGconn *holder = session(5499);
	say(holder, "CREATE FUNCTION resource.wait() RETURNS trigger LANGUAGE plpgsql AS "
	            "$$BEGIN PERFORM pg_advisory_xact_lock(77); RETURN NULL; END$$;"
	            "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON resource.thing DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
	            "EXECUTE FUNCTION resource.wait()");
	say(holder, "SELECT pg_advisory_lock(77)");
	assert_int_equal(insert(&bench, &waited, "ghost", "1"), DATABASE_UNKNOWN);
	turn_until_up(&bench, 2);
	assert_int_equal(count_things(&bench), before); // seen without the lock, it is not there
	for (int i = 0; i < 2; i++) {
		struct database_work *work = database_work_new(bench.database, DATABASE_LOCKED);
		database_work_add(work, "SELECT count(*) FROM resource.thing", NULL, 0, 1);
		submit(&bench, &waited, work);
		if (i == 0) {
			assert_int_equal(wait_for(&waited), DATABASE_REFUSED);
			assert_string_equal(waited.sqlstate, "57014"); // it waited as long as a statement may
			say(holder, "SELECT pg_advisory_unlock(77)");
		}
	}
	assert_int_equal(wait_for(&waited), DATABASE_DONE);
	assert_int_equal(atoi(PQgetvalue(waited.last, 0, 0)), before + 1);
	PQclear(waited.last);
	// A backend that is ended in its commit says so, and not what became of it.
	say(holder, "SELECT pg_advisory_lock(77)");
	int pid = number_of(&bench, "SELECT pg_backend_pid()");
	submit(&bench, &waited, inserting(&bench, DATABASE_LOCKED, "ended", "1"));
	turn(&bench, MILLISECONDS(200));
	kill(pid, SIGTERM);
	assert_int_equal(wait_for(&waited), DATABASE_UNKNOWN);
	say(holder, "SELECT pg_advisory_unlock(77)");
	say(holder, "DROP TRIGGER wait ON resource.thing; DROP FUNCTION resource.wait()");
	PQfinish(holder);
	bench_fini(&bench);
}

// The server has committed and gives up waiting for its standby: what it says then is no promise that the next primary has it.
static void committed_and_not_replicated(void **state)
{
	(void)state;
	NEEDS_SERVER();
	struct bench bench;
	struct waited waited;
	setenv("TWINSPAN_DATABASE_TIMEOUT", "20000", 1);
	bench_init(&bench, 2);
	setenv("TWINSPAN_DATABASE_TIMEOUT", "500", 1);
	PGconn *other = session(5499);
	say(other, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
	say(other, "SELECT pg_reload_conf()");
	turn(&bench, MILLISECONDS(300));
	submit(&bench, &waited, inserting(&bench, DATABASE_LOCKED, "alone", "1"));
	for (instant limit = now() + SECONDS(20); !waited.done;) {
		assert_true(now() < limit);
		turn(&bench, MILLISECONDS(100));
		say(other, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
	}
	assert_int_equal(waited.outcome, DATABASE_UNKNOWN);
	assert_true(database_is_up(bench.database));
	say(other, "SET synchronous_commit = local");
	say(other, "ALTER SYSTEM RESET synchronous_standby_names");
	say(other, "SELECT pg_reload_conf()");
	PQfinish(other);
	bench_fini(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(statements_and_refusals),
	    cmocka_unit_test(all_or_nothing),
	    cmocka_unit_test(refused_at_the_commit),
	    cmocka_unit_test(order_is_kept_and_the_loop_turns),
	    cmocka_unit_test(a_slow_statement_is_ended),
	    cmocka_unit_test(it_goes_and_comes_back),
	    cmocka_unit_test(what_nobody_knows),
	    cmocka_unit_test(committed_and_not_replicated),
	    cmocka_unit_test(a_commit_without_an_answer_holds_the_lock),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
