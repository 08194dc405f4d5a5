// The handover client on a real loop, against a small server of its own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/handover.h"
#include "common/io/log.h"

struct world {
	char path[100];
	struct loop *loop;
	struct handover *handover;
	int listener, peer; // the server's
	int connections;    // the client's calls of `connected`
	int answers;
	int fd;
	char error[64];
	struct deadline limit;
};

static void too_late(void *context)
{
	(void)context;
	fail_msg("nothing happened for two seconds");
}

static void listen_again(struct world *world)
{
	struct sockaddr_un where = {.sun_family = AF_UNIX};
	strcpy(where.sun_path, world->path);
	unlink(world->path);
	world->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(world->listener, (struct sockaddr *)&where, sizeof where), 0);
	assert_int_equal(listen(world->listener, 4), 0);
}

static void connected(void *context)
{
	struct world *world = context;
	world->connections++;
	loop_stop(world->loop);
}

static void answered(void *context, int fd, const char *error)
{
	struct world *world = context;
	world->answers++;
	world->fd = fd;
	snprintf(world->error, sizeof world->error, "%s", error ? error : "");
	loop_stop(world->loop);
}

static void turn(struct world *world)
{
	deadline_arm(&world->limit, now() + SECONDS(2));
	assert_int_equal(loop_run(world->loop), 0);
	deadline_disarm(&world->limit);
}

