// The shell of ike: what main.c, bus.c and the net_*.c files share. The core (ike.h) decides; these carry out.
#ifndef TWINSPAN_IKE_SHELL_H
#define TWINSPAN_IKE_SHELL_H

#include "common/bus/bus.h"
#include "common/io/health.h"
#include "common/io/loop.h"
#include "services/ike/crypto/seal.h"
#include "services/ike/ike.h"

struct service;

// ---- bus_step.c ----
// Gives the core one event and takes what it answers; service_settle carries it out, once for a batch of steps.
void service_step(struct service *service, const struct ike_event *event);
void service_settle(struct service *service);

// ---- bus.c ----
struct ike_bus;
// Owns tunnel_status, tunnel_event, child_sa and ike_sa; replicates what esp holds first, and when that is restored, the
// tunnels.
struct ike_bus *ike_bus_new(struct service *service, struct bus *bus, const char *node, const struct seal_key *seal_key);
void ike_bus_wipe(struct ike_bus *bus); // overwrites the secrets it holds, for the end of the process
void ike_bus_free(struct ike_bus **bus);
// The sequences that esp must have applied before a datagram may leave.
struct barrier {
	uint64_t child_sa, ike_sa;
};
bool ike_bus_passed(const struct ike_bus *bus, const struct barrier *barrier);

// ---- bus_publish.c ----
// Takes the actions that are rows (all but the datagrams); what it keeps of them is gone from there.
void ike_bus_take(struct ike_bus *bus, struct ike_actions *actions);
// Publishes what was taken, as one change of each table: when esp needs some of it at once or datagrams wait for it now, else a
// moment later.
struct barrier ike_bus_commit(struct ike_bus *bus, bool awaited);

// ---- net_output.c ----
struct output;
struct output *output_new(struct service *service);
void output_free(struct output **output);
// Takes the datagrams of one step: they wait for output_release, and then for the barrier.
void output_take(struct output *output, struct ike_actions *actions);
bool output_awaits(const struct output *output); // something of it
// What was taken since the last time belongs to this barrier, but for what need not wait.
void output_release(struct output *output, struct barrier barrier);
// Sends what the barrier lets go now. Called when an applied mark moves.
void output_flush(struct output *output);

// ---- net_udp.c ----
struct udp;
struct udp *udp_new(struct service *service, struct loop *loop, const char *sockets_path);
void udp_free(struct udp **udp);
enum { SEND_BATCH = 64 };
// From the addresses and ports that the datagrams name, at most SEND_BATCH of them. What the kernel refuses is counted: IKE
// retransmits.
void udp_send(struct udp *udp, const struct ike_datagram *const datagrams[], size_t count);

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
