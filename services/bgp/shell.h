// The shell of bgp: what main.c, bus.c and the net_*.c files share. The core (bgp.h) decides; these carry out.
#ifndef TWINSPAN_BGP_SHELL_H
#define TWINSPAN_BGP_SHELL_H

#include <sys/socket.h>

#include "common/bus/bus.h"
#include "common/io/health.h"
#include "common/io/loop.h"
#include "services/bgp/bgp.h"

struct service;

// ---- main.c ----
// Gives the core one event and carries out what it answers.
void service_step(struct service *service, const struct bgp_event *event);

// ---- bus.c, bus_*.c ----
// A session as the tables describe it.
struct peering {
	char *tunnel_id;
	char *border_gateway_id;
	struct address local, remote; // inside addresses
	struct bgp_session *session;
	enum bgp_state state;         // as published
	uint64_t since;               // milliseconds since the epoch, of the state
	instant since_here;           // the same by our own clock
	uint64_t first_event, events; // the number of the first, and how many there were
};
struct bgp_bus;
// Owns bgp_session, learned_route and bgp_event.
struct bgp_bus *bgp_bus_new(struct service *service, struct bus *bus, const char *node);
void bgp_bus_free(struct bgp_bus **bus);
// The service ends: every session gets a Cease, no route is left.
void bgp_bus_stop(struct bgp_bus *bus);
// Whether route has what bgp_bus_stop published.
bool bgp_bus_is_read(const struct bgp_bus *bus);
// Publishes what one step has changed, as one change of each table.
void bgp_bus_publish(struct bgp_bus *bus, const struct bgp_actions *actions);
struct peering *bgp_bus_peering(const struct bgp_bus *bus, const struct bgp_session *session);
// The one whose two ends these are, or NULL.
struct peering *bgp_bus_peering_between(const struct bgp_bus *bus, const char *border_gateway_id, const struct address *local,
                                        const struct address *remote);
size_t bgp_bus_sessions(const struct bgp_bus *bus, size_t *established);

// ---- net_tcp.c ----
struct tcp;
struct handover;
struct tcp *tcp_new(struct service *service, struct loop *loop, struct handover *handover);
void tcp_free(struct tcp **tcp);
void tcp_accept(struct tcp *tcp, struct bgp_session *session, int fd); // `fd` is tcp's from now on
void tcp_connect(struct tcp *tcp, const struct peering *peering, uint32_t transport);
void tcp_send(struct tcp *tcp, uint32_t transport, struct bytes octets);
void tcp_close(struct tcp *tcp, uint32_t transport);
void tcp_patience(struct tcp *tcp, uint32_t transport, size_t milliseconds); // of octets without an answer
// A connection that no session wants: it is told so, and closed. `fd` is tcp's from now on.
void tcp_refuse(struct tcp *tcp, int fd);
bool tcp_is_idle(const struct tcp *tcp); // no connection is left
// What sending has brought about and the core has not been told: events to step with until there is none.
bool tcp_next_event(struct tcp *tcp, struct bgp_event *event);
// Reads whatever has arrived: before timers run that are late by our own fault.
void tcp_read_all(struct tcp *tcp);

// ---- net_address.c ----
socklen_t socket_address(const struct address *address, uint16_t port, struct sockaddr_storage *out);
bool socket_address_read(const struct sockaddr_storage *from, struct address *out); // false: of no family of ours

// ---- net_listen.c ----
struct listeners;
struct listeners *listeners_new(struct service *service, struct loop *loop, struct handover *handover);
void listeners_free(struct listeners **listeners);
// A border gateway is listened for while somebody holds it.
void listeners_hold(struct listeners *listeners, const char *border_gateway_id);
void listeners_release(struct listeners *listeners, const char *border_gateway_id);
// esp is there (again): asks it for all of them anew.
void listeners_ask(struct listeners *listeners);

// The parts, as main.c made them.
struct service {
	struct loop *loop;
	struct health *health;
	struct bgp *bgp;
	struct bgp_bus *bus;
	struct handover *handover;
	struct tcp *tcp;
	struct listeners *listeners;
	struct deadline deadline;
	struct bgp_actions actions;
};

#endif
