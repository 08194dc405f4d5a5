// Packets in and out of one worker: what a socket or a queue of a vpn0 has is read, goes through the core, and is sent and
// written before more is read. An event can name a thing that went away meanwhile (a worker sleeps outside of RCU's sight):
// events carry numbers, and what a number stands for is looked up when the worker is back.
#include "services/esp/net_burst.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/io/loop.h"
#include "services/esp/net_send.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
	NAT_T_PORT = 4500, // RFC 3948
	QUEUE_BURSTS = 4,  // of one queue before the others' turn
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
	// What was counted is seen by whoever clears `moved` after this, or `moved` is found cleared here.
	atomic_thread_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(&w->workers->moved, memory_order_relaxed) && !atomic_exchange(&w->workers->moved, true)) {
		workers_tell(w->workers);
	}
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

// Somebody removed the device: its queues are dead for good, and an event of theirs would never end.
static void lose(struct worker *w, struct worker_gateway *gateway)
{
	epoll_ctl(w->epoll, EPOLL_CTL_DEL, gateway->queues[w->index], NULL);
	if (!atomic_exchange(&gateway->lost, true)) {
		atomic_store(&w->workers->lost, true);
		workers_tell(w->workers);
	}
}

// Reads one queue of a vpn0 until it is empty or has had its turn. Where frames come alone it reads one: the epoll_wait that
// follows anyway tells whether there are more.
static void read_queue(struct worker *w, unsigned slot)
{
	struct pending pending = {.at = w->frames};
	bool alone = w->in_run < BUSY_RUN / 2, more = true;
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
				if (length < 0 && errno == EBADFD) {
					lose(w, gateway);
				}
				break;
			}
			pending.frames[pending.count] = pending.at;
			pending.lengths[pending.count++] = (size_t)length;
			pending.at += ((size_t)length + ESP_TAILROOM + 63) & ~(size_t)63;
			if (length > SMALL_FRAME) {
				encap_pending(w, gateway->core, &pending);
				longs++;
			}
			if (alone) {
				more = false;
				break;
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

void worker_serve(struct worker *w, uint32_t port)
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

// ---- buffers ----

static void *buffer(size_t size)
{
	void *memory = aligned_alloc(64, (size + 63) / 64 * 64);
	if (!memory) {
		abort();
	}
	return memory;
}

void worker_buffers_make(struct worker *worker)
{
	worker->frames = buffer(READ_BURST * (SMALL_FRAME + ESP_TAILROOM + 64) + ESP_FRAME_MAX + ESP_TAILROOM + 64);
	for (unsigned i = 0; i < UDP_BATCH; i++) {
		worker->received[i] = buffer(UDP_ROOM);
	}
	for (unsigned i = 0; i < RAW_BATCH; i++) {
		worker->raw[i] = buffer(RAW_ROOM);
	}
}

void worker_buffers_free(struct worker *worker)
{
	free(worker->frames);
	for (unsigned i = 0; i < UDP_BATCH; i++) {
		free(worker->received[i]);
	}
	for (unsigned i = 0; i < RAW_BATCH; i++) {
		free(worker->raw[i]);
	}
}
