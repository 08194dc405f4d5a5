// The client of the socket server of esp (TWINSPAN_SOCKETS): asks for descriptors by name and gets them without blocking the
// loop. When esp goes away it connects again every 50 ms and then calls `connected` again, so that its user asks anew;
// descriptors handed over before stay usable.
#ifndef TWINSPAN_IO_HANDOVER_H
#define TWINSPAN_IO_HANDOVER_H

#include "common/io/loop.h"

struct handover;
// `fd` is close-on-exec and the caller's from now on, or -1 and `error` says why.
typedef void handover_fn(void *context, int fd, const char *error);

struct handover *handover_new(struct loop *loop, const char *path, loop_fn *connected, void *context);
void handover_free(struct handover **handover); // unanswered requests are forgotten without a call
bool handover_is_connected(const struct handover *handover);
// `request` is "udp500", "udp4500", "listen <bgw id>" or "socket <bgw id> <local address>". Answered in order, once each, never
// from inside this call: also when there is no connection or it breaks ("not connected").
void handover_request(struct handover *handover, const char *request, handover_fn *answered, void *context);
// Forgets the unanswered requests of `context`; a descriptor that still comes for one is closed.
void handover_cancel(struct handover *handover, const void *context);

#endif
