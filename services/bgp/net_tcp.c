// The TCP connections of the sessions. Their sockets are made by esp in the border gateways' namespaces and handed over
// (common/io/handover.h): a listener for each border gateway that has sessions, and a socket for each connection that we open.
//
// A connection is closed in two steps, so that a NOTIFICATION before it is read and not overtaken by a reset: our side is shut
// down, what still comes is read away for a moment, and then the descriptor goes.
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/base/map.h"
#include "common/io/handover.h"
#include "common/io/log.h"
#include "services/bgp/shell.h"

enum { BGP_PORT = 179 };

struct transport {
	struct tcp *tcp;
	uint32_t number;
	struct bgp_session *session;
	int fd; // -1 until esp has handed it over
	struct address remote;
	bool connecting;
	bool closing; // the core has forgotten it
	struct deadline linger;
	struct transport *next_closing, *previous_closing; // in tcp.closing
	uint8_t *output;                                   // what the kernel has not taken
	size_t output_start, output_length, output_capacity;
	size_t sent; // taken, and not reported
	bool broken; // sending failed, not reported
	int error;   // errno of that
	bool listed; // in tcp.reports
	struct transport *next_report;
};

struct tcp {
	struct service *service;
	struct loop *loop;
	struct handover *handover;
	struct map *transports;    // by number
	struct transport *reports; // with something for the core
	// Those that linger, in the order in which they were closed.
	struct transport *first_closing, *last_closing;
	size_t closing_count;
	uint8_t input[READ_SIZE];
};

static struct bytes key_of(const uint32_t *number)
{
	return (struct bytes){(const uint8_t *)number, sizeof *number};
}

// ---- transports ----
static struct transport *transport_new(struct tcp *tcp, struct bgp_session *session, uint32_t number, int fd)
{
	struct transport *t = allocate(sizeof *t);
	t->tcp = tcp;
	t->number = number;
	t->session = session;
	t->fd = fd;
	map_insert(tcp->transports, key_of(&number), t);
	return t;
}

// ---- those that linger ----
static void join_closing(struct transport *t)
{
	struct tcp *tcp = t->tcp;
	t->previous_closing = tcp->last_closing;
	*(tcp->last_closing ? &tcp->last_closing->next_closing : &tcp->first_closing) = t;
	tcp->last_closing = t;
	tcp->closing_count++;
	t->closing = true;
}

static void leave_closing(struct transport *t)
{
	struct tcp *tcp = t->tcp;
	if (!t->closing) {
		return;
	}
	deadline_disarm(&t->linger);
	*(t->previous_closing ? &t->previous_closing->next_closing : &tcp->first_closing) = t->next_closing;
	*(t->next_closing ? &t->next_closing->previous_closing : &tcp->last_closing) = t->previous_closing;
	tcp->closing_count--;
	t->closing = false;
	invariant((tcp->closing_count == 0) == !tcp->first_closing && !tcp->first_closing == !tcp->last_closing);
}

static void transport_free(struct transport *t)
{
	struct tcp *tcp = t->tcp;
	map_remove(tcp->transports, key_of(&t->number));
	handover_cancel(tcp->handover, t);
	leave_closing(t);
	if (t->fd >= 0) {
		loop_read_end(tcp->loop, t->fd);
		loop_write_end(tcp->loop, t->fd);
		close(t->fd);
	}
	for (struct transport **link = &tcp->reports; t->listed && *link; link = &(*link)->next_report) {
		if (*link == t) {
			*link = t->next_report;
			break;
		}
	}
	free(t->output);
	free(t);
}

static void report(struct transport *t)
{
	if (!t->listed) {
		t->listed = true;
		t->next_report = t->tcp->reports;
		t->tcp->reports = t;
	}
}

// What errno says about a connection that ended; 0: the peer closed it.
static void say_closed(struct bgp_event *event, int error)
{
	event->kind = BGP_EVENT_CLOSED;
	switch (error) {
	case 0:
		event->cause = BGP_CLOSE_BY_PEER;
		event->reason = "connection closed by the peer";
		break;
	case ECONNREFUSED:
		event->cause = BGP_CLOSE_REFUSED;
		event->reason = "connection refused";
		break;
	case ECONNRESET:
	case EPIPE:
		event->cause = BGP_CLOSE_BY_PEER;
		event->reason = "connection reset by the peer";
		break;
	case ETIMEDOUT:
		event->cause = BGP_CLOSE_TIMED_OUT;
		event->reason = "connection timed out";
		break;
	case EHOSTUNREACH:
	case ENETUNREACH:
		event->cause = BGP_CLOSE_UNREACHABLE;
		event->reason = error == EHOSTUNREACH ? "no route to host" : "network is unreachable";
		break;
	case ENOTCONN: // of a socket that was never made
		event->cause = BGP_CLOSE_NO_SOCKET;
		event->reason = "no socket from esp";
		break;
	default:
		event->cause = BGP_CLOSE_OTHER;
		event->reason = strerror(error);
		break;
	}
}

