// The node's IKE sockets, UDP 500 and 4500, which esp binds and hands over; on 4500 the kernel gives this process only what
// begins with the non-ESP marker. Local addresses come and go by IP_PKTINFO, since a node has one cloud address per connection.
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/io/handover.h"
#include "common/io/log.h"
#include "services/ike/shell.h"

enum {
	PORT_IKE = 500,
	PORT_NAT_T = 4500,
	DATAGRAM_MAX = 8192 + 4, // IKE_MESSAGE_MAX and the marker; what is longer is no message of ours
	READ_BURST = 64,         // datagrams of one batch
	READ_TURNS = 4,          // batches before the other sockets have their turn
};

union control {
	char octets[CMSG_SPACE(sizeof(struct in_pktinfo))];
	struct cmsghdr align;
};

struct port {
	struct udp *udp;
	const char *request;
	uint16_t number;
	int fd;
};

struct udp {
	struct service *service;
	struct loop *loop;
	struct handover *handover;
	struct port ports[2];
	struct metric *received, *sent, *refused;
	uint8_t datagrams[READ_BURST][DATAGRAM_MAX];
};

static void take(struct port *port, const struct msghdr *message, const struct sockaddr_in *from, struct bytes octets)
{
	struct udp *udp = port->udp;
	struct ike_event event = {.kind = IKE_EVENT_DATAGRAM};
	for (struct cmsghdr *item = CMSG_FIRSTHDR(message); item;
	     item = CMSG_NXTHDR((struct msghdr *)(uintptr_t)message, item)) {
		if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;
			memcpy(&info, CMSG_DATA(item), sizeof info);
			address_from_bytes((struct bytes){(const uint8_t *)&info.ipi_addr, 4}, &event.datagram.local);
		}
	}
	if (message->msg_namelen < sizeof *from || from->sin_family != AF_INET || event.datagram.local.length == 0 ||
	    (message->msg_flags & MSG_TRUNC)) {
		metric_add(udp->refused, 1);
		return;
	}
	address_from_bytes((struct bytes){(const uint8_t *)&from->sin_addr, 4}, &event.datagram.remote);
	event.datagram.remote_port = ntohs(from->sin_port);
	event.datagram.local_port = port->number;
	event.datagram.octets = octets;
	service_step(udp->service, &event);
}

// What has come, as one batch. false: there is nothing more.
static bool receive(struct port *port)
{
	struct udp *udp = port->udp;
	struct mmsghdr messages[READ_BURST];
	struct sockaddr_in from[READ_BURST];
	struct iovec parts[READ_BURST];
	union control control[READ_BURST];
	for (size_t i = 0; i < READ_BURST; i++) {
		parts[i] = (struct iovec){.iov_base = udp->datagrams[i], .iov_len = sizeof udp->datagrams[i]};
		messages[i].msg_hdr = (struct msghdr){.msg_name = &from[i],
		                                      .msg_namelen = sizeof from[i],
		                                      .msg_iov = &parts[i],
		                                      .msg_iovlen = 1,
		                                      .msg_control = control[i].octets,
		                                      .msg_controllen = sizeof control[i].octets};
	}
	int count = recvmmsg(port->fd, messages, READ_BURST, MSG_DONTWAIT, NULL);
	if (count <= 0) {
		return count < 0 && errno == EINTR;
	}
	metric_add(udp->received, (uint64_t)count);
	for (int i = 0; i < count; i++) {
		take(port, &messages[i].msg_hdr, &from[i], (struct bytes){udp->datagrams[i], messages[i].msg_len});
	}
	service_settle(udp->service);
	return count == READ_BURST;
}

static void readable(void *context)
{
	struct port *port = context;
	for (int i = 0; i < READ_TURNS && receive(port); i++) {
	}
}

static void handed_over(void *context, int fd, const char *error)
{
	struct port *port = context;
	if (fd < 0) {
		log_limited(LOG_WARNING, "socket-not-handed-over", "request", port->request, "error", error, NULL);
		return;
	}
	if (port->fd >= 0) {
		// What still waits in the old socket is read before it goes.
		readable(port);
		loop_read_end(port->udp->loop, port->fd);
		close(port->fd);
	}
	port->fd = fd;
	loop_read(port->udp->loop, fd, readable, port);
	health_wait(port->udp->service->health, port->request, false);
	log_event(LOG_INFO, "socket-handed-over", "request", port->request, NULL);
	output_flush(port->udp->service->output);
}

static void connected(void *context)
{
	struct udp *udp = context;
	for (size_t i = 0; i < 2; i++) {
		handover_request(udp->handover, udp->ports[i].request, handed_over, &udp->ports[i]);
	}
}

