// See net_worker.h. A worker sleeps in epoll and is then outside of RCU's sight, so an event can name a thing that went away
// meanwhile: events carry numbers, and what a number stands for is looked up when the worker is back.
#include "services/esp/net_worker.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/secret.h"
#include "common/io/entropy.h"
#include "common/io/loop.h"
#include "services/esp/net_send.h"

// Since Linux 6.2; not in Debian 12's headers.
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
	NAT_T_PORT = 4500, // RFC 3948
	GATEWAYS_MAX = 256,
	EVENTS = 32,
	LINGER = 50, // microseconds awake after the last packet; others may have the processor meanwhile
	// Ports of a worker's epoll; gateways' queues follow.
	PORT_WAKE = 0,
	PORT_UDP = 1,
	PORT_RAW = 2,
	PORT_QUEUES = 3,
	UDP_BATCH = 8,
	UDP_ROOM = 65536 + 64,
	RAW_BATCH = 48,
	RAW_ROOM = 10 * 1024,
	// Of one queue before the others' turn.
	QUEUE_BURSTS = 4,
	READ_BURST = 64, // small frames
	LONG_BURST = 4,
	SMALL_FRAME = 2048,
};

struct worker_gateway {
	char *id;
	struct esp_gateway *core;
	int queues[ESP_WORKERS_MAX];
};

struct worker {
	struct workers *workers;
	unsigned index;
	pthread_t thread;
	int epoll, wake;
	struct esp_worker *core;
	uint8_t *frames;              // from vpn0
	uint8_t *received[UDP_BATCH]; // of the sockets
	uint8_t *raw[RAW_BATCH];
};

struct workers {
	struct esp *esp;
	unsigned count;
	const struct node_sockets *sockets;
	_Atomic bool stop;
	_Atomic(struct worker_gateway *) gateways[GATEWAYS_MAX];
	struct worker workers[ESP_WORKERS_MAX];
};

static int queue_of(void *context, unsigned worker)
{
	return ((const struct worker_gateway *)context)->queues[worker];
}

// ---- bursts ----

static void begin(struct worker *w)
{
	esp_worker_begin(w->core, now());
}

static void finish(struct worker *w)
{
	esp_worker_end(w->core);
	send_datagrams(w->core, w->workers->sockets->udp4500_esp[w->index], w->workers->sockets->raw_esp[w->index]);
	write_frames(w->core, queue_of, w->index);
	esp_worker_quiescent(w->core);
}

// Small frames are read first and encapsulated together, so that little time passes between taking sequence numbers and sending
// them: a worker that loses its processor there makes its packets late at the peer's replay window. A long frame goes through
// at once, while it is warm.
struct pending {
	uint8_t *frames[READ_BURST];
	size_t lengths[READ_BURST];
	unsigned count;
	uint8_t *at;
};

static void encap_pending(struct worker *w, struct esp_gateway *gateway, struct pending *pending)
{
	for (unsigned i = 0; i < pending->count; i++) {
		esp_encap(w->core, gateway, pending->frames[i], pending->lengths[i]);
	}
	pending->count = 0;
	pending->at = w->frames;
}

// Reads one queue of a vpn0 until it is empty or has had its turn.
static void read_queue(struct worker *w, unsigned slot)
{
	struct pending pending = {.at = w->frames};
	bool more = true;
	for (unsigned burst = 0; more && burst < QUEUE_BURSTS; burst++) {
		struct worker_gateway *gateway = atomic_load_explicit(&w->workers->gateways[slot], memory_order_acquire);
		if (!gateway) {
			return;
		}
		begin(w);
		unsigned longs = 0;
		while (longs < LONG_BURST && pending.count < READ_BURST && esp_worker_ready(w->core)) {
			ssize_t length = read(gateway->queues[w->index], pending.at, ESP_FRAME_MAX);
			if (length <= 0) {
				more = length < 0 && errno == EINTR;
				break;
			}
			pending.frames[pending.count] = pending.at;
			pending.lengths[pending.count++] = (size_t)length;
			pending.at += ((size_t)length + ESP_TAILROOM + 63) & ~(size_t)63;
			if (length > SMALL_FRAME) {
				encap_pending(w, gateway->core, &pending);
				longs++;
			}
		}
		encap_pending(w, gateway->core, &pending);
		finish(w);
	}
}

