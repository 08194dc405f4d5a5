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

enum { PORT_IKE = 500, PORT_NAT_T = 4500, DATAGRAM_MAX = 65535, READ_BURST = 64 };

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
	uint8_t datagram[DATAGRAM_MAX];
};

// One datagram; false when there is none.
static bool receive_one(struct port *port)
{
	struct udp *udp = port->udp;
	struct sockaddr_in from;
	union {
		char octets[CMSG_SPACE(sizeof(struct in_pktinfo))];
		struct cmsghdr align;
	} control;
	struct iovec part = {.iov_base = udp->datagram, .iov_len = sizeof udp->datagram};
	struct msghdr message = {.msg_name = &from,
	                         .msg_namelen = sizeof from,
	                         .msg_iov = &part,
	                         .msg_iovlen = 1,
	                         .msg_control = control.octets,
	                         .msg_controllen = sizeof control.octets};
	ssize_t length = recvmsg(port->fd, &message, MSG_DONTWAIT);
	if (length < 0) {
		return errno == EINTR;
	}
	metric_add(udp->received, 1);
	struct ike_event event = {.kind = IKE_EVENT_DATAGRAM};
	for (struct cmsghdr *item = CMSG_FIRSTHDR(&message); item; item = CMSG_NXTHDR(&message, item)) {
		if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;
			memcpy(&info, CMSG_DATA(item), sizeof info);
			address_from_bytes((struct bytes){(const uint8_t *)&info.ipi_addr, 4}, &event.datagram.local);
		}
	}
	if (message.msg_namelen < sizeof from || from.sin_family != AF_INET || event.datagram.local.length == 0) {
		metric_add(udp->refused, 1);
		return true;
	}
	address_from_bytes((struct bytes){(const uint8_t *)&from.sin_addr, 4}, &event.datagram.remote);
	event.datagram.remote_port = ntohs(from.sin_port);
	event.datagram.local_port = port->number;
	event.datagram.octets = (struct bytes){udp->datagram, (size_t)length};
	service_step(udp->service, &event);
	return true;
}

static void readable(void *context)
{
	struct port *port = context;
	for (int i = 0; i < READ_BURST && receive_one(port); i++) {
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

void udp_send(struct udp *udp, const struct ike_datagram *datagram)
{
	const struct port *port = &udp->ports[datagram->local_port == PORT_IKE ? 0 : 1];
	if (port->fd < 0 || datagram->local.length != 4 || datagram->remote.length != 4) {
		metric_add(udp->refused, 1);
		return;
	}
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(datagram->remote_port)};
	memcpy(&to.sin_addr, datagram->remote.octets, 4);
	union {
		char octets[CMSG_SPACE(sizeof(struct in_pktinfo))];
		struct cmsghdr align;
	} control = {.octets = {0}};
	struct iovec part = {.iov_base = (void *)(uintptr_t)datagram->octets.data, .iov_len = datagram->octets.length};
	struct msghdr message = {.msg_name = &to,
	                         .msg_namelen = sizeof to,
	                         .msg_iov = &part,
	                         .msg_iovlen = 1,
	                         .msg_control = control.octets,
	                         .msg_controllen = sizeof control.octets};
	struct cmsghdr *item = CMSG_FIRSTHDR(&message);
	item->cmsg_level = IPPROTO_IP;
	item->cmsg_type = IP_PKTINFO;
	item->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
	struct in_pktinfo info = {.ipi_ifindex = 0};
	memcpy(&info.ipi_spec_dst, datagram->local.octets, 4);
	memcpy(CMSG_DATA(item), &info, sizeof info);
	if (sendmsg(port->fd, &message, MSG_DONTWAIT) < 0) {
		metric_add(udp->refused, 1);
		log_limited(LOG_WARNING, "datagram-not-sent", "error", strerror(errno), NULL);
		return;
	}
	metric_add(udp->sent, 1);
}
