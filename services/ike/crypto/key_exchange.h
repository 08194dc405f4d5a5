// Key exchanges (RFC 7296 §2.12, §3.4) from injected private octets, so that the same seed gives the same exchange. One end
// begins and finishes, the other responds: the shape of Diffie-Hellman and of key encapsulation.
#ifndef TWINSPAN_IKE_KEY_EXCHANGE_H
#define TWINSPAN_IKE_KEY_EXCHANGE_H

#include "common/base/random.h"
#include "common/base/secret.h"

enum { KE_VALUE_MAX = 1600, SHARED_SECRET_MAX = 1024 };

struct ke_value { // Key Exchange Data
	size_t length;
	uint8_t octets[KE_VALUE_MAX];
};
struct key_exchange {  // what the end that began keeps until the answer
	uint8_t group; // 0: none
	struct secret private_value;
};
struct shared_secret { // g^ir, which for a MODP group is longer than a struct secret
	size_t length;
	uint8_t octets[SHARED_SECRET_MAX];
};

bool group_known(unsigned group);
size_t group_public_length(unsigned group); // octets of Key Exchange Data; 0 when unknown
// Whether a peer may send this value at all (RFC 6989 §2; RFC 8031 §3.1), found without an exponentiation: its length, 1 < y <
// p-1, on the curve, not of small order.
bool key_exchange_acceptable(unsigned group, struct bytes value);

// A fresh private value, and ours to send. `group` must be known.
void key_exchange_begin(struct key_exchange *exchange, unsigned group, struct random *random, struct ke_value *ours);
// The whole of the other end: our value to send and the secret, from the peer's value. false when the peer's is not acceptable.
bool key_exchange_respond(unsigned group, struct bytes peer, struct random *random, struct ke_value *ours,
                          struct shared_secret *out);
// The secret from the peer's answer; false when its value is not acceptable. The private value stays: see key_exchange_wipe.
bool key_exchange_finish(const struct key_exchange *exchange, struct bytes peer, struct shared_secret *out);
void key_exchange_wipe(struct key_exchange *exchange);
struct bytes shared_secret_bytes(const struct shared_secret *shared);
struct bytes ke_value_bytes(const struct ke_value *value);
// Our value for a private one that is given: what key_exchange_begin sends.
bool key_exchange_value(const struct key_exchange *exchange, struct ke_value *out);

#endif