struct reception {
	struct sockaddr_in names[RAW_BATCH];
	struct iovec iov[RAW_BATCH];
	struct mmsghdr messages[RAW_BATCH];
	struct {
		_Alignas(struct cmsghdr) char octets[256];
	} control[RAW_BATCH];
};

static int receive(int fd, struct reception *r, uint8_t *const buffers[], unsigned count, size_t room)
{
	for (unsigned i = 0; i < count; i++) {
		r->iov[i] = (struct iovec){buffers[i], room - ESP_TAILROOM};
		r->messages[i].msg_hdr = (struct msghdr){
		    .msg_name = &r->names[i],
		    .msg_namelen = sizeof r->names[i],
		    .msg_iov = &r->iov[i],
		    .msg_iovlen = 1,
		    .msg_control = r->control[i].octets,
		    .msg_controllen = sizeof r->control[i].octets,
		};
	}
	return recvmmsg(fd, r->messages, count, MSG_DONTWAIT, NULL);
}

static struct esp_received describe(const struct reception *r, int i)
{
	const struct msghdr *message = &r->messages[i].msg_hdr;
	struct esp_received out = {
	    .data = r->iov[i].iov_base,
	    .length = r->messages[i].msg_len,
	    .from = outer_ipv4(r->names[i].sin_addr.s_addr, ntohs(r->names[i].sin_port)),
	};
	for (struct cmsghdr *item = CMSG_FIRSTHDR(message); item;
	     item = CMSG_NXTHDR((struct msghdr *)(uintptr_t)message, item)) {
		if (item->cmsg_level == IPPROTO_UDP && item->cmsg_type == UDP_GRO) {
			int segment;
			memcpy(&segment, CMSG_DATA(item), sizeof segment);
			out.segment = (size_t)segment;
		} else if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_TOS) {
			out.tos = *CMSG_DATA(item);
		}
	}
	return out;
}

// Does a run that UDP_GRO joined hold what is not this worker's: an IKE message (four zero octets), or an SPI of another
// worker's? The kernel joins neighbours of one flow before the steering sees them.
static bool is_mixed(const struct worker *w, const struct esp_received *run)
{
	if (run->segment == 0 || run->length <= run->segment) {
		return false;
	}
	for (size_t at = 0; at + sizeof(uint32_t) <= run->length; at += run->segment) {
		uint32_t spi;
		memcpy(&spi, run->data + at, sizeof spi);
		spi = ntohl(spi);
		if (spi == 0 || spi % w->workers->sockets->workers != w->index) {
			return true;
		}
	}
	return false;
}

// Gives each packet of a mixed run to the machine's own stack once more, alone, so that it finds its socket.
static void send_apart(struct worker *w, const struct reception *r, int i, const struct esp_received *run)
{
	const struct msghdr *message = &r->messages[i].msg_hdr;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(NAT_T_PORT)};
	for (struct cmsghdr *item = CMSG_FIRSTHDR(message); item;
	     item = CMSG_NXTHDR((struct msghdr *)(uintptr_t)message, item)) {
		if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;
			memcpy(&info, CMSG_DATA(item), sizeof info);
			to.sin_addr = info.ipi_addr;
		}
	}
	for (size_t at = 0; at < run->length; at += run->segment) {
		size_t length = run->length - at < run->segment ? run->length - at : run->segment;
		if (!node_sockets_again(w->workers->sockets, &r->names[i], &to, (struct bytes){run->data + at, length})) {
			esp_worker_drop(w->core, ESP_DROP_WRONG_WORKER, 1);
		}
	}
}

