// Which host is tried when: hosts that swallow everything, that take a connection and say nothing, that are standbys or former
// primaries; and what the schema's migrations do when the connection stands.
#include "io_database_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

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
};

static bool works(struct bench *bench)
{
	return number_of(bench, "SELECT 1") == 1;
}

// A listener that takes connections (the kernel does) and never says a word.
static int deaf_listener(int *port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof where;
	assert_int_equal(bind(fd, (struct sockaddr *)&where, sizeof where), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&where, &length), 0);
	*port = ntohs(where.sin_port);
	return fd;
}

// One whose queue is full: the kernel drops every further SYN, as a host behind a silent filter does.
static int full_listener(int *port, int *filler)
{
	int fd = deaf_listener(port);
	assert_int_equal(listen(fd, 0), 0);
	struct sockaddr_in where = {
	    .sin_family = AF_INET, .sin_port = htons((uint16_t)*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	for (int i = 0; i < 4; i++) {
		filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		connect(filler[i], (struct sockaddr *)&where, sizeof where);
	}
	usleep(50000);
	return fd;
}

static void each_host_has_its_own_deadline(void **state)
{
	(void)state;
	NEEDS_SERVER();
	int deaf_port, full_port, filler[4];
	int deaf = deaf_listener(&deaf_port), full = full_listener(&full_port, filler);
	struct bench bench;
	char *where = format_text("host=127.0.0.1,127.0.0.1,%s port=%d,%d,5499 dbname=postgres user=postgres connect_timeout=1",
	                          directory, deaf_port, full_port);
	bench_start(&bench, where, migrations, 2);
	turn_until_up(&bench, 1);
	assert_true(works(&bench));
	// Lost, and found again: the hosts that say nothing are no more in the way than the first time.
	assert_int_equal(stop_server("data"), 0);
	assert_int_equal(start_server("data", 5499), 0);
	turn_until_up(&bench, 2);
	assert_true(works(&bench));
	bench_fini(&bench);
	for (int i = 0; i < 4; i++) {
		close(filler[i]);
	}
	close(deaf);
	close(full);
	free(where);
}

// A name is looked up beside the loop, which goes on; one that has no address costs its turn alone.
static void names_are_looked_up_beside_the_loop(void **state)
{
	(void)state;
	NEEDS_SERVER();
	struct bench bench;
	char *where = format_text(
	    "host=nobody.invalid,localhost,%s port=5499,1,5499 dbname=postgres user=postgres connect_timeout=2", directory);
	bench_start(&bench, where, migrations, 2);
	turn_until_up(&bench, 1);
	assert_true(works(&bench));
	bench_fini(&bench);
	// Given up while a lookup runs.
	bench_start(&bench, where, migrations, 2);
	assert_false(turn(&bench, 0));
	bench_fini(&bench);
	free(where);
}

static void a_standby_is_passed_over_until_it_is_promoted(void **state)
{
	(void)state;
	NEEDS_SERVER();
	assert_int_equal(postgres(BIN "/pg_basebackup -h %s -p 5499 -U postgres -D standby -R -X stream -c fast", directory),
	                 0);
	assert_int_equal(start_server("standby", 5498), 0);
	struct bench bench;
	struct waited waited;
	char *where = format_text("host=%s,%s port=5498,5499 dbname=postgres user=postgres", directory, directory);
	bench_start(&bench, where, migrations, 2);
	turn_until_up(&bench, 1);
	assert_int_equal(number_of(&bench, "SELECT pg_is_in_recovery()::int"), 0);
	assert_int_equal(number_of(&bench, "SELECT setting::int FROM pg_settings WHERE name = 'port'"), 5499);
	// The primary takes no writes any more: the work is told that nothing was done, and another host is looked for at once.
	PGconn *session_of_ours = session(5499);
	say(session_of_ours, "ALTER SYSTEM SET default_transaction_read_only = on");
	say(session_of_ours, "SELECT pg_reload_conf()");
	for (int i = 0; i < 200; i++) {
		struct database_work *work = database_work_new(bench.database, DATABASE_LOCKED);
		database_work_add(work, "INSERT INTO resource.thing SELECT count(*)::text FROM resource.thing", NULL, 0, 1);
		submit(&bench, &waited, work);
		if (wait_for(&waited) != DATABASE_DONE) {
			break;
		}
		PQclear(waited.last);
		usleep(10000);
	}
	assert_int_equal(waited.outcome, DATABASE_AWAY);
	assert_false(database_is_up(bench.database));
	assert_int_equal(postgres(BIN "/pg_ctl -D standby -w promote"), 0);
	turn_until_up(&bench, 2);
	assert_int_equal(number_of(&bench, "SELECT setting::int FROM pg_settings WHERE name = 'port'"), 5498);
	// The former primary takes writes again: it is known by its timeline, and is not gone back to.
	say(session_of_ours, "ALTER SYSTEM RESET default_transaction_read_only");
	say(session_of_ours, "SELECT pg_reload_conf()");
	PQfinish(session_of_ours);
	assert_int_equal(stop_server("standby"), 0);
	turn(&bench, SECONDS(3));
	assert_false(database_is_up(bench.database));
	assert_int_equal(start_server("standby", 5498), 0);
	turn_until_up(&bench, 3);
	assert_int_equal(number_of(&bench, "SELECT setting::int FROM pg_settings WHERE name = 'port'"), 5498);
	bench_fini(&bench);
	assert_int_equal(stop_server("standby"), 0);
	free(where);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_host_has_its_own_deadline),
	    cmocka_unit_test(names_are_looked_up_beside_the_loop),
	    cmocka_unit_test(a_standby_is_passed_over_until_it_is_promoted),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
