// Clients that hold connections: idle ones, many from one address, and one that reads its answer octet by octet.
#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/io/http.h"
#include "common/io/log.h"

enum { CONNECTIONS = 8, LARGE = 8 << 20 };

struct bench {
	struct loop *loop;
	struct http_server *server;
	struct deadline look, limit;
	int client;
	bool drips; // reads an octet whenever it looks
	bool met;   // what the test waits for
	bool (*condition)(struct bench *bench);
	char got[256];
	size_t length;
};

static char path[64];

static void on_request(void *context, struct http_request *request)
{
	(void)context;
	uint8_t *text = allocate(LARGE);
	memset(text, 'a', LARGE);
	size_t length = strcmp(request->path, "/large") == 0 ? LARGE : 4;
	http_respond(request, 200, "text/plain", (struct bytes){text, length}, NULL, 0);
	free(text);
}

static void look(void *context)
{
	struct bench *bench = context;
	char octet;
	if (bench->drips && recv(bench->client, &octet, 1, MSG_DONTWAIT) == 0) {
		bench->drips = false;
	}
	bench->met = bench->condition(bench);
	if (bench->met) {
		loop_stop(bench->loop);
	}
	deadline_arm(&bench->look, now() + MILLISECONDS(20));
}

static void give_up(void *context)
{
	loop_stop(((struct bench *)context)->loop);
}

// Turns the loop until the condition holds; it has to in the end, and does soon.
static void wait_for(struct bench *bench, bool (*condition)(struct bench *bench))
{
	bench->condition = condition;
	bench->met = false;
	deadline_arm(&bench->look, now());
	deadline_arm(&bench->limit, now() + SECONDS(30));
	loop_run(bench->loop);
	deadline_disarm(&bench->look);
	deadline_disarm(&bench->limit);
	assert_true(bench->met);
}

static struct bench *bench_new(const char *where, struct http_limits limits)
{
	struct bench *bench = allocate(sizeof *bench);
	bench->loop = loop_new();
	deadline_init(&bench->look, bench->loop, look, bench);
	deadline_init(&bench->limit, bench->loop, give_up, bench);
	bench->server = http_server_new(bench->loop, where, on_request, bench, &limits);
	assert_non_null(bench->server);
	return bench;
}

static void bench_free(struct bench *bench)
{
	http_server_free(&bench->server);
	loop_free(&bench->loop);
	free(bench);
}

static int open_unix(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	strcpy(name.sun_path, path);
	int client = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&name, sizeof name), 0);
	return client;
}

static void ask(struct bench *bench, int client, const char *what)
{
	char *text = format_text("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", what);
	assert_int_equal(send(client, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	free(text);
	bench->client = client;
	bench->length = 0;
}

static bool is_answered(struct bench *bench)
{
	ssize_t length = recv(bench->client, bench->got + bench->length, sizeof bench->got - 1 - bench->length, MSG_DONTWAIT);
	bench->length += length > 0 ? (size_t)length : 0;
	bench->got[bench->length] = '\0';
	return strstr(bench->got, " 200 OK") && strstr(bench->got, "aaaa");
}

static bool is_closed(struct bench *bench)
{
	struct pollfd poller = {.fd = bench->client, .events = POLLRDHUP};
	return poll(&poller, 1, 0) > 0 && poller.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

// As many connections as there may be, none of which says anything, keep nobody out: the one that is silent longest goes.
static void idle_clients_make_room(void **state)
{
	(void)state;
	char where[80];
	snprintf(where, sizeof where, "unix:%s", path);
	struct bench *bench = bench_new(where, (struct http_limits){.timeout_seconds = 600, .connections = CONNECTIONS});
	int idle[CONNECTIONS];
	for (size_t i = 0; i < CONNECTIONS; i++) {
		idle[i] = open_unix();
	}
	for (size_t i = 0; i < 3 * CONNECTIONS; i++) {
		int client = open_unix();
		ask(bench, client, "/small");
		wait_for(bench, is_answered);
		close(client);
	}
	bench->client = idle[0];
	wait_for(bench, is_closed);
	for (size_t i = 0; i < CONNECTIONS; i++) {
		close(idle[i]);
	}
	bench_free(bench);
}

// Reading an octet now and then is progress, and not enough.
static void an_answer_has_its_time(void **state)
{
	(void)state;
	char where[80];
	snprintf(where, sizeof where, "unix:%s", path);
	struct bench *bench =
	    bench_new(where, (struct http_limits){.timeout_seconds = 600, .connections = CONNECTIONS, .answer_seconds = 1});
	int client = open_unix();
	ask(bench, client, "/large");
	bench->drips = true;
	wait_for(bench, is_closed);
	close(client);
	// Who reads at once gets all of it.
	client = open_unix();
	ask(bench, client, "/small");
	wait_for(bench, is_answered);
	close(client);
	bench_free(bench);
}

static int open_tcp(const char *from, uint16_t port)
{
	struct sockaddr_in here = {.sin_family = AF_INET}, there = {.sin_family = AF_INET, .sin_port = htons(port)};
	inet_pton(AF_INET, from, &here.sin_addr);
	inet_pton(AF_INET, "127.0.0.1", &there.sin_addr);
	int client = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(client, (struct sockaddr *)&here, sizeof here), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&there, sizeof there), 0);
	return client;
}

// One address does not take what there is for all.
static void an_address_has_its_share(void **state)
{
	(void)state;
	int probe = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t length = sizeof name;
	assert_int_equal(bind(probe, (struct sockaddr *)&name, sizeof name), 0);
	assert_int_equal(getsockname(probe, (struct sockaddr *)&name, &length), 0);
	close(probe);
	char where[80];
	uint16_t port = ntohs(name.sin_port);
	snprintf(where, sizeof where, "127.0.0.1:%u", port);
	struct bench *bench =
	    bench_new(where, (struct http_limits){.timeout_seconds = 600, .connections = CONNECTIONS, .per_address = 2});
	int clients[3];
	for (size_t i = 0; i < 3; i++) {
		clients[i] = open_tcp("127.0.0.1", port);
		bench->client = clients[i];
		if (i < 2) {
			ask(bench, clients[i], "/small");
			wait_for(bench, is_answered);
		} else {
			wait_for(bench, is_closed);
		}
	}
	int other = open_tcp("127.0.0.2", port);
	ask(bench, other, "/small");
	wait_for(bench, is_answered);
	close(other);
	for (size_t i = 0; i < 3; i++) {
		close(clients[i]);
	}
	bench_free(bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(idle_clients_make_room),
	    cmocka_unit_test(an_answer_has_its_time),
	    cmocka_unit_test(an_address_has_its_share),
	};
	snprintf(path, sizeof path, "/tmp/twinspan-http-limits-%d", getpid());
	setenv("TWINSPAN_LOG_LEVEL", "error", 1);
	log_init("test", NULL);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return failed;
}
