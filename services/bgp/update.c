// See update.h. The message's own structure is here; the attributes are in path_attribute.c.
// Left out: families that are not offered (RFC 4760 §7 would also allow to ignore what comes of them: that is done), ADD-PATH.
#include "services/bgp/update.h"

#include "services/bgp/path_attribute.h"

bool prefix_read(struct reader *r, enum family family, struct prefix *out)
{
	if (reader_left(r) == 0) {
		return false;
	}
	struct address address = {.length = family_octets(family)};
	uint8_t length = read_u8(r);
	if (length > address.length * 8) {
		r->failed = true;
		return false;
	}
	for (size_t i = 0; i < ((size_t)length + 7) / 8; i++) {
		address.octets[i] = read_u8(r);
	}
	*out = prefix_of(&address, length); // RFC 4271 §4.3: "the value of trailing bits is irrelevant"
	return !r->failed;
}

void prefix_write(struct writer *w, const struct prefix *prefix)
{
	write_u8(w, prefix->length);
	write_bytes(w, (struct bytes){prefix->address.octets, ((size_t)prefix->length + 7) / 8});
}

static bool prefixes_are_valid(const struct prefix_run *run)
{
	struct reader r = reader_of(run->octets);
	struct prefix prefix;
	while (prefix_read(&r, run->family, &prefix)) {
	}
	return !r.failed;
}

void update_blame(struct update *update, enum update_verdict verdict, uint8_t subcode, struct bytes data, const char *attribute)
{
	// RFC 7606 §3 h: the strongest of several wins; of equals the first is told.
	if (verdict > update->verdict) {
		update->verdict = verdict;
		update->error = (struct bgp_error){ERROR_UPDATE, subcode, data};
		update->attribute = attribute;
	}
}

// RFC 4271 §6.3 "Malformed Attribute List": the two length fields that say where the parts are cannot be trusted, so nothing of
// it can.
static bool split(struct bytes body, struct update *out, struct bytes *attributes)
{
	struct reader r = reader_of(body);
	out->withdrawn.octets = read_bytes(&r, read_u16(&r));
	*attributes = read_bytes(&r, read_u16(&r));
	out->nlri.octets = read_rest(&r);
	return !r.failed;
}

void update_read(struct bytes body, const struct update_context *context, struct update *out)
{
	static const struct bytes none;
	out->verdict = UPDATE_ACCEPT;
	out->exclusion = EXCLUSION_NONE;
	out->error = (struct bgp_error){.code = ERROR_NONE};
	out->attribute = NULL;
	out->discarded = out->other_family = 0;
	out->withdrawn = out->nlri = out->mp_withdrawn = out->mp_nlri = (struct prefix_run){.family = FAMILY_IPV4};
	out->draft = (struct attribute_draft){.next_hop = context->remote};
	struct bytes attributes;
	if (!split(body, out, &attributes)) {
		update_blame(out, UPDATE_SESSION_RESET, UPDATE_MALFORMED_LIST, none, NULL);
		return;
	}
	out->end_of_rib = body.length == 4 && out->withdrawn.octets.length == 0 && attributes.length == 0;
	path_attributes_read(attributes, context, out);
	// RFC 7606 §3 i, j and §5.3: routes can be withdrawn only when all of them can be read.
	if (!prefixes_are_valid(&out->withdrawn) || !prefixes_are_valid(&out->nlri)) {
		update_blame(out, UPDATE_SESSION_RESET, UPDATE_INVALID_NETWORK, none, NULL);
	}
	if (!prefixes_are_valid(&out->mp_withdrawn) || !prefixes_are_valid(&out->mp_nlri)) {
		update_blame(out, UPDATE_SESSION_RESET, UPDATE_OPTIONAL_ATTRIBUTE, none, "MP_REACH_NLRI or MP_UNREACH_NLRI");
	}
}
