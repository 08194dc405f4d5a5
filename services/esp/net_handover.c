// See net_handover.h. A client is known by the uid that the kernel vouches for (SO_PEERCRED, taken when it connected): one that
// may have nothing is refused at once, so that only ike, bgp and root take places, and each of them a part of these only. One
// that asks for nothing within a while is cut off; so is one that sends more than it reads answers for, since its answers would
// wait here without bound. What a client sends is at most one short line a message.
#include "services/esp/net_handover.h"

#include "common/base/alloc.h"
#include "common/io/health.h"
#include "common/io/log.h"
#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { CLIENTS_MAX = 16, CLIENTS_OF_ONE = 6, REQUEST_MAX = 256 };
#define FIRST_REQUEST SECONDS(5)

struct client {
	struct handover_server *server;
	int fd; // -1: free
	uid_t uid;
	struct deadline first; // request
};

struct handover_server {
	struct loop *loop;
	struct handover_settings settings;
	const struct node_sockets *sockets;
	handover_gateway_fn *gateway;
	void *context;
	int fd;
	struct client clients[CLIENTS_MAX];
	struct metric *given, *refused, *failed;
};

static void drop_client(struct client *client)
{
	deadline_disarm(&client->first);
	loop_read_end(client->server->loop, client->fd);
	close(client->fd);
	client->fd = -1;
}

static bool reply(const struct client *client, const char *text, int fd)
{
	struct iovec part = {(void *)(uintptr_t)text, strlen(text)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	if (fd >= 0) {
		message.msg_control = control;
		message.msg_controllen = sizeof control;
		struct cmsghdr *item = CMSG_FIRSTHDR(&message);
		item->cmsg_level = SOL_SOCKET;
		item->cmsg_type = SCM_RIGHTS;
		item->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(item), &fd, sizeof fd);
	}
	return sendmsg(client->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

static bool reply_error(const struct client *client, const char *reason)
{
	char text[REQUEST_MAX];
	snprintf(text, sizeof text, "error %s", reason);
	return reply(client, text, -1);
}

static bool refuse(const struct client *client, const char *request)
{
	metric_add(client->server->refused, 1);
	log_limited(LOG_WARNING, "handover-refused", "request", request, "uid", log_number(client->uid), NULL);
	return reply_error(client, "refused");
}

static bool fail(const struct client *client, const char *reason)
{
	metric_add(client->server->failed, 1);
	return reply_error(client, reason);
}

static bool give(const struct client *client, int fd)
{
	if (fd < 0) {
		return fail(client, strerror(errno));
	}
	metric_add(client->server->given, 1);
	return reply(client, "ok", fd);
}

// A socket made for this request: the receiver's descriptor is the one that stays.
static bool give_new(const struct client *client, int fd)
{
	bool sent = give(client, fd);
	if (fd >= 0) {
		close(fd);
	}
	return sent;
}

static bool may(const struct client *client, uid_t uid)
{
	return client->uid == 0 || client->uid == uid;
}

// "listen <bgw id>", "socket <bgw id> <local address>"
static bool answer_bgp(const struct client *client, char *verb, char **rest)
{
	struct handover_server *server = client->server;
	const char *id = strtok_r(NULL, " ", rest);
	const char *local = strtok_r(NULL, " ", rest);
	struct gateway *gateway = id ? server->gateway(server->context, id) : NULL;
	struct address address;
	if (!gateway) {
		return fail(client, "no such border gateway here");
	}
	if (strcmp(verb, "listen") == 0) {
		return give_new(client, gateway_listen(gateway));
	}
	if (!local || !address_parse(local, &address)) {
		return fail(client, "malformed address");
	}
	return give_new(client, gateway_socket(gateway, &address));
}

// false: the client is to be dropped.
static bool answer(const struct client *client, char *request)
{
	const struct handover_server *server = client->server;
	char logged[REQUEST_MAX];
	strcpy(logged, request);
	char *rest;
	char *verb = strtok_r(request, " ", &rest);
	bool udp500 = verb && strcmp(verb, "udp500") == 0, udp4500 = verb && strcmp(verb, "udp4500") == 0;
	if (udp500 || udp4500) {
		if (!may(client, server->settings.ike_uid)) {
			return refuse(client, logged);
		}
		return give(client, udp500 ? server->sockets->udp500 : server->sockets->udp4500_ike);
	}
	if (verb && (strcmp(verb, "listen") == 0 || strcmp(verb, "socket") == 0)) {
		return may(client, server->settings.bgp_uid) ? answer_bgp(client, verb, &rest) : refuse(client, logged);
	}
	return fail(client, "unknown request");
}

static void client_readable(void *context)
{
	struct client *client = context;
	char request[REQUEST_MAX];
	ssize_t length = recv(client->fd, request, sizeof request - 1, MSG_DONTWAIT);
	if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
		return;
	}
	if (length <= 0) {
		drop_client(client);
		return;
	}
	deadline_disarm(&client->first);
	request[length] = '\0';
	if (!answer(client, request)) {
		drop_client(client);
	}
}

static void first_request_due(void *context)
{
	struct client *client = context;
	log_limited(LOG_WARNING, "handover-silent", "uid", log_number(client->uid), NULL);
	drop_client(client);
}

// NULL: a uid that may have nothing, or that has its part of the places.
static struct client *place_for(struct handover_server *server, uid_t uid)
{
	struct client *vacant = NULL;
	size_t held = 0;
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *client = &server->clients[i];
		held += client->fd >= 0 && client->uid == uid;
		vacant = client->fd < 0 ? client : vacant;
	}
	bool welcome = uid == 0 || uid == server->settings.ike_uid || uid == server->settings.bgp_uid;
	return welcome && held < CLIENTS_OF_ONE ? vacant : NULL;
}

