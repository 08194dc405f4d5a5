// The id that is remembered is the process's own, in a forked one too.
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/bus/process_id.h"

static bool is_right(void)
{
	return getpid() == (pid_t)syscall(SYS_getpid);
}

static void a_forked_process_has_its_own(void **state)
{
	(void)state;
	assert_true(is_right());
	for (int i = 0; i < 2; i++) {
		process_id_remember();
		assert_true(is_right());
	}
	pid_t child = fork();
	if (child == 0) {
		_exit(is_right() && getpid() != getppid() ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(is_right());
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_forked_process_has_its_own)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
