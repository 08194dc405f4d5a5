// The HTTP server of http.h: libmicrohttpd without threads, whose epoll descriptor the service's loop watches. A request is an
// `exchange` here, from its headers to the last octet of its response; one that the handler does not answer at once is
// suspended until http_respond. A request must be whole within `timeout_seconds` of the connection's start or of the response
// before it, whatever trickles in (slow requests otherwise hold their connection for ever); a response that is not read is
// dropped after as long without progress.
#include "common/io/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/base/alloc.h"
#include "common/base/secret.h"
#include "common/io/health.h"

enum { EXCESS = 1 << 20 }; // octets of a body that are read beyond the limit, so that the client gets to its answer

struct connection {
	struct connection *next, **at;
	struct MHD_Connection *mhd;
	instant waiting_since; // for a whole request; INSTANT_NEVER while one is being answered
	instant sending_since; // the response; INSTANT_NEVER while there is none
};

struct exchange {
	struct http_request request; // first: the service sees only this
	struct http_server *server;
	struct MHD_Connection *mhd;
	struct exchange *next, **at; // in the server's list of suspended ones
	uint8_t *body;
	size_t received, room;
	bool handed; // the handler has it
	bool suspended;
	struct MHD_Response *response;
	unsigned status;
};

struct http_server {
	struct loop *loop;
	struct MHD_Daemon *daemon;
	int epoll;
	http_fn *handler;
	void *context;
	struct http_limits limits;
	struct deadline turn;  // the daemon wants to run
	struct deadline sweep; // slow connections are looked for
	struct connection *connections;
	unsigned count, most; // of them
	struct exchange *suspended;
};

// ---- turning the daemon ----

static void run(void *context)
{
	struct http_server *server = context;
	MHD_run(server->daemon);
	MHD_UNSIGNED_LONG_LONG milliseconds;
	bool wanted = MHD_get_timeout(server->daemon, &milliseconds) == MHD_YES;
	deadline_arm(&server->turn, wanted ? now() + MILLISECONDS((duration)milliseconds) : INSTANT_NEVER);
}

// The daemon closes what its peer, or this, has shut.
static void end(const struct connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection->mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
	shutdown(info->connect_fd, SHUT_RDWR);
}

// Nothing to look for while nobody is connected.
static void sweep_later(struct http_server *server)
{
	if (server->limits.timeout_seconds > 0 && server->connections) {
		deadline_arm(&server->sweep, now() + SECONDS(1));
	}
}

static void sweep(void *context)
{
	struct http_server *server = context;
	instant waiting = now() - SECONDS(server->limits.timeout_seconds);
	instant sending = server->limits.answer_seconds ? now() - SECONDS(server->limits.answer_seconds) : 0;
	for (struct connection *connection = server->connections; connection; connection = connection->next) {
		if (connection->waiting_since < waiting || connection->sending_since < sending) {
			end(connection);
		}
	}
	sweep_later(server);
}

// All are taken: whoever has said nothing longest makes room for who comes now.
static void make_room(struct http_server *server)
{
	struct connection *longest = NULL;
	for (struct connection *connection = server->connections; connection; connection = connection->next) {
		if (connection->waiting_since != INSTANT_NEVER &&
		    (!longest || connection->waiting_since <= longest->waiting_since)) {
			longest = connection;
		}
	}
	if (longest) {
		end(longest);
		longest->waiting_since = INSTANT_NEVER; // once
	}
}

static void on_connection(void *context, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
	struct http_server *server = context;
	struct connection *connection = *socket_context;
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		connection = allocate(sizeof *connection);
		*connection = (struct connection){server->connections, &server->connections, mhd, now(), INSTANT_NEVER};
		if (connection->next) {
			connection->next->at = &connection->next;
		}
		if (++server->count > server->most) {
			make_room(server); // before it is in the list itself
		}
		server->connections = connection;
		if (!deadline_armed(&server->sweep)) {
			sweep_later(server);
		}
		*socket_context = connection;
	} else if (connection) {
		server->count--;
		*connection->at = connection->next;
		if (connection->next) {
			connection->next->at = connection->at;
		}
		free(connection);
		*socket_context = NULL;
	}
}

static struct connection *connection_of(struct MHD_Connection *mhd)
{
	return *(struct connection *const *)MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
}

// ---- one request ----