static void read_udp(struct worker *w)
{
	struct reception r;
	int received = receive(w->workers->sockets->udp4500_esp[w->index], &r, w->received, UDP_BATCH, UDP_ROOM);
	if (received <= 0) {
		return;
	}
	begin(w);
	for (int i = 0; i < received; i++) {
		if (r.messages[i].msg_hdr.msg_flags & MSG_TRUNC) {
			esp_worker_drop(w->core, ESP_DROP_TRUNCATED, 1);
			continue;
		}
		if (!esp_worker_ready(w->core)) {
			finish(w);
			begin(w);
		}
		struct esp_received packet = describe(&r, i);
		if (is_mixed(w, &packet)) {
			send_apart(w, &r, i, &packet);
		} else {
			esp_decap(w->core, &packet);
		}
	}
	finish(w);
}

static void read_raw(struct worker *w)
{
	struct reception r;
	int received = receive(w->workers->sockets->raw_esp[w->index], &r, w->raw, RAW_BATCH, RAW_ROOM);
	if (received <= 0) {
		return;
	}
	begin(w);
	for (int i = 0; i < received; i++) {
		struct esp_received packet = describe(&r, i);
		size_t header = packet.length > 0 ? (packet.data[0] & 15u) * 4u : 0;
		if ((r.messages[i].msg_hdr.msg_flags & MSG_TRUNC) || header < 20 || header > packet.length) {
			esp_worker_drop(w->core, ESP_DROP_TRUNCATED, 1);
			continue;
		}
		packet.tos = packet.data[1];
		packet.data += header;
		packet.length -= header;
		packet.from.port = 0;
		esp_decap(w->core, &packet);
	}
	finish(w);
}

static void serve(struct worker *w, uint32_t port)
{
	uint64_t drained;
	switch (port) {
	case PORT_WAKE:
		if (read(w->wake, &drained, sizeof drained) < 0) {
			break; // somebody else's wake-up was read already
		}
		break;
	case PORT_UDP:
		read_udp(w);
		break;
	case PORT_RAW:
		read_raw(w);
		break;
	default:
		read_queue(w, port - PORT_QUEUES);
	}
}

static void *run(void *context)
{
	struct worker *w = context;
	struct epoll_event events[EVENTS];
	instant busy_until = 0;
	esp_worker_register(w->core);
	while (!atomic_load_explicit(&w->workers->stop, memory_order_relaxed)) {
		int count = epoll_wait(w->epoll, events, EVENTS, 0);
		if (count == 0) {
			// More comes soon as a rule, and waking up costs more than looking again, most of all on a virtual
			// processor.
			if (now() < busy_until) {
				sched_yield();
				esp_worker_quiescent(w->core);
				continue;
			}
			esp_worker_sleep(w->core);
			count = epoll_wait(w->epoll, events, EVENTS, -1);
			esp_worker_wake(w->core);
		}
		for (int i = 0; i < count; i++) {
			serve(w, events[i].data.u32);
		}
		busy_until = now() + LINGER;
	}
	esp_worker_unregister(w->core);
	return NULL;
}

// ---- the control thread's ----

static bool watch(struct worker *w, int fd, uint32_t port)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = port};
	return epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void *buffer(size_t size)
{
	void *memory = aligned_alloc(64, (size + 63) / 64 * 64);
	if (!memory) {
		abort();
	}
	return memory;
}

