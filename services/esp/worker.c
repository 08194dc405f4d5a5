// The frame of a burst: registration with RCU, buffers, drops. The packet path itself is in encap.c and decap.c.
#include "services/esp/worker.h"

#include <stdlib.h>
#include <string.h>
#include <urcu-qsbr.h>

#include "common/base/alloc.h"
#include "services/esp/grace.h"

static void *aligned(size_t size)
{
	void *memory = aligned_alloc(64, (size + 63) / 64 * 64);
	if (!memory) {
		abort();
	}
	memset(memory, 0, size);
	return memory;
}

struct esp_worker *esp_worker_new(struct esp *esp, unsigned index, const uint8_t seed[static 32])
{
	struct esp_worker *worker = aligned(sizeof *worker);
	worker->esp = esp;
	worker->index = index;
	worker->crypto = crypto_new(esp->engine, index, seed);
	worker->drops = esp->counters[index].drops;
	worker->arena = aligned(WORKER_ARENA);
	worker->datagrams = aligned(WORKER_DATAGRAMS * sizeof *worker->datagrams);
	worker->frames = aligned(WORKER_FRAMES * sizeof *worker->frames);
	worker->merges = aligned(WORKER_FRAMES * sizeof *worker->merges);
	for (unsigned i = 0; i < DECAP_BATCH; i++) {
		worker->ops[i].tags = worker->op_tags[i];
	}
	return worker;
}

void esp_worker_free(struct esp_worker **worker)
{
	if (*worker) {
		crypto_free(&(*worker)->crypto);
		free((*worker)->arena);
		free((*worker)->datagrams);
		free((*worker)->frames);
		free((*worker)->merges);
		free(*worker);
		*worker = NULL;
	}
}

void esp_worker_register(struct esp_worker *worker)
{
	(void)worker;
	rcu_register_thread();
}

void esp_worker_unregister(struct esp_worker *worker)
{
	(void)worker;
	grace_rests();
	rcu_unregister_thread();
}

void esp_worker_sleep(struct esp_worker *worker)
{
	(void)worker;
	grace_rests();
	rcu_thread_offline();
}

void esp_worker_wake(struct esp_worker *worker)
{
	(void)worker;
	rcu_thread_online();
}

void esp_worker_quiescent(struct esp_worker *worker)
{
	(void)worker;
	grace_rests();
	rcu_quiescent_state();
}

void esp_worker_begin(struct esp_worker *worker, instant now)
{
	worker->now = now;
	worker->burst++;
	worker->arena_used = 0;
	worker->datagram_count = 0;
	worker->frame_count = 0;
	worker->checked_sa = NULL;
	memset(worker->flows, 0, sizeof worker->flows);
}

bool esp_worker_ready(const struct esp_worker *worker)
{
	return worker->arena_used + ENCAP_ARENA <= WORKER_ARENA &&
	       worker->datagram_count + ENCAP_DATAGRAMS <= WORKER_DATAGRAMS &&
	       worker->frame_count + DECAP_FRAMES <= WORKER_FRAMES;
}

void esp_worker_end(struct esp_worker *worker)
{
	crypto_finish(worker->crypto);
	coalesce_finish(worker);
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&worker->esp->wiped, memory_order_relaxed)) {
		worker->datagram_count = 0; // packets under a key of zeros are packets in the clear
		worker->frame_count = 0;
	}
}

const struct esp_datagram *esp_worker_datagrams(const struct esp_worker *worker, size_t *count)
{
	*count = worker->datagram_count;
	return worker->datagrams;
}

const struct esp_frame *esp_worker_frames(const struct esp_worker *worker, size_t *count)
{
	*count = worker->frame_count;
	return worker->frames;
}

void esp_worker_drop(struct esp_worker *worker, enum esp_drop reason, uint64_t packets)
{
	count(&worker->drops[reason], packets);
}

void worker_drop(struct esp_worker *worker, struct esp_tunnel *tunnel, enum esp_drop reason, uint64_t packets)
{
	count(&worker->drops[reason], packets);
	if (tunnel) {
		count(&tunnel->counters[worker->index].drops, packets);
	}
}

struct esp_frame *frame_add(struct esp_worker *worker, struct esp_gateway *gateway, void *context, uint8_t *packet,
                            uint32_t length)
{
	if (worker->frame_count == WORKER_FRAMES) {
		return NULL;
	}
	worker->merges[worker->frame_count].open = false;
	struct esp_frame *frame = &worker->frames[worker->frame_count++];
	frame->gateway = gateway;
	frame->context = context;
	memset(frame->header, 0, sizeof frame->header);
	frame->packets = 1;
	frame->iov_count = 2;
	frame->length = length;
	frame->iov[0] = (struct iovec){frame->header, sizeof frame->header};
	frame->iov[1] = (struct iovec){packet, length};
	return frame;
}