static void suspend(struct exchange *exchange)
{
	struct http_server *server = exchange->server;
	exchange->suspended = true;
	exchange->next = server->suspended;
	exchange->at = &server->suspended;
	if (exchange->next) {
		exchange->next->at = &exchange->next;
	}
	server->suspended = exchange;
	MHD_suspend_connection(exchange->mhd);
}

static void resume(struct exchange *exchange)
{
	exchange->suspended = false;
	*exchange->at = exchange->next;
	if (exchange->next) {
		exchange->next->at = exchange->at;
	}
	MHD_resume_connection(exchange->mhd);
	deadline_arm(&exchange->server->turn, now());
}

static enum MHD_Result queue(struct exchange *exchange)
{
	connection_of(exchange->mhd)->sending_since = now();
	enum MHD_Result result = MHD_queue_response(exchange->mhd, exchange->status, exchange->response);
	MHD_destroy_response(exchange->response);
	exchange->response = NULL;
	return result;
}

// Hands the request to the service, once; afterwards sends what it answered, or waits.
static enum MHD_Result hand_over(struct exchange *exchange)
{
	if (!exchange->handed) {
		exchange->handed = true;
		connection_of(exchange->mhd)->waiting_since = INSTANT_NEVER;
		if (!exchange->request.body_too_large) {
			exchange->request.body = (struct bytes){exchange->body, exchange->received};
		}
		exchange->server->handler(exchange->server->context, &exchange->request);
	}
	if (exchange->response) {
		return queue(exchange);
	}
	suspend(exchange);
	return MHD_YES;
}

// What it was in is wiped: reallocation would leave a copy behind.
static void grow_body(struct exchange *exchange, size_t wanted)
{
	if (wanted <= exchange->room) {
		return;
	}
	size_t room = exchange->room ? exchange->room : 4096;
	while (room < wanted) {
		room *= 2;
	}
	uint8_t *body = allocate(room);
	memcpy(body, exchange->body ? exchange->body : body, exchange->received);
	wipe(exchange->body, exchange->body ? exchange->received : 0);
	free(exchange->body);
	exchange->body = body;
	exchange->room = room;
}

static enum MHD_Result take_body(struct exchange *exchange, const char *data, size_t *length)
{
	size_t limit = exchange->server->limits.body;
	if (exchange->received + *length > limit + EXCESS) {
		return MHD_NO; // closes the connection
	}
	if (exchange->received + *length > limit) {
		exchange->request.body_too_large = true;
	} else {
		grow_body(exchange, exchange->received + *length);
		memcpy(exchange->body + exchange->received, data, *length);
	}
	exchange->received += *length;
	*length = 0;
	return MHD_YES;
}

static struct exchange *begin(struct http_server *server, struct MHD_Connection *mhd, const char *path, const char *method)
{
	struct exchange *exchange = allocate(sizeof *exchange);
	exchange->server = server;
	exchange->mhd = mhd;
	exchange->request.method = duplicate_text(method);
	exchange->request.path = duplicate_text(path);
	exchange->request.body = (struct bytes){(const uint8_t *)"", 0};
	return exchange;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *mhd, const char *path, const char *method,
                                  const char *version, const char *upload, size_t *upload_length, void **state)
{
	(void)version;
	struct http_server *server = context;
	struct exchange *exchange = *state;
	if (!exchange) {
		// The headers are here, the body is not. A length that is told and too large is answered at once: the body is
		// not even read.
		*state = exchange = begin(server, mhd, path, method);
		const char *length = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
		exchange->request.body_too_large = length && strtoull(length, NULL, 10) > server->limits.body;
		return exchange->request.body_too_large ? hand_over(exchange) : MHD_YES;
	}
	return *upload_length > 0 ? take_body(exchange, upload, upload_length) : hand_over(exchange);
}

static void on_completed(void *context, struct MHD_Connection *mhd, void **state, enum MHD_RequestTerminationCode code)
{
	(void)context;
	(void)code;
	struct exchange *exchange = *state;
	*state = NULL;
	if (!exchange) {
		return;
	}
	struct connection *connection = connection_of(mhd);
	if (connection) {
		connection->waiting_since = now();
		connection->sending_since = INSTANT_NEVER;
	}
	if (exchange->response) {
		MHD_destroy_response(exchange->response);
	}
	free((char *)exchange->request.method);
	free((char *)exchange->request.path);
	wipe(exchange->body, exchange->body ? exchange->received : 0);
	free(exchange->body);
	free(exchange);
}

