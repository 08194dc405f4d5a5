// Two speakers and what is between them: what happens, in the order of time, and simulated TCP connections with seeded delays
// and segments of any size, which may be refused, lose what is on its way for good, and end at one side or at both. Included by
// one simulation each.
#ifndef TWINSPAN_TESTS_BGP_NETWORK_H
#define TWINSPAN_TESTS_BGP_NETWORK_H

#include "common/base/alloc.h"
#include "common/base/random.h"
#include "services/bgp/bgp.h"
#include "tests/unit/bgp_prefix.h"

enum { SESSIONS = 3, UNIVERSE = 48, CHAOS_SECONDS = 60, QUIET_SECONDS = 40, PATH_LIMIT = 4 };

// A route as one side advertises it, or as the other learned it.
struct route {
	bool present;
	uint8_t origin;
	uint8_t count;
	uint32_t path[PATH_LIMIT + 1];
};

struct link { // a TCP connection; side 0 is speaker 0's
	int session;
	int opener;
	bool open[2]; // as that side sees it
	uint32_t transport[2];
	instant last_arrival[2]; // at that side: the stream is in order
	bool lost[2];            // something to that side was lost for good, so nothing behind it arrives
};

enum what { ARRIVE, SENT, ACCEPT, CONNECT_DONE, CLOSED, WAKE };
struct happening {
	instant at;
	uint64_t order;
	enum what what;
	int side;
	size_t link;
	uint8_t *octets;
	size_t length;
	const char *reason;
};

struct world {
	struct random random;
	uint64_t seed;
	instant now;
	uint64_t order;
	struct happening *heap;
	size_t count, capacity;
	struct link *links;
	size_t link_count, link_capacity;
	struct bgp *speaker[2];
	struct bgp_actions actions;
	struct bgp_session_config config[2][SESSIONS];
	struct route advertised[2][UNIVERSE];
	struct route learned[2][SESSIONS][UNIVERSE];
	bool silent[SESSIONS]; // the path loses everything
	bool quiet;
	instant woken[2];
};

static const uint32_t as_of[2] = {65000, 4200000001};

#define CHECK(condition)                                                                                                       \
	do {                                                                                                                   \
		if (!(condition)) {                                                                                            \
			fail_msg("seed %" PRIu64 " at %" PRId64 " us: %s", w->seed, w->now, #condition);                       \
		}                                                                                                              \
	} while (0)

// ---- happenings in the order of time ----
static inline bool before(const struct happening *a, const struct happening *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static inline void schedule(struct world *w, struct happening h)
{
	h.order = w->order++;
	if (w->count == w->capacity) {
		w->capacity = w->capacity ? w->capacity * 2 : 256;
		w->heap = reallocate(w->heap, w->capacity, sizeof *w->heap);
	}
	size_t at = w->count++;
	for (; at > 0 && before(&h, &w->heap[(at - 1) / 2]); at = (at - 1) / 2) {
		w->heap[at] = w->heap[(at - 1) / 2];
	}
	w->heap[at] = h;
}

static inline struct happening next_happening(struct world *w)
{
	struct happening first = w->heap[0], last = w->heap[--w->count];
	size_t at = 0;
	for (;;) {
		size_t child = 2 * at + 1;
		if (child + 1 < w->count && before(&w->heap[child + 1], &w->heap[child])) {
			child++;
		}
		if (child >= w->count || !before(&w->heap[child], &last)) {
			break;
		}
		w->heap[at] = w->heap[child];
		at = child;
	}
	w->heap[at] = last;
	return first;
}

static inline duration some_delay(struct world *w)
{
	return (duration)random_below(&w->random, random_below(&w->random, 20) == 0 ? 800000 : 20000) + 50;
}

// ---- the network ----
static inline instant arrival(struct world *w, struct link *link, int to)
{
	instant at = w->now + some_delay(w);
	if (at <= link->last_arrival[to]) {
		at = link->last_arrival[to] + 1;
	}
	link->last_arrival[to] = at;
	return at;
}

static inline bool passes(struct world *w, struct link *link, int to)
{
	link->lost[to] |= w->silent[link->session];
	return !link->lost[to];
}

static inline struct link *link_of(struct world *w, int side, uint32_t transport)
{
	for (size_t i = w->link_count; i-- > 0;) {
		if (w->links[i].transport[side] == transport) {
			return &w->links[i];
		}
	}
	return NULL;
}

static inline void act_connect(struct world *w, int side, int session, uint32_t transport)
{
	if (w->link_count == w->link_capacity) {
		w->link_capacity = w->link_capacity ? w->link_capacity * 2 : 64;
		w->links = reallocate(w->links, w->link_capacity, sizeof *w->links);
	}
	w->links[w->link_count] = (struct link){.session = session, .opener = side};
	struct link *link = &w->links[w->link_count];
	link->transport[side] = transport;
	link->open[side] = true;
	size_t number = w->link_count++;
	if (!w->quiet && random_below(&w->random, 8) == 0) {
		schedule(w, (struct happening){.at = w->now + some_delay(w),
		                               .what = CLOSED,
		                               .side = side,
		                               .link = number,
		                               .reason = "connection refused"});
	} else if (passes(w, link, !side)) {
		schedule(w, (struct happening){.at = arrival(w, link, !side), .what = ACCEPT, .side = !side, .link = number});
	}
}

static inline void act_send(struct world *w, int side, uint32_t transport, const uint8_t *octets, size_t length)
{
	struct link *link = link_of(w, side, transport);
	CHECK(link && link->open[side]);
	size_t number = (size_t)(link - w->links);
	for (size_t at = 0; at < length;) {
		size_t run = 1 + random_below(&w->random, random_below(&w->random, 4) == 0 ? 30 : 3000);
		run = run < length - at ? run : length - at;
		struct happening h = {.what = ARRIVE, .side = !side, .link = number, .length = run};
		if (passes(w, link, !side)) {
			h.at = arrival(w, link, !side);
			h.octets = allocate(run);
			memcpy(h.octets, octets + at, run);
			schedule(w, h);
		}
		h = (struct happening){.at = w->now + some_delay(w), .what = SENT, .side = side, .link = number, .length = run};
		schedule(w, h);
		at += run;
	}
}

static inline void act_close(struct world *w, int side, uint32_t transport)
{
	struct link *link = link_of(w, side, transport);
	CHECK(link && link->open[side]);
	link->open[side] = false;
	if (passes(w, link, !side)) {
		schedule(w, (struct happening){.at = arrival(w, link, !side),
		                               .what = CLOSED,
		                               .side = !side,
		                               .link = (size_t)(link - w->links),
		                               .reason = "connection closed by the peer"});
	}
}

#endif
