// One owner and one link without sockets: frames wait, each way in order, until the test carries them.
#ifndef TWINSPAN_TESTS_BUS_PAIR_H
#define TWINSPAN_TESTS_BUS_PAIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/bus/owner.h"
#include "common/bus/replica_state.h"

enum { BENCH_QUEUE = 1024 };

struct bench_queue {
	struct bytes frames[BENCH_QUEUE];
	size_t count;
};

static struct bench {
	struct bus_owner *owner;
	struct bus_link *link;
	struct bench_queue to_owner, to_link;
	unsigned owner_dropped, link_dropped, owner_refused, link_refused;
	unsigned opened;
	char last_drop[64], last_refusal[64];
	char waits[8][96]; // what /readyz would name
} bench;

static inline void bench_put(struct bench_queue *queue, struct bytes frame)
{
	assert_true(queue->count < BENCH_QUEUE);
	uint8_t *copy = allocate(frame.length + 1);
	memcpy(copy, frame.data, frame.length);
	queue->frames[queue->count++] = (struct bytes){copy, frame.length};
}

static inline bool bench_owner_send(void *context, struct bytes peer, struct bytes frame)
{
	(void)context, (void)peer;
	bench_put(&bench.to_link, frame);
	return true;
}

static inline void bench_link_send(void *context, struct bytes octets)
{
	(void)context;
	Twinspan__BusFrame *frame = bus_frame_read(octets);
	bench.opened += frame->kind_case == TWINSPAN__BUS_FRAME__KIND_OPEN;
	bus_frame_free(&frame);
	bench_put(&bench.to_owner, octets);
}

static inline void bench_owner_refused(void *context, const char *reader, const char *table, const char *reason)
{
	(void)context, (void)reader, (void)table;
	bench.owner_refused++;
	snprintf(bench.last_refusal, sizeof bench.last_refusal, "%s", reason);
}

static inline void bench_owner_dropped(void *context, const char *reader, const char *reason)
{
	(void)context, (void)reader;
	bench.owner_dropped++;
	snprintf(bench.last_drop, sizeof bench.last_drop, "%s", reason);
}

static inline void bench_link_refused(void *context, const char *table, const char *reason)
{
	(void)context, (void)table;
	bench.link_refused++;
	snprintf(bench.last_refusal, sizeof bench.last_refusal, "%s", reason);
}

static inline void bench_link_dropped(void *context, const char *reason)
{
	(void)context;
	bench.link_dropped++;
	snprintf(bench.last_drop, sizeof bench.last_drop, "%s", reason);
}

static inline void bench_ready(void *context, const char *table, bool ready)
{
	(void)context;
	for (int i = 0; i < 8; i++) {
		if (strcmp(bench.waits[i], table) == 0) {
			bench.waits[i][0] = '\0';
		}
	}
	for (int i = 0; i < 8 && !ready; i++) {
		if (!bench.waits[i][0]) {
			snprintf(bench.waits[i], sizeof bench.waits[i], "%s", table);
			return;
		}
	}
}

static inline bool bench_waits(const char *what)
{
	for (int i = 0; i < 8; i++) {
		if (strcmp(bench.waits[i], what) == 0) {
			return true;
		}
	}
	return false;
}

static inline void bench_nothing(void *context)
{
	(void)context;
}

// Carries the oldest frame of one way. false when there is none.
static inline bool bench_carry(struct bench_queue *queue)
{
	if (queue->count == 0) {
		return false;
	}
	struct bytes frame = queue->frames[0];
	memmove(&queue->frames[0], &queue->frames[1], --queue->count * sizeof frame);
	if (queue == &bench.to_owner) {
		bus_owner_receive(bench.owner, text_bytes("1"), "route", frame);
	} else {
		bus_link_receive(bench.link, frame);
	}
	free((void *)(uintptr_t)frame.data);
	bus_owner_settle(bench.owner);
	return true;
}

static inline void bench_run(void)
{
	while (bench_carry(&bench.to_owner) || bench_carry(&bench.to_link)) {
	}
}

static inline int bench_begin(void **state)
{
	(void)state;
	bench = (struct bench){.opened = 0};
	bench.owner = bus_owner_new("resource", 7,
	                            &(struct bus_owner_world){.send = bench_owner_send,
	                                                      .refused = bench_owner_refused,
	                                                      .dropped = bench_owner_dropped,
	                                                      .unsettled = bench_nothing});
	bench.link = bus_link_new(100, &(struct bus_link_world){.send = bench_link_send,
	                                                        .refused = bench_link_refused,
	                                                        .dropped = bench_link_dropped,
	                                                        .ready = bench_ready});
	bus_link_up(bench.link);
	return 0;
}

static inline int bench_end(void **state)
{
	(void)state;
	bus_link_free(&bench.link);
	bus_owner_free(&bench.owner);
	struct bench_queue *queues[] = {&bench.to_owner, &bench.to_link};
	for (int q = 0; q < 2; q++) {
		for (size_t i = 0; i < queues[q]->count; i++) {
			free((void *)(uintptr_t)queues[q]->frames[i].data);
		}
	}
	return 0;
}

#endif