static bool start(struct workers *workers, unsigned index)
{
	struct worker *w = &workers->workers[index];
	uint8_t seed[32];
	w->workers = workers;
	w->index = index;
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	entropy_fill(seed, sizeof seed);
	w->core = esp_worker_new(workers->esp, index, seed);
	wipe(seed, sizeof seed);
	w->frames = buffer(READ_BURST * (SMALL_FRAME + ESP_TAILROOM + 64) + ESP_FRAME_MAX + ESP_TAILROOM + 64);
	for (unsigned i = 0; i < UDP_BATCH; i++) {
		w->received[i] = buffer(UDP_ROOM);
	}
	for (unsigned i = 0; i < RAW_BATCH; i++) {
		w->raw[i] = buffer(RAW_ROOM);
	}
	if (w->epoll < 0 || w->wake < 0 || !watch(w, w->wake, PORT_WAKE) ||
	    !watch(w, workers->sockets->udp4500_esp[index], PORT_UDP) ||
	    !watch(w, workers->sockets->raw_esp[index], PORT_RAW)) {
		return false;
	}
	// Signals are the control thread's.
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int failed = pthread_create(&w->thread, NULL, run, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	char name[16];
	snprintf(name, sizeof name, "worker-%u", index % 1000);
	if (!failed) {
		pthread_setname_np(w->thread, name);
	}
	errno = failed;
	return !failed;
}

static void stop(struct worker *w, bool running)
{
	if (running) {
		uint64_t one = 1;
		while (write(w->wake, &one, sizeof one) < 0 && errno == EINTR) {
		}
		pthread_join(w->thread, NULL);
	}
	close(w->epoll);
	close(w->wake);
	esp_worker_free(&w->core);
	free(w->frames);
	for (unsigned i = 0; i < UDP_BATCH; i++) {
		free(w->received[i]);
	}
	for (unsigned i = 0; i < RAW_BATCH; i++) {
		free(w->raw[i]);
	}
}

struct workers *workers_new(struct esp *esp, unsigned count, const struct node_sockets *sockets)
{
	struct workers *workers = allocate(sizeof *workers);
	workers->esp = esp;
	workers->sockets = sockets;
	for (unsigned i = 0; i < count; i++) {
		if (!start(workers, i)) {
			int error = errno;
			stop(&workers->workers[i], false);
			workers_free(&workers);
			errno = error;
			return NULL;
		}
		workers->count++;
	}
	return workers;
}

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

void workers_free(struct workers **workers)
{
	if (!*workers) {
		return;
	}
	atomic_store(&(*workers)->stop, true);
	for (unsigned i = 0; i < (*workers)->count; i++) {
		stop(&(*workers)->workers[i], true);
	}
	for (unsigned i = 0; i < GATEWAYS_MAX; i++) {
		struct worker_gateway *gateway = atomic_load(&(*workers)->gateways[i]);
		if (gateway) {
			esp_gateway_remove((*workers)->esp, gateway->id);
			free_gateway(gateway);
		}
	}
	free(*workers);
	*workers = NULL;
}

static unsigned slot_of(const struct workers *workers, const char *id)
{
	unsigned vacant = GATEWAYS_MAX;
	for (unsigned i = 0; i < GATEWAYS_MAX; i++) {
		const struct worker_gateway *gateway = atomic_load(&workers->gateways[i]);
		if (gateway && strcmp(gateway->id, id) == 0) {
			return i;
		}
		if (!gateway && vacant == GATEWAYS_MAX) {
			vacant = i;
		}
	}
	return vacant;
}

// Asking for what gateway_queue asked for already changes nothing; a kernel that does not know it says so.
static bool takes_udp_super_frames(int queue)
{
	return ioctl(queue, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6) == 0;
}

bool workers_gateway_up(struct workers *workers, const char *id, struct gateway *gateway, bool allow_transit)
{
	unsigned slot = slot_of(workers, id);
	if (slot == GATEWAYS_MAX) {
		errno = ENOSPC;
		return false;
	}
	struct worker_gateway *made = atomic_load(&workers->gateways[slot]);
	if (made) {
		esp_gateway_set(workers->esp, id, allow_transit, made);
		return true;
	}
	made = allocate(sizeof *made);
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
			return false;
		}
	}
	if (!takes_udp_super_frames(made->queues[0])) {
		esp_join_udp(workers->esp, false);
	}
	made->core = esp_gateway_set(workers->esp, id, allow_transit, made);
	atomic_store_explicit(&workers->gateways[slot], made, memory_order_release);
	for (unsigned i = 0; i < workers->count; i++) {
		if (!watch(&workers->workers[i], made->queues[i], PORT_QUEUES + slot)) {
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
	unsigned slot = slot_of(workers, id);
	struct worker_gateway *gateway = slot < GATEWAYS_MAX ? atomic_load(&workers->gateways[slot]) : NULL;
	if (!gateway) {
		return;
	}
	for (unsigned i = 0; i < workers->count; i++) {
		epoll_ctl(workers->workers[i].epoll, EPOLL_CTL_DEL, gateway->queues[i], NULL);
	}
	atomic_store_explicit(&workers->gateways[slot], NULL, memory_order_release);
	esp_gateway_remove(workers->esp, id);
	esp_synchronize(workers->esp);
	free_gateway(gateway);
}
