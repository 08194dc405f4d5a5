// A violated invariant says what and where, wipes what was registered and not what was withdrawn, and ends the process.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/invariant.h"

static int said;

static void report(const char *what, const char *file, int line)
{
	dprintf(said, "%s at %s:%d;", what, strrchr(file, '/') + 1, line > 0);
}

static void wiped(void *context)
{
	dprintf(said, " wiped %s;", (const char *)context);
}

static void says_wipes_and_ends(void **state)
{
	(void)state;
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	if (child == 0) {
		said = ends[1];
		char one[] = "one", two[] = "two";
		invariant_on_violation(report);
		invariant_wipe_at_end(wiped, one);
		invariant_wipe_at_end(wiped, two);
		invariant_wipe_end(two);
		invariant(ends[0] >= 0);
		invariant(ends[0] < 0);
		_exit(0);
	}
	close(ends[1]);
	char text[200] = "";
	size_t length = 0;
	for (ssize_t got; (got = read(ends[0], text + length, sizeof text - 1 - length)) > 0;) {
		length += (size_t)got;
	}
	close(ends[0]);
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_string_equal(text, "ends[0] < 0 at base_invariant_test.c:1; wiped one;");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(says_wipes_and_ends)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