struct udp *udp_new(struct service *service, struct loop *loop, const char *sockets_path)
{
	struct udp *udp = allocate(sizeof *udp);
	udp->service = service;
	udp->loop = loop;
	udp->ports[0] = (struct port){.udp = udp, .request = "udp500", .number = PORT_IKE, .fd = -1};
	udp->ports[1] = (struct port){.udp = udp, .request = "udp4500", .number = PORT_NAT_T, .fd = -1};
	udp->received =
	    metric(METRIC_COUNTER, "twinspan_ike_datagrams_received_total", NULL, "Datagrams read from UDP 500 and 4500");
	udp->sent = metric(METRIC_COUNTER, "twinspan_ike_datagrams_sent_total", NULL, "Datagrams sent");
	udp->refused = metric(METRIC_COUNTER, "twinspan_ike_datagrams_refused_total", NULL,
	                      "Datagrams that the kernel did not take, or that came without their addresses");
	for (size_t i = 0; i < 2; i++) {
		health_wait(service->health, udp->ports[i].request, true);
	}
	udp->handover = handover_new(loop, sockets_path, connected, udp);
	return udp;
}

void udp_free(struct udp **udp)
{
	if (!*udp) {
		return;
	}
	handover_free(&(*udp)->handover);
	for (size_t i = 0; i < 2; i++) {
		if ((*udp)->ports[i].fd >= 0) {
			loop_read_end((*udp)->loop, (*udp)->ports[i].fd);
			close((*udp)->ports[i].fd);
		}
	}
	free(*udp);
	*udp = NULL;
}

// One of a batch, ready for the kernel; false when it cannot be sent.
static bool prepare(const struct ike_datagram *datagram, struct mmsghdr *message, struct sockaddr_in *to, struct iovec *part,
                    union control *control)
{
	if (datagram->local.length != 4 || datagram->remote.length != 4) {
		return false;
	}
	*to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(datagram->remote_port)};
	memcpy(&to->sin_addr, datagram->remote.octets, 4);
	memset(control, 0, sizeof *control);
	*part = (struct iovec){.iov_base = (void *)(uintptr_t)datagram->octets.data, .iov_len = datagram->octets.length};
	message->msg_hdr = (struct msghdr){.msg_name = to,
	                                   .msg_namelen = sizeof *to,
	                                   .msg_iov = part,
	                                   .msg_iovlen = 1,
	                                   .msg_control = control->octets,
	                                   .msg_controllen = sizeof control->octets};
	struct cmsghdr *item = CMSG_FIRSTHDR(&message->msg_hdr);
	item->cmsg_level = IPPROTO_IP;
	item->cmsg_type = IP_PKTINFO;
	item->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
	struct in_pktinfo info = {.ipi_ifindex = 0};
	memcpy(&info.ipi_spec_dst, datagram->local.octets, 4);
	memcpy(CMSG_DATA(item), &info, sizeof info);
	return true;
}

static void send_by(struct udp *udp, const struct port *port, const struct ike_datagram *const datagrams[], size_t count)
{
	struct mmsghdr messages[SEND_BATCH];
	struct sockaddr_in to[SEND_BATCH];
	struct iovec parts[SEND_BATCH];
	union control control[SEND_BATCH];
	unsigned ready = 0;
	for (size_t i = 0; i < count; i++) {
		if (&udp->ports[datagrams[i]->local_port == PORT_IKE ? 0 : 1] != port) {
			continue;
		}
		bool good =
		    port->fd >= 0 && prepare(datagrams[i], &messages[ready], &to[ready], &parts[ready], &control[ready]);
		ready += good;
		metric_add(udp->refused, !good);
	}
	for (unsigned done = 0; done < ready;) {
		int sent = sendmmsg(port->fd, messages + done, ready - done, MSG_DONTWAIT);
		if (sent < 0) { // the first of them
			log_limited(LOG_WARNING, "datagram-not-sent", "error", strerror(errno), NULL);
			metric_add(udp->refused, 1);
			done++;
		} else {
			metric_add(udp->sent, (uint64_t)sent);
			done += (unsigned)sent;
		}
	}
}

void udp_send(struct udp *udp, const struct ike_datagram *const datagrams[], size_t count)
{
	bool by[2] = {false, false};
	for (size_t i = 0; i < count; i++) {
		by[datagrams[i]->local_port == PORT_IKE ? 0 : 1] = true;
	}
	for (size_t i = 0; i < 2; i++) {
		if (by[i]) {
			send_by(udp, &udp->ports[i], datagrams, count);
		}
	}
}
