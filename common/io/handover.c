// See handover.h. Requests are answered in the order they were sent, so that an answer needs no number.
#include "common/io/handover.h"

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/io/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

// Requests in flight: the answers of so many, with a descriptor each, fit into the socket whoever is slow to read.
enum { RETRY = 50, ANSWER = 256, IN_FLIGHT = 64 };

enum request_state { WAITING, SENT, FAILED };
struct request {
	handover_fn *answered; // NULL: cancelled
	void *context;
	enum request_state state; // in the list's order: FAILED before SENT before WAITING
	char *text;
	struct request *next;
};

struct handover {
	struct loop *loop;
	char *path;
	loop_fn *connected;
	void *context;
	int fd;
	struct deadline retry;
	struct deadline failing; // requests that will have no answer are told so from the loop
	struct request *first;
	struct request **last;
	struct request **unsent; // the first that is WAITING
	size_t in_flight;        // SENT
	bool full;               // the socket: asked the loop for when it is not
};

static struct request *take_first(struct handover *handover)
{
	struct request *request = handover->first;
	if (request) {
		handover->first = request->next;
		if (!handover->first) {
			handover->last = &handover->first;
		}
		if (handover->unsent == &request->next) {
			handover->unsent = &handover->first;
		}
	}
	return request;
}

static void request_free(struct request *request)
{
	free(request->text);
	free(request);
}

static void answer(struct request *request, int fd, const char *error)
{
	if (request->answered) {
		request->answered(request->context, fd, error);
	} else if (fd >= 0) {
		close(fd);
	}
	request_free(request);
}

static void fail_requests(void *context)
{
	struct handover *handover = context;
	while (handover->first && handover->first->state == FAILED) {
		answer(take_first(handover), -1, "not connected");
	}
}

static void disconnect(struct handover *handover)
{
	loop_read_end(handover->loop, handover->fd);
	loop_write_end(handover->loop, handover->fd);
	close(handover->fd);
	handover->fd = -1;
	handover->full = false;
	handover->in_flight = 0;
	for (struct request *request = handover->first; request; request = request->next) {
		request->state = FAILED;
	}
	handover->unsent = handover->last;
	deadline_arm(&handover->failing, now());
	deadline_arm(&handover->retry, now() + MILLISECONDS(RETRY));
}

// Sends what is waiting. A server that is slow to read is no broken one: the rest goes when there is room.
static void send_waiting(void *context)
{
	struct handover *handover = context;
	while (*handover->unsent && handover->in_flight < IN_FLIGHT) {
		struct request *request = *handover->unsent;
		invariant(request->state == WAITING);
		if (send(handover->fd, request->text, strlen(request->text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
			if (errno == EAGAIN || errno == EINTR) {
				handover->full = true;
				loop_write(handover->loop, handover->fd, send_waiting, handover);
			} else {
				disconnect(handover);
			}
			return;
		}
		request->state = SENT;
		handover->in_flight++;
		handover->unsent = &request->next;
	}
	if (handover->full) {
		handover->full = false;
		loop_write_end(handover->loop, handover->fd);
	}
}

// One answer: its text, and the descriptor that came with it or -1. Returns the length as recvmsg does.
static ssize_t receive(int socket, char *text, size_t capacity, int *fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec part = {text, capacity - 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	*fd = -1;
	ssize_t length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (length >= 0) {
		text[length] = '\0';
		struct cmsghdr *item = CMSG_FIRSTHDR(&message);
		if (item && item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_RIGHTS &&
		    item->cmsg_len == CMSG_LEN(sizeof(int))) {
			memcpy(fd, CMSG_DATA(item), sizeof *fd);
		}
	}
	return length;
}

static void readable(void *context)
{
	struct handover *handover = context;
	char text[ANSWER];
	int fd;
	ssize_t length = receive(handover->fd, text, sizeof text, &fd);
	if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
		return;
	}
	if (length <= 0) {
		log_event(LOG_INFO, "handover-lost", "path", handover->path, NULL);
		disconnect(handover);
		return;
	}
	if (!handover->first || handover->first->state != SENT) { // an answer to nothing
		if (fd >= 0) {
			close(fd);
		}
		return;
	}
	struct request *request = take_first(handover);
	invariant(handover->in_flight > 0);
	handover->in_flight--;
	send_waiting(handover);
	if (strcmp(text, "ok") == 0 && fd >= 0) {
		answer(request, fd, NULL);
		return;
	}
	if (fd >= 0) {
		close(fd);
	}
	answer(request, -1, strncmp(text, "error ", 6) == 0 ? text + 6 : "malformed answer");
}

static void try_connect(void *context)
{
	struct handover *handover = context;
	struct sockaddr_un where = {.sun_family = AF_UNIX};
	strcpy(where.sun_path, handover->path); // its length was checked in handover_new
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&where, sizeof where) != 0) {
		log_limited(LOG_DEBUG, "handover-connect-failed", "path", handover->path, "error", strerror(errno), NULL);
		if (fd >= 0) {
			close(fd);
		}
		deadline_arm(&handover->retry, now() + MILLISECONDS(RETRY));
		return;
	}
	handover->fd = fd;
	loop_read(handover->loop, fd, readable, handover);
	log_event(LOG_INFO, "handover-connected", "path", handover->path, NULL);
	handover->connected(handover->context);
}

struct handover *handover_new(struct loop *loop, const char *path, loop_fn *connected, void *context)
{
	struct handover *handover = allocate(sizeof *handover);
	*handover =
	    (struct handover){.loop = loop, .path = duplicate_text(path), .connected = connected, .context = context, .fd = -1};
	if (strlen(path) >= sizeof(struct sockaddr_un){0}.sun_path) {
		log_event(LOG_ERROR, "handover-path-too-long", "path", path, NULL);
		exit(2);
	}
	handover->last = handover->unsent = &handover->first;
	deadline_init(&handover->retry, loop, try_connect, handover);
	deadline_init(&handover->failing, loop, fail_requests, handover);
	deadline_arm(&handover->retry, now());
	return handover;
}

void handover_free(struct handover **handover)
{
	struct handover *h = *handover;
	if (!h) {
		return;
	}
	deadline_disarm(&h->retry);
	deadline_disarm(&h->failing);
	if (h->fd >= 0) {
		loop_read_end(h->loop, h->fd);
		loop_write_end(h->loop, h->fd);
		close(h->fd);
	}
	for (struct request *request = take_first(h); request; request = take_first(h)) {
		request_free(request);
	}
	free(h->path);
	free(h);
	*handover = NULL;
}

bool handover_is_connected(const struct handover *handover)
{
	return handover->fd >= 0;
}

void handover_request(struct handover *handover, const char *text, handover_fn *answered, void *context)
{
	struct request *request = allocate(sizeof *request);
	*request = (struct request){.answered = answered, .context = context, .text = duplicate_text(text)};
	bool first_waiting = !*handover->unsent;
	*handover->last = request;
	handover->last = &request->next;
	if (handover->fd < 0) {
		request->state = FAILED;
		handover->unsent = handover->last;
		deadline_arm(&handover->failing, now());
	} else if (first_waiting) {
		send_waiting(handover);
	}
}

void handover_cancel(struct handover *handover, const void *context)
{
	for (struct request *request = handover->first; request; request = request->next) {
		if (request->context == context) {
			request->answered = NULL;
		}
	}
}
