// What to do when a peer refuses to rekey (RFC 7296 §1.3, §2.8.3, §2.25). Devices in the field answer a key exchange of another
// group than they would choose with INVALID_KE_PAYLOAD, NO_PROPOSAL_CHOSEN or INVALID_SYNTAX, or refuse every CREATE_CHILD_SA.
// So: the group that worked last comes first; a refused one is followed by another; and what no group helps against is
// followed by a new IKE SA, which needs no CREATE_CHILD_SA at all.
#include "services/ike/v2/exchanges.h"

#include "common/base/invariant.h"

enum {
	GROUPS_TRIED_MAX = 4, // each is a round trip and a key exchange
	TEMPORARY_FAILURES_MAX = 8,
};

// Its place in the configuration, or -1. Without any group configured there is one place: NONE.
static int place_of(const struct algorithms *ours, unsigned group)
{
	if (ours->group_count == 0) {
		return group == GROUP_NONE ? 0 : -1;
	}
	for (int i = 0; i < ours->group_count; i++) {
		if (ours->groups[i] == group) {
			return i;
		}
	}
	return -1;
}

static bool may_try(const struct rekey_attempts *attempts, const struct algorithms *ours, unsigned group)
{
	int place = place_of(ours, group);
	return place >= 0 && !(attempts->tried & 1u << place) && (group == GROUP_NONE || group_known(group));
}

uint8_t rekey_attempts_next(const struct rekey_attempts *attempts, const struct algorithms *ours, uint8_t preferred,
                            uint8_t second)
{
	const uint8_t first[] = {attempts->wish, preferred, second};
	if (__builtin_popcount(attempts->tried) >= GROUPS_TRIED_MAX) {
		return NO_GROUP;
	}
	for (size_t i = 0; i < sizeof first; i++) {
		if (first[i] != NO_GROUP && may_try(attempts, ours, first[i])) {
			return first[i];
		}
	}
	if (ours->group_count == 0 && may_try(attempts, ours, GROUP_NONE)) {
		return GROUP_NONE;
	}
	for (size_t i = 0; i < ours->group_count; i++) {
		if (may_try(attempts, ours, ours->groups[i])) {
			return ours->groups[i];
		}
	}
	return NO_GROUP;
}

struct algorithms rekey_attempts_offer(struct rekey_attempts *attempts, const struct algorithms *ours, uint8_t group)
{
	struct algorithms offer = *ours;
	int place = place_of(ours, group);
	invariant(place >= 0 && place < GROUPS_MAX);
	invariant(!(attempts->tried & 1u << place)); // none is offered again before the next round
	attempts->offered = group;
	if (ours->group_count == 0) {
		return offer;
	}
	bool refused_before = attempts->tried != 0 && attempts->wish != group;
	for (int i = place; i > 0; i--) {
		offer.groups[i] = offer.groups[i - 1];
	}
	offer.groups[0] = group;
	offer.group_count = refused_before ? 1 : ours->group_count;
	return offer;
}

enum rekey_remedy rekey_attempts_refused(struct rekey_attempts *attempts, const struct algorithms *ours,
                                         const struct notification *n)
{
	attempts->refusals = (uint8_t)(attempts->refusals < UINT8_MAX ? attempts->refusals + 1 : UINT8_MAX);
	if (n->type == TEMPORARY_FAILURE) {
		return attempts->refusals < TEMPORARY_FAILURES_MAX ? REKEY_LATER : REKEY_IN_NEW_IKE_SA;
	}
	if (n->type == NO_ADDITIONAL_SAS || n->type == TS_UNACCEPTABLE) {
		return REKEY_IN_NEW_IKE_SA; // no group helps: the peer has no CREATE_CHILD_SA (§1.3), or narrows otherwise in
		                            // it
	}
	int place = attempts->offered != NO_GROUP ? place_of(ours, attempts->offered) : -1;
	if (place >= 0) {
		attempts->tried = (uint16_t)(attempts->tried | 1u << place);
	}
	attempts->wish = NO_GROUP;
	if (n->type == INVALID_KE_PAYLOAD && n->data.length == 2) {
		unsigned group = (unsigned)n->data.data[0] << 8 | n->data.data[1];
		attempts->wish = may_try(attempts, ours, group) ? (uint8_t)group : NO_GROUP;
	}
	return rekey_attempts_next(attempts, ours, NO_GROUP, NO_GROUP) != NO_GROUP ? REKEY_AGAIN : REKEY_IN_NEW_IKE_SA;
}

void rekey_attempts_done(struct rekey_attempts *attempts)
{
	*attempts = (struct rekey_attempts){.wish = NO_GROUP, .offered = NO_GROUP};
}
