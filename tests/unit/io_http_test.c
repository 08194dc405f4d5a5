// The loop and what listens on it: deadlines, descriptors, signals; the HTTP server against a plain client; health and metrics.
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/io/health.h"
#include "common/io/http.h"
#include "common/io/log.h"

static char where[64];
static char socket_path[32];

struct bench {
	struct loop *loop;
	struct http_server *server;
	struct http_request *kept; // to be answered later
	struct deadline later;
	int requests;
	bool too_large;
	char got[8192];
	size_t got_length;
	int client;
	struct deadline limit;
};

// ---- a client ----

static void on_answer(void *context)
{
	struct bench *bench = context;
	ssize_t length = read(bench->client, bench->got + bench->got_length, sizeof bench->got - 1 - bench->got_length);
	if (length <= 0) {
		loop_stop(bench->loop);
		return;
	}
	bench->got_length += (size_t)length;
	bench->got[bench->got_length] = '\0';
}

static void on_limit(void *context)
{
	struct bench *bench = context;
	loop_stop(bench->loop);
}

static void client_open(struct bench *bench)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	strcpy(name.sun_path, socket_path);
	bench->client = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(bench->client, (struct sockaddr *)&name, sizeof name), 0);
	bench->got_length = 0;
	bench->got[0] = '\0';
	loop_read(bench->loop, bench->client, on_answer, bench);
}

// Sends, and turns the loop until the server closes or the time is up.
static const char *talk(struct bench *bench, const char *request, size_t length, duration most)
{
	client_open(bench);
	assert_int_equal(send(bench->client, request, length, MSG_NOSIGNAL), length);
	deadline_arm(&bench->limit, now() + most);
	loop_run(bench->loop);
	deadline_disarm(&bench->limit);
	loop_read_end(bench->loop, bench->client);
	close(bench->client);
	return bench->got;
}

static const char *get(struct bench *bench, const char *path)
{
	char *request = format_text("GET %s HTTP/1.1\r\nHost: x\r\nX-Thing: y\r\nConnection: close\r\n\r\n", path);
	const char *answer = talk(bench, request, strlen(request), SECONDS(3));
	free(request);
	return answer;
}

static const char *post(struct bench *bench, const char *path, size_t length)
{
	char *head =
	    format_text("POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", path, length);
	size_t head_length = strlen(head);
	char *whole = allocate(head_length + length + 1);
	memcpy(whole, head, head_length);
	memset(whole + head_length, 'b', length);
	const char *answer = talk(bench, whole, head_length + length, SECONDS(3));
	free(whole);
	free(head);
	return answer;
}

// ---- a service ----

static void answer_later(void *context)
{
	struct bench *bench = context;
	http_respond(bench->kept, 200, "text/plain", (struct bytes){(const uint8_t *)"later", 5}, NULL, 0);
	bench->kept = NULL;
}

static void note_query(void *context, const char *name, const char *value)
{
	char *out = context;
	size_t length = strlen(out);
	snprintf(out + length, 256 - length, "[%s:%s]", name, value ? value : "none");
}

static void on_request(void *context, struct http_request *request)
{
	struct bench *bench = context;
	bench->requests++;
	bench->too_large = request->body_too_large;
	if (strcmp(request->path, "/later") == 0) {
		bench->kept = request;
		deadline_arm(&bench->later, now() + MILLISECONDS(20));
		return;
	}
	if (strcmp(request->path, "/never") == 0) {
		bench->kept = request;
		return;
	}
	char text[512] = "";
	http_query_each(request, note_query, text);
	const char *thing = http_header(request, "x-thing"), *query = http_query(request, "q");
	size_t length = strlen(text);
	snprintf(text + length, sizeof text - length, " %s %s thing=%s q=%s body=%zu", request->method, request->path,
	         thing ? thing : "none", query ? query : "none", request->body.length);
	const struct http_field fields[] = {{"ETag", "\"7\""}};
	http_respond(request, request->body_too_large ? 413 : 200, "text/plain",
	             (struct bytes){(const uint8_t *)text, strlen(text)}, fields, 1);
}

