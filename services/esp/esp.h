// The door into the dataplane's core: tables in, bursts of packets through. ESP tunnel mode (RFC 4303), plain and
// UDP-encapsulated.
//
// Threads. One control thread calls the table functions. Each worker thread owns one struct esp_worker. Workers read the tables
// under RCU (QSBR): between esp_worker_begin and esp_worker_quiescent all that a burst's outputs point to stays alive. An
// inbound SA belongs to worker SPI % workers, the one writer of its replay window; outbound sequence numbers are taken by any
// worker.
//
// A burst: esp_worker_begin, any number of esp_encap and esp_decap while esp_worker_ready, esp_worker_end, then the shell sends
// the datagrams and writes the frames, then esp_worker_quiescent.
#ifndef TWINSPAN_ESP_H
#define TWINSPAN_ESP_H

#include <string.h>
#include <sys/uio.h>

#include "common/base/address.h"
#include "common/base/instant.h"
#include "services/esp/counter.h"
#include "services/esp/limits.h"

enum {
	ESP_VNET_HEADER = 10,       // octets of struct virtio_net_hdr in front of a packet of vpn0
	ESP_FRAME_MAX = 65535 + 64, // the longest frame of vpn0 with its header
	ESP_TAILROOM = 32,          // octets after a frame or a received packet that the core may scribble on
	ESP_SEGMENTS = 64,          // packets in one UDP_SEGMENT send or UDP_GRO receive (the kernel's bound)
	ESP_DATAGRAM_MAX = 65000,   // octets in one UDP_SEGMENT send
};

struct esp;
struct esp_worker;

