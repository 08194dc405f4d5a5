// The listeners of the border gateways that have sessions, handed over by esp, and the connections the peers open: one is a
// session's when both its ends are the session's inside addresses; any other is refused (RFC 4486 §4) and counted.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/io/handover.h"
#include "common/io/log.h"
#include "services/bgp/shell.h"

struct listener {
	struct listeners *all;
	char *gateway;
	unsigned holders;
	int fd;
	struct deadline retry;
};

struct listeners {
	struct service *service;
	struct loop *loop;
	struct handover *handover;
	struct map *by_gateway;
	struct metric *unknown;
};

static void take_connection(struct listener *listener, int fd, const struct sockaddr_storage *from)
{
	struct listeners *all = listener->all;
	struct sockaddr_storage here;
	socklen_t length = sizeof here;
	struct address local, remote;
	struct peering *peering = NULL;
	if (getsockname(fd, (struct sockaddr *)&here, &length) == 0 && socket_address_read(&here, &local) &&
	    socket_address_read(from, &remote)) {
		peering = bgp_bus_peering_between(all->service->bus, listener->gateway, &local, &remote);
	}
	if (!peering) {
		metric_add(all->unknown, 1);
		tcp_refuse(all->service->tcp, fd);
		return;
	}
	tcp_accept(all->service->tcp, peering->session, fd);
}

static void acceptable(void *context)
{
	struct listener *listener = context;
	struct sockaddr_storage from;
	socklen_t length = sizeof from;
	int fd = accept4(listener->fd, (struct sockaddr *)&from, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		take_connection(listener, fd, &from);
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		// No descriptor to be had: the connection waits in the kernel, and so do we.
		log_limited(LOG_WARNING, "accept-failed", "error", strerror(errno), NULL);
		loop_read_end(listener->all->loop, listener->fd);
		deadline_arm(&listener->retry, now() + RETRY_LISTEN);
	}
}

static void have_listener(void *context, int fd, const char *error)
{
	struct listener *listener = context;
	if (fd < 0) {
		log_limited(LOG_WARNING, "no-listener", "border_gateway", listener->gateway, "reason", error, NULL);
		deadline_arm(&listener->retry, now() + RETRY_LISTEN);
		return;
	}
	// esp has started again: the new one takes the old one's place.
	if (listener->fd >= 0) {
		loop_read_end(listener->all->loop, listener->fd);
		close(listener->fd);
	}
	listener->fd = fd;
	loop_read(listener->all->loop, fd, acceptable, listener);
}

static void ask_listener(struct listener *listener)
{
	char *request = format_text("listen %s", listener->gateway);
	handover_request(listener->all->handover, request, have_listener, listener);
	free(request);
}

static void listen_again(void *context)
{
	struct listener *listener = context;
	if (listener->fd >= 0) {
		loop_read(listener->all->loop, listener->fd, acceptable, listener);
	} else if (handover_is_connected(listener->all->handover)) {
		ask_listener(listener);
	}
}

void listeners_hold(struct listeners *all, const char *border_gateway_id)
{
	struct listener *listener = map_find_text(all->by_gateway, border_gateway_id);
	if (!listener) {
		listener = allocate(sizeof *listener);
		listener->all = all;
		listener->gateway = duplicate_text(border_gateway_id);
		listener->fd = -1;
		deadline_init(&listener->retry, all->loop, listen_again, listener);
		map_insert_text(all->by_gateway, border_gateway_id, listener);
		listen_again(listener);
	}
	listener->holders++;
}

static void listener_free(void *value)
{
	struct listener *listener = value;
	handover_cancel(listener->all->handover, listener);
	deadline_disarm(&listener->retry);
	if (listener->fd >= 0) {
		loop_read_end(listener->all->loop, listener->fd);
		close(listener->fd);
	}
	free(listener->gateway);
	free(listener);
}

void listeners_release(struct listeners *all, const char *border_gateway_id)
{
	struct listener *listener = map_find_text(all->by_gateway, border_gateway_id);
	if (listener && --listener->holders == 0) {
		map_remove_text(all->by_gateway, border_gateway_id);
		listener_free(listener);
	}
}

void listeners_ask(struct listeners *all)
{
	struct map_cursor cursor = {.position = 0};
	while (map_next(all->by_gateway, &cursor)) {
		ask_listener(cursor.value);
	}
}

struct listeners *listeners_new(struct service *service, struct loop *loop, struct handover *handover)
{
	struct listeners *all = allocate(sizeof *all);
	all->service = service;
	all->loop = loop;
	all->handover = handover;
	all->by_gateway = map_new(NULL);
	all->unknown = metric(METRIC_COUNTER, "twinspan_bgp_unknown_peers_total", NULL,
	                      "TCP connections from an address that has no session");
	return all;
}

void listeners_free(struct listeners **listeners)
{
	map_free(&(*listeners)->by_gateway, listener_free);
	free(*listeners);
	*listeners = NULL;
}
