// The saved state of an IKE SA is kept by esp, which must not be able to read it: AES-256-GCM under a key that only ike has.
// Each process seals with a key of its own, derived from that one and a number drawn at its start, and counts its nonces: none
// is ever used twice, however many states there are.
#ifndef TWINSPAN_IKE_SEAL_H
#define TWINSPAN_IKE_SEAL_H

#include "common/base/bytes.h"

enum {
	SEAL_KEY = 32,
	SEAL_INCARNATION = 16,
	SEAL_NONCE = 12,
	SEAL_TAG = 16,
	SEAL_OVERHEAD = 1 + SEAL_INCARNATION + SEAL_NONCE + SEAL_TAG
};

struct seal_key {
	uint8_t octets[SEAL_KEY];
};
struct sealer;
// `incarnation`: drawn at random by each process.
struct sealer *sealer_new(const struct seal_key *key, const uint8_t incarnation[static SEAL_INCARNATION]);
void sealer_free(struct sealer **sealer);

// `out` gets plain.length + SEAL_OVERHEAD octets: format, incarnation, nonce, ciphertext, tag. `name` is authenticated with it,
// so that one SA's state cannot be passed off as another's.
void seal(struct sealer *sealer, struct bytes name, struct bytes plain, uint8_t *out);
// What any process with the same key sealed. `out` gets sealed.length - SEAL_OVERHEAD octets. false, and nothing of use in
// `out`, when it is not authentic.
bool unseal(const struct seal_key *key, struct bytes name, struct bytes sealed, uint8_t *out);

#endif
