// See proposal.h. RFC 7296 §2.7, §3.3; RFC 5282 §8 and RFC 4106 for AEAD proposals (no integrity transform, or NONE). ESN is
// not offered, and taken when a peer insists on it.
#include "services/ike/wire/proposal.h"

#include <string.h>

static bool transform_read(struct reader *r, struct transform *out, bool *last)
{
	uint8_t more = read_u8(r);
	read_u8(r);
	uint16_t length = read_u16(r);
	if (r->failed || length < 8) {
		return false;
	}
	struct reader body = read_sub(r, length - 4u);
	out->type = read_u8(&body);
	read_u8(&body);
	out->id = read_u16(&body);
	out->key_bits = 0;
	bool known = true, has_length = false;
	while (!body.failed && reader_left(&body) > 0) {
		uint16_t attribute = read_u16(&body);
		uint16_t value = read_u16(&body);
		if (attribute == (0x8000 | ATTRIBUTE_KEY_LENGTH)) {
			known = known && !has_length; // twice: none of them is to be believed
			has_length = true;
			out->key_bits = value;
			continue;
		}
		if (!(attribute & 0x8000)) {
			read_bytes(&body, value);
		}
		known = false;
	}
	if (!known) {
		out->id = TRANSFORM_NOT_OURS; // §3.3.6: an attribute that we do not understand
	}
	*last = more == 0;
	return !r->failed && !body.failed && (more == 0 || more == 3);
}

static bool proposal_read(struct reader *r, struct proposal *out, bool *last)
{
	uint8_t more = read_u8(r);
	read_u8(r);
	uint16_t length = read_u16(r);
	if (r->failed || length < 8) {
		return false;
	}
	struct reader body = read_sub(r, length - 4u);
	out->number = read_u8(&body);
	out->protocol = read_u8(&body);
	uint8_t spi_length = read_u8(&body);
	uint8_t count = read_u8(&body);
	out->spi = read_bytes(&body, spi_length);
	out->count = 0;
	out->unusable = false;
	bool ended = count == 0;
	for (unsigned i = 0; i < count; i++) {
		struct transform transform = {0};
		if (!transform_read(&body, &transform, &ended) || ended != (i + 1u == count)) {
			return false;
		}
		if (transform.type < TRANSFORM_ENCRYPTION || transform.type > TRANSFORM_ESN) {
			out->unusable = true;
		} else if (out->count < TRANSFORMS_MAX) { // what is beyond is not considered
			out->transforms[out->count++] = transform;
		}
	}
	*last = more == 0;
	return !r->failed && !body.failed && ended && reader_left(&body) == 0 && (more == 0 || more == 2);
}

bool proposals_read(struct bytes body, struct proposals *out)
{
	struct reader r = reader_of(body);
	bool last = false;
	out->count = 0;
	while (!last) {
		if (out->count == PROPOSALS_MAX || !proposal_read(&r, &out->items[out->count], &last)) {
			return false;
		}
		out->count++;
	}
	return reader_left(&r) == 0;
}

static void transform_write(struct writer *w, uint8_t type, uint16_t id, uint16_t key_bits, size_t *last)
{
	*last = writer_length(w);
	write_u8(w, 3);
	write_u8(w, 0);
	write_u16(w, key_bits ? 12 : 8);
	write_u8(w, type);
	write_u8(w, 0);
	write_u16(w, id);
	if (key_bits) {
		write_u16(w, 0x8000 | ATTRIBUTE_KEY_LENGTH);
		write_u16(w, key_bits);
	}
}

struct open_proposal {
	size_t start, count, last;
};

static struct open_proposal proposal_begin(struct writer *w, bool more, uint8_t number, uint8_t protocol, struct bytes spi)
{
	struct open_proposal open = {.start = writer_length(w)};
	write_u8(w, more ? 2 : 0);
	write_u8(w, 0);
	write_u16(w, 0);
	write_u8(w, number);
	write_u8(w, protocol);
	write_u8(w, (uint8_t)spi.length);
	write_u8(w, 0);
	write_bytes(w, spi);
	return open;
}

static void proposal_add(struct writer *w, struct open_proposal *open, uint8_t type, uint16_t id, uint16_t key_bits)
{
	transform_write(w, type, id, key_bits, &open->last);
	open->count++;
}

static void proposal_end(struct writer *w, const struct open_proposal *open)
{
	write_u16_at(w, open->start + 2, (uint16_t)(writer_length(w) - open->start));
	if (!w->failed) {
		w->start[open->start + 7] = (uint8_t)open->count;
		w->start[open->last] = 0; // the last transform
	}
}

