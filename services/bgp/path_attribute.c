// Path attributes: a descriptor for each says its flags (RFC 4271 §4.3), its length, how it is read and what a malformed one
// does (RFC 7606 §7). The generic rules are RFC 7606 §3 (flags, duplicates, missing ones), §4 (lengths) and §5 (where the NLRI
// are).
#include "services/bgp/path_attribute.h"

#include <string.h>

#include "services/bgp/as_path.h"

enum {
	SUBCODE_UNRECOGNIZED = 2,
	SUBCODE_MISSING,
	SUBCODE_FLAGS,
	SUBCODE_LENGTH,
	SUBCODE_ORIGIN,
	SUBCODE_NEXT_HOP = 8,
	SUBCODE_OPTIONAL,
	SUBCODE_AS_PATH = 11
};

struct pass {
	const struct update_context *context;
	struct update *update;
	struct writer as_path, others;
	uint8_t seen[256 / 8];
	struct bytes as4_path;
	struct bytes aggregator; // the whole attribute
	bool aggregator_is_trans;
	bool reachable;      // there are NLRI of any family
	bool beyond_unreach; // there is an attribute other than MP_UNREACH_NLRI
};

struct attribute {
	uint8_t flags;
	uint8_t type;
	struct bytes value;
	struct bytes whole; // with its header
};

// Each returns false when the value is malformed. The length has been checked against the descriptor.
static bool read_origin(struct pass *pass, const struct attribute *a)
{
	pass->update->draft.origin = a->value.data[0];
	return a->value.data[0] <= 2;
}

static bool read_as_path(struct pass *pass, const struct attribute *a)
{
	return as_path_read(a->value, pass->context->four_octet_as ? 4 : 2, &pass->as_path);
}

static uint32_t u32_of(struct bytes octets)
{
	struct reader r = reader_of(octets);
	return read_u32(&r);
}

// RFC 4271 §6.3: with a neighbour one hop away only its own address is a next hop on the tunnel's /30 that is not ours. Any
// other is semantically wrong: the routes are not used, the session stays.
static void check_next_hop(struct pass *pass, struct bytes next_hop)
{
	if (!bytes_equal(next_hop, address_bytes(&pass->context->remote)) && pass->update->exclusion == EXCLUSION_NONE) {
		pass->update->exclusion = EXCLUSION_NEXT_HOP;
	}
}

static bool read_next_hop(struct pass *pass, const struct attribute *a)
{
	// RFC 4760 §3: it is not about the routes of MP_REACH_NLRI.
	if (pass->update->nlri.octets.length > 0) {
		check_next_hop(pass, a->value);
	}
	return true;
}

static bool read_med(struct pass *pass, const struct attribute *a)
{
	pass->update->draft.has_med = true;
	pass->update->draft.med = u32_of(a->value);
	return true;
}

static bool read_atomic_aggregate(struct pass *pass, const struct attribute *a)
{
	(void)a;
	pass->update->draft.atomic_aggregate = true;
	return true;
}

// RFC 7606 §7.7: its length depends on the width of an AS on this session. AS 0 makes it malformed (RFC 7607 §2).
static bool read_aggregator(struct pass *pass, const struct attribute *a)
{
	bool four = pass->context->four_octet_as;
	struct reader r = reader_of(a->value);
	uint32_t as = four ? read_u32(&r) : read_u16(&r);
	if (a->value.length != (four ? 8 : 6) || as == 0) {
		return false;
	}
	pass->aggregator = a->whole;
	pass->aggregator_is_trans = !four && as == AS_TRANS;
	return true;
}

static bool read_communities(struct pass *pass, const struct attribute *a)
{
	pass->update->draft.communities = a->value;
	return true;
}

static bool read_large_communities(struct pass *pass, const struct attribute *a)
{
	pass->update->draft.large_communities = a->value;
	return true;
}

static bool read_other(struct pass *pass, const struct attribute *a)
{
	write_bytes(&pass->others, a->whole);
	return true;
}