static int set_up(void **state)
{
	static struct bench bench;
	memset(&bench, 0, sizeof bench);
	snprintf(socket_path, sizeof socket_path, "/tmp/twinspan-http-%d", getpid());
	snprintf(where, sizeof where, "unix:%s", socket_path);
	bench.loop = loop_new();
	deadline_init(&bench.limit, bench.loop, on_limit, &bench);
	deadline_init(&bench.later, bench.loop, answer_later, &bench);
	const struct http_limits limits = {.body = 1000, .timeout_seconds = 1, .connections = 8};
	bench.server = http_server_new(bench.loop, where, on_request, &bench, &limits);
	assert_non_null(bench.server);
	*state = &bench;
	return 0;
}

static int tear_down(void **state)
{
	struct bench *bench = *state;
	http_server_free(&bench->server);
	loop_free(&bench->loop);
	unlink(socket_path);
	return 0;
}

// ---- HTTP ----

static void requests_and_answers(void **state)
{
	struct bench *bench = *state;
	const char *answer = get(bench, "/v1/a%20b?q=x%26y&flag&e=");
	assert_non_null(strstr(answer, "HTTP/1.1 200 OK\r\n"));
	assert_non_null(strstr(answer, "ETag: \"7\"\r\n"));
	assert_non_null(strstr(answer, "[q:x&y][flag:none][e:] GET /v1/a b thing=y q=x&y body=0"));
	assert_non_null(strstr(post(bench, "/p", 1000), "POST /p thing=none q=none body=1000"));
	assert_non_null(strstr(get(bench, "/later"), "later"));
}

static void a_large_body_is_told_and_not_kept(void **state)
{
	struct bench *bench = *state;
	assert_non_null(strstr(post(bench, "/p", 1001), " 413 "));
	assert_true(bench->too_large);
	static const char chunked[] = "POST /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
	char whole[4096];
	size_t length = (size_t)snprintf(whole, sizeof whole, "%s800\r\n", chunked);
	memset(whole + length, 'c', 0x800);
	length += 0x800;
	memcpy(whole + length, "\r\n0\r\n\r\n", 7);
	assert_non_null(strstr(talk(bench, whole, length + 7, SECONDS(3)), " 413 "));
	assert_true(bench->too_large);
}

static void nonsense_is_answered_by_the_library(void **state)
{
	struct bench *bench = *state;
	static const char *const cases[] = {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n", "GET\r\n\r\n",
	                                    "\r\n\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int before = bench->requests;
		talk(bench, cases[i], strlen(cases[i]), SECONDS(3));
		assert_int_equal(bench->requests, before);
	}
	assert_non_null(strstr(get(bench, "/still"), " 200 "));
}

