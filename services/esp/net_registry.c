// The border gateways that the workers serve: a slot each, which the workers' events name by its number.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "services/esp/net_burst.h"
#include "services/esp/net_queue.h"

typedef _Atomic(struct worker_gateway *) slot;

static void free_gateway(struct worker_gateway *gateway)
{
	for (unsigned i = 0; i < ESP_WORKERS_MAX; i++) {
		if (gateway->queues[i] >= 0) {
			close(gateway->queues[i]);
		}
	}
	free(gateway->id);
	free(gateway);
}

// One that was given back, or one never used; NULL when there is none.
static slot *vacant(struct workers *workers)
{
	if (workers->slots_used < ESP_GATEWAYS_MAX) {
		return &workers->gateways[workers->slots_used++];
	}
	for (size_t i = 0; i < ESP_GATEWAYS_MAX; i++) {
		if (!atomic_load(&workers->gateways[i])) {
			return &workers->gateways[i];
		}
	}
	return NULL;
}

static struct worker_gateway *open_queues(const struct workers *workers, const char *id, struct gateway *gateway)
{
	struct worker_gateway *made = allocate(sizeof *made);
	made->id = duplicate_text(id);
	for (unsigned i = 0; i < ESP_WORKERS_MAX; i++) {
		made->queues[i] = -1;
	}
	for (unsigned i = 0; i < workers->count; i++) {
		made->queues[i] = gateway_queue(gateway);
		if (made->queues[i] < 0) {
			int error = errno;
			free_gateway(made);
			errno = error;
			return NULL;
		}
	}
	return made;
}

bool workers_gateway_up(struct workers *workers, const char *id, struct gateway *gateway, bool allow_transit)
{
	slot *at = map_find_text(workers->slots, id);
	if (at) {
		struct worker_gateway *standing = atomic_load(at);
		invariant(standing);
		esp_gateway_set(workers->esp, id, allow_transit, standing);
		return true;
	}
	at = vacant(workers);
	if (!at) {
		errno = ENOSPC;
		return false;
	}
	struct worker_gateway *made = open_queues(workers, id, gateway);
	if (!made) {
		return false;
	}
	if (!queue_takes_udp_super_frames(made->queues[0])) {
		esp_join_udp(workers->esp, false);
	}
	made->core = esp_gateway_set(workers->esp, id, allow_transit, made);
	invariant(atomic_load(at) == NULL);
	atomic_store_explicit(at, made, memory_order_release);
	map_insert_text(workers->slots, id, at);
	uint32_t port = PORT_QUEUES + (uint32_t)(at - workers->gateways);
	for (unsigned i = 0; i < workers->count; i++) {
		if (!worker_watch(&workers->workers[i], made->queues[i], port)) {
			int error = errno;
			workers_gateway_down(workers, id);
			errno = error;
			return false;
		}
	}
	return true;
}

void workers_gateway_down(struct workers *workers, const char *id)
{
	slot *at = map_remove_text(workers->slots, id);
	if (!at) {
		return;
	}
	struct worker_gateway *gateway = atomic_load(at);
	invariant(gateway && strcmp(gateway->id, id) == 0);
	for (unsigned i = 0; i < workers->count; i++) {
		epoll_ctl(workers->workers[i].epoll, EPOLL_CTL_DEL, gateway->queues[i], NULL);
	}
	atomic_store_explicit(at, NULL, memory_order_release);
	esp_gateway_remove(workers->esp, id);
	esp_synchronize(workers->esp);
	free_gateway(gateway);
}

void registry_lost(struct workers *workers)
{
	for (size_t i = 0; i < workers->slots_used; i++) {
		struct worker_gateway *gateway = atomic_load(&workers->gateways[i]);
		if (gateway && atomic_load(&gateway->lost)) {
			char *id = duplicate_text(gateway->id); // the hook takes the gateway down
			workers->hooks.lost(workers->hooks.context, id);
			free(id);
		}
	}
}

void registry_free(struct workers *workers)
{
	for (size_t i = 0; i < workers->slots_used; i++) {
		struct worker_gateway *gateway = atomic_load(&workers->gateways[i]);
		if (gateway) {
			esp_gateway_remove(workers->esp, gateway->id);
			free_gateway(gateway);
		}
	}
	map_free(&workers->slots, NULL);
}
