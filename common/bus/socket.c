// See socket.h. Options that carry a promise of the table protocol:
// - no high-water mark for sending: nothing is ever silently dropped; what may be on its way is bounded by the streams' credit;
// - ROUTER_MANDATORY: a peer that is gone is an error, not a black hole;
// - IMMEDIATE: a DEALER without a connection keeps nothing for later; what was not sent is opened anew;
// - ZAP_DOMAIN: every connection is asked about at our authenticator, whose answer (User-Id) every frame must carry.
//
// Whether the other side lives is the connection's to say, in three ways that cost little while nothing happens. A process that
// ends closes it. A machine or a network that is gone is found by TCP itself: keepalives, and a limit to how long what was sent
// may go without an answer, both the kernel's. A process that stands still is found by ZeroMQ's heartbeat (ZMTP PING), answered
// by its I/O thread: the DEALER asks, and tells the ROUTER how long it may take a silence.
#include "common/bus/socket.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <zmq.h>

#include "common/base/invariant.h"
#include "common/bus/auth.h"
#include "common/bus/frame.h"

enum {
	HANDSHAKE_MS = 3000,
	RECONNECT_MS = 20,
	RECONNECT_MOST_MS = 200,
	LINGER_MS = 100, // the last changes of a service that ends
	UNANSWERED_MS = 3000,
	KEEPALIVE_SECONDS = 1,
	KEEPALIVES = 3,
	// Between two heartbeats, and what the answer to one may take: together what a standstill may last unnoticed. As few as
	// may be: each costs both sides, and a region has thousands of connections in which nothing happens.
	QUICK_MS = 1700,
	QUICK_ANSWER_MS = 1200,
	SLOW_MS = 8000,
	SLOW_ANSWER_MS = 1900,
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
	set_int(handle, ZMQ_TCP_KEEPALIVE, 1);
	set_int(handle, ZMQ_TCP_KEEPALIVE_IDLE, KEEPALIVE_SECONDS);
	set_int(handle, ZMQ_TCP_KEEPALIVE_INTVL, KEEPALIVE_SECONDS);
	set_int(handle, ZMQ_TCP_KEEPALIVE_CNT, KEEPALIVES);
	set_int(handle, ZMQ_TCP_MAXRT, UNANSWERED_MS);
	zmq_setsockopt(handle, ZMQ_MAXMSGSIZE, &most, sizeof most);
}

// One event: a frame that begins with its number, and one with the address.
static bool receive_event(void *context)
{
	struct bus_socket *s = context;
	uint16_t number = 0;
	zmq_msg_t message;
	zmq_msg_init(&message);
	bool received = zmq_msg_recv(&message, s->monitor, ZMQ_DONTWAIT) >= 0;
	if (received && zmq_msg_size(&message) >= sizeof number) {
		memcpy(&number, zmq_msg_data(&message), sizeof number);
	}
	bool more = received && zmq_msg_more(&message);
	while (more && zmq_msg_recv(&message, s->monitor, ZMQ_DONTWAIT) >= 0) {
		more = zmq_msg_more(&message);
	}
	zmq_msg_close(&message);
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
	return received && s->monitor;
}

static bool open_socket(struct bus_socket *s, int type, const struct bus_socket_settings *settings)
{
	invariant(!s->handle && !s->monitor);
	*s = (struct bus_socket){.handle = zmq_socket(settings->zmq, type),
	                         .event = settings->event,
	                         .receive = settings->receive,
	                         .context = settings->context,
	                         .opened = s->opened + 1};
	if (!s->handle) {
		return false;
	}
	set_common(s->handle);
	zmq_setsockopt(s->handle, ZMQ_CURVE_SECRETKEY, settings->keys->secret_key, BUS_KEY_TEXT);
	zmq_setsockopt(s->handle, ZMQ_CURVE_PUBLICKEY, settings->keys->public_key, BUS_KEY_TEXT);
	char name[64];
	snprintf(name, sizeof name, "inproc://bus-monitor-%p-%u", (void *)s, s->opened);
	int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
	             ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;
	if (zmq_socket_monitor(s->handle, name, events) < 0) {
		return false;
	}
	s->monitor = zmq_socket(settings->zmq, ZMQ_PAIR);
	if (!s->monitor || zmq_connect(s->monitor, name) < 0) {
		return false;
	}
	set_int(s->monitor, ZMQ_LINGER, 0);
	bus_watch_begin(&s->monitor_watch, settings->loop, s->monitor, receive_event, s);
	return true;
}

static bool fail(struct bus_socket *s)
{
	int error = errno;
	bus_socket_close(s);
	errno = error;
	return false;
}

bool bus_socket_bind(struct bus_socket *s, const struct bus_socket_settings *settings, const char *endpoint)
{
	if (!open_socket(s, ZMQ_ROUTER, settings)) {
		return fail(s);
	}
	set_int(s->handle, ZMQ_CURVE_SERVER, 1);
	set_int(s->handle, ZMQ_ROUTER_MANDATORY, 1);
	zmq_setsockopt(s->handle, ZMQ_ZAP_DOMAIN, BUS_DOMAIN, strlen(BUS_DOMAIN));
	// ZeroMQ removes the socket file that a killed process left, and makes its own.
	if (zmq_bind(s->handle, endpoint) < 0) {
		return fail(s);
	}
	if (strncmp(endpoint, "ipc://", 6) == 0 && chmod(endpoint + 6, 0666) < 0) {
		return fail(s);
	}
	bus_watch_begin(&s->watch, settings->loop, s->handle, settings->receive, settings->context);
	return true;
}

bool bus_socket_connect(struct bus_socket *s, const struct bus_socket_settings *settings, const char *server_key,
                        const char *endpoint, bool quick)
{
	if (!open_socket(s, ZMQ_DEALER, settings)) {
		return fail(s);
	}
	int interval = quick ? QUICK_MS : SLOW_MS, answer = quick ? QUICK_ANSWER_MS : SLOW_ANSWER_MS;
	zmq_setsockopt(s->handle, ZMQ_CURVE_SERVERKEY, server_key, BUS_KEY_TEXT);
	set_int(s->handle, ZMQ_IMMEDIATE, 1);
	set_int(s->handle, ZMQ_RECONNECT_IVL, RECONNECT_MS);
	set_int(s->handle, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MOST_MS);
	set_int(s->handle, ZMQ_HEARTBEAT_IVL, interval);
	set_int(s->handle, ZMQ_HEARTBEAT_TIMEOUT, answer);
	set_int(s->handle, ZMQ_HEARTBEAT_TTL, interval + answer);
	if (zmq_connect(s->handle, endpoint) < 0) {
		return fail(s);
	}
	bus_watch_begin(&s->watch, settings->loop, s->handle, settings->receive, settings->context);
	return true;
}

void bus_socket_close(struct bus_socket *s)
{
	bus_watch_end(&s->monitor_watch);
	bus_watch_end(&s->watch);
	if (s->handle) {
		zmq_socket_monitor(s->handle, NULL, 0);
		zmq_close(s->handle);
	}
	if (s->monitor) {
		zmq_close(s->monitor);
	}
	s->handle = s->monitor = NULL;
}
