// Stateless cookies (RFC 7296 §2.6): proof that an initiator receives at its address, before anything is computed for it.
#ifndef TWINSPAN_IKE_COOKIE_H
#define TWINSPAN_IKE_COOKIE_H

#include "common/base/address.h"
#include "common/base/instant.h"
#include "common/base/random.h"

enum { COOKIE_LENGTH = 33 }; // a version octet and an HMAC

struct cookie_jar;
struct cookie_jar *cookie_jar_new(void);
void cookie_jar_free(struct cookie_jar **jar);

// What a cookie is of: one initiator and one attempt of it.
struct cookie_of {
	struct bytes nonce;
	const struct address *remote;
	uint64_t spi_i;
};
void cookie_make(struct cookie_jar *jar, struct random *random, instant now, const struct cookie_of *of,
                 uint8_t out[static COOKIE_LENGTH]);
bool cookie_good(struct cookie_jar *jar, struct random *random, instant now, const struct cookie_of *of, struct bytes cookie);

#endif
