// Encryption of runs of packets into the worker's arena, and their grouping into segmented sends: as long as packets of one SA
// have the same size and mark they go out in one call, and the last may be shorter.
#include <string.h>

#include "common/base/invariant.h"
#include "services/esp/octets.h"
#include "services/esp/worker.h"

bool seal_begin(struct esp_worker *worker, struct sa *sa, const struct inner *inner, uint32_t packets, struct seal_run *run)
{
	*run = (struct seal_run){
	    .sa = sa,
	    .sequence = sequence_take(&sa->sequence, packets),
	    .next_header = inner->octets == 4 ? PROTOCOL_IPV4 : PROTOCOL_IPV6,
	    .tos = inner->tos, // DSCP copied (RFC 4301 §5.1.2.1), ECN copied: normal mode (RFC 6040 §4.1)
	};
	invariant(worker->arena_used + inner->length + (size_t)packets * SEGMENT_AROUND <= WORKER_ARENA);
	if (run->sequence == 0) {
		worker_drop(worker, sa->tunnel, ESP_DROP_SEQUENCE_EXHAUSTED, packets);
		return false;
	}
	return true;
}

uint8_t *seal_space(struct esp_worker *worker, const struct seal_run *run)
{
	return worker->arena + worker->arena_used + ESP_HEADER + run->sa->suite.iv;
}

// A new segmented send to where the SA's path leads now.
static struct esp_datagram *open_datagram(struct esp_worker *worker, const struct seal_run *run, uint32_t size)
{
	struct sa_out *out = &run->sa->out[worker->index];
	const struct path *path = load(run->sa->path);
	out->burst = worker->burst;
	out->datagram = (uint32_t)worker->datagram_count;
	invariant(worker->datagram_count < WORKER_DATAGRAMS);
	struct esp_datagram *datagram = &worker->datagrams[worker->datagram_count++];
	datagram->local = path->local;
	datagram->remote = path->remote;
	datagram->tos = run->tos;
	datagram->count = 0;
	datagram->segment = (uint16_t)size;
	datagram->iov_count = 0;
	datagram->length = 0;
	return datagram;
}

static void append(struct esp_worker *worker, const struct seal_run *run, uint8_t *packet, uint32_t size)
{
	struct sa_out *out = &run->sa->out[worker->index];
	struct esp_datagram *datagram = out->burst == worker->burst ? &worker->datagrams[out->datagram] : NULL;
	if (!datagram || datagram->count == ESP_SEGMENTS || size > datagram->segment || datagram->tos != run->tos ||
	    datagram->length + size > ESP_DATAGRAM_MAX || datagram->length % datagram->segment != 0) {
		datagram = open_datagram(worker, run, size);
	}
	struct iovec *last = &datagram->iov[datagram->iov_count];
	if (datagram->iov_count > 0 && (uint8_t *)last[-1].iov_base + last[-1].iov_len == packet) {
		last[-1].iov_len += size;
	} else {
		*last = (struct iovec){packet, size};
		datagram->iov_count++;
	}
	datagram->count++;
	datagram->length += size;
}

// RFC 4303 §2.4, §2.5, §2.6: padding 1, 2, 3, ..., its length, the next header. Returns the octets of it all.
static uint32_t put_trailer(uint8_t *at, uint32_t length, unsigned align, uint8_t next_header)
{
	uint32_t padding = (align - (length + 2) % align) % align;
	if (padding < 6) {
		// One store: what reads it next, the cipher, reads it at once.
		uint64_t octets = 0x0504030201 & (((uint64_t)1 << 8 * padding) - 1);
		octets |= ((uint64_t)padding | (uint64_t)next_header << 8) << 8 * padding;
		memcpy(at, &octets, sizeof octets);
	} else {
		static const uint8_t run[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
		memcpy(at, run, sizeof run);
		at[padding] = (uint8_t)padding;
		at[padding + 1] = next_header;
	}
	return padding + 2;
}

void seal_packet(struct esp_worker *worker, struct seal_run *run, uint8_t *packet, uint32_t length)
{
	const struct sa *sa = run->sa;
	uint8_t *esp = worker->arena + worker->arena_used;
	uint8_t *payload = esp + ESP_HEADER + sa->suite.iv;
	if (cipher_is_deferred(sa->seal) && packet != payload) {
		memcpy(payload, packet, length);
		packet = payload;
	}
	uint8_t behind[SEAL_TAIL];
	memcpy(behind, packet + length, sizeof behind);
	uint32_t trailer = put_trailer(packet + length, length, sa->suite.align, run->next_header);
	crypto_seal(worker->crypto, &(struct crypto_op){
	                                .cipher = sa->seal,
	                                .esp = esp,
	                                .plain = packet,
	                                .length = length + trailer,
	                                .sequence = run->sequence,
	                                .spi = sa->outbound_spi,
	                            });
	if (packet != payload) {
		memcpy(packet + length, behind, sizeof behind);
	}
	run->sequence++;
	run->packets++;
	run->bytes += length;
	uint32_t size = (uint32_t)(payload - esp) + length + trailer + sa->suite.icv;
	worker->arena_used += size;
	append(worker, run, esp, size);
}

void seal_end(struct esp_worker *worker, struct seal_run *run)
{
	struct sa_out *out = &run->sa->out[worker->index];
	struct tunnel_counters *counters = &run->sa->tunnel->counters[worker->index];
	count(&out->packets, run->packets);
	count(&out->bytes, run->bytes);
	count(&counters->packets_out, run->packets);
	count(&counters->bytes_out, run->bytes);
}
