// From the network to vpn0: RFC 4303 §3.4. All packets of a batch are decrypted before the first is looked into, so that the
// job queue of CBC has something to work on; windows and counters move after authentication only.
#include "common/base/invariant.h"
#include "services/esp/checksum.h"
#include "services/esp/octets.h"
#include "services/esp/worker.h"

// Finds the SA and checks what can be checked before decryption. NULL when the packet was dropped.
static struct sa *admit(struct esp_worker *worker, uint8_t *packet, size_t length, struct crypto_op *op)
{
	enum esp_drop reason;
	struct sa *sa = NULL;
	if (length == 1 && packet[0] == 0xff) {
		reason = ESP_DROP_KEEPALIVE;
	} else if (length < ESP_HEADER) {
		reason = ESP_DROP_SHORT;
	} else if (load32(packet) < 256) {
		reason = ESP_DROP_NON_ESP; // 0 is IKE's marker, 1 to 255 are reserved
	} else if (!(sa = sa_find(worker->esp, load32(packet)))) {
		reason = ESP_DROP_NO_SA;
	} else if (load32(packet) % worker->esp->config.workers != worker->index) {
		reason = ESP_DROP_WRONG_WORKER;
	} else {
		const struct suite *suite = &sa->suite;
		size_t around = ESP_HEADER + (size_t)suite->iv + suite->icv;
		uint32_t low = load32(packet + 4);
		if (length < around + suite->align || (length - around) % suite->align != 0) {
			reason = ESP_DROP_SHORT;
		} else {
			op->cipher = sa->open;
			op->esp = packet;
			op->length = (uint32_t)(length - around);
			op->sequence = sa->extended ? replay_infer(&sa->replay, low) : low;
			if (replay_check(&sa->replay, op->sequence)) {
				return sa;
			}
			reason = ESP_DROP_REPLAY;
		}
	}
	worker_drop(worker, sa ? sa->tunnel : NULL, reason, 1);
	return NULL;
}

// Takes padding and next header off (RFC 4303 §2.4). The payload's length, or 0 when it was dropped.
static uint32_t take_trailer(struct esp_worker *worker, const struct sa *sa, const uint8_t *payload, uint32_t length,
                             uint8_t *next_header)
{
	uint32_t padding = payload[length - 2];
	*next_header = payload[length - 1];
	if (padding + 2 > length) {
		worker_drop(worker, sa->tunnel, ESP_DROP_PADDING, 1);
		return 0;
	}
	const uint8_t *pad = payload + length - 2 - padding;
	for (uint32_t i = 0; i < padding; i++) {
		if (pad[i] != i + 1) {
			worker_drop(worker, sa->tunnel, ESP_DROP_PADDING, 1);
			return 0;
		}
	}
	enum esp_drop reason;
	if (*next_header == PROTOCOL_NONE) {
		reason = ESP_DROP_DUMMY;
	} else if (*next_header != PROTOCOL_IPV4 && *next_header != PROTOCOL_IPV6) {
		reason = ESP_DROP_NEXT_HEADER;
	} else if (length == padding + 2) {
		reason = ESP_DROP_INNER_MALFORMED;
	} else {
		return length - padding - 2;
	}
	worker_drop(worker, sa->tunnel, reason, 1);
	return 0;
}

// RFC 6040 §4.2. false: drop.
static bool merge_ecn(uint8_t *packet, struct inner *inner, uint8_t outer_tos)
{
	unsigned outer = outer_tos & 3, mark = inner->tos & 3;
	if (outer == 3 && mark == 0) {
		return false;
	}
	unsigned result = mark == 0 ? 0 : outer == 3 ? 3 : mark == 2 && outer == 1 ? 1 : mark;
	if (result == mark) {
		return true;
	}
	uint8_t tos = (uint8_t)((inner->tos & ~3u) | result);
	if (inner->octets == 4) {
		uint16_t before = load16(packet);
		packet[1] = tos;
		store16(packet + 10, checksum_update(load16(packet + 10), before, load16(packet)));
	} else {
		packet[1] = (uint8_t)((packet[1] & 0x0f) | tos << 4);
	}
	inner->tos = tos;
	return true;
}

// The last addresses that passed are not looked up again in this burst. An ICMP error from a router that no prefix covers is
// judged by what it is about, so it vouches for no other packet.
static enum esp_drop admit_inner(struct esp_worker *worker, const struct sa *sa, const struct tunnel_config *config,
                                 const uint8_t *packet, const struct inner *inner)
{
	bool ipv4 = inner->octets == 4;
	if (ipv4 && worker->checked_sa == sa && worker->checked_pair == raw64(packet + 12)) {
		return ESP_DROPS;
	}
	enum esp_drop reason = inbound_admit(worker->esp, config, inner);
	if (reason == ESP_DROP_INNER_SOURCE && inbound_error_about_own(worker->esp, config, packet, inner)) {
		return ESP_DROPS;
	}
	if (ipv4 && reason == ESP_DROPS) {
		worker->checked_sa = sa;
		worker->checked_pair = raw64(packet + 12);
	}
	return reason;
}

