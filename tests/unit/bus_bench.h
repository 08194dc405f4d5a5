// What the tests of the bus over real sockets share: a region's keys and endpoints in a directory of its own, an owner
// "resource" in this process, and readers in processes of their own.
#ifndef TWINSPAN_TESTS_BUS_BENCH_H
#define TWINSPAN_TESTS_BUS_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/bus/bus.h"
#include "common/bus/keys.h"
#include "common/io/log.h"

static char directory[] = "/tmp/twinspan-bus-XXXXXX";

static inline struct bytes text(const char *octets)
{
	return (struct bytes){(const uint8_t *)octets, strlen(octets)};
}

static inline char *path(const char *name)
{
	return format_text("%s/%s", directory, name);
}

static inline void write_endpoints(void)
{
	char *file = path("endpoints");
	FILE *out = fopen(file, "w");
	assert_non_null(out);
	fprintf(out, "# owners\nresource ipc://%s/resource\nroute ipc://%s/route\n", directory, directory);
	fclose(out);
	setenv("TWINSPAN_BUS", file, 1);
	free(file);
}

static inline int set_up(void **state)
{
	(void)state;
	static const char *const identities[] = {"resource", "route", "ike.node-a", "ike.node-b", "esp.node-a"};
	assert_non_null(mkdtemp(directory));
	for (size_t i = 0; i < sizeof identities / sizeof identities[0]; i++) {
		assert_true(bus_keys_write(directory, identities[i]));
	}
	write_endpoints();
	setenv("TWINSPAN_KEYS", directory, 1);
	setenv("TWINSPAN_LOG_LEVEL", "error", 1);
	return 0;
}

static inline int tear_down(void **state)
{
	(void)state;
	char *command = format_text("rm -rf %s", directory);
	int result = system(command);
	free(command);
	return result;
}

// ---- the owner, in this process ----

struct owner {
	struct loop *loop;
	struct bus *bus;
	struct table *table;
	struct table *secrets;
	bool done;
};

static inline struct owner owner_new(void)
{
	struct owner owner = {.loop = loop_new()};
	owner.bus = bus_new(owner.loop, NULL, "resource");
	owner.table = table_own(owner.bus, "node");
	owner.secrets = table_own(owner.bus, "tunnel_secret");
	return owner;
}

static inline void owner_free(struct owner *owner)
{
	bus_free(&owner->bus);
	loop_free(&owner->loop);
}

struct wait {
	struct owner *owner;
	bool (*until)(struct owner *owner);
	instant end;
	bool met;
	struct deadline deadline;
};

static inline void look(void *context)
{
	struct wait *wait = context;
	wait->met = wait->until(wait->owner);
	if (wait->met || now() >= wait->end) {
		loop_stop(wait->owner->loop);
	} else {
		deadline_arm(&wait->deadline, now() + MILLISECONDS(5));
	}
}

static inline bool run_until(struct owner *owner, bool (*until)(struct owner *owner), duration most)
{
	struct wait wait = {.owner = owner, .until = until, .end = now() + most};
	deadline_init(&wait.deadline, owner->loop, look, &wait);
	deadline_arm(&wait.deadline, now());
	loop_run(owner->loop);
	deadline_disarm(&wait.deadline);
	return wait.met;
}

static inline bool never(struct owner *owner)
{
	(void)owner;
	return false;
}

// ---- readers, each a process ----

// Runs this program again in the part that `arguments` name: a forked ZeroMQ context is of no use, so nothing but exec will do.
static inline pid_t spawn(const char *const *arguments)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const char *own[10] = {"bus_test"};
		for (size_t i = 0; i < 8 && arguments[i]; i++) {
			own[i + 1] = arguments[i];
		}
		execv("/proc/self/exe", (char *const *)own);
		_exit(9);
	}
	return pid;
}

struct follower {
	struct loop *loop;
	struct bus *bus;
	struct replica *replica;
	const char *until_key; // ends well when this row is there
	struct deadline limit;
	unsigned calls;
	int result;
};

static inline void on_rows(void *context, const struct replica_row *rows, size_t count)
{
	struct follower *reader = context;
	reader->calls++;
	for (size_t i = 0; i < count; i++) {
		if (reader->until_key && !rows[i].removed && bytes_equal(rows[i].key, text(reader->until_key))) {
			reader->result = 0;
			loop_stop(reader->loop);
		}
	}
}

static inline void on_limit(void *context)
{
	loop_stop(((struct follower *)context)->loop);
}

// What a reader's process does: follows a table until a row comes, it is let go, or the time is up. Exit code 0: the row came,
// 1: it did not, 3: anything at all came though nothing should.
static inline int read_table(const char *identity, const char *owner, const char *table, const char *filter, const char *until,
                             int limit_ms)
{
	struct follower reader = {.loop = loop_new(), .until_key = until, .result = until ? 1 : 0};
	reader.bus = bus_new(reader.loop, NULL, identity);
	reader.replica = replica_new(reader.bus, owner, table, filter, on_rows, &reader);
	deadline_init(&reader.limit, reader.loop, on_limit, &reader);
	char *end = format_text("%s/end-%d", getenv("TWINSPAN_KEYS"), (int)getpid());
	for (instant limit = now() + MILLISECONDS(limit_ms);
	     (!until || reader.result != 0) && now() < limit && access(end, F_OK) != 0;) {
		deadline_arm(&reader.limit, now() + MILLISECONDS(10));
		loop_run(reader.loop);
	}
	if (!until && (reader.calls > 0 || replica_has_snapshot(reader.replica))) {
		reader.result = 3;
	}
	// It stays until it is let go: what it has applied is looked at meanwhile.
	for (int i = 0; reader.result == 0 && until && i < 1000 && access(end, F_OK) != 0; i++) {
		deadline_arm(&reader.limit, now() + MILLISECONDS(10));
		loop_run(reader.loop);
	}
	free(end);
	deadline_disarm(&reader.limit);
	replica_free(&reader.replica);
	bus_free(&reader.bus);
	loop_free(&reader.loop);
	return reader.result;
}

static inline pid_t start(const char *identity, const char *owner, const char *table, const char *filter, const char *until,
                          int limit_ms)
{
	const char *arguments[] = {"read", identity, owner, table, filter, log_number(limit_ms), until, NULL};
	return spawn(arguments);
}

// A reader may end.
static inline void let_go(pid_t pid)
{
	char *end = format_text("%s/end-%d", directory, (int)pid);
	FILE *file = fopen(end, "w");
	assert_non_null(file);
	fclose(file);
	free(end);
}

static inline int result_of(pid_t pid)
{
	int status;
	let_go(pid);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static inline uint64_t counted(const char *name, const char *labels)
{
	return metric_value(metric(METRIC_COUNTER, name, labels, ""));
}

// What the process that `start` made does; -1: it is another part.
static inline int play_reader(char **arguments, int count)
{
	snprintf(directory, sizeof directory, "%s", getenv("TWINSPAN_KEYS"));
	if (strcmp(arguments[0], "read") != 0 || count < 6) {
		return -1;
	}
	return read_table(arguments[1], arguments[2], arguments[3], arguments[4], count > 6 ? arguments[6] : NULL,
	                  atoi(arguments[5]));
}

#endif
