// The saved state of an IKE SA is kept by esp, which must not be able to read it: AES-256-GCM under a key that only ike has.
#ifndef TWINSPAN_IKE_SEAL_H
#define TWINSPAN_IKE_SEAL_H

#include "common/base/bytes.h"

enum { SEAL_KEY = 32, SEAL_NONCE = 12, SEAL_TAG = 16, SEAL_OVERHEAD = SEAL_NONCE + SEAL_TAG };

struct seal_key {
	uint8_t octets[SEAL_KEY];
};

// `out` gets plain.length + SEAL_OVERHEAD octets: nonce, ciphertext, tag. `name` is authenticated with it, so that one SA's
// state cannot be passed off as another's. The nonce must be random and new.
void seal(const struct seal_key *key, const uint8_t nonce[static SEAL_NONCE], struct bytes name, struct bytes plain,
          uint8_t *out);
// `out` gets sealed.length - SEAL_OVERHEAD octets. false, and nothing of use in `out`, when it is not authentic.
bool unseal(const struct seal_key *key, struct bytes name, struct bytes sealed, uint8_t *out);

#endif
