// The ZeroMQ sockets of the bus with their options, and what is watched of their connections.
#ifndef TWINSPAN_IO_BUS_SOCKET_H
#define TWINSPAN_IO_BUS_SOCKET_H

#include "common/bus/keys.h"
#include "common/io/loop.h"

enum bus_event { BUS_CONNECTED, BUS_DISCONNECTED, BUS_HANDSHAKE_CLOSED, BUS_HANDSHAKE_PROTOCOL };
typedef void bus_event_fn(void *context, enum bus_event event);

struct bus_keys {
	char public_key[BUS_KEY_TEXT];
	char secret_key[BUS_KEY_TEXT];
};

struct bus_socket {
	struct loop *loop;
	zsock_t *socket;
	zsock_t *monitor;
	bus_event_fn *event;
	void *context;
};

// The owner's ROUTER, bound. An ipc endpoint can be connected to by every uid: its keys decide. false with errno.
bool bus_socket_bind(struct bus_socket *s, struct loop *loop, const struct bus_keys *keys, const char *endpoint,
                     bus_event_fn *event, void *context);
// A replica's DEALER, connecting and reconnecting for ever.
bool bus_socket_connect(struct bus_socket *s, struct loop *loop, const struct bus_keys *keys, const char *server_key,
                        const char *endpoint, bus_event_fn *event, void *context);
void bus_socket_close(struct bus_socket *s);

#endif