// ---- the service's side ----

struct http_server *http_server_new(struct loop *loop, const char *where, http_fn *handler, void *context,
                                    const struct http_limits *limits)
{
	int listener = listen_at(where);
	if (listener < 0) {
		return NULL;
	}
	struct http_server *server = allocate(sizeof *server);
	*server = (struct http_server){.loop = loop, .handler = handler, .context = context, .limits = *limits};
	server->most = limits->connections ? limits->connections : 64;
	// A few more than `most` come in, so that the longest idle one can go.
	unsigned connections = server->most + 8;
	server->daemon = MHD_start_daemon(
	    MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, server, MHD_OPTION_LISTEN_SOCKET, listener,
	    MHD_OPTION_CONNECTION_LIMIT, connections, MHD_OPTION_CONNECTION_TIMEOUT, limits->timeout_seconds,
	    MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_NOTIFY_CONNECTION, on_connection, server,
	    MHD_OPTION_PER_IP_CONNECTION_LIMIT, limits->per_address, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
	if (!server->daemon) {
		close(listener);
		free(server);
		errno = ENOMEM;
		return NULL;
	}
	server->epoll = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
	deadline_init(&server->turn, loop, run, server);
	deadline_init(&server->sweep, loop, sweep, server);
	loop_read(loop, server->epoll, run, server);
	return server;
}

void http_server_free(struct http_server **server_at)
{
	struct http_server *server = *server_at;
	if (!server) {
		return;
	}
	while (server->suspended) {
		http_respond(&server->suspended->request, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, (struct bytes){0}, NULL, 0);
	}
	MHD_run(server->daemon);
	loop_read_end(server->loop, server->epoll);
	deadline_disarm(&server->turn);
	deadline_disarm(&server->sweep);
	MHD_stop_daemon(server->daemon);
	free(server);
	*server_at = NULL;
}

static const char *lookup(struct http_request *request, enum MHD_ValueKind kind, const char *name)
{
	const char *value = NULL;
	struct exchange *exchange = (struct exchange *)request;
	if (MHD_lookup_connection_value_n(exchange->mhd, kind, name, strlen(name), &value, NULL) != MHD_YES) {
		return NULL;
	}
	return value ? value : "";
}

const char *http_query(struct http_request *request, const char *name)
{
	return lookup(request, MHD_GET_ARGUMENT_KIND, name);
}

const char *http_header(struct http_request *request, const char *name)
{
	return lookup(request, MHD_HEADER_KIND, name);
}

struct visitor {
	void (*visit)(void *context, const char *name, const char *value);
	void *context;
};

static enum MHD_Result visit_one(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void)kind;
	const struct visitor *visitor = context;
	visitor->visit(visitor->context, name, value);
	return MHD_YES;
}

void http_query_each(struct http_request *request, void (*visit)(void *context, const char *name, const char *value),
                     void *context)
{
	struct visitor visitor = {visit, context};
	MHD_get_connection_values(((struct exchange *)request)->mhd, MHD_GET_ARGUMENT_KIND, visit_one, &visitor);
}

struct answer {
	size_t length;
	uint8_t octets[];
};

static void free_answer(void *at)
{
	struct answer *answer = at;
	wipe(answer->octets, answer->length); // it may hold a key that is shown once
	free(answer);
}

void http_respond(struct http_request *request, unsigned status, const char *content_type, struct bytes body,
                  const struct http_field *fields, size_t count)
{
	struct exchange *exchange = (struct exchange *)request;
	struct answer *answer = allocate(sizeof *answer + body.length);
	answer->length = body.length;
	if (body.length) {
		memcpy(answer->octets, body.data, body.length);
	}
	exchange->response =
	    MHD_create_response_from_buffer_with_free_callback_cls(body.length, answer->octets, free_answer, answer);
	if (!exchange->response) {
		abort();
	}
	exchange->status = status;
	if (content_type) {
		MHD_add_response_header(exchange->response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	}
	for (size_t i = 0; i < count; i++) {
		MHD_add_response_header(exchange->response, fields[i].name, fields[i].value);
	}
	if (exchange->suspended) {
		resume(exchange);
	}
}