// RFC 6793 §4.1 and §6: a speaker of four-octet ASes sends no AS4_PATH; one that comes is discarded, as is a malformed one.
static bool read_as4_path(struct pass *pass, const struct attribute *a)
{
	struct writer w = writer_of(pass->update->as4_path, sizeof pass->update->as4_path);
	if (pass->context->four_octet_as || !as4_path_read(a->value, &w)) {
		return false;
	}
	pass->as4_path = writer_bytes(&w);
	return true;
}

static bool read_as4_aggregator(struct pass *pass, const struct attribute *a)
{
	return !pass->context->four_octet_as && u32_of(a->value) != 0 && read_other(pass, a);
}

// FAMILIES: one that was not negotiated.
static enum family read_family(const struct pass *pass, struct reader *r)
{
	uint16_t afi = read_u16(r);
	enum family family = family_find(afi, read_u8(r));
	return family < FAMILIES && pass->context->families[family] ? family : FAMILIES;
}

// RFC 4760 §3, RFC 7606 §7.11: a next hop of a length that the family does not have leaves no way to find the NLRI.
static bool read_mp_reach(struct pass *pass, const struct attribute *a)
{
	struct reader r = reader_of(a->value);
	enum family family = read_family(pass, &r);
	struct bytes next_hop = read_bytes(&r, read_u8(&r));
	read_u8(&r); // reserved
	if (r.failed) {
		return false;
	}
	if (family == FAMILIES) {
		pass->update->other_family++;
		pass->reachable |= reader_left(&r) > 0;
		return true;
	}
	if (next_hop.length != family_octets(family)) {
		return false;
	}
	pass->update->mp_nlri = (struct prefix_run){read_rest(&r), family};
	check_next_hop(pass, next_hop);
	return true;
}

static bool read_mp_unreach(struct pass *pass, const struct attribute *a)
{
	struct reader r = reader_of(a->value);
	enum family family = read_family(pass, &r);
	if (family == FAMILIES) {
		pass->update->other_family++;
		return true;
	}
	pass->update->mp_withdrawn = (struct prefix_run){read_rest(&r), family};
	return true;
}

enum { ANY = UINT16_MAX };
enum { WELL_KNOWN = FLAG_TRANSITIVE, NON_TRANSITIVE = FLAG_OPTIONAL, TRANSITIVE = FLAG_OPTIONAL | FLAG_TRANSITIVE };

