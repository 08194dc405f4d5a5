// See bus_socket.h. Options that carry a promise of the table protocol:
// - no high-water mark for sending: nothing is ever silently dropped; what may be on its way is bounded by the streams' credit;
// - ROUTER_MANDATORY: a peer that is gone is an error, not a black hole;
// - IMMEDIATE: a DEALER without a connection keeps nothing for later; what was not sent is opened anew;
// - ZAP_DOMAIN: every connection is asked about at our authenticator, whose answer (User-Id) every frame must carry;
// - ZeroMQ's own heartbeats: a connection whose other machine is gone ends, and a new one is tried.
#include "common/bus/socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/bus/auth.h"
#include "common/bus/frame.h"

enum {
	HANDSHAKE_MS = 3000,
	RECONNECT_MS = 20,
	RECONNECT_MOST_MS = 200,
	LINGER_MS = 100, // the last changes of a service that ends
};

static void set_int(void *handle, int option, int value)
{
	zmq_setsockopt(handle, option, &value, sizeof value);
}

static void set_common(void *handle)
{
	const int64_t most = BUS_FRAME;
	set_int(handle, ZMQ_SNDHWM, 0);
	set_int(handle, ZMQ_LINGER, LINGER_MS);
	set_int(handle, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
	set_int(handle, ZMQ_HEARTBEAT_IVL, BUS_TICK_MS);
	set_int(handle, ZMQ_HEARTBEAT_TIMEOUT, BUS_SILENT_TICKS * BUS_TICK_MS);
	zmq_setsockopt(handle, ZMQ_MAXMSGSIZE, &most, sizeof most);
}

static void on_monitor(void *context)
{
	struct bus_socket *s = context;
	while (s->monitor && zsock_events(s->monitor) & ZMQ_POLLIN) {
		zmsg_t *message = zmsg_recv(s->monitor);
		zframe_t *frame = message ? zmsg_first(message) : NULL;
		uint16_t number = 0;
		if (frame && zframe_size(frame) >= sizeof number) {
			memcpy(&number, zframe_data(frame), sizeof number);
		}
		zmsg_destroy(&message);
		switch (number) {
		case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
			s->event(s->context, BUS_CONNECTED);
			break;
		case ZMQ_EVENT_DISCONNECTED:
			s->event(s->context, BUS_DISCONNECTED);
			break;
		case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
			s->event(s->context, BUS_HANDSHAKE_CLOSED);
			break;
		case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
			s->event(s->context, BUS_HANDSHAKE_PROTOCOL);
			break;
		default:
			break;
		}
	}
}

static bool open_socket(struct bus_socket *s, int type, struct loop *loop, const struct bus_keys *keys, bus_event_fn *event,
                        void *context)
{
	*s = (struct bus_socket){.loop = loop, .socket = zsock_new(type), .event = event, .context = context};
	if (!s->socket) {
		return false;
	}
	void *handle = zsock_resolve(s->socket);
	set_common(handle);
	zmq_setsockopt(handle, ZMQ_CURVE_SECRETKEY, keys->secret_key, BUS_KEY_TEXT);
	zmq_setsockopt(handle, ZMQ_CURVE_PUBLICKEY, keys->public_key, BUS_KEY_TEXT);
	char name[64];
	snprintf(name, sizeof name, "inproc://bus-monitor-%p", (void *)s->socket);
	int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
	             ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;
	if (zmq_socket_monitor(handle, name, events) < 0) {
		return false;
	}
	s->monitor = zsock_new(ZMQ_PAIR);
	if (!s->monitor || zsock_connect(s->monitor, "%s", name) < 0) {
		return false;
	}
	loop_socket(loop, s->monitor, on_monitor, s);
	return true;
}

static bool fail(struct bus_socket *s)
{
	int error = errno;
	bus_socket_close(s);
	errno = error;
	return false;
}

bool bus_socket_bind(struct bus_socket *s, struct loop *loop, const struct bus_keys *keys, const char *endpoint,
                     bus_event_fn *event, void *context)
{
	if (!open_socket(s, ZMQ_ROUTER, loop, keys, event, context)) {
		return fail(s);
	}
	void *handle = zsock_resolve(s->socket);
	set_int(handle, ZMQ_CURVE_SERVER, 1);
	set_int(handle, ZMQ_ROUTER_MANDATORY, 1);
	zmq_setsockopt(handle, ZMQ_ZAP_DOMAIN, BUS_DOMAIN, strlen(BUS_DOMAIN));
	// ZeroMQ removes the socket file that a killed process left, and makes its own.
	if (zmq_bind(handle, endpoint) < 0) {
		return fail(s);
	}
	if (strncmp(endpoint, "ipc://", 6) == 0 && chmod(endpoint + 6, 0666) < 0) {
		return fail(s);
	}
	return true;
}

bool bus_socket_connect(struct bus_socket *s, struct loop *loop, const struct bus_keys *keys, const char *server_key,
                        const char *endpoint, bus_event_fn *event, void *context)
{
	if (!open_socket(s, ZMQ_DEALER, loop, keys, event, context)) {
		return fail(s);
	}
	void *handle = zsock_resolve(s->socket);
	zmq_setsockopt(handle, ZMQ_CURVE_SERVERKEY, server_key, BUS_KEY_TEXT);
	set_int(handle, ZMQ_IMMEDIATE, 1);
	set_int(handle, ZMQ_RECONNECT_IVL, RECONNECT_MS);
	set_int(handle, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MOST_MS);
	return zmq_connect(handle, endpoint) == 0 || fail(s);
}

void bus_socket_close(struct bus_socket *s)
{
	if (s->monitor) {
		loop_socket_end(s->loop, s->monitor);
	}
	if (s->socket) {
		zmq_socket_monitor(zsock_resolve(s->socket), NULL, 0);
	}
	zsock_destroy(&s->monitor);
	zsock_destroy(&s->socket);
}
