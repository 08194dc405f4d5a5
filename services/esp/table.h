// The dataplane's tables as workers see them. What is _Atomic here is changed while they read; what it points to is never
// changed after it was published, and freed a grace period after it was replaced. All else of an object is the control
// thread's.
#ifndef TWINSPAN_ESP_TABLE_H
#define TWINSPAN_ESP_TABLE_H

#include <stdatomic.h>

#include "common/base/map.h"
#include "services/esp/crypto.h"
#include "services/esp/esp.h"
#include "services/esp/fib.h"
#include "services/esp/replay.h"
#include "services/esp/selector.h"
#include "services/esp/sequence.h"

#define load(pointer) atomic_load_explicit(&(pointer), memory_order_acquire)
#define publish(pointer, value) atomic_store_explicit(&(pointer), value, memory_order_release)

// A counter with one writer: no locked instruction, and a reader on another thread sees whole numbers.
typedef _Atomic uint64_t counter;
static inline void count(counter *at, uint64_t n)
{
	atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + n, memory_order_relaxed);
}
static inline uint64_t counted(const counter *at)
{
	return atomic_load_explicit(at, memory_order_relaxed);
}

struct sa;
struct esp_tunnel;

// A name that only has to be equal or not (a VPN connection): numbers are never given twice.
struct name {
	size_t references;
	uint32_t number;
	char text[];
};

// ---- border gateway ----
struct inside_pair {
	uint32_t customer, cloud; // network order
	struct esp_tunnel *tunnel;
};
// The inside addresses of a gateway's tunnels.
struct inside {
	size_t count;
	struct inside_pair at[]; // sorted by customer address
};
struct esp_gateway {
	char *id;
	size_t references; // of tunnels and routes, and 1 while the row is there
	bool known;
	_Atomic bool transit;
	_Atomic(void *) context; // NULL: no vpn0 yet
	_Atomic(struct inside *) inside;
	struct fib *fib; // values are target numbers
	// Routes to attachments by length, of IPv4 and IPv6.
	uint32_t attachments[2][129];
};

// ---- tunnel ----
struct tunnel_config {
	struct esp_gateway *gateway;
	struct name *connection;
	uint32_t connection_number;
	uint32_t cloud, customer; // inside addresses, network order; 0: none
	uint16_t mss;
};
struct tunnel_counters {
	_Alignas(64) counter packets_in;
	counter bytes_in, packets_out, bytes_out, drops;
	instant icmp_refilled; // the worker's own
	unsigned icmp_tokens;
};
struct esp_tunnel {
	char *id;
	size_t references;                      // of groups and SAs, and 1 while the row is there
	uint64_t seed;                          // for choosing among the members of a group
	_Atomic(struct tunnel_config *) config; // NULL while the row is not there
	_Atomic(struct sa *) outbound;          // the newest in use
	struct sa *sas;                         // all of the tunnel, the newest first
	struct tunnel_counters *counters;       // of each worker
	struct esp_tunnel_usage told;           // the control thread's; id NULL: never
};

// ---- next-hop group ----
struct members {
	size_t tunnel_count, connection_count;
	struct esp_tunnel **tunnels;
	uint32_t *connections;
	struct name **names; // of `connections`
};
struct esp_group {
	char *id;
	size_t references; // of routes, and 1 while the row is there
	bool known;
	uint32_t number;
	_Atomic(struct members *) members; // NULL while the row is not there
};
// Groups by number. A route's value in the FIB is a number; a number is given again only after a grace period.
enum { TARGET_NONE = 0, TARGET_ATTACHMENT = 1, TARGET_FIRST = 2 };
struct targets {
	size_t capacity;
	_Atomic(struct esp_group *) at[];
};