bool tcp_next_event(struct tcp *tcp, struct bgp_event *event)
{
	struct transport *t = tcp->reports;
	if (!t) {
		return false;
	}
	tcp->reports = t->next_report;
	t->listed = false;
	*event = (struct bgp_event){.kind = BGP_EVENT_SENT, .session = t->session, .transport = t->number, .count = t->sent};
	t->sent = 0;
	if (t->broken) {
		say_closed(event, t->error);
		transport_free(t);
	}
	return true;
}

// Ends a transport that the core still knows, and tells it.
static void fail(struct transport *t, int error)
{
	struct service *service = t->tcp->service;
	struct bgp_event event = {.session = t->session, .transport = t->number};
	say_closed(&event, error);
	transport_free(t);
	service_step(service, &event);
}

// ---- reading ----
// Reads some of what there is and gives it to the core; the loop comes back for the rest when the others have had their turn.
// The transport may be gone afterwards.
static void read_some(struct transport *t)
{
	struct tcp *tcp = t->tcp;
	ssize_t length = recv(t->fd, tcp->input, sizeof tcp->input, 0);
	if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
		return;
	}
	if (length <= 0) {
		fail(t, length < 0 ? errno : 0);
		return;
	}
	service_step(tcp->service, &(struct bgp_event){.kind = BGP_EVENT_RECEIVED,
	                                               .session = t->session,
	                                               .transport = t->number,
	                                               .octets = {tcp->input, (size_t)length}});
}

static void read_away(struct transport *t)
{
	ssize_t length = recv(t->fd, t->tcp->input, sizeof t->tcp->input, 0);
	if (length == 0 || (length < 0 && errno != EAGAIN && errno != EINTR)) {
		transport_free(t);
	}
}

static void readable(void *context)
{
	struct transport *t = context;
	if (t->closing) {
		read_away(t);
	} else {
		read_some(t);
	}
}

void tcp_read_all(struct tcp *tcp)
{
	size_t count = 0, capacity = map_count(tcp->transports);
	uint32_t *numbers = allocate_array(capacity + 1, sizeof *numbers);
	struct map_cursor cursor = {.position = 0};
	while (count < capacity && map_next(tcp->transports, &cursor)) {
		numbers[count++] = ((struct transport *)cursor.value)->number;
	}
	for (size_t i = 0; i < count; i++) {
		struct transport *t = map_find(tcp->transports, key_of(&numbers[i]));
		if (t && t->fd >= 0 && !t->connecting && !t->closing) {
			read_some(t);
		}
	}
	free(numbers);
}

// ---- writing ----
// Returns how much the kernel took; sets `broken` when it will take no more.
static size_t offer(struct transport *t, const uint8_t *octets, size_t length)
{
	size_t taken = 0;
	while (taken < length && !t->broken) {
		ssize_t n = send(t->fd, octets + taken, length - taken, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0) {
			taken += (size_t)n;
		} else if (errno == EAGAIN) {
			break;
		} else if (errno != EINTR) {
			t->broken = true;
			t->error = errno;
		}
	}
	return taken;
}

static void writable(void *context);

static void flush(struct transport *t)
{
	size_t taken = offer(t, t->output + t->output_start, t->output_length);
	t->output_start += taken;
	t->output_length -= taken;
	t->sent += taken;
	if (t->output_length == 0) {
		t->output_start = 0;
		loop_write_end(t->tcp->loop, t->fd);
	}
}

static void finish_closing(struct transport *t)
{
	if (t->broken) {
		transport_free(t);
	} else if (t->output_length == 0) {
		shutdown(t->fd, SHUT_WR);
	}
}

static void finish_connecting(struct transport *t)
{
	int error = 0;
	socklen_t length = sizeof error;
	getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error) {
		fail(t, error);
		return;
	}
	t->connecting = false;
	loop_write_end(t->tcp->loop, t->fd);
	loop_read(t->tcp->loop, t->fd, readable, t);
	service_step(t->tcp->service,
	             &(struct bgp_event){.kind = BGP_EVENT_CONNECTED, .session = t->session, .transport = t->number});
}

static void writable(void *context)
{
	struct transport *t = context;
	if (t->connecting) {
		finish_connecting(t);
		return;
	}
	flush(t);
	if (t->closing) {
		finish_closing(t);
		return;
	}
	struct tcp *tcp = t->tcp;
	report(t);
	struct bgp_event event;
	if (tcp_next_event(tcp, &event)) {
		service_step(tcp->service, &event);
	}
}

static void append_output(struct transport *t, const uint8_t *octets, size_t length)
{
	if (t->output_start + t->output_length + length > t->output_capacity) {
		memmove(t->output, t->output + t->output_start, t->output_length);
		t->output_start = 0;
	}
	if (t->output_length + length > t->output_capacity) {
		t->output_capacity = t->output_length + length;
		t->output = reallocate(t->output, t->output_capacity, 1);
	}
	memcpy(t->output + t->output_start + t->output_length, octets, length);
	t->output_length += length;
}

