// Stateless cookies (RFC 7296 §2.6): proof that an initiator receives at its address, before any key exchange is computed for
// it.
#ifndef TWINSPAN_IKE_COOKIE_H
#define TWINSPAN_IKE_COOKIE_H

#include "common/base/address.h"
#include "common/base/instant.h"
#include "common/base/random.h"

enum { COOKIE_LENGTH = 33 }; // a version octet and an HMAC

struct cookie_jar {
	uint8_t secrets[2][32]; // by version % 2
	uint8_t version;
	instant renewed; // 0: never
};
void cookie_make(struct cookie_jar *jar, struct random *random, instant now, struct bytes nonce, const struct address *remote,
                 uint64_t spi_i, uint8_t out[static COOKIE_LENGTH]);
bool cookie_good(struct cookie_jar *jar, struct random *random, instant now, struct bytes nonce, const struct address *remote,
                 uint64_t spi_i, struct bytes cookie);

#endif