static void trickle(void *context)
{
	struct bench *bench = context;
	if (send(bench->client, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1) {
		deadline_arm(&bench->later, now() + MILLISECONDS(200));
	}
}

static void a_request_that_trickles_is_dropped(void **state)
{
	struct bench *bench = *state;
	instant started = now();
	bench->later.fn = trickle;
	deadline_arm(&bench->later, now() + MILLISECONDS(200));
	talk(bench, "GET /", 5, SECONDS(8));
	deadline_disarm(&bench->later);
	assert_true(now() - started < SECONDS(4));
	assert_int_equal(bench->requests, 0);
}

static void an_unanswered_request_does_not_hold_the_end(void **state)
{
	struct bench *bench = *state;
	client_open(bench);
	static const char request[] = "GET /never HTTP/1.1\r\nHost: x\r\n\r\n";
	assert_int_equal(send(bench->client, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
	deadline_arm(&bench->limit, now() + MILLISECONDS(200));
	loop_run(bench->loop);
	assert_non_null(bench->kept);
	loop_read_end(bench->loop, bench->client);
	close(bench->client);
	// tear_down frees the server with the request still open
}

// ---- listening ----

static void socket_files(void **state)
{
	(void)state;
	assert_int_equal(listen_at(where), -1); // somebody answers there
	assert_int_equal(errno, EADDRINUSE);
	char other[80], path[64];
	snprintf(path, sizeof path, "%s-other", socket_path);
	snprintf(other, sizeof other, "unix:%s", path);
	int first = listen_at(other);
	assert_true(first >= 0);
	close(first); // leaves the file, as a killed process does
	int second = listen_at(other);
	assert_true(second >= 0);
	struct stat status;
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0666);
	close(second);
	unlink(path);
	FILE *file = fopen(path, "w");
	fclose(file);
	assert_int_equal(listen_at(other), -1); // not a socket: not ours to remove
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
	static const char *const bad[] = {"", "unix:", "127.0.0.1", ":80", "localhost:80", "127.0.0.1:x"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_int_equal(listen_at(bad[i]), -1);
	}
	int tcp = listen_at("[::1]:0");
	if (tcp < 0) {
		tcp = listen_at("127.0.0.1:0"); // no IPv6 here
	}
	assert_true(tcp >= 0);
	close(tcp);
}

static void gather(void *context)
{
	metric_set(context, 2.5);
}

static void health_and_metrics(void **state)
{
	struct bench *bench = *state;
	http_server_free(&bench->server);
	setenv("TWINSPAN_HEALTH", where, 1);
	struct health *health = health_new(bench->loop);
	struct metric *counter = metric(METRIC_COUNTER, "test_total", "reason=\"replay\"", "A test");
	assert_ptr_equal(metric(METRIC_COUNTER, "test_total", "reason=\"replay\"", "A test"), counter);
	metric_add(counter, 41);
	metric_add(metric(METRIC_COUNTER, "test_total", "reason=\"replay\"", "A test"), 1);
	metric_add(metric(METRIC_COUNTER, "test_total", NULL, "A test"), 7);
	assert_true(metric_value(counter) == 42);
	health_before_metrics(health, gather, metric(METRIC_GAUGE, "test_gauge", NULL, "A gauge"));
	health_wait(health, "database", true);
	health_wait(health, "table node from resource", true);
	assert_non_null(strstr(get(bench, "/healthz"), " 200 "));
	const char *answer = get(bench, "/readyz");
	assert_non_null(strstr(answer, " 503 "));
	assert_non_null(strstr(answer, "waits for database\nwaits for table node from resource\n"));
	health_wait(health, "database", false);
	health_wait(health, "table node from resource", false);
	assert_non_null(strstr(get(bench, "/readyz"), " 200 "));
	answer = get(bench, "/metrics");
	assert_non_null(strstr(
	    answer, "# HELP test_total A test\n# TYPE test_total counter\ntest_total{reason=\"replay\"} 42\ntest_total 7\n"));
	assert_non_null(strstr(answer, "# TYPE test_gauge gauge\ntest_gauge 2.5\n"));
	assert_non_null(strstr(answer, "process_resident_memory_bytes "));
	assert_non_null(strstr(get(bench, "/other"), " 404 "));
	assert_non_null(strstr(post(bench, "/metrics", 5), " 413 "));
	health_free(&health);
}

// ---- the loop ----

struct order {
	struct loop *loop;
	struct deadline deadlines[100];
	int fired[100];
	int count;
};

struct numbered {
	struct order *order;
	int number;
};

static void fire(void *context)
{
	struct numbered *one = context;
	struct order *order = one->order;
	order->fired[order->count++] = one->number;
	if (order->count == 50) {
		loop_stop(order->loop);
	}
}

static void deadlines_fire_in_order(void **state)
{
	struct bench *bench = *state;
	static struct order order;
	static struct numbered numbers[100];
	order = (struct order){.loop = bench->loop};
	instant start = now();
	for (int i = 0; i < 100; i++) {
		numbers[i] = (struct numbered){&order, i};
		deadline_init(&order.deadlines[i], bench->loop, fire, &numbers[i]);
		deadline_arm(&order.deadlines[i], start + MILLISECONDS(500)); // and then moved
	}
	for (int i = 0; i < 100; i++) {
		int shuffled = i * 37 % 100;
		deadline_arm(&order.deadlines[shuffled], start + MILLISECONDS(shuffled));
	}
	for (int i = 1; i < 100; i += 2) {
		deadline_disarm(&order.deadlines[i]);
		assert_false(deadline_armed(&order.deadlines[i]));
	}
	deadline_arm(&order.deadlines[0], INSTANT_NEVER);
	deadline_arm(&order.deadlines[0], start - SECONDS(1));
	loop_run(bench->loop);
	assert_true(now() - start >= MILLISECONDS(98));
	for (int i = 0; i < 50; i++) {
		assert_int_equal(order.fired[i], 2 * i);
	}
}

static void rearm(void *context)
{
	struct bench *bench = context;
	bench->requests++;
	deadline_arm(&bench->later, 0);
}

static void a_deadline_always_due_starves_nobody(void **state)
{
	struct bench *bench = *state;
	bench->later.fn = rearm;
	deadline_arm(&bench->later, 0);
	deadline_arm(&bench->limit, now() + MILLISECONDS(30));
	loop_run(bench->loop);
	deadline_disarm(&bench->later);
	assert_true(bench->requests > 1);
}

static void read_and_end(void *context)
{
	struct bench *bench = context;
	bench->requests++;
	loop_read_end(bench->loop, bench->client);
	loop_write_end(bench->loop, bench->client);
	close(bench->client);
}

static void on_writable(void *context)
{
	struct bench *bench = context;
	bench->too_large = true;
	loop_write_end(bench->loop, bench->client);
}

static void descriptors_come_and_go(void **state)
{
	struct bench *bench = *state;
	int ends[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	bench->client = ends[0];
	loop_write(bench->loop, ends[0], on_writable, bench);
	loop_read(bench->loop, ends[0], read_and_end, bench);
	close(ends[1]); // readable and hung up at once
	deadline_arm(&bench->limit, now() + MILLISECONDS(50));
	loop_run(bench->loop);
	assert_int_equal(bench->requests, 1);
	assert_false(bench->too_large); // the reader ended it before
	// The same number again, by a file that was closed without a word.
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	loop_read(bench->loop, ends[0], read_and_end, bench);
	int number = ends[0];
	close(ends[0]);
	close(ends[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(ends[0], number);
	bench->client = ends[0];
	loop_read(bench->loop, ends[0], read_and_end, bench);
	close(ends[1]);
	deadline_arm(&bench->limit, now() + MILLISECONDS(50));
	loop_run(bench->loop);
	assert_int_equal(bench->requests, 2);
}

static void a_signal_ends_it(void **state)
{
	struct bench *bench = *state;
	deadline_arm(&bench->limit, now() + SECONDS(3));
	instant started = now();
	kill(getpid(), SIGTERM);
	assert_int_equal(loop_run(bench->loop), 0);
	assert_true(now() - started < SECONDS(1));
	deadline_disarm(&bench->limit);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(requests_and_answers),
	    TEST(a_large_body_is_told_and_not_kept),
	    TEST(nonsense_is_answered_by_the_library),
	    TEST(a_request_that_trickles_is_dropped),
	    TEST(an_unanswered_request_does_not_hold_the_end),
	    TEST(socket_files),
	    TEST(health_and_metrics),
	    TEST(deadlines_fire_in_order),
	    TEST(a_deadline_always_due_starves_nobody),
	    TEST(descriptors_come_and_go),
	    TEST(a_signal_ends_it),
	};
	setenv("TWINSPAN_LOG_LEVEL", "error", 1);
	log_init("test", NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