static const struct descriptor {
	const char *name; // NULL: an attribute we do not know
	uint8_t flags;
	bool not_from_outside; // an eBGP neighbour may not send it: discarded unread (RFC 7606 §7.5, §7.9, §7.10)
	uint16_t minimum, maximum, multiple; // of the length
	uint8_t subcode;                     // of RFC 4271 §6.3 for a malformed value; 0: the length's
	enum update_verdict malformed;
	bool (*read)(struct pass *pass, const struct attribute *a);
} descriptors[256] = {
    [ATTRIBUTE_ORIGIN] = {"ORIGIN", WELL_KNOWN, false, 1, 1, 1, SUBCODE_ORIGIN, UPDATE_TREAT_AS_WITHDRAW, read_origin},
    [ATTRIBUTE_AS_PATH] = {"AS_PATH", WELL_KNOWN, false, 0, ANY, 1, SUBCODE_AS_PATH, UPDATE_TREAT_AS_WITHDRAW, read_as_path},
    [ATTRIBUTE_NEXT_HOP] = {"NEXT_HOP", WELL_KNOWN, false, 4, 4, 1, SUBCODE_NEXT_HOP, UPDATE_TREAT_AS_WITHDRAW, read_next_hop},
    [ATTRIBUTE_MULTI_EXIT_DISC] = {"MULTI_EXIT_DISC", NON_TRANSITIVE, false, 4, 4, 1, 0, UPDATE_TREAT_AS_WITHDRAW, read_med},
    [ATTRIBUTE_LOCAL_PREF] = {"LOCAL_PREF", WELL_KNOWN, true, 0, ANY, 1, 0, UPDATE_ATTRIBUTE_DISCARD, NULL},
    [ATTRIBUTE_ATOMIC_AGGREGATE] = {"ATOMIC_AGGREGATE", WELL_KNOWN, false, 0, 0, 1, 0, UPDATE_ATTRIBUTE_DISCARD,
                                    read_atomic_aggregate},
    [ATTRIBUTE_AGGREGATOR] = {"AGGREGATOR", TRANSITIVE, false, 6, 8, 2, 0, UPDATE_ATTRIBUTE_DISCARD, read_aggregator},
    [ATTRIBUTE_COMMUNITIES] = {"COMMUNITIES", TRANSITIVE, false, 4, ANY, 4, SUBCODE_OPTIONAL, UPDATE_TREAT_AS_WITHDRAW,
                               read_communities},
    [ATTRIBUTE_ORIGINATOR_ID] = {"ORIGINATOR_ID", NON_TRANSITIVE, true, 0, ANY, 1, 0, UPDATE_ATTRIBUTE_DISCARD, NULL},
    [ATTRIBUTE_CLUSTER_LIST] = {"CLUSTER_LIST", NON_TRANSITIVE, true, 0, ANY, 1, 0, UPDATE_ATTRIBUTE_DISCARD, NULL},
    [ATTRIBUTE_MP_REACH_NLRI] = {"MP_REACH_NLRI", NON_TRANSITIVE, false, 5, ANY, 1, SUBCODE_OPTIONAL, UPDATE_SESSION_RESET,
                                 read_mp_reach},
    [ATTRIBUTE_MP_UNREACH_NLRI] = {"MP_UNREACH_NLRI", NON_TRANSITIVE, false, 3, ANY, 1, SUBCODE_OPTIONAL, UPDATE_SESSION_RESET,
                                   read_mp_unreach},
    [ATTRIBUTE_EXTENDED_COMMUNITIES] = {"EXTENDED_COMMUNITIES", TRANSITIVE, false, 8, ANY, 8, SUBCODE_OPTIONAL,
                                        UPDATE_TREAT_AS_WITHDRAW, read_other},
    [ATTRIBUTE_AS4_PATH] = {"AS4_PATH", TRANSITIVE, false, 6, ANY, 2, SUBCODE_OPTIONAL, UPDATE_ATTRIBUTE_DISCARD,
                            read_as4_path},
    [ATTRIBUTE_AS4_AGGREGATOR] = {"AS4_AGGREGATOR", TRANSITIVE, false, 8, 8, 8, SUBCODE_OPTIONAL, UPDATE_ATTRIBUTE_DISCARD,
                                  read_as4_aggregator},
    [ATTRIBUTE_IPV6_EXTENDED_COMMUNITIES] = {"IPV6_EXTENDED_COMMUNITIES", TRANSITIVE, false, 20, ANY, 20, SUBCODE_OPTIONAL,
                                             UPDATE_TREAT_AS_WITHDRAW, read_other},
    [ATTRIBUTE_LARGE_COMMUNITIES] = {"LARGE_COMMUNITY", TRANSITIVE, false, 12, ANY, 12, SUBCODE_OPTIONAL,
                                     UPDATE_TREAT_AS_WITHDRAW, read_large_communities},
};

static bool seen(const struct pass *pass, uint8_t type)
{
	return pass->seen[type / 8] & 1 << type % 8;
}

static void discard(struct pass *pass, const struct attribute *a, uint8_t subcode, const char *name)
{
	pass->update->discarded++;
	update_blame(pass->update, UPDATE_ATTRIBUTE_DISCARD, subcode, a->whole, name);
}