// ---- security association pair ----
struct path {
	struct outer local, remote;
};
struct sa_out { // of one worker
	_Alignas(64) counter packets;
	counter bytes;
	uint64_t burst;    // in which `datagram` was opened
	uint32_t datagram; // index of the one that takes more
};
// Where the peer's packets come from when that is not the SA's path. One worker writes, the control thread reads: an odd
// version is being written.
struct seen {
	_Atomic uint32_t version;
	_Atomic uint64_t words[3];
};
// What the control thread remembers of an SA's usage from one look to the next.
struct sa_report {
	struct esp_sa_usage told;         // tunnel NULL: never
	uint64_t packets_in, packets_out; // at the last look
	uint64_t answered;                // packets that had gone out when the peer was heard last
	unsigned silent, still;           // looks: with packets unanswered, with no packet at all
	unsigned waited;                  // looks since there is something to tell
	bool told_silent;
};
struct sa {
	// what nobody writes once it is published
	struct esp_tunnel *tunnel;
	struct suite suite;
	uint32_t inbound_spi, outbound_spi;
	bool extended;
	struct cipher *open, *seal;
	struct sa_out *out;                 // of each worker
	struct esp_sequence_record *record; // NULL: not kept
	_Atomic(struct path *) path;
	_Atomic uint16_t mtu; // octets of the longest inner packet
	_Atomic uint8_t any;  // octets of the addresses of the families of which it carries everything: selectors_any
	_Atomic bool in_use;  // may send
	_Atomic(struct selectors *) selectors; // NULL: it carries everything
	_Atomic(struct sa *) next;             // of the tunnel: the next older one
	// inbound: written by worker `inbound_spi % workers` only
	_Alignas(64) counter packets_in;
	counter bytes_in;
	_Atomic instant last_in;
	struct seen seen;
	struct replay replay;
	// outbound: by all workers
	_Alignas(64) struct sequence sequence;
	// the control thread's
	_Alignas(64) uint8_t fingerprint[32]; // of all that makes it this SA
	uint8_t fingerprint_out[16];          // of what its outbound numbers belong to
	uint64_t generation;
	struct sa_report report;
};
// All packets of this family: nothing more has to be looked at.
static inline bool sa_carries_all(const struct sa *sa, const struct inner *inner)
{
	return (atomic_load_explicit(&sa->any, memory_order_relaxed) & inner->octets) != 0;
}
// Inbound SAs by SPI: open addressing, at most half full.
struct spi_table {
	size_t mask;
	_Atomic(struct sa *) at[];
};

struct worker_counters {
	_Alignas(64) counter drops[ESP_DROPS];
};

struct esp {
	struct esp_config config;
	struct crypto_engine *engine;
	struct sequence_file sequences;
	struct worker_counters *counters;
	_Atomic bool keeps_udp_apart;
	_Atomic bool wiped; // keys are being overwritten: what is sealed now must not leave
	struct map *gateways, *tunnels, *groups, *connections;
	uint32_t names;
	size_t routes;
	esp_beneath_fn *beneath;
	void *beneath_context;
	// groups' numbers
	_Atomic(struct targets *) targets;
	uint32_t targets_used;
	uint32_t *free_numbers, *waiting_numbers; // waiting for a grace period
	size_t free_count, waiting_count, numbers_capacity;
	// SAs
	_Atomic(struct spi_table *) spis;
	struct sa *tombstone; // marks a slot that was used
	size_t spi_used, spi_removed, sas;
};

// Frees `object` with `fn` when no worker can see it any more.
void retire(void *object, void (*fn)(void *object));
// A reference each; an object is made when it is first referred to.
struct esp_gateway *gateway_hold(struct esp *esp, const char *id);
void gateway_release(struct esp *esp, struct esp_gateway *gateway);
struct esp_group *group_hold(struct esp *esp, const char *id);
void group_release(struct esp *esp, struct esp_group *group);
struct esp_tunnel *tunnel_hold(struct esp *esp, const char *id); // finds or makes, and refers to it
void tunnel_release(struct esp *esp, struct esp_tunnel *tunnel);
void sa_free_all(struct esp *esp);
struct sa *sa_find(const struct esp *esp, uint32_t spi);

#endif
