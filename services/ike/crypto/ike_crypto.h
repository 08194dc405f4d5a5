// The primitives of an IKE SA over libcrypto, and the table of algorithms with their numbers, lengths and names.
#ifndef TWINSPAN_IKE_CRYPTO_H
#define TWINSPAN_IKE_CRYPTO_H

#include "services/ike/ike.h"

enum { HASH_MAX = 64, IV_MAX = 16, GCM_SALT = 4, GCM_IV = 8, GCM_TAG = 16, CBC_BLOCK = 16 };

struct encryption_algorithm {
	const char *name;
	uint16_t transform;
	uint16_t key_bits;
	bool aead;
};
struct hash_algorithm {
	const char *name;
	uint16_t integrity_transform;
	uint16_t prf_transform;
	uint8_t length; // of the digest, and of the keys (RFC 4868 §2.1.1)
	uint8_t icv;    // octets of the truncated integrity check
};

// What was negotiated for one SA; for a child SA prf is unused, and group is that of its own exchange (0: none).
struct suite {
	uint8_t encryption; // enum encryption
	uint8_t integrity;  // enum integrity
	uint8_t prf;        // enum integrity
	uint8_t group;
	bool esn;
};

// NULL when there is no such algorithm.
const struct encryption_algorithm *encryption_algorithm(unsigned encryption);
const struct hash_algorithm *hash_algorithm(unsigned integrity);
const char *group_name(unsigned group); // NULL when unknown

// Octets of encryption key material: the key, and the salt for AES-GCM.
size_t encryption_key_length(unsigned encryption);
size_t integrity_key_length(unsigned integrity);
bool suite_is_weak(const struct suite *suite); // SHA1, groups 2 and 5
char *suite_format(const struct suite *suite, char out[static SUITE_TEXT_MAX]);

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
