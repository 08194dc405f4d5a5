// The event loop of a service: one epoll descriptor, single-threaded. A turn is a batch: the descriptors that are ready, the
// deadlines that are due, and then, once, what was put off until the end of the batch (commits, sends, the log's lines).
#ifndef TWINSPAN_IO_LOOP_H
#define TWINSPAN_IO_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/heap.h"
#include "common/base/instant.h"

struct loop;
typedef void loop_fn(void *context);

struct loop *loop_new(void); // ends on SIGTERM and SIGINT
void loop_free(struct loop **loop);
int loop_run(struct loop *loop); // 0 after loop_stop or a signal
void loop_stop(struct loop *loop);

instant now(void);         // CLOCK_MONOTONIC
uint64_t wall_clock(void); // milliseconds since the epoch

// `readable` is called while `fd` can be read (level-triggered).
void loop_read(struct loop *loop, int fd, loop_fn *readable, void *context);
// `readable` is called when something new can be read (edge-triggered): whoever asks for this takes all there is, or comes back
// by loop_soon.
void loop_read_edge(struct loop *loop, int fd, loop_fn *readable, void *context);
void loop_read_end(struct loop *loop, int fd);
// `writable` is called while `fd` can be written, until loop_write_end: for non-blocking connects and full buffers.
void loop_write(struct loop *loop, int fd, loop_fn *writable, void *context);
void loop_write_end(struct loop *loop, int fd);

// ---- deadlines ----
// A deadline: an embedded struct, armed at an instant, called once. Arming again moves it.
struct deadline {
	struct heap_entry entry; // first
	struct loop *loop;
	loop_fn *fn;
	void *context;
};
void deadline_init(struct deadline *deadline, struct loop *loop, loop_fn *fn, void *context);
void deadline_arm(struct deadline *deadline, instant at); // INSTANT_NEVER disarms
void deadline_disarm(struct deadline *deadline);
bool deadline_armed(const struct deadline *deadline);

// The first beat after `at`. What happens now and then and need not be exact is armed for a beat: then it happens in one turn
// with others of its kind, and the process sleeps once for all of them.
static inline instant beat_after(instant at, duration beat)
{
	return at - at % beat + beat;
}

// ---- the end of a batch ----
// `fn` is called at the end of every batch, in the order of registration: for a service that collects what a batch changed and
// commits it once.
void loop_after_batch(struct loop *loop, loop_fn *fn, void *context);
void loop_after_batch_end(struct loop *loop, loop_fn *fn, void *context);
// One thing to be done at the end of this batch, before those above; asking again before it is done changes nothing.
struct soon {
	struct soon *next;
	struct loop *loop; // NULL while it is not asked for
	loop_fn *fn;
	void *context;
};
void soon_init(struct soon *soon, loop_fn *fn, void *context);
void loop_soon(struct loop *loop, struct soon *soon);
void soon_cancel(struct soon *soon);

#endif