static void accept_client(void *context)
{
	struct handover_server *server = context;
	int fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		return;
	}
	struct ucred peer;
	socklen_t size = sizeof peer;
	bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
	struct client *client = known ? place_for(server, peer.uid) : NULL;
	if (!client) {
		metric_add(server->refused, 1);
		log_limited(LOG_WARNING, "handover-refused", "request", "to connect", "uid",
		            log_number(known ? (int64_t)peer.uid : -1), NULL);
		close(fd);
		return;
	}
	client->fd = fd;
	client->uid = peer.uid;
	loop_read(server->loop, fd, client_readable, client);
	deadline_arm(&client->first, now() + FIRST_REQUEST);
}

static int listen_on(const char *path)
{
	struct sockaddr_un where = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof where.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(where.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		return -1;
	}
	unlink(path);
	// Anyone on the machine may connect: the uid decides, not the file's mode.
	if (bind(fd, (struct sockaddr *)&where, sizeof where) != 0 || chmod(path, 0666) != 0 || listen(fd, CLIENTS_MAX) != 0) {
		int error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

struct handover_server *handover_server_new(struct loop *loop, const struct handover_settings *settings,
                                            const struct node_sockets *sockets, handover_gateway_fn *gateway, void *context)
{
	int fd = listen_on(settings->path);
	if (fd < 0) {
		return NULL;
	}
	struct handover_server *server = allocate(sizeof *server);
	*server = (struct handover_server){
	    .loop = loop, .settings = *settings, .sockets = sockets, .gateway = gateway, .context = context, .fd = fd};
	server->settings.path = duplicate_text(settings->path);
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		server->clients[i] = (struct client){.server = server, .fd = -1};
		deadline_init(&server->clients[i].first, loop, first_request_due, &server->clients[i]);
	}
	const char *name = "twinspan_esp_handover_total", *help = "Requests for sockets by ike and bgp";
	server->given = metric(METRIC_COUNTER, name, "result=\"given\"", help);
	server->refused = metric(METRIC_COUNTER, name, "result=\"refused\"", help);
	server->failed = metric(METRIC_COUNTER, name, "result=\"failed\"", help);
	loop_read(loop, fd, accept_client, server);
	return server;
}

void handover_server_free(struct handover_server **server)
{
	struct handover_server *s = *server;
	if (!s) {
		return;
	}
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		if (s->clients[i].fd >= 0) {
			drop_client(&s->clients[i]);
		}
	}
	loop_read_end(s->loop, s->fd);
	close(s->fd);
	unlink(s->settings.path);
	free((void *)(uintptr_t)s->settings.path);
	free(s);
	*server = NULL;
}
