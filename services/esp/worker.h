// One worker's burst: its buffers and what it is about to send and write. For the files of the packet path.
#ifndef TWINSPAN_ESP_WORKER_H
#define TWINSPAN_ESP_WORKER_H

#include "services/esp/inner.h"
#include "services/esp/table.h"

enum {
	WORKER_ARENA = 1 << 20,
	WORKER_DATAGRAMS = 512,
	WORKER_FRAMES = 640,
	WORKER_FLOWS = 64,
	ENCAP_SEGMENTS = 2048, // of one frame of vpn0; TCP's smallest MSS makes 1,400
	// Octets around a segment's payload: IP and TCP with all their options, ESP header, IV, padding with its two octets,
	// ICV.
	SEGMENT_AROUND = 120 + 8 + 16 + 17 + 32,
	ENCAP_ARENA =
	    65536 + ENCAP_SEGMENTS * SEGMENT_AROUND + 1024, // octets that one frame may become, an ICMP error among them
	ENCAP_DATAGRAMS = 2 * ESP_SEGMENTS + 16,
	DECAP_FRAMES = ESP_SEGMENTS + 2, // that one received datagram may become
	DECAP_BATCH = 32,
	SEAL_TAIL = 24, // octets of a trailer with its padding, at most
	IPV6_MTU_MIN = 1280,
};

// How a frame for vpn0 came about, for putting the next segment of its flow behind it.
struct merge {
	struct inner inner; // of the first packet
	uint8_t *packet;
	uint32_t hash;
	uint32_t next_sequence; // TCP
	uint16_t segment;       // octets of payload in each packet but the last
	uint16_t headers;       // IP and transport
	uint16_t next_id;       // IPv4 identification that continues it
	uint8_t flags;          // TCP flags of the last packet
	bool open;              // takes another segment
	bool verified;          // the first packet's checksums are right
};

struct esp_worker {
	struct esp *esp;
	unsigned index;
	struct crypto *crypto;
	counter *drops;
	instant now;
	uint64_t burst;

	uint8_t *arena; // ESP packets, and replies to vpn0
	size_t arena_used;
	struct esp_datagram *datagrams;
	size_t datagram_count;
	struct esp_frame *frames;
	struct merge *merges; // of `frames`
	size_t frame_count;
	uint16_t flows[WORKER_FLOWS]; // 1 + index of the frame that takes the flow's next segment

	// The last addresses that passed the checks of this SA in this burst.
	const struct sa *checked_sa;
	uint64_t checked_pair;

	struct crypto_op ops[DECAP_BATCH];
	struct sa *op_sas[DECAP_BATCH];
	uint8_t op_tags[DECAP_BATCH][2 * CRYPTO_ICV_MAX];
};

void worker_drop(struct esp_worker *worker, struct esp_tunnel *tunnel, enum esp_drop reason, uint64_t packets);

// outbound.c: which tunnel and SA a packet from vpn0 takes, or why it goes nowhere. Changes nothing.
struct outbound {
	struct sa *sa;             // NULL: dropped
	enum esp_drop reason;      // ESP_DROPS: not dropped
	struct esp_tunnel *tunnel; // whose drop it is, or NULL: nobody's
};
struct outbound outbound_find(const struct esp *esp, const struct esp_gateway *gateway, const uint8_t *packet,
                              const struct inner *inner);

// seal.c: one run of packets of one SA.
struct seal_run {
	struct sa *sa;
	uint64_t sequence; // of the next packet
	uint8_t next_header, tos;
	uint64_t bytes, packets; // so far
};
bool seal_begin(struct esp_worker *worker, struct sa *sa, const struct inner *inner, uint32_t packets, struct seal_run *run);
// Where the caller should put a packet of `length` octets that is not in place yet.
uint8_t *seal_space(struct esp_worker *worker, const struct seal_run *run);
// Encrypts one inner packet and puts it behind the others. The octets after it are used and restored.
void seal_packet(struct esp_worker *worker, struct seal_run *run, uint8_t *packet, uint32_t length);
void seal_end(struct esp_worker *worker, struct seal_run *run);

// segment.c: a super-frame becomes packets of at most the tunnel's MTU.
struct offload {
	bool partial; // checksum to be finished
	uint16_t start, offset;
	uint16_t segment; // 0: not a super-frame
	uint32_t packets; // that the frame stands for
};
bool offload_read(const uint8_t *frame, const struct inner *inner, struct offload *out);
void offload_finish(uint8_t *packet, const struct inner *inner, const struct offload *offload);
void segment_seal(struct esp_worker *worker, struct sa *sa, uint8_t *packet, const struct inner *inner,
                  const struct offload *offload);
// fragment.c: fragmentation before encryption (RFC 4301 §8.2, RFC 791 §3.2); IPv4 without DF.
void fragment_seal(struct esp_worker *worker, struct sa *sa, const uint8_t *packet, const struct inner *inner);
// icmp.c: "fragmentation needed" (RFC 792, RFC 1191), "packet too big" (RFC 4443 §3.2), written back to vpn0. false: the
// tunnel's rate is used up.
bool icmp_too_big(struct esp_worker *worker, struct esp_gateway *gateway, struct esp_tunnel *tunnel, unsigned mtu,
                  const uint8_t *packet, const struct inner *inner);
// coalesce.c: a packet for vpn0, joined to its flow's frame where that gives the same packets again when it is split.
void coalesce_add(struct esp_worker *worker, struct esp_gateway *gateway, void *context, uint8_t *packet,
                  const struct inner *inner);
void coalesce_finish(struct esp_worker *worker);
struct esp_frame *frame_add(struct esp_worker *worker, struct esp_gateway *gateway, void *context, uint8_t *packet,
                            uint32_t length);
// inbound.c: may this tunnel send that packet there? ESP_DROPS when it may, else why not. Changes nothing.
enum esp_drop inbound_admit(const struct esp *esp, const struct tunnel_config *config, const struct inner *inner);
// Do the SA's traffic selectors have the packet, or, when it is an ICMP error, the packet that it is about (RFC 4301 §6)?
bool inbound_selected(const struct selectors *selectors, const uint8_t *packet, const struct inner *inner);
// Is it an ICMP error of a router that no route covers, about a packet that was sent to the tunnel's connection (RFC 4301 §6)?
bool inbound_error_about_own(const struct esp *esp, const struct tunnel_config *config, const uint8_t *packet,
                             const struct inner *inner);
// Octets of the longest packet of this family that the tunnel takes. An IPv6 link takes 1,280 (RFC 8200 §5): where the path
// does not, the outer packet is fragmented.
static inline unsigned tunnel_mtu(const struct sa *sa, const struct inner *inner)
{
	unsigned mtu = atomic_load_explicit(&sa->mtu, memory_order_relaxed);
	return inner->octets == 16 && mtu < IPV6_MTU_MIN ? IPV6_MTU_MIN : mtu;
}
uint16_t tunnel_mss(const struct tunnel_config *config, const struct sa *sa, const struct inner *inner); // 0: leave it

static inline bool is_link_local(const uint8_t *address)
{
	return address[0] == 169 && address[1] == 254;
}

#endif
