// The key derivation of RFC 7296 §2.13 to §2.18.
#ifndef TWINSPAN_IKE_KEYS_H
#define TWINSPAN_IKE_KEYS_H

#include "services/ike/crypto/ike_crypto.h"
#include "services/ike/crypto/key_exchange.h"

enum { NONCE_MAX = 256, NONCE_MIN = 16, NONCE_OURS = 32 }; // §2.10, §3.9

struct nonce {
	uint16_t length;
	uint8_t octets[NONCE_MAX];
};
bool nonce_set(struct nonce *nonce, struct bytes octets); // false: not 16 … 256 octets
struct bytes nonce_bytes(const struct nonce *nonce);

struct ike_keys { // §2.14; the encryption keys with the salt last for AES-GCM, the integrity keys empty then
	struct secret d, ai, ar, ei, er, pi, pr;
};
void ike_keys_wipe(struct ike_keys *keys);

// What both ends know of one exchange, in the order of its initiator and responder.
struct key_inputs {
	struct bytes nonce_i, nonce_r;
	struct bytes shared;   // g^ir; empty: no key exchange (a child SA without PFS)
	uint64_t spi_i, spi_r; // of the new IKE SA; as numbers in network order of their octets
};

// SKEYSEED of a first IKE SA (§2.14) and of one that replaces another (§2.18); hash_algorithm(prf)->length octets.
void skeyseed_initial(unsigned prf, const struct key_inputs *inputs, struct secret *out);
void skeyseed_rekey(unsigned old_prf, const struct secret *old_d, const struct key_inputs *inputs, struct secret *out);
void ike_keys_derive(const struct suite *suite, const struct secret *skeyseed, const struct key_inputs *inputs,
                     struct ike_keys *out);

struct child_keys { // §2.17: "i" protects what the initiator of the exchange sends
	struct secret encryption_i, integrity_i, encryption_r, integrity_r;
};
void child_keymat(unsigned prf, const struct secret *d, const struct key_inputs *inputs, uint8_t *out, size_t length);
void child_keys_derive(const struct suite *suite, unsigned prf, const struct secret *d, const struct key_inputs *inputs,
                       struct child_keys *out);
// AUTH with a shared key (§2.15): prf(prf(secret, "Key Pad for IKEv2"), message | nonce | prf(SK_p, identity)).
void shared_key_auth(unsigned prf, const struct secret *secret, struct bytes message, struct bytes nonce,
                     const struct secret *sk_p, struct bytes identity, uint8_t out[static HASH_MAX]);

#endif
