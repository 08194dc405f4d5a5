// Who is at the other end: answers ZeroMQ's authentication requests (ZAP, RFC 27 of the ZeroMQ project) with the identity that
// a public key belongs to, by the files <identity>.public of the keys' directory.
#ifndef TWINSPAN_BUS_AUTH_H
#define TWINSPAN_BUS_AUTH_H

#include "common/io/loop.h"

#define BUS_DOMAIN "twinspan"

struct bus_auth;
// One per ZeroMQ context: it listens at the one endpoint that ZeroMQ asks. `failed` is called for each key that nobody has.
// NULL with errno when it can't.
struct bus_auth *bus_auth_new(void *zmq, struct loop *loop, const char *directory, loop_fn *failed, void *context);
void bus_auth_free(struct bus_auth **auth);

#endif
