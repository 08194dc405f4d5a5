// See admission.h.
#include "services/ike/v2/admission.h"

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include <stdlib.h>

// Attempts are counted in thousandths and forgotten at a steady rate.
enum {
	ATTEMPT = 1000,
	UNPROVEN_TUNNEL = 3 * ATTEMPT,   // attempts without a cookie, of one tunnel, before cookies are asked for
	UNPROVEN_TUNNEL_FORGOTTEN = 500, // a second
	UNPROVEN_ALL = 64 * ATTEMPT,     // of all tunnels
	UNPROVEN_ALL_FORGOTTEN = 16000,
	PROVEN_TUNNEL = 16 * ATTEMPT, // attempts with a cookie that are taken at once
	PROVEN_TUNNEL_FORGOTTEN = 4000,
	HALF_OPEN_ALL = 64, // half-open IKE SAs of all tunnels, of one
	HALF_OPEN_TUNNEL = 2,
};

struct admission {
	struct cookie_jar cookies;
	struct recent unproven; // of all tunnels
};

struct admission *admission_new(void)
{
	return allocate(sizeof(struct admission));
}

void admission_free(struct admission **admission)
{
	if (*admission) {
		wipe(*admission, sizeof **admission);
		free(*admission);
		*admission = NULL;
	}
}

// What is left of the count now.
static int64_t recent_now(struct recent *recent, instant now, int64_t forgotten)
{
	invariant(recent->count >= 0 && forgotten > 0);
	duration passed = now > recent->at ? now - recent->at : 0;
	if (recent->count == 0) {
		recent->at = now;
		return 0;
	}
	int64_t gone = passed > SECONDS(3600) ? recent->count : passed * forgotten / SECONDS(1);
	if (gone > 0) { // or less than a thousandth has passed
		recent->count = gone < recent->count ? recent->count - gone : 0;
		recent->at = now;
	}
	return recent->count;
}

static void recent_add(struct recent *recent, int64_t most)
{
	recent->count = recent->count + ATTEMPT < most ? recent->count + ATTEMPT : most;
}

static void recent_forgive(struct recent *recent)
{
	recent->count = recent->count > ATTEMPT ? recent->count - ATTEMPT : 0;
}

bool admission_proves(struct ike *ike, const struct stranger *stranger, struct bytes cookie)
{
	return cookie_good(&ike->admission->cookies, &ike->random, ike->now, stranger->nonce, stranger->remote, stranger->spi_i,
	                   cookie);
}

void admission_cookie(struct ike *ike, const struct stranger *stranger, uint8_t out[static COOKIE_LENGTH])
{
	cookie_make(&ike->admission->cookies, &ike->random, ike->now, stranger->nonce, stranger->remote, stranger->spi_i, out);
}

bool admission_asks(struct ike *ike, const struct stranger *stranger, size_t half_open)
{
	struct recent *own = &stranger->tunnel->unproven, *all = &ike->admission->unproven;
	bool many_own = recent_now(own, ike->now, UNPROVEN_TUNNEL_FORGOTTEN) > UNPROVEN_TUNNEL - ATTEMPT;
	bool many = recent_now(all, ike->now, UNPROVEN_ALL_FORGOTTEN) > UNPROVEN_ALL - ATTEMPT;
	if (stranger->proven || (!many_own && !many && half_open < HALF_OPEN_TUNNEL && ike->half_open < HALF_OPEN_ALL)) {
		return false;
	}
	// While they keep coming, nothing of it is forgotten.
	if (many_own) {
		recent_add(own, UNPROVEN_TUNNEL);
	}
	if (many) {
		recent_add(all, UNPROVEN_ALL);
	}
	return true;
}

bool admission_take(struct ike *ike, const struct stranger *stranger)
{
	struct tunnel *tunnel = stranger->tunnel;
	if (!stranger->proven) {
		recent_add(&tunnel->unproven, UNPROVEN_TUNNEL);
		recent_add(&ike->admission->unproven, UNPROVEN_ALL);
		return true;
	}
	if (recent_now(&tunnel->proven, ike->now, PROVEN_TUNNEL_FORGOTTEN) > PROVEN_TUNNEL - ATTEMPT) {
		return false;
	}
	recent_add(&tunnel->proven, PROVEN_TUNNEL);
	return true;
}

void admission_forgive(struct ike *ike, struct tunnel *tunnel)
{
	recent_forgive(&tunnel->unproven);
	recent_forgive(&tunnel->proven);
	recent_forgive(&ike->admission->unproven);
	invariant(tunnel->unproven.count <= UNPROVEN_TUNNEL && tunnel->proven.count <= PROVEN_TUNNEL);
}
