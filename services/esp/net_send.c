// See net_send.h. UDP-encapsulated packets go as segmented sends (UDP_SEGMENT), many of them in one call; protocol 50 has no
// segmentation, so there each packet is a message of its own, still many in a call. A full socket buffer is waited for a
// moment, since the queue of vpn0 behind us then holds the senders back; after that the packets are dropped and counted.
#include "net_send.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 64, WAIT_MS = 5 };
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

struct batch {
	struct esp_worker *worker;
	int fd;
	unsigned count;
	struct mmsghdr messages[BATCH];
	struct sockaddr_in names[BATCH];
	struct iovec pieces[BATCH]; // of protocol 50
	uint16_t packets[BATCH];
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

static struct msghdr *add(struct batch *batch, const struct esp_datagram *datagram, uint16_t packets)
{
	unsigned i = batch->count++;
	batch->packets[i] = packets;
	batch->names[i] = (struct sockaddr_in){
	    .sin_family = AF_INET, .sin_port = htons(datagram->remote_port), .sin_addr.s_addr = datagram->remote};
	struct msghdr *message = &batch->messages[i].msg_hdr;
	*message = (struct msghdr){
	    .msg_name = &batch->names[i], .msg_namelen = sizeof batch->names[i], .msg_control = batch->control[i].octets};
	struct in_pktinfo source = {.ipi_spec_dst.s_addr = datagram->local};
	put_control(message, IPPROTO_IP, IP_PKTINFO, &source, sizeof source);
	if (datagram->tos != 0) {
		int tos = datagram->tos;
		put_control(message, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
	}
	return message;
}

static void flush(struct batch *batch)
{
	bool waited = false;
	for (unsigned sent = 0; sent < batch->count;) {
		int n = sendmmsg(batch->fd, batch->messages + sent, batch->count - sent, 0);
		if (n > 0) {
			sent += (unsigned)n;
			waited = false;
			continue;
		}
		bool full = errno == EAGAIN || errno == ENOBUFS;
		if (full && !waited) {
			waited = true;
			poll(&(struct pollfd){.fd = batch->fd, .events = POLLOUT}, 1, WAIT_MS);
			continue;
		}
		if (errno == EINTR) {
			continue;
		}
		esp_worker_drop(batch->worker, full ? ESP_DROP_SEND_FULL : ESP_DROP_SEND_FAILED, batch->packets[sent]);
		sent++;
	}
	batch->count = 0;
}

static void add_udp(struct batch *batch, const struct esp_datagram *datagram)
{
	if (batch->count == BATCH) {
		flush(batch);
	}
	struct msghdr *message = add(batch, datagram, datagram->count);
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
			struct msghdr *message = add(batch, datagram, 1);
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
	for (int plain = 0; plain < 2; plain++) {
		batch.fd = plain ? raw : udp;
		batch.count = 0;
		for (size_t i = 0; i < count; i++) {
			if ((datagrams[i].remote_port == 0) != plain) {
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