static void wait_for_connection(struct world *world, int number)
{
	while (world->connections < number) {
		turn(world);
	}
	world->peer = accept4(world->listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(world->peer >= 0);
}

static void expect_request(const struct world *world, const char *text)
{
	char request[100] = "";
	assert_int_equal(recv(world->peer, request, sizeof request - 1, 0), (ssize_t)strlen(text));
	assert_string_equal(request, text);
}

static void send_answer(const struct world *world, const char *text, int fd)
{
	struct iovec part = {(void *)(uintptr_t)text, strlen(text)};
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {0};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	if (fd >= 0) {
		message.msg_control = control;
		message.msg_controllen = sizeof control;
		struct cmsghdr *item = CMSG_FIRSTHDR(&message);
		*item = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
		memcpy(CMSG_DATA(item), &fd, sizeof fd);
	}
	assert_true(sendmsg(world->peer, &message, 0) > 0);
}

static int make_world(void **state)
{
	struct world *world = calloc(1, sizeof *world);
	snprintf(world->path, sizeof world->path, "/tmp/twinspan-handover-%d", getpid());
	world->loop = loop_new();
	world->fd = world->listener = world->peer = -1;
	deadline_init(&world->limit, world->loop, too_late, world);
	*state = world;
	return 0;
}

static int end_world(void **state)
{
	struct world *world = *state;
	handover_free(&world->handover);
	deadline_disarm(&world->limit);
	loop_free(&world->loop);
	close(world->listener);
	if (world->peer >= 0) {
		close(world->peer);
	}
	unlink(world->path);
	free(world);
	return 0;
}

static void requests_are_answered_in_order(void **state)
{
	struct world *world = *state;
	listen_again(world);
	world->handover = handover_new(world->loop, world->path, connected, world);
	wait_for_connection(world, 1);
	assert_true(handover_is_connected(world->handover));
	int pipes[2];
	assert_int_equal(pipe(pipes), 0);
	struct stat given, got;
	fstat(pipes[0], &given);
	handover_request(world->handover, "udp500", answered, world);
	handover_request(world->handover, "listen bgw-1", answered, world);
	expect_request(world, "udp500");
	expect_request(world, "listen bgw-1");
	send_answer(world, "ok", pipes[0]);
	turn(world);
	assert_string_equal(world->error, "");
	fstat(world->fd, &got);
	assert_int_equal(given.st_ino, got.st_ino);
	close(world->fd);
	send_answer(world, "error no such border gateway here", -1);
	turn(world);
	assert_int_equal(world->fd, -1);
	assert_string_equal(world->error, "no such border gateway here");
	// "ok" without a descriptor is no answer.
	handover_request(world->handover, "udp500", answered, world);
	send_answer(world, "ok", -1);
	turn(world);
	assert_int_equal(world->fd, -1);
	assert_string_equal(world->error, "malformed answer");
	close(pipes[0]);
	close(pipes[1]);
}

static void it_connects_again_when_the_server_restarts(void **state)
{
	struct world *world = *state;
	world->handover = handover_new(world->loop, world->path, connected, world);
	handover_request(world->handover, "udp500", answered, world);
	assert_int_equal(world->answers, 0); // never from inside
	turn(world);
	assert_int_equal(world->answers, 1);
	assert_string_equal(world->error, "not connected");
	listen_again(world);
	wait_for_connection(world, 1);
	handover_request(world->handover, "udp500", answered, world);
	close(world->peer); // it dies with a request open
	close(world->listener);
	while (world->answers < 2) {
		turn(world);
	}
	assert_int_equal(world->fd, -1);
	assert_false(handover_is_connected(world->handover));
	listen_again(world);
	instant start = now();
	wait_for_connection(world, 2);
	assert_true(now() - start < MILLISECONDS(500));
	handover_request(world->handover, "udp4500", answered, world);
	expect_request(world, "udp4500");
}

static void a_cancelled_request_is_not_answered(void **state)
{
	struct world *world = *state;
	struct world other = {.loop = world->loop};
	listen_again(world);
	world->handover = handover_new(world->loop, world->path, connected, world);
	wait_for_connection(world, 1);
	handover_request(world->handover, "socket bgw-1 169.254.8.1", answered, &other);
	handover_request(world->handover, "udp500", answered, world);
	handover_cancel(world->handover, &other);
	int pipes[2];
	assert_int_equal(pipe(pipes), 0);
	close(pipes[0]);
	send_answer(world, "ok", pipes[1]);
	close(pipes[1]);
	send_answer(world, "error refused", -1);
	while (world->answers == 0) {
		turn(world);
	}
	assert_int_equal(other.answers, 0);
	assert_string_equal(world->error, "refused");
}

enum { MANY = 2000 };

// Answers a request with its own number as the error.
static void serve(void *context)
{
	struct world *world = context;
	char request[100] = "", reply[120];
	assert_true(recv(world->peer, request, sizeof request - 1, 0) > 0);
	snprintf(reply, sizeof reply, "error %s", request);
	send_answer(world, reply, -1);
}

static void answered_one_of_many(void *context, int fd, const char *error)
{
	struct world *world = context;
	char expected[32];
	snprintf(expected, sizeof expected, "socket %d", world->answers++);
	assert_int_equal(fd, -1);
	assert_string_equal(error, expected);
	if (world->answers == MANY) {
		loop_stop(world->loop);
	}
}

// More requests at once than fit into the socket: they go when the server has room, in their order, and none fails.
static void a_server_that_is_slow_to_read(void **state)
{
	struct world *world = *state;
	listen_again(world);
	world->handover = handover_new(world->loop, world->path, connected, world);
	wait_for_connection(world, 1);
	for (int i = 0; i < MANY; i++) {
		char request[32];
		snprintf(request, sizeof request, "socket %d", i);
		handover_request(world->handover, request, answered_one_of_many, world);
	}
	assert_true(handover_is_connected(world->handover));
	loop_read(world->loop, world->peer, serve, world);
	deadline_arm(&world->limit, now() + SECONDS(20));
	assert_int_equal(loop_run(world->loop), 0);
	deadline_disarm(&world->limit);
	loop_read_end(world->loop, world->peer);
	assert_int_equal(world->answers, MANY);
}

// It goes away with some sent and some not: all are told, once each, and the next connection begins anew.
static void a_slow_server_that_dies(void **state)
{
	struct world *world = *state;
	listen_again(world);
	world->handover = handover_new(world->loop, world->path, connected, world);
	wait_for_connection(world, 1);
	for (int i = 0; i < MANY; i++) {
		handover_request(world->handover, "socket", answered, world);
	}
	close(world->peer);
	while (world->answers < MANY) {
		turn(world);
		assert_string_equal(world->error, world->answers ? "not connected" : "");
	}
	wait_for_connection(world, 2);
	handover_request(world->handover, "udp4500", answered, world);
	expect_request(world, "udp4500");
	send_answer(world, "error no", -1);
	while (world->answers == MANY) {
		turn(world);
	}
	assert_int_equal(world->answers, MANY + 1);
	assert_string_equal(world->error, "no");
}

int main(void)
{
	log_init("test", "");
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(requests_are_answered_in_order, make_world, end_world),
	    cmocka_unit_test_setup_teardown(it_connects_again_when_the_server_restarts, make_world, end_world),
	    cmocka_unit_test_setup_teardown(a_cancelled_request_is_not_answered, make_world, end_world),
	    cmocka_unit_test_setup_teardown(a_server_that_is_slow_to_read, make_world, end_world),
	    cmocka_unit_test_setup_teardown(a_slow_server_that_dies, make_world, end_world),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
