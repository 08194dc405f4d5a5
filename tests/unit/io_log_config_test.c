// The log's lines and their escaping, its limit, and what the configuration accepts.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/config.h"
#include "common/io/log.h"

// Runs `body` in a process of its own and gives what it wrote on standard error, and its exit code.
static int capture(void (*body)(void), char *out, size_t size)
{
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(ends[1], STDERR_FILENO);
		body();
		_exit(0);
	}
	close(ends[1]);
	size_t length = 0;
	for (ssize_t got; length < size - 1 && (got = read(ends[0], out + length, size - 1 - length)) > 0;) {
		length += (size_t)got;
	}
	out[length] = '\0';
	close(ends[0]);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char text[65536];

static void write_lines(void)
{
	setenv("TWINSPAN_LOG_LEVEL", "info", 1);
	log_init("ike", "node-a");
	log_event(LOG_DEBUG, "not-written", NULL);
	log_event(LOG_INFO, "tunnel-up", "tunnel", "tun-1", "peer", NULL, "reason", "two words", "empty", "", NULL);
	log_event(LOG_ERROR, "forged", "name", "x\ntime=now \"level\"=\\error\x1b[31m\x7f", "number", log_number(-42), NULL);
	static char long_value[5000];
	memset(long_value, 'x', sizeof long_value - 1);
	log_event(LOG_INFO, "long", "value", long_value, NULL);
}

static void lines_are_key_value_and_cannot_be_forged(void **state)
{
	(void)state;
	assert_int_equal(capture(write_lines, text, sizeof text), 0);
	assert_null(strstr(text, "not-written"));
	assert_non_null(strstr(
	    text, " level=info service=ike node=node-a event=tunnel-up tunnel=tun-1 peer=- reason=\"two words\" empty=\"\"\n"));
	assert_non_null(strstr(text, " name=\"x\\x0atime=now \\\"level\\\"=\\\\error\\x1b[31m\\x7f\" number=-42\n"));
	assert_int_equal(strncmp(text, "time=20", 7), 0);
	size_t lines = 0;
	for (const char *c = text; *c; c++) {
		lines += *c == '\n';
	}
	assert_int_equal(lines, 3);
}

static void write_many(void)
{
	log_init("ike", NULL);
	for (int i = 0; i < 1000; i++) {
		log_limited(LOG_INFO, "flood", "n", log_number(i), NULL);
	}
	log_limited(LOG_INFO, "other", NULL);
	sleep(1);
	log_limited(LOG_INFO, "flood", NULL);
}

static void what_a_peer_causes_is_limited(void **state)
{
	(void)state;
	assert_int_equal(capture(write_many, text, sizeof text), 0);
	size_t floods = 0;
	for (const char *at = text; (at = strstr(at, "event=flood")); at++) {
		floods++;
	}
	assert_in_range(floods, 11, 21); // ten in a second, which may turn in between
	assert_non_null(strstr(text, "event=other"));
	assert_non_null(strstr(text, "suppressed="));
}

static void level_is_wrong(void)
{
	setenv("TWINSPAN_LOG_LEVEL", "loud", 1);
	log_init("ike", NULL);
}

static void required_is_missing(void)
{
	unsetenv("TWINSPAN_THING");
	config_text("TWINSPAN_THING", NULL);
}

static void number_is_wrong(void)
{
	setenv("TWINSPAN_THING", "12x", 1);
	config_number("TWINSPAN_THING", 1, 0, 100);
}

static void number_is_below_its_range(void)
{
	setenv("TWINSPAN_THING", "-1", 1);
	config_number("TWINSPAN_THING", 1, 0, 100);
}

static void number_is_out_of_range(void)
{
	setenv("TWINSPAN_THING", "101", 1);
	config_number("TWINSPAN_THING", 1, 0, 100);
}

static void secret_file_is_missing(void)
{
	uint8_t octets[8];
	setenv("TWINSPAN_THING", "/nonexistent/file", 1);
	config_secret_file("TWINSPAN_THING", octets, sizeof octets);
}

// A secret of nine octets, where there is room for eight.
static void secret_file_is_too_long(void)
{
	uint8_t octets[8];
	char path[] = "/tmp/twinspan-secret-XXXXXX";
	int fd = mkstemp(path);
	if (fd < 0 || write(fd, "123456789", 9) != 9) {
		return;
	}
	unlink(path); // this does not come back
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	setenv("TWINSPAN_THING", path, 1);
	config_secret_file("TWINSPAN_THING", octets, sizeof octets);
}

static void misspelt(void)
{
	setenv("TWINSPAN_LOG_LEVEL", "info", 1);
	setenv("TWINSPAN_LOGLEVEL", "debug", 1);
	setenv("TWINSPAN_NODE", "node-a", 1);
	log_init("ike", NULL);
	config_done();
}

static void what_is_wrong_is_said(void **state)
{
	(void)state;
	static const struct {
		void (*body)(void);
		int code;
		const char *says;
	} cases[] = {
	    {level_is_wrong, 2, "TWINSPAN_LOG_LEVEL is \"loud\""},
	    {required_is_missing, 2, "TWINSPAN_THING must be set"},
	    {number_is_wrong, 2, "TWINSPAN_THING must be a number from 0 to 100"},
	    {number_is_below_its_range, 2, "TWINSPAN_THING must be a number from 0 to 100"},
	    {number_is_out_of_range, 2, "TWINSPAN_THING must be a number from 0 to 100"},
	    {secret_file_is_missing, 2, "TWINSPAN_THING names a file that cannot be opened"},
	    {secret_file_is_too_long, 2, "TWINSPAN_THING names a file that is too long"},
	    {misspelt, 0, "event=unknown-setting name=TWINSPAN_LOGLEVEL"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(capture(cases[i].body, text, sizeof text), cases[i].code);
		assert_non_null(strstr(text, cases[i].says));
		assert_null(strstr(text, "TWINSPAN_NODE"));
	}
}

static void values_and_fallbacks(void **state)
{
	(void)state;
	setenv("TWINSPAN_A", "x", 1);
	setenv("TWINSPAN_B", "", 1);
	setenv("TWINSPAN_C", "-7", 1);
	assert_string_equal(config_text("TWINSPAN_A", NULL), "x");
	assert_string_equal(config_text("TWINSPAN_B", "y"), "y"); // empty is not set
	assert_true(config_number("TWINSPAN_C", 1, -10, 10) == -7);
	assert_true(config_number("TWINSPAN_D", 5, 0, 10) == 5);
}

static size_t read_secret(const char *content, size_t length, uint8_t out[static 8])
{
	char path[] = "/tmp/twinspan-secret-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, length), length);
	close(fd);
	setenv("TWINSPAN_SECRET", path, 1);
	size_t got = config_secret_file("TWINSPAN_SECRET", out, 8);
	unlink(path);
	return got;
}

static void secret_files(void **state)
{
	(void)state;
	uint8_t out[8];
	assert_int_equal(read_secret("abc\n", 4, out), 3);
	assert_memory_equal(out, "abc", 3);
	assert_int_equal(read_secret("abc\n\n", 5, out), 4);
	assert_int_equal(read_secret("12345678", 8, out), 8);
	assert_int_equal(read_secret("12345678\n", 9, out), 8);
	assert_int_equal(read_secret("1234567\n", 8, out), 7);
	assert_int_equal(read_secret("", 0, out), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(lines_are_key_value_and_cannot_be_forged),
	    cmocka_unit_test(what_a_peer_causes_is_limited),
	    cmocka_unit_test(what_is_wrong_is_said),
	    cmocka_unit_test(values_and_fallbacks),
	    cmocka_unit_test(secret_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
