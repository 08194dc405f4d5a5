// See admission.h.
#include "services/ike/v2/admission.h"

#include "common/base/invariant.h"

// Attempts are counted in thousandths and forgotten at a steady rate.
enum { ATTEMPT = 1000, AT_ONCE = 16 * ATTEMPT, FORGOTTEN = 4000 /* a second */ };

// What is left of the count now.
static int64_t recent_now(struct recent *recent, instant now)
{
	invariant(recent->count >= 0 && recent->count <= AT_ONCE);
	duration passed = now > recent->at ? now - recent->at : 0;
	int64_t gone = passed > SECONDS(60) ? recent->count : passed * FORGOTTEN / SECONDS(1);
	if (gone > 0 || recent->count == 0) { // or less than a thousandth has passed
		recent->count = gone < recent->count ? recent->count - gone : 0;
		recent->at = now;
	}
	return recent->count;
}

bool admission_take(const struct ike *ike, struct tunnel *tunnel)
{
	if (recent_now(&tunnel->attempts, ike->now) > AT_ONCE - ATTEMPT) {
		return false;
	}
	tunnel->attempts.count += ATTEMPT;
	return true;
}

void admission_forgive(struct tunnel *tunnel)
{
	struct recent *recent = &tunnel->attempts;
	recent->count = recent->count > ATTEMPT ? recent->count - ATTEMPT : 0;
}