static void write_one(struct writer *w, bool more, uint8_t number, uint8_t protocol, struct bytes spi,
                      const struct algorithms *ours, enum proposal_groups groups, bool aead)
{
	struct open_proposal open = proposal_begin(w, more, number, protocol, spi);
	for (size_t i = 0; i < ours->encryption_count; i++) {
		const struct encryption_algorithm *encryption = encryption_algorithm(ours->encryption[i]);
		if (encryption && encryption->aead == aead) {
			proposal_add(w, &open, TRANSFORM_ENCRYPTION, encryption->transform, encryption->key_bits);
		}
	}
	for (size_t i = 0; i < ours->integrity_count; i++) {
		const struct hash_algorithm *hash = hash_algorithm(ours->integrity[i]);
		if (hash && !aead) {
			proposal_add(w, &open, TRANSFORM_INTEGRITY, hash->integrity_transform, 0);
		}
		if (hash && protocol == PROTOCOL_IKE) {
			proposal_add(w, &open, TRANSFORM_PRF, hash->prf_transform, 0);
		}
	}
	for (size_t i = 0; i < ours->group_count && groups == GROUPS_COUNT; i++) {
		// NONE alone is said by silence (§3.3.2).
		if (ours->groups[i] != GROUP_NONE || ours->group_count > 1) {
			proposal_add(w, &open, TRANSFORM_GROUP, ours->groups[i], 0);
		}
	}
	if (protocol == PROTOCOL_ESP) {
		proposal_add(w, &open, TRANSFORM_ESN, ESN_NO, 0);
	}
	proposal_end(w, &open);
}

void proposals_write(struct writer *w, uint8_t protocol, struct bytes spi, const struct algorithms *ours,
                     enum proposal_groups groups)
{
	bool aead = false, other = false, aead_first = false;
	for (size_t i = 0; i < ours->encryption_count; i++) {
		const struct encryption_algorithm *encryption = encryption_algorithm(ours->encryption[i]);
		if (!encryption) {
			continue;
		}
		aead_first = aead_first || (encryption->aead && !other);
		aead = aead || encryption->aead;
		other = other || !encryption->aead;
	}
	other = other && ours->integrity_count > 0;
	if (aead && other) {
		write_one(w, true, 1, protocol, spi, ours, groups, aead_first);
		write_one(w, false, 2, protocol, spi, ours, groups, !aead_first);
	} else {
		write_one(w, false, 1, protocol, spi, ours, groups, aead);
	}
}

void proposal_write_chosen(struct writer *w, uint8_t protocol, uint8_t number, struct bytes spi, const struct suite *suite,
                           enum proposal_groups groups)
{
	const struct encryption_algorithm *encryption = encryption_algorithm(suite->encryption);
	const struct hash_algorithm *integrity = hash_algorithm(suite->integrity);
	const struct hash_algorithm *prf = hash_algorithm(suite->prf);
	struct open_proposal open = proposal_begin(w, false, number, protocol, spi);
	proposal_add(w, &open, TRANSFORM_ENCRYPTION, encryption->transform, encryption->key_bits);
	if (protocol == PROTOCOL_IKE && prf) {
		proposal_add(w, &open, TRANSFORM_PRF, prf->prf_transform, 0);
	}
	if (integrity) {
		proposal_add(w, &open, TRANSFORM_INTEGRITY, integrity->integrity_transform, 0);
	}
	if (groups == GROUPS_COUNT && suite->group != GROUP_NONE) {
		proposal_add(w, &open, TRANSFORM_GROUP, suite->group, 0);
	}
	if (protocol == PROTOCOL_ESP) {
		proposal_add(w, &open, TRANSFORM_ESN, suite->esn ? ESN_YES : ESN_NO, 0);
	}
	proposal_end(w, &open);
}

static bool has(const struct proposal *proposal, uint8_t type, unsigned id, unsigned key_bits)
{
	for (size_t i = 0; i < proposal->count; i++) {
		const struct transform *t = &proposal->transforms[i];
		if (t->type == type && t->id == id && t->key_bits == key_bits) {
			return true;
		}
	}
	return false;
}

static size_t count_of(const struct proposal *proposal, uint8_t type)
{
	size_t count = 0;
	for (size_t i = 0; i < proposal->count; i++) {
		count += proposal->transforms[i].type == type;
	}
	return count;
}

bool algorithms_have_group(const struct algorithms *algorithms, unsigned group)
{
	return group <= UINT8_MAX && memchr(algorithms->groups, (int)group, algorithms->group_count) != NULL;
}

