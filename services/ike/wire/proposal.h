// The SA payload (RFC 7296 §3.3): offering what a tunnel allows, reading an offer, choosing from it, and saying for people why
// nothing fits.
#ifndef TWINSPAN_IKE_PROPOSAL_H
#define TWINSPAN_IKE_PROPOSAL_H

#include "services/ike/wire/algorithm.h"
#include "services/ike/wire/ikev2.h"

enum {
	PROPOSALS_MAX = 16,
	TRANSFORMS_MAX = 64,
	TRANSFORM_NOT_OURS = 0xffff, // the id of a transform with an attribute that we do not understand
};

struct transform {
	uint8_t type;
	uint16_t id;
	uint16_t key_bits; // 0: not given
};
struct proposal {
	uint8_t number;
	uint8_t protocol;
	bool unusable; // has a transform type that we do not know (§3.3.6)
	struct bytes spi;
	struct transform transforms[TRANSFORMS_MAX];
	size_t count;
};
struct proposals {
	struct proposal items[PROPOSALS_MAX];
	size_t count;
};
bool proposals_read(struct bytes body, struct proposals *out);

// With which groups a proposal is made or judged: a child SA made in IKE_AUTH has no key exchange of its own (§1.2).
enum proposal_groups { GROUPS_IGNORED, GROUPS_COUNT };

// Writes the body of an SA payload: one proposal of AEAD suites, one of the others, in the order of our first preference.
void proposals_write(struct writer *w, uint8_t protocol, struct bytes spi, const struct algorithms *ours,
                     enum proposal_groups groups);
// What was chosen, as the single proposal of an answer.
void proposal_write_chosen(struct writer *w, uint8_t protocol, uint8_t number, struct bytes spi, const struct suite *suite,
                           enum proposal_groups groups);
// Chooses by our preference; `ke_group` (of the KE payload, 0: none) is preferred among the groups, which saves a round trip.
// NULL: none fits.
const struct proposal *proposals_choose(const struct proposals *offered, uint8_t protocol, const struct algorithms *ours,
                                        enum proposal_groups groups, unsigned ke_group, struct suite *out);
// The answer to our offer: one proposal, one transform of each type, all of them ours.
const struct proposal *proposals_accept(const struct proposals *answer, uint8_t protocol, const struct algorithms *ours,
                                        enum proposal_groups groups, struct suite *out);
bool algorithms_have_group(const struct algorithms *algorithms, unsigned group);

// Which transform type stands in the way: the last that any of the proposals comes to.
uint8_t proposals_obstacle(const struct proposals *offered, uint8_t protocol, const struct algorithms *ours,
                           enum proposal_groups groups);

// ---- proposal_format.c ----
// "no common encryption algorithm: the peer offers …; we accept …"
void proposals_mismatch(const struct proposals *offered, uint8_t protocol, const struct algorithms *ours,
                        enum proposal_groups groups, char out[static REASON_MAX]);
void algorithms_format(const struct algorithms *ours, uint8_t protocol, enum proposal_groups groups, char *out,
                       size_t capacity);

#endif
