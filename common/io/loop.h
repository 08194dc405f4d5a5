// The event loop of a service (on czmq's zloop): descriptors, ZeroMQ sockets and one-shot deadlines, single-threaded.
#ifndef TWINSPAN_IO_LOOP_H
#define TWINSPAN_IO_LOOP_H

#include <czmq.h>
#include "common/base/instant.h"

struct loop;
typedef void loop_fn(void *context);

struct loop *loop_new(void); // ends on SIGTERM and SIGINT
void loop_free(struct loop **loop);
int loop_run(struct loop *loop); // 0 after loop_stop or a signal
void loop_stop(struct loop *loop);

instant now(void); // CLOCK_MONOTONIC
uint64_t wall_clock(void); // milliseconds since the epoch

// `readable` is called while `fd` can be read (level-triggered).
void loop_read(struct loop *loop, int fd, loop_fn *readable, void *context);
void loop_read_end(struct loop *loop, int fd);
// `writable` is called while `fd` can be written, until loop_write_end: for non-blocking connects and full buffers.
void loop_write(struct loop *loop, int fd, loop_fn *writable, void *context);
void loop_write_end(struct loop *loop, int fd);
void loop_socket(struct loop *loop, zsock_t *socket, loop_fn *readable, void *context);
void loop_socket_end(struct loop *loop, zsock_t *socket);

// A deadline: an embedded struct, armed at an instant, called once. Arming again moves it.
struct deadline {
	struct loop *loop;
	loop_fn *fn;
	void *context;
	instant at;
	size_t position; // in the loop's heap; 0 when not armed
};
void deadline_init(struct deadline *deadline, struct loop *loop, loop_fn *fn, void *context);
void deadline_arm(struct deadline *deadline, instant at); // INSTANT_NEVER disarms
void deadline_disarm(struct deadline *deadline);

#endif
