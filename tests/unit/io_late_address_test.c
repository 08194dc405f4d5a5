// A service whose address is not there yet, or not free yet, waits for it; one that never can have it says so and ends with 2.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/health.h"
#include "common/io/log.h"
#include "common/io/process.h"

// A process that begins as every service does: it writes a line when its health endpoint listens, and turns its loop.
static pid_t start(const char *where, int *ready, int other)
{
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	if (child == 0) {
		close(other); // it is the test's
		setenv("TWINSPAN_HEALTH", where, 1);
		log_init("test", NULL);
		struct loop *loop = loop_new();
		struct health *health = health_new(loop);
		if (write(ends[1], "x", 1) != 1) {
			_exit(9);
		}
		int result = loop_run(loop);
		health_free(&health);
		loop_free(&loop);
		_exit(result);
	}
	close(ends[1]);
	*ready = ends[0];
	return child;
}

static int result_of(pid_t child)
{
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int occupy(char where[static 32])
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof address;
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	snprintf(where, 32, "127.0.0.1:%d", ntohs(address.sin_port));
	return fd;
}

static void it_waits_for_its_address(void **state)
{
	(void)state;
	char where[32], octet;
	int ready, other = occupy(where);
	pid_t child = start(where, &ready, other);
	fcntl(ready, F_SETFL, O_NONBLOCK);
	usleep(500000);
	assert_int_equal(read(ready, &octet, 1), -1); // not yet, and it has not given up
	assert_int_equal(errno, EAGAIN);
	fcntl(ready, F_SETFL, 0);
	close(other);
	assert_int_equal(read(ready, &octet, 1), 1);
	kill(child, SIGTERM);
	assert_int_equal(result_of(child), 0);
	close(ready);
	// While it waits it can be ended.
	other = occupy(where);
	child = start(where, &ready, other);
	usleep(300000);
	kill(child, SIGTERM);
	assert_int_equal(result_of(child), 0);
	close(ready);
	close(other);
}

static void an_address_of_nobody(void **state)
{
	(void)state;
	char octet;
	int ready;
	// Of a documentation network: no interface has it, but one may.
	pid_t child = start("192.0.2.1:9100", &ready, -1);
	usleep(300000);
	assert_int_equal(waitpid(child, NULL, WNOHANG), 0);
	kill(child, SIGTERM);
	assert_int_equal(result_of(child), 0);
	close(ready);
	child = start("not an address", &ready, -1);
	assert_int_equal(read(ready, &octet, 1), 0);
	assert_int_equal(result_of(child), 2);
	close(ready);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(it_waits_for_its_address),
	    cmocka_unit_test(an_address_of_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