void tcp_send(struct tcp *tcp, uint32_t transport, struct bytes octets)
{
	struct transport *t = map_find(tcp->transports, key_of(&transport));
	if (!t || t->fd < 0 || t->broken) {
		return;
	}
	size_t taken = t->output_length == 0 ? offer(t, octets.data, octets.length) : 0;
	t->sent += taken;
	if (taken < octets.length && !t->broken) {
		append_output(t, octets.data + taken, octets.length - taken);
		loop_write(tcp->loop, t->fd, writable, t);
	}
	if (taken || t->broken) {
		report(t);
	}
}

static void lingered_enough(void *context)
{
	transport_free(context);
}

// The peer's octets are read away until it closes too, for a moment and only so many at a time.
static void linger(struct transport *t)
{
	struct tcp *tcp = t->tcp;
	if (tcp->closing_count == LINGERING_MAXIMUM) {
		transport_free(tcp->first_closing);
	}
	join_closing(t);
	deadline_init(&t->linger, tcp->loop, lingered_enough, t);
	deadline_arm(&t->linger, now() + LINGER);
	finish_closing(t);
}

void tcp_close(struct tcp *tcp, uint32_t transport)
{
	struct transport *t = map_find(tcp->transports, key_of(&transport));
	if (!t) {
		return;
	}
	if (t->fd < 0 || t->connecting || t->broken) {
		transport_free(t);
		return;
	}
	t->sent = 0;
	for (struct transport **link = &tcp->reports; t->listed && *link; link = &(*link)->next_report) {
		if (*link == t) {
			*link = t->next_report;
			t->listed = false;
			break;
		}
	}
	linger(t);
}

void tcp_refuse(struct tcp *tcp, int fd)
{
	struct bytes octets = bgp_connection_rejected();
	struct transport *t = transport_new(tcp, NULL, bgp_transport_new(tcp->service->bgp), fd);
	loop_read(tcp->loop, fd, readable, t);
	offer(t, octets.data, octets.length);
	linger(t);
}

bool tcp_is_idle(const struct tcp *tcp)
{
	return map_count(tcp->transports) == 0;
}

// ---- connecting ----
static void set_patience(int fd, size_t milliseconds)
{
	unsigned timeout = (unsigned)milliseconds;
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
}

static void set_options(int fd)
{
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	set_patience(fd, OPEN_HOLD / MILLISECONDS(1));
}

void tcp_patience(struct tcp *tcp, uint32_t transport, size_t milliseconds)
{
	struct transport *t = map_find(tcp->transports, key_of(&transport));
	if (t && t->fd >= 0) {
		set_patience(t->fd, milliseconds);
	}
}

static void have_socket(void *context, int fd, const char *error)
{
	struct transport *t = context;
	if (fd < 0) {
		log_limited(LOG_WARNING, "no-socket", "tunnel", bgp_session_id(t->session), "reason", error, NULL);
		fail(t, ENOTCONN);
		return;
	}
	t->fd = fd;
	set_options(fd);
	struct sockaddr_storage to;
	socklen_t length = socket_address(&t->remote, BGP_PORT, &to);
	if (connect(fd, (struct sockaddr *)&to, length) < 0 && errno != EINPROGRESS) {
		fail(t, errno);
		return;
	}
	t->connecting = true;
	loop_write(t->tcp->loop, fd, writable, t);
}

void tcp_connect(struct tcp *tcp, const struct peering *peering, uint32_t transport)
{
	struct transport *t = transport_new(tcp, peering->session, transport, -1);
	t->remote = peering->remote;
	char local[ADDRESS_TEXT];
	char *request = format_text("socket %s %s", peering->border_gateway_id, address_format(&peering->local, local));
	handover_request(tcp->handover, request, have_socket, t);
	free(request);
}

void tcp_accept(struct tcp *tcp, struct bgp_session *session, int fd)
{
	set_options(fd);
	struct transport *t = transport_new(tcp, session, bgp_transport_new(tcp->service->bgp), fd);
	loop_read(tcp->loop, fd, readable, t);
	service_step(tcp->service, &(struct bgp_event){.kind = BGP_EVENT_ACCEPTED, .session = session, .transport = t->number});
}

struct tcp *tcp_new(struct service *service, struct loop *loop, struct handover *handover)
{
	struct tcp *tcp = allocate(sizeof *tcp);
	tcp->service = service;
	tcp->loop = loop;
	tcp->transports = map_new(NULL);
	tcp->handover = handover;
	return tcp;
}

void tcp_free(struct tcp **tcp)
{
	struct tcp *t = *tcp;
	struct map_cursor cursor = {.position = 0};
	while (map_next(t->transports, &cursor)) {
		transport_free(cursor.value);
	}
	map_free(&t->transports, NULL);
	free(t);
	*tcp = NULL;
}