static bool choose_group(const struct proposal *p, const struct algorithms *ours, bool optional, unsigned ke_group,
                         uint8_t *out)
{
	bool silent = optional && count_of(p, TRANSFORM_GROUP) == 0;
	bool usable = algorithms_have_group(ours, ke_group) &&
	              (ke_group == GROUP_NONE ? silent || (optional && has(p, TRANSFORM_GROUP, GROUP_NONE, 0))
	                                      : has(p, TRANSFORM_GROUP, ke_group, 0));
	if (usable) {
		*out = (uint8_t)ke_group;
		return true;
	}
	for (size_t i = 0; i < ours->group_count; i++) {
		unsigned group = ours->groups[i];
		bool offered = group == GROUP_NONE ? silent || (optional && has(p, TRANSFORM_GROUP, GROUP_NONE, 0))
		                                   : has(p, TRANSFORM_GROUP, group, 0);
		if (offered) {
			*out = (uint8_t)group;
			return true;
		}
	}
	return false;
}

// The first of our hashes whose transform is offered; 0 when none is.
static uint8_t choose_hash(const struct proposal *p, const struct algorithms *ours, uint8_t type)
{
	for (size_t i = 0; i < ours->integrity_count; i++) {
		const struct hash_algorithm *hash = hash_algorithm(ours->integrity[i]);
		if (hash && has(p, type, type == TRANSFORM_PRF ? hash->prf_transform : hash->integrity_transform, 0)) {
			return ours->integrity[i];
		}
	}
	return 0;
}

// Which transform type fails first with this encryption algorithm; 0: all good.
static uint8_t judge(const struct proposal *p, uint8_t protocol, uint8_t encryption_id, const struct algorithms *ours,
                     enum proposal_groups groups, unsigned ke_group, struct suite *out)
{
	const struct encryption_algorithm *encryption = encryption_algorithm(encryption_id);
	if (!encryption || p->unusable || p->protocol != protocol ||
	    !has(p, TRANSFORM_ENCRYPTION, encryption->transform, encryption->key_bits)) {
		return TRANSFORM_ENCRYPTION;
	}
	*out = (struct suite){.encryption = encryption_id};
	if (encryption->aead) {
		if (count_of(p, TRANSFORM_INTEGRITY) > 0 && !has(p, TRANSFORM_INTEGRITY, AUTH_NONE, 0)) {
			return TRANSFORM_INTEGRITY;
		}
	} else if ((out->integrity = choose_hash(p, ours, TRANSFORM_INTEGRITY)) == 0) {
		return TRANSFORM_INTEGRITY;
	}
	if (protocol == PROTOCOL_IKE && (out->prf = choose_hash(p, ours, TRANSFORM_PRF)) == 0) {
		return TRANSFORM_PRF;
	}
	if (groups == GROUPS_COUNT && !choose_group(p, ours, protocol != PROTOCOL_IKE, ke_group, &out->group)) {
		return TRANSFORM_GROUP;
	}
	if (protocol == PROTOCOL_ESP && count_of(p, TRANSFORM_ESN) > 0 && !has(p, TRANSFORM_ESN, ESN_NO, 0)) {
		if (!has(p, TRANSFORM_ESN, ESN_YES, 0)) {
			return TRANSFORM_ESN;
		}
		out->esn = true;
	}
	return 0;
}

const struct proposal *proposals_choose(const struct proposals *offered, uint8_t protocol, const struct algorithms *ours,
                                        enum proposal_groups groups, unsigned ke_group, struct suite *out)
{
	for (size_t i = 0; i < ours->encryption_count; i++) {
		for (size_t k = 0; k < offered->count; k++) {
			if (judge(&offered->items[k], protocol, ours->encryption[i], ours, groups, ke_group, out) == 0) {
				return &offered->items[k];
			}
		}
	}
	return NULL;
}

const struct proposal *proposals_accept(const struct proposals *answer, uint8_t protocol, const struct algorithms *ours,
                                        enum proposal_groups groups, struct suite *out)
{
	if (answer->count != 1) {
		return NULL;
	}
	for (uint8_t type = TRANSFORM_ENCRYPTION; type <= TRANSFORM_ESN; type++) {
		if (count_of(&answer->items[0], type) > 1) {
			return NULL;
		}
	}
	const struct proposal *chosen = proposals_choose(answer, protocol, ours, groups, GROUP_NONE, out);
	return chosen && !out->esn ? chosen : NULL; // ESN is never offered
}

uint8_t proposals_obstacle(const struct proposals *offered, uint8_t protocol, const struct algorithms *ours,
                           enum proposal_groups groups)
{
	static const uint8_t order[TRANSFORM_TYPES] = {0, 1, 3, 2, 4, 5}; // how far judge came
	uint8_t worst = TRANSFORM_ENCRYPTION;
	for (size_t i = 0; i < ours->encryption_count; i++) {
		for (size_t k = 0; k < offered->count; k++) {
			struct suite suite;
			uint8_t failed =
			    judge(&offered->items[k], protocol, ours->encryption[i], ours, groups, GROUP_NONE, &suite);
			worst = order[failed] > order[worst] ? failed : worst;
		}
	}
	return worst;
}