// One end of the outer path. Equal ones are equal octet by octet: what is not used is zero.
struct outer {
	uint8_t octets[16]; // network order
	uint16_t port;      // 0: protocol 50
	uint8_t length;     // octets of the address: 4, 16, or 0: none
	uint8_t unused;
};
static inline struct outer outer_ipv4(uint32_t address, uint16_t port) // address in network order
{
	struct outer outer = {.port = port, .length = 4};
	memcpy(outer.octets, &address, sizeof address);
	return outer;
}
static inline bool outer_equal(const struct outer *a, const struct outer *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

// What outlives the process of one SA pair: a record of a file that it maps. All zero is a free record. A cache line each,
// since every record has writers of its own.
struct esp_sequence_record {
	_Alignas(64) uint8_t fingerprint[16]; // of the SPI and the key that send
	uint64_t reserved;                    // outbound numbers below may have been used
	uint64_t received;                    // the highest inbound number that authenticated
	uint64_t stamp;                       // rises with every claim and release; 0: never used
	uint64_t claimed;                     // 1: an SA has it, or had it when the process was killed
};

struct esp_config {
	unsigned workers;
	uint16_t outer_mtu;                    // of the path between the two gateways
	bool openssl;                          // even where the processor has AVX
	uint64_t hash_seed;                    // of the five-tuple hash
	struct esp_sequence_record *sequences; // NULL: numbers are not kept (tests)
	size_t sequence_count;
};

struct esp *esp_new(const struct esp_config *config);
void esp_free(struct esp **esp); // after the workers
// Overwrites the keys of all SAs, while workers may still run: nothing leaves them any more. For the end of the process.
void esp_wipe(struct esp *esp);
const char *esp_crypto_name(const struct esp *esp);

// ---- tables. Rows come in any order: what is referred to before it exists is waited for. ----

// `context` comes back with every frame for this gateway's vpn0; it must live until esp_synchronize after the removal.
struct esp_gateway;
struct esp_gateway *esp_gateway_set(struct esp *esp, const char *id, bool allow_transit, void *context);
void esp_gateway_remove(struct esp *esp, const char *id);

enum { ESP_MSS_OFF = 0, ESP_MSS_AUTO = 0xffff };
struct esp_tunnel_row {
	const char *id, *gateway, *connection;
	struct address cloud_inside, customer_inside;
	uint16_t mss; // octets, ESP_MSS_AUTO, or ESP_MSS_OFF
};
void esp_tunnel_set(struct esp *esp, const struct esp_tunnel_row *row);
void esp_tunnel_remove(struct esp *esp, const char *id);

struct esp_group_row {
	const char *id;
	const char *const *tunnels; // the living members on this node
	size_t tunnel_count;
	const char *const *connections; // what may send from the group's prefixes
	size_t connection_count;
};
void esp_group_set(struct esp *esp, const struct esp_group_row *row);
void esp_group_remove(struct esp *esp, const char *id);

// `group` NULL: the route leads to an attachment, which is the kernel's.
void esp_route_set(struct esp *esp, const char *gateway, const struct prefix *destination, const char *group);
void esp_route_remove(struct esp *esp, const char *gateway, const struct prefix *destination);
// The kernel knows the routes to attachments, and a default route to vpn0. A route to tunnels that lies inside a route to an
// attachment, however deep, must be the kernel's too, or it would follow the shorter one: `wanted` when it begins to lie there,
// and not when it ceases to.
typedef void esp_beneath_fn(void *context, const char *gateway, const struct prefix *destination, bool wanted);
void esp_on_beneath(struct esp *esp, esp_beneath_fn *beneath, void *context);
// Whether vpn0 takes UDP super-frames (Linux 6.2 and later); until it is said, it does.
void esp_join_udp(struct esp *esp, bool may);
size_t esp_route_count(const struct esp *esp);

enum esp_encryption { ESP_AES_CBC_128, ESP_AES_CBC_192, ESP_AES_CBC_256, ESP_AES_GCM16_128, ESP_AES_GCM16_256 };
enum esp_integrity {
	ESP_INTEGRITY_NONE,
	ESP_HMAC_SHA1_96,
	ESP_HMAC_SHA2_256_128,
	ESP_HMAC_SHA2_384_192,
	ESP_HMAC_SHA2_512_256
};
struct esp_sa_keys {
	uint32_t spi;
	struct bytes encryption; // with the 4-octet salt last for GCM (RFC 4106 §8.1)
	struct bytes integrity;  // empty for GCM
};
// What a child SA may carry, of one end: addresses from first to last of one family, ports from first to last (0 to 65535: any;
// first > last: those that nobody can see).
struct esp_selector {
	struct address first, last;
	uint8_t protocol; // 0: any
	uint16_t first_port, last_port;
};
struct esp_sa_row {
	const char *tunnel;
	struct esp_sa_keys inbound, outbound;
	bool outbound_in_use;
	uint64_t generation; // the newest has the highest
	enum esp_encryption encryption;
	enum esp_integrity integrity;
	bool udp, extended;
	struct address local, remote;     // IPv4
	uint16_t local_port, remote_port; // of UDP encapsulation
	uint32_t replay_window;           // packets; 0: off
	// None of an end: everything of it.
	const struct esp_selector *local_selectors, *remote_selectors;
	size_t local_selector_count, remote_selector_count; // at most ESP_SELECTORS_MAX each
};
// NULL, or why the row cannot be taken. The keys, algorithms and extended numbers are the SA: a row that differs only in other
// things keeps its windows and counters. A changed replay_window holds from the next SA on.
const char *esp_sa_set(struct esp *esp, const struct esp_sa_row *row);
void esp_sa_remove(struct esp *esp, const char *tunnel, uint32_t inbound_spi);
size_t esp_sa_count(const struct esp *esp);
// Every SA that lives has been set once: records that an earlier process left for others may be given to new ones.
void esp_sa_complete(struct esp *esp);
// Waits until no worker can still see what was replaced or removed before the call, and frees it. Never from a worker.
void esp_synchronize(struct esp *esp);

// ---- what the workers counted ----
struct esp_sa_usage {
	const char *tunnel;
	uint32_t inbound_spi;
	uint64_t bytes_in, packets_in, bytes_out, packets_out; // of inner packets
	instant last_in;                                       // 0: none yet
	uint64_t sequence_out;                                 // the highest number taken
	struct outer seen;                                     // where the peer's packets come from; length 0: the SA's own
	bool resting;                                          // no packet for a while; the next one is told of at once
};
struct esp_tunnel_usage {
	const char *id;
	uint64_t packets_in, bytes_in, packets_out, bytes_out, drops;
};
void esp_each_sa(struct esp *esp, void (*each)(void *context, const struct esp_sa_usage *usage), void *context);
// A look at all SAs, twice a second while packets move: tells of those of which there is something to tell by now. 0: what is
// was told, and so it remains until the next packet.
size_t esp_look(struct esp *esp, void (*tell)(void *context, const struct esp_sa_usage *usage), void *context);
// `changed`: only those that differ from what the last such call told.
void esp_each_tunnel(struct esp *esp, bool changed, void (*each)(void *context, const struct esp_tunnel_usage *usage),
                     void *context);
uint64_t esp_drops(const struct esp *esp, enum esp_drop reason);
extern const char *const esp_drop_labels[ESP_DROPS];
extern const char *const esp_drop_help[ESP_DROPS];
// Octets of the longest inner packet that a tunnel takes now; 0 without an outbound SA.
unsigned esp_tunnel_mtu(const struct esp *esp, const char *id);

// ---- workers ----
// `seed`: randomness for the initialisation vectors of CBC.
struct esp_worker *esp_worker_new(struct esp *esp, unsigned index, const uint8_t seed[static 32]);
void esp_worker_free(struct esp_worker **worker);
// Called by the worker's own thread: before the first burst, around each sleep, and at its end.
void esp_worker_register(struct esp_worker *worker);
void esp_worker_unregister(struct esp_worker *worker);
void esp_worker_sleep(struct esp_worker *worker);
void esp_worker_wake(struct esp_worker *worker);

void esp_worker_begin(struct esp_worker *worker, instant now);
// There is room for one more frame of any kind or one more received datagram.
bool esp_worker_ready(const struct esp_worker *worker);
// One frame read from vpn0, virtio-net header first, with ESP_TAILROOM octets behind it; it is scribbled on.
void esp_encap(struct esp_worker *worker, struct esp_gateway *gateway, uint8_t *frame, size_t length);
struct esp_received {
	uint8_t *data; // ESP header first, with ESP_TAILROOM octets behind; decrypted in place, and must live until the frames
	               // are written
	size_t length;
	size_t segment;    // octets of each packet but the last (UDP_GRO); 0: there is one
	struct outer from; // outer source
	uint8_t tos;       // outer
};
void esp_decap(struct esp_worker *worker, const struct esp_received *received);
void esp_worker_end(struct esp_worker *worker);
void esp_worker_quiescent(struct esp_worker *worker);
// The shell could not deliver `count` packets.
void esp_worker_drop(struct esp_worker *worker, enum esp_drop reason, uint64_t count);

// ESP packets to one peer, all of `segment` octets but the last, which may be shorter.
struct esp_datagram {
	struct outer local, remote; // protocol 50: each packet is to be sent by itself
	uint8_t tos;
	uint16_t count;
	uint16_t segment;
	uint16_t iov_count;
	uint32_t length;
	struct iovec iov[ESP_SEGMENTS];
};
// One packet (or one super-packet) for vpn0, virtio-net header first.
struct esp_frame {
	struct esp_gateway *gateway;
	void *context; // the gateway's
	uint8_t header[ESP_VNET_HEADER];
	uint16_t packets; // that it was made of
	uint16_t iov_count;
	uint32_t length; // without `header`
	struct iovec iov[1 + ESP_SEGMENTS];
};
// Valid between esp_worker_end and the next esp_worker_begin.
const struct esp_datagram *esp_worker_datagrams(const struct esp_worker *worker, size_t *count);
const struct esp_frame *esp_worker_frames(const struct esp_worker *worker, size_t *count);

#endif