// RFC 4271 §5, §9: an unknown optional transitive attribute is kept to be passed on, with the Partial bit; a non-transitive one
// is quietly ignored; an unknown well-known one is an error that RFC 7606 left as it was.
static void read_unknown(struct pass *pass, const struct attribute *a)
{
	if (!(a->flags & FLAG_OPTIONAL)) {
		update_blame(pass->update, UPDATE_SESSION_RESET, SUBCODE_UNRECOGNIZED, a->whole, "unrecognized");
	} else if (a->flags & FLAG_TRANSITIVE) {
		uint8_t *kept = write_space(&pass->others, a->whole.length);
		if (kept) {
			memcpy(kept, a->whole.data, a->whole.length);
			kept[0] |= FLAG_PARTIAL;
		}
	}
}

static void read_attribute(struct pass *pass, const struct attribute *a)
{
	struct update *update = pass->update;
	const struct descriptor *d = &descriptors[a->type];
	if (seen(pass, a->type)) {
		// RFC 7606 §3 g.
		if (a->type == ATTRIBUTE_MP_REACH_NLRI || a->type == ATTRIBUTE_MP_UNREACH_NLRI) {
			update_blame(update, UPDATE_SESSION_RESET, UPDATE_MALFORMED_LIST, (struct bytes){NULL, 0}, d->name);
		} else {
			discard(pass, a, UPDATE_MALFORMED_LIST, d->name);
		}
		return;
	}
	pass->seen[a->type / 8] |= (uint8_t)(1 << a->type % 8);
	pass->beyond_unreach |= a->type != ATTRIBUTE_MP_UNREACH_NLRI;
	if (!d->name) {
		read_unknown(pass, a);
		return;
	}
	if (d->not_from_outside) {
		discard(pass, a, 0, d->name);
		return;
	}
	// RFC 7606 §3 c. The NLRI of MP_REACH_NLRI are read all the same: they are what is to be withdrawn.
	if ((a->flags ^ d->flags) & (FLAG_OPTIONAL | FLAG_TRANSITIVE)) {
		update_blame(update, UPDATE_TREAT_AS_WITHDRAW, SUBCODE_FLAGS, a->whole, d->name);
	}
	bool length_is_right =
	    a->value.length >= d->minimum && a->value.length <= d->maximum && a->value.length % d->multiple == 0;
	if (length_is_right && d->read(pass, a)) {
		return;
	}
	uint8_t subcode = length_is_right && d->subcode    ? d->subcode
	                  : d->subcode == SUBCODE_OPTIONAL ? SUBCODE_OPTIONAL
	                                                   : SUBCODE_LENGTH;
	if (d->malformed == UPDATE_ATTRIBUTE_DISCARD) {
		discard(pass, a, subcode, d->name);
	} else {
		update_blame(update, d->malformed, subcode, a->whole, d->name);
	}
}

// RFC 7606 §4: an attribute that does not fit, or too few octets for another, spoils the rest of the attributes, not the NLRI
// behind them.
static bool next_attribute(struct reader *r, struct attribute *out)
{
	const uint8_t *start = r->at;
	out->flags = read_u8(r);
	out->type = read_u8(r);
	out->value = read_bytes(r, out->flags & FLAG_EXTENDED_LENGTH ? read_u16(r) : read_u8(r));
	out->whole = (struct bytes){start, (size_t)(r->at - start)};
	return !r->failed;
}

// RFC 6793 §4.2.3. An AGGREGATOR that is not AS_TRANS tells that somebody aggregated who did not know of four-octet ASes: then
// what AS4_PATH says is not about this route any more.
static void finish_as_path(struct pass *pass)
{
	struct update *update = pass->update;
	struct bytes path = writer_bytes(&pass->as_path);
	bool old_aggregated = pass->aggregator.length && !pass->aggregator_is_trans && seen(pass, ATTRIBUTE_AS4_AGGREGATOR);
	if (pass->as4_path.length && !old_aggregated) {
		struct writer merged = writer_of(update->merged_path, sizeof update->merged_path);
		as_path_merge(path, pass->as4_path, &merged);
		path = writer_bytes(&merged);
	}
	update->draft.as_path = path;
}

