// A ZeroMQ socket in the loop's own epoll, by its ZMQ_FD: edge-triggered, and shared by all that the socket has to say, so that
// after each use of the socket its state may have moved without an edge. Hence: whoever sends says so, and the socket is looked
// at once more at the end of the batch.
#ifndef TWINSPAN_BUS_WATCH_H
#define TWINSPAN_BUS_WATCH_H

#include "common/io/loop.h"

enum { BUS_MESSAGES_AT_A_TIME = 256 }; // of one socket, before the others have their turn

struct bus_watch {
	struct loop *loop;
	void *socket; // ZeroMQ's; NULL while nothing is watched
	int fd;
	bool (*receive)(void *context); // takes one message; false when there is none
	void *context;
	struct soon again;
};

void bus_watch_begin(struct bus_watch *watch, struct loop *loop, void *socket, bool (*receive)(void *context), void *context);
void bus_watch_end(struct bus_watch *watch);
// Something was sent, or another option of the socket asked for, outside of `receive`.
void bus_watch_touched(struct bus_watch *watch);

#endif
