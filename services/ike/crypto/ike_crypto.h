// The primitives of an IKE SA over libcrypto. The algorithms themselves, with their numbers and lengths, are in
// wire/algorithm.h.
#ifndef TWINSPAN_IKE_CRYPTO_H
#define TWINSPAN_IKE_CRYPTO_H

#include "services/ike/wire/algorithm.h"

enum { HASH_MAX = 64, IV_MAX = 16, GCM_IV = 8, GCM_TAG = 16, CBC_BLOCK = 16 };

// `out` gets hash_algorithm(hash)->length octets. `hash` must be known.
void hmac(unsigned hash, struct bytes key, struct bytes data, uint8_t out[static HASH_MAX]);
void sha1(struct bytes data, uint8_t out[static 20]);
// prf+ (RFC 7296 §2.13); length up to 255 blocks.
void prf_plus(unsigned hash, struct bytes key, struct bytes seed, uint8_t *out, size_t length);

// RFC 5282. `key` has the salt last. In place; encrypting writes the tag, decrypting compares it (false: not authentic).
bool gcm_encrypt(struct bytes key, const uint8_t iv[static GCM_IV], struct bytes associated, uint8_t *text, size_t length,
                 uint8_t tag[static GCM_TAG]);
bool gcm_decrypt(struct bytes key, const uint8_t iv[static GCM_IV], struct bytes associated, uint8_t *text, size_t length,
                 const uint8_t tag[static GCM_TAG]);
// RFC 3602, in place, whole blocks.
bool cbc_encrypt(struct bytes key, const uint8_t iv[static CBC_BLOCK], uint8_t *text, size_t length);
bool cbc_decrypt(struct bytes key, const uint8_t iv[static CBC_BLOCK], uint8_t *text, size_t length);

#endif