static void check_mandatory(struct pass *pass)
{
	static const uint8_t names[] = {ATTRIBUTE_ORIGIN, ATTRIBUTE_AS_PATH, ATTRIBUTE_NEXT_HOP};
	const struct update *update = pass->update;
	for (size_t i = 0; i < sizeof names; i++) {
		bool needed = update->nlri.octets.length || (update->mp_nlri.octets.length && names[i] != ATTRIBUTE_NEXT_HOP);
		if (needed && !seen(pass, names[i])) {
			// RFC 7606 §3 d.
			update_blame(pass->update, UPDATE_TREAT_AS_WITHDRAW, SUBCODE_MISSING, (struct bytes){&names[i], 1},
			             descriptors[names[i]].name);
		}
	}
}

static void check_as_path(struct pass *pass)
{
	struct update *update = pass->update;
	if (!update->nlri.octets.length && !update->mp_nlri.octets.length) {
		return;
	}
	struct bytes path = update->draft.as_path;
	// RFC 4271 §6.3: the leftmost AS is the neighbour's.
	if (update->verdict < UPDATE_TREAT_AS_WITHDRAW && as_path_first(path) != pass->context->remote_as) {
		update_blame(update, UPDATE_TREAT_AS_WITHDRAW, SUBCODE_AS_PATH, (struct bytes){NULL, 0}, "AS_PATH");
	}
	// RFC 4271 §9.1.2: a route that has been here is not used.
	if (as_path_contains(path, pass->context->local_as)) {
		update->exclusion = EXCLUSION_AS_LOOP;
	}
}

void path_attributes_read(struct bytes attributes, const struct update_context *context, struct update *out)
{
	struct pass pass = {.context = context, .update = out};
	pass.as_path = writer_of(out->as_path, sizeof out->as_path);
	pass.others = writer_of(out->others, sizeof out->others);
	struct reader r = reader_of(attributes);
	while (reader_left(&r) > 0) {
		struct attribute a;
		if (!next_attribute(&r, &a)) {
			update_blame(out, UPDATE_TREAT_AS_WITHDRAW, UPDATE_MALFORMED_LIST, (struct bytes){NULL, 0}, NULL);
			pass.beyond_unreach = true;
			break;
		}
		read_attribute(&pass, &a);
	}
	finish_as_path(&pass);
	check_mandatory(&pass);
	check_as_path(&pass);
	if (pass.aggregator.length) {
		write_bytes(&pass.others, pass.aggregator);
	}
	out->draft.others = writer_bytes(&pass.others);
	pass.reachable |= out->nlri.octets.length || out->mp_nlri.octets.length;
	// RFC 4724 §2: an empty MP_UNREACH_NLRI alone is the End-of-RIB of any family but IPv4 unicast, and some say it so for
	// that one too.
	bool nothing_else =
	    !pass.beyond_unreach && !out->other_family && !out->withdrawn.octets.length && !out->nlri.octets.length;
	out->end_of_rib |= nothing_else && seen(&pass, ATTRIBUTE_MP_UNREACH_NLRI) && !out->mp_withdrawn.octets.length;
	// RFC 7606 §5.2: with attributes and nothing reachable in sight, one cannot know that the NLRI were not what was
	// spoilt.
	if (out->verdict == UPDATE_TREAT_AS_WITHDRAW && pass.beyond_unreach && !pass.reachable) {
		out->verdict = UPDATE_SESSION_RESET;
	}
}

void path_attribute_header_write(struct writer *w, uint8_t flags, uint8_t type, size_t length)
{
	if (length > UINT8_MAX) {
		write_u8(w, (uint8_t)(flags | FLAG_EXTENDED_LENGTH));
		write_u8(w, type);
		write_u16(w, (uint16_t)length);
	} else {
		write_u8(w, flags);
		write_u8(w, type);
		write_u8(w, (uint8_t)length);
	}
}
