// The shell of ike: what main.c, bus.c and the net_*.c files share. The core (ike.h) decides; these carry out.
#ifndef TWINSPAN_IKE_SHELL_H
#define TWINSPAN_IKE_SHELL_H

#include "common/bus/bus.h"
#include "common/io/health.h"
#include "common/io/loop.h"
#include "services/ike/ike.h"
#include "services/ike/crypto/seal.h"

struct service;

// ---- bus_step.c ----
// Gives the core one event and carries out what it answers.
void service_step(struct service *service, const struct ike_event *event);

// ---- bus.c ----
struct ike_bus;
// Owns tunnel_status, tunnel_event, child_sa and ike_sa; replicates what esp holds first, and when that is restored, the
// tunnels.
struct ike_bus *ike_bus_new(struct service *service, struct bus *bus, const char *node, const struct seal_key *seal_key);
void ike_bus_free(struct ike_bus **bus);
// Publishes the actions of one step that are rows (all but the datagrams), as one change of each table.
void ike_bus_publish(struct ike_bus *bus, const struct ike_actions *actions);
// The sequences that esp must have applied before a datagram of the last published step may leave.
struct barrier {
	uint64_t child_sa, ike_sa;
};
struct barrier ike_bus_barrier(const struct ike_bus *bus);
bool ike_bus_passed(const struct ike_bus *bus, const struct barrier *barrier);

// ---- net_output.c ----
struct output;
struct output *output_new(struct service *service);
void output_free(struct output **output);
// Queues the datagrams of one step behind the barrier; the first in is the first out.
void output_queue(struct output *output, const struct ike_actions *actions, struct barrier barrier);
// Sends what the barrier lets go now. Called when an applied mark moves.
void output_flush(struct output *output);

// ---- net_udp.c ----
struct udp;
struct udp *udp_new(struct service *service, struct loop *loop, const char *sockets_path);
void udp_free(struct udp **udp);
// From the address and port that the datagram names. A datagram the kernel refuses is counted: IKE retransmits.
void udp_send(struct udp *udp, const struct ike_datagram *datagram);

// The parts, as main.c made them.
struct service {
	struct loop *loop;
	struct health *health;
	struct ike *ike;
	struct ike_bus *bus;
	struct output *output;
	struct udp *udp;
	struct deadline deadline;
	struct ike_actions actions;
};

#endif
