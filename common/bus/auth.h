// Who is at the other end: answers ZeroMQ's authentication requests (ZAP, RFC 27 of the ZeroMQ project) for the public keys
// that belong to an identity, by the files <identity>.public of the keys' directory. What is admitted stays so only as long as
// its file does: ZeroMQ cannot end one connection of a socket, so each frame is asked about again.
#ifndef TWINSPAN_BUS_AUTH_H
#define TWINSPAN_BUS_AUTH_H

#include "common/io/loop.h"

#define BUS_DOMAIN "twinspan"

struct bus_auth;
struct bus_auth_world {
	loop_fn *failed;                                      // a handshake with a key that nobody has
	void (*revoked)(void *context, const char *identity); // its key is gone, or is another one now
	void *context;
};
// One per ZeroMQ context: it listens at the one endpoint that ZeroMQ asks. NULL with errno when it can't.
struct bus_auth *bus_auth_new(void *zmq, struct loop *loop, const char *directory, const struct bus_auth_world *world);
void bus_auth_free(struct bus_auth **auth);
// The directory has changed: reads it again.
void bus_auth_refresh(struct bus_auth *auth);
// The identity that a frame with this User-Id (the connection's public key as text) is from; NULL: nobody's any more.
const char *bus_auth_identity(const struct bus_auth *auth, const char *user_id);

#endif
