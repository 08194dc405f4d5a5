// Diffie-Hellman from injected private octets, so that the same seed gives the same exchange.
#ifndef TWINSPAN_IKE_KEY_EXCHANGE_H
#define TWINSPAN_IKE_KEY_EXCHANGE_H

#include "common/base/random.h"
#include "common/base/secret.h"

enum { PUBLIC_VALUE_MAX = 1024, SHARED_SECRET_MAX = 1024 };

struct key_exchange {
	uint8_t group; // 0: none
	struct secret private_value;
};
struct shared_secret { // g^ir, which for a MODP group is longer than a struct secret
	size_t length;
	uint8_t octets[SHARED_SECRET_MAX];
};

bool group_known(unsigned group);
size_t group_public_length(unsigned group); // octets of Key Exchange Data; 0 when unknown
// A fresh private value. `group` must be known.
void key_exchange_init(struct key_exchange *exchange, unsigned group, struct random *random);
void key_exchange_wipe(struct key_exchange *exchange);
// Our Key Exchange Data; returns its length, 0 when the group is none.
size_t key_exchange_public(const struct key_exchange *exchange, uint8_t out[static PUBLIC_VALUE_MAX]);
// false when the peer's value has a wrong length or is one that a peer must not send (0, 1, p-1, off the curve, small order).
bool key_exchange_shared(const struct key_exchange *exchange, struct bytes peer, struct shared_secret *out);
struct bytes shared_secret_bytes(const struct shared_secret *shared);

#endif