static void deliver(struct esp_worker *worker, struct sa *sa, uint8_t *payload, uint32_t length, uint8_t outer_tos)
{
	uint8_t next_header;
	length = take_trailer(worker, sa, payload, length, &next_header);
	if (length == 0) {
		return;
	}
	struct inner inner;
	if (!inner_parse(payload, length, &inner) || (inner.octets == 4) != (next_header == PROTOCOL_IPV4)) {
		worker_drop(worker, sa->tunnel, ESP_DROP_INNER_MALFORMED, 1);
		return;
	}
	count(&sa->bytes_in, inner.length);
	if (!merge_ecn(payload, &inner, outer_tos)) {
		worker_drop(worker, sa->tunnel, ESP_DROP_ECN, 1);
		return;
	}
	if (!sa_carries_all(sa, &inner) && !inbound_selected(load(sa->selectors), payload, &inner)) {
		worker_drop(worker, sa->tunnel, ESP_DROP_INNER_SELECTORS, 1); // RFC 4301 §5.2
		return;
	}
	const struct tunnel_config *config = load(sa->tunnel->config);
	void *context = config ? load(config->gateway->context) : NULL;
	if (!context) {
		worker_drop(worker, sa->tunnel, ESP_DROP_NO_TUNNEL, 1);
		return;
	}
	enum esp_drop reason = admit_inner(worker, sa, config, payload, &inner);
	if (reason != ESP_DROPS) {
		worker_drop(worker, sa->tunnel, reason, 1);
		return;
	}
	if (worker->frame_count == WORKER_FRAMES) {
		worker_drop(worker, sa->tunnel, ESP_DROP_NO_SPACE, 1);
		return;
	}
	if (inner.protocol == PROTOCOL_TCP && inner.transport > 0 && (payload[inner.header + 13] & TCP_SYN)) {
		uint16_t mss = tunnel_mss(config, sa, &inner);
		if (mss > 0) {
			inner_clamp_mss(payload, &inner, mss, true);
		}
	}
	struct tunnel_counters *counters = &sa->tunnel->counters[worker->index];
	count(&counters->packets_in, 1);
	count(&counters->bytes_in, inner.length);
	coalesce_add(worker, config->gateway, context, payload, &inner);
}

// Where the newest packet came from; a late one may have been under way before the peer moved.
static void note_source(struct sa *sa, const struct outer *from)
{
	uint64_t words[3] = {0};
	memcpy(words, from, sizeof *from);
	bool same = true;
	for (unsigned i = 0; i < 3; i++) {
		same &= words[i] == atomic_load_explicit(&sa->seen.words[i], memory_order_relaxed);
	}
	if (same) {
		return;
	}
	uint32_t version = atomic_load_explicit(&sa->seen.version, memory_order_relaxed);
	invariant(version % 2 == 0);
	atomic_store_explicit(&sa->seen.version, version + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	for (unsigned i = 0; i < 3; i++) {
		atomic_store_explicit(&sa->seen.words[i], words[i], memory_order_relaxed);
	}
	atomic_store_explicit(&sa->seen.version, version + 2, memory_order_release);
}

// What is done once a packet has authenticated. false when it came twice in this batch.
static bool accept(struct esp_worker *worker, struct sa *sa, const struct crypto_op *op, const struct esp_received *received)
{
	if (!op->ok) {
		worker_drop(worker, sa->tunnel, ESP_DROP_AUTHENTICATION, 1);
		return false;
	}
	bool newest = op->sequence > sa->replay.highest;
	if (!replay_accept(&sa->replay, op->sequence)) {
		worker_drop(worker, sa->tunnel, ESP_DROP_REPLAY, 1);
		return false;
	}
	count(&sa->packets_in, 1);
	atomic_store_explicit(&sa->last_in, worker->now, memory_order_relaxed);
	if (newest) {
		// Before the packet can leave: a process killed after that must not take it again.
		if (sa->record) {
			__atomic_store_n(&sa->record->received, op->sequence, __ATOMIC_RELAXED);
		}
		note_source(sa, &received->from);
	}
	return true;
}

static void process_batch(struct esp_worker *worker, const struct esp_received *received, unsigned count_)
{
	crypto_finish(worker->crypto);
	for (unsigned i = 0; i < count_; i++) {
		const struct crypto_op *op = &worker->ops[i];
		struct sa *sa = worker->op_sas[i];
		if (accept(worker, sa, op, received)) {
			deliver(worker, sa, op->esp + ESP_HEADER + sa->suite.iv, op->length, received->tos);
		}
	}
}

void esp_decap(struct esp_worker *worker, const struct esp_received *received)
{
	size_t step = received->segment > 0 ? received->segment : received->length;
	unsigned batch = 0;
	if (received->length == 0) {
		worker_drop(worker, NULL, ESP_DROP_SHORT, 1);
	}
	for (size_t at = 0; at < received->length; at += step) {
		size_t length = received->length - at < step ? received->length - at : step;
		struct sa *sa = admit(worker, received->data + at, length, &worker->ops[batch]);
		if (!sa) {
			continue;
		}
		worker->op_sas[batch] = sa;
		crypto_open(worker->crypto, &worker->ops[batch]);
		if (++batch == DECAP_BATCH) {
			process_batch(worker, received, batch);
			batch = 0;
		}
	}
	process_batch(worker, received, batch);
}
