// See net_send.h. UDP-encapsulated packets go as segmented sends (UDP_SEGMENT), many of them in one call; protocol 50 has no
// segmentation, so there each packet is a message of its own, still many in a call. A full socket buffer is waited for once in
// a burst, and briefly: the queue of vpn0 behind us then holds the senders back, but it is all tenants' socket. After that the
// packets are dropped and counted.
#include "services/esp/net_send.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 64, WAIT_MS = 1 };
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

struct batch {
	struct esp_worker *worker;
	int fd, udp;
	bool waited; // for room in the socket
	unsigned count;
	struct mmsghdr messages[BATCH];
	struct sockaddr_in names[BATCH];
	struct iovec pieces[BATCH]; // of protocol 50
	const struct esp_datagram *datagrams[BATCH];
	struct {
		_Alignas(struct cmsghdr) char octets[CMSG_SPACE(sizeof(struct in_pktinfo)) + CMSG_SPACE(sizeof(int)) +
		                                     CMSG_SPACE(sizeof(uint16_t))];
	} control[BATCH];
};

static void put_control(struct msghdr *message, int level, int type, const void *value, size_t length)
{
	struct cmsghdr *item = (struct cmsghdr *)((char *)message->msg_control + message->msg_controllen);
	item->cmsg_level = level;
	item->cmsg_type = type;
	item->cmsg_len = CMSG_LEN(length);
	memcpy(CMSG_DATA(item), value, length);
	message->msg_controllen += CMSG_SPACE(length);
}

static struct msghdr *add(struct batch *batch, const struct esp_datagram *datagram)
{
	unsigned i = batch->count++;
	batch->datagrams[i] = datagram;
	batch->names[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(datagram->remote.port)};
	memcpy(&batch->names[i].sin_addr, datagram->remote.octets, sizeof batch->names[i].sin_addr);
	struct msghdr *message = &batch->messages[i].msg_hdr;
	*message = (struct msghdr){
	    .msg_name = &batch->names[i], .msg_namelen = sizeof batch->names[i], .msg_control = batch->control[i].octets};
	struct in_pktinfo source = {0};
	memcpy(&source.ipi_spec_dst, datagram->local.octets, sizeof source.ipi_spec_dst);
	put_control(message, IPPROTO_IP, IP_PKTINFO, &source, sizeof source);
	if (datagram->tos != 0) {
		int tos = datagram->tos;
		put_control(message, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
	}
	return message;
}

// The path refused a segmented send (its MTU is smaller than we were told, or its device cannot): packet by packet, fragmented
// if need be.
static void send_apart(struct batch *batch, unsigned i)
{
	const struct esp_datagram *datagram = batch->datagrams[i];
	struct msghdr message = batch->messages[i].msg_hdr;
	struct iovec piece;
	message.msg_iov = &piece;
	message.msg_iovlen = 1;
	message.msg_controllen -= CMSG_SPACE(sizeof datagram->segment); // the segment size came last
	for (unsigned v = 0; v < datagram->iov_count; v++) {
		for (size_t at = 0; at < datagram->iov[v].iov_len; at += piece.iov_len) {
			size_t left = datagram->iov[v].iov_len - at;
			piece = (struct iovec){(uint8_t *)datagram->iov[v].iov_base + at,
			                       left < datagram->segment ? left : datagram->segment};
			if (sendmsg(batch->fd, &message, 0) < 0) {
				esp_worker_drop(batch->worker, ESP_DROP_SEND_FAILED, 1);
			}
		}
	}
}

static void flush(struct batch *batch)
{
	for (unsigned sent = 0; sent < batch->count;) {
		int n = sendmmsg(batch->fd, batch->messages + sent, batch->count - sent, 0);
		if (n > 0) {
			sent += (unsigned)n;
			continue;
		}
		bool full = errno == EAGAIN || errno == ENOBUFS;
		if (errno == EINTR) {
			continue;
		}
		if (full && !batch->waited) {
			batch->waited = true;
			poll(&(struct pollfd){.fd = batch->fd, .events = POLLOUT}, 1, WAIT_MS);
			continue;
		}
		bool segmented = batch->fd == batch->udp && batch->datagrams[sent]->count > 1;
		if (!full && segmented && (errno == EMSGSIZE || errno == EINVAL || errno == EIO || errno == EOPNOTSUPP)) {
			send_apart(batch, sent);
		} else {
			esp_worker_drop(batch->worker, full ? ESP_DROP_SEND_FULL : ESP_DROP_SEND_FAILED,
			                segmented ? batch->datagrams[sent]->count : 1);
		}
		sent++;
	}
	batch->count = 0;
}

static void add_udp(struct batch *batch, const struct esp_datagram *datagram)
{
	if (batch->count == BATCH) {
		flush(batch);
	}
	struct msghdr *message = add(batch, datagram);
	message->msg_iov = (struct iovec *)(uintptr_t)datagram->iov;
	message->msg_iovlen = datagram->iov_count;
	if (datagram->count > 1) {
		put_control(message, IPPROTO_UDP, UDP_SEGMENT, &datagram->segment, sizeof datagram->segment);
	}
}

static void add_raw(struct batch *batch, const struct esp_datagram *datagram)
{
	// Packets were put into `iov` whole: none of them lies across two entries.
	for (unsigned i = 0; i < datagram->iov_count; i++) {
		uint8_t *at = datagram->iov[i].iov_base;
		for (size_t left = datagram->iov[i].iov_len; left > 0;) {
			size_t length = left < datagram->segment ? left : datagram->segment;
			if (batch->count == BATCH) {
				flush(batch);
			}
			struct iovec *piece = &batch->pieces[batch->count];
			struct msghdr *message = add(batch, datagram);
			*piece = (struct iovec){at, length};
			message->msg_iov = piece;
			message->msg_iovlen = 1;
			batch->names[batch->count - 1].sin_port = 0;
			at += length;
			left -= length;
		}
	}
}

void send_datagrams(struct esp_worker *worker, int udp, int raw)
{
	size_t count;
	const struct esp_datagram *datagrams = esp_worker_datagrams(worker, &count);
	if (count == 0) {
		return;
	}
	struct batch batch;
	batch.worker = worker;
	batch.udp = udp;
	batch.waited = false;
	for (int plain = 0; plain < 2; plain++) {
		batch.fd = plain ? raw : udp;
		batch.count = 0;
		for (size_t i = 0; i < count; i++) {
			if ((datagrams[i].remote.port == 0) != plain) {
				continue;
			}
			if (plain) {
				add_raw(&batch, &datagrams[i]);
			} else {
				add_udp(&batch, &datagrams[i]);
			}
		}
		flush(&batch);
	}
}

void write_frames(struct esp_worker *worker, int (*queue_of)(void *context, unsigned worker), unsigned index)
{
	size_t count;
	const struct esp_frame *frames = esp_worker_frames(worker, &count);
	for (size_t i = 0; i < count; i++) {
		ssize_t written;
		do {
			written = writev(queue_of(frames[i].context, index), frames[i].iov, frames[i].iov_count);
		} while (written < 0 && errno == EINTR);
		if (written < 0) {
			esp_worker_drop(worker, ESP_DROP_WRITE_FAILED, frames[i].packets);
		}
	}
}
