// An HTTP/1.1 server on a service's loop (libmicrohttpd, no thread of its own): for /healthz, /readyz and /metrics in every service, and for the
// API of the one that has one. The handler is called once per request, when its body is whole or known to be too large; a client that
// is slower than `timeout_seconds` is dropped before that. Bodies may hold secrets: theirs and the answers' octets are wiped.
#ifndef TWINSPAN_IO_HTTP_H
#define TWINSPAN_IO_HTTP_H

#include "common/base/bytes.h"
#include "common/io/loop.h"

struct http_server;
struct http_limits {
	size_t body; // octets of a request's body
	unsigned timeout_seconds; // of inactivity within a connection
	unsigned connections; // at a time; 0: 64. When all are taken, the one that has been without a whole request longest makes room
	unsigned per_address; // connections of one client address; 0: no limit. A Unix socket has no addresses
	unsigned answer_seconds; // how long a response may take to be read, whole; 0: no limit
};

struct http_request {
	const char *method; // "GET"
	const char *path; // "/v1/vpcs/vpc-…", percent-decoded, without the query
	struct bytes body; // empty when there is none, and when body_too_large
	bool body_too_large; // answer 413; what was sent is thrown away
};
struct http_field { // a header field of a response
	const char *name;
	const char *value;
};
// Answers now, in the call, or later with http_respond; each request exactly once. The request lives until it is answered.
typedef void http_fn(void *context, struct http_request *request);

// Listens at "address:port" or "unix:/path" (listen_at in health.h). NULL with errno when it can't.
struct http_server *http_server_new(struct loop *loop, const char *where, http_fn *handler, void *context,
                                    const struct http_limits *limits);
void http_server_free(struct http_server **server); // unanswered requests get 503
// The value of the first query parameter `name`, percent-decoded; NULL when absent, "" when without a value. The same for a request's header field
// (case-insensitive). Valid as long as the request.
const char *http_query(struct http_request *request, const char *name);
const char *http_header(struct http_request *request, const char *name);
// Calls `visit` for each query parameter, in order (to find unknown ones); value NULL when there is no "=".
void http_query_each(struct http_request *request, void (*visit)(void *context, const char *name, const char *value), void *context);
// `content_type` NULL: none (204, 304). `body` is copied. `fields` may be NULL when count is 0. Ends the request's life.
void http_respond(struct http_request *request, unsigned status, const char *content_type, struct bytes body,
                  const struct http_field *fields, size_t count);

#endif
