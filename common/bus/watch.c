// See watch.h.
#include "common/bus/watch.h"

#include <zmq.h>

#include "common/base/invariant.h"

// `receive` ends with a call to zmq_msg_recv that finds nothing: that is what takes in ZeroMQ's own news and arms the edge
// again.
static void drain(void *context)
{
	struct bus_watch *watch = context;
	soon_cancel(&watch->again);
	for (int i = 0; i < BUS_MESSAGES_AT_A_TIME; i++) {
		if (!watch->receive(watch->context) || !watch->socket) {
			soon_cancel(&watch->again); // what was sent meanwhile was sent before this last call
			return;
		}
	}
	loop_soon(watch->loop, &watch->again);
}

void bus_watch_begin(struct bus_watch *watch, struct loop *loop, void *socket, bool (*receive)(void *context), void *context)
{
	invariant(!watch->socket && socket);
	*watch = (struct bus_watch){.loop = loop, .socket = socket, .receive = receive, .context = context};
	soon_init(&watch->again, drain, watch);
	size_t length = sizeof watch->fd;
	int result = zmq_getsockopt(socket, ZMQ_FD, &watch->fd, &length);
	invariant(result == 0);
	loop_read_edge(loop, watch->fd, drain, watch);
	loop_soon(loop, &watch->again); // what was there before the first edge
}

void bus_watch_end(struct bus_watch *watch)
{
	if (watch->socket) {
		soon_cancel(&watch->again);
		loop_read_end(watch->loop, watch->fd);
		watch->socket = NULL;
	}
}

void bus_watch_touched(struct bus_watch *watch)
{
	if (watch->socket) {
		loop_soon(watch->loop, &watch->again);
	}
}
