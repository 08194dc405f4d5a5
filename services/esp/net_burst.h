// One worker's thread and what it shares with the others: for net_worker.c (threads), net_burst.c (packets in and out) and
// net_registry.c (border gateways).
#ifndef TWINSPAN_ESP_NET_BURST_H
#define TWINSPAN_ESP_NET_BURST_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/map.h"
#include "services/esp/net_worker.h"

enum {
	// Ports of a worker's epoll; the border gateways' queues follow.
	PORT_WAKE = 0,
	PORT_UDP = 1,
	PORT_RAW = 2,
	PORT_QUEUES = 3,
	// Buffers.
	UDP_BATCH = 8,
	UDP_ROOM = 65536 + 64,
	RAW_BATCH = 48,
	RAW_ROOM = 10 * 1024,
	READ_BURST = 64, // small frames
	LONG_BURST = 4,
	SMALL_FRAME = 2048,
	// A packet and its answers are no load yet: so many wakings are.
	BUSY_RUN = 4,
};

struct worker_gateway {
	char *id;
	struct esp_gateway *core;
	_Atomic bool lost; // vpn0 is gone
	int queues[ESP_WORKERS_MAX];
};

struct worker {
	struct workers *workers;
	unsigned index;
	pthread_t thread;
	int epoll, wake;
	struct esp_worker *core;
	uint8_t *frames;              // from vpn0
	unsigned in_run;              // wakings without a pause between them, up to BUSY_RUN
	uint8_t *received[UDP_BATCH]; // of the sockets
	uint8_t *raw[RAW_BATCH];
};

struct workers {
	struct esp *esp;
	struct loop *loop;
	struct workers_hooks hooks;
	unsigned count;
	const struct node_sockets *sockets;
	_Atomic bool stop;
	// For the control thread: an eventfd, and what happened since it was read.
	int event;
	_Atomic bool moved, lost;
	_Atomic int kept; // errno of a thread that could not drop its privileges
	// Slots that workers look into by an event's number; which slot is whose is the control thread's.
	_Atomic(struct worker_gateway *) gateways[ESP_GATEWAYS_MAX];
	struct map *slots; // of an id: the address of its place in `gateways`
	size_t slots_used;
	struct worker workers[ESP_WORKERS_MAX];
};

// net_worker.c
bool worker_watch(struct worker *worker, int fd, uint32_t port);
void workers_tell(struct workers *workers); // wakes the control thread

// net_burst.c: reads what `port` has, a turn of it, and sends and writes what comes of it.
void worker_serve(struct worker *worker, uint32_t port);
void worker_buffers_make(struct worker *worker);
void worker_buffers_free(struct worker *worker);

// net_registry.c
void registry_lost(struct workers *workers); // tells the hook of those whose vpn0 is gone
void registry_free(struct workers *workers); // after the threads

#endif
