// The algorithms of IKE and child SAs: what they are on the wire (RFC 7296 §3.3.2), their lengths and their names.
#ifndef TWINSPAN_IKE_ALGORITHM_H
#define TWINSPAN_IKE_ALGORITHM_H

#include "services/ike/ike.h"

enum { GCM_SALT = 4 }; // octets of salt after an AES-GCM key (RFC 4106 §4)

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

#endif
