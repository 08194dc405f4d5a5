// The ZeroMQ sockets of the bus with their options, and what is watched of their connections.
#ifndef TWINSPAN_BUS_SOCKET_H
#define TWINSPAN_BUS_SOCKET_H

#include "common/bus/keys.h"
#include "common/bus/watch.h"

enum bus_event { BUS_CONNECTED, BUS_DISCONNECTED, BUS_HANDSHAKE_CLOSED, BUS_HANDSHAKE_PROTOCOL };
typedef void bus_event_fn(void *context, enum bus_event event);

struct bus_keys {
	char public_key[BUS_KEY_TEXT];
	char secret_key[BUS_KEY_TEXT];
};

struct bus_socket {
	void *handle; // ZeroMQ's socket; NULL while closed
	struct bus_watch watch;
	void *monitor;
	struct bus_watch monitor_watch;
	bus_event_fn *event;
	bool (*receive)(void *context);
	void *context;
	unsigned opened; // how often: a monitor's name is not free yet when its socket is opened again at once
};

// What a socket stands on, and whom it tells.
struct bus_socket_settings {
	void *zmq; // the context
	struct loop *loop;
	const struct bus_keys *keys;
	bus_event_fn *event;
	bool (*receive)(void *context); // takes one message off the socket; false when there is none
	void *context;
};

// The owner's ROUTER, bound. An ipc endpoint can be connected to by every uid: its keys decide. false with errno.
bool bus_socket_bind(struct bus_socket *s, const struct bus_socket_settings *settings, const char *endpoint);
// A replica's DEALER, connecting and reconnecting for ever. `quick`: that the other side is stopped is noticed within 3 seconds
// rather than 10.
bool bus_socket_connect(struct bus_socket *s, const struct bus_socket_settings *settings, const char *server_key,
                        const char *endpoint, bool quick);
void bus_socket_close(struct bus_socket *s);

#endif
