// See cookie.h. Cookie = version | HMAC-SHA2-256(secret of the version, Ni | IPi | SPIi), as §2.6 proposes. The secret changes
// every minute, and cookies of the one before are still good.
#include "services/ike/v2/cookie.h"

#include "common/base/alloc.h"
#include "common/base/secret.h"
#include "services/ike/crypto/ike_crypto.h"
#include <stdlib.h>
#include <string.h>

struct cookie_jar {
	uint8_t secrets[2][32]; // by version % 2
	uint8_t version;
	instant renewed; // 0: never
};

struct cookie_jar *cookie_jar_new(void)
{
	return allocate(sizeof(struct cookie_jar));
}

void cookie_jar_free(struct cookie_jar **jar)
{
	if (*jar) {
		wipe(*jar, sizeof **jar);
		free(*jar);
		*jar = NULL;
	}
}

static void renew(struct cookie_jar *jar, struct random *random, instant now)
{
	if (jar->renewed == 0) {
		random_fill(random, jar->secrets, sizeof jar->secrets);
		jar->renewed = now > 0 ? now : 1;
	} else if (now - jar->renewed > SECONDS(60)) {
		// After a long quiet time both are old.
		if (now - jar->renewed > SECONDS(120)) {
			random_fill(random, jar->secrets[jar->version % 2], sizeof jar->secrets[0]);
		}
		jar->version++;
		random_fill(random, jar->secrets[jar->version % 2], sizeof jar->secrets[0]);
		jar->renewed = now;
	}
}

static void compute(const struct cookie_jar *jar, uint8_t version, const struct cookie_of *of,
                    uint8_t out[static COOKIE_LENGTH])
{
	uint8_t octets[256 + 16 + 8], hash[HASH_MAX];
	struct writer w = writer_of(octets, sizeof octets);
	write_bytes(&w, of->nonce);
	write_bytes(&w, address_bytes(of->remote));
	write_u64(&w, of->spi_i);
	hmac(INTEGRITY_SHA2_256, (struct bytes){jar->secrets[version % 2], sizeof jar->secrets[0]}, writer_bytes(&w), hash);
	out[0] = version;
	memcpy(out + 1, hash, COOKIE_LENGTH - 1);
}

void cookie_make(struct cookie_jar *jar, struct random *random, instant now, const struct cookie_of *of,
                 uint8_t out[static COOKIE_LENGTH])
{
	renew(jar, random, now);
	compute(jar, jar->version, of, out);
}

bool cookie_good(struct cookie_jar *jar, struct random *random, instant now, const struct cookie_of *of, struct bytes cookie)
{
	renew(jar, random, now);
	if (cookie.length != COOKIE_LENGTH) {
		return false;
	}
	uint8_t version = cookie.data[0];
	if (version != jar->version && version != (uint8_t)(jar->version - 1)) {
		return false;
	}
	uint8_t good[COOKIE_LENGTH];
	compute(jar, version, of, good);
	return constant_time_equal(cookie, (struct bytes){good, sizeof good});
}
