// See selector.h.
#include "services/esp/selector.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "services/esp/octets.h"

struct selector {
	uint8_t first[16], last[16]; // network order
	uint8_t octets;              // of an address
	uint8_t protocol;            // 0: any
	uint16_t first_port, last_port;
};
struct selectors {
	uint8_t local_count, count;
	uint8_t any;
	struct selector at[]; // the local ones first
};

// OPAQUE is the one range that begins behind its end (RFC 7296 §3.13.1): ports that nobody can see.
static bool ports_matter(const struct selector *selector)
{
	return selector->first_port > 0 || selector->last_port < UINT16_MAX;
}

static const char *take(struct selectors *selectors, const struct esp_selector *from, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (from[i].first.length != from[i].last.length || (from[i].first.length != 4 && from[i].first.length != 16)) {
			return "a traffic selector's addresses are not of one family";
		}
		struct selector *to = &selectors->at[selectors->count++];
		memcpy(to->first, from[i].first.octets, sizeof to->first);
		memcpy(to->last, from[i].last.octets, sizeof to->last);
		to->octets = from[i].first.length;
		to->protocol = from[i].protocol;
		to->first_port = from[i].first_port;
		to->last_port = from[i].last_port;
	}
	return NULL;
}

// The families of which one of these has every packet.
static uint8_t whole_families(const struct selector *selectors, size_t count)
{
	static const uint8_t lowest[16];
	uint8_t highest[16], families = count == 0 ? 4 | 16 : 0;
	memset(highest, 0xff, sizeof highest);
	for (size_t i = 0; i < count; i++) {
		const struct selector *selector = &selectors[i];
		if (selector->protocol == 0 && !ports_matter(selector) &&
		    memcmp(selector->first, lowest, selector->octets) == 0 &&
		    memcmp(selector->last, highest, selector->octets) == 0) {
			families |= selector->octets;
		}
	}
	return families;
}

struct selectors *selectors_new(const struct esp_sa_row *row, const char **why)
{
	*why = NULL;
	if (row->local_selector_count == 0 && row->remote_selector_count == 0) {
		return NULL;
	}
	size_t count = row->local_selector_count + row->remote_selector_count;
	if (row->local_selector_count > ESP_SELECTORS_MAX || row->remote_selector_count > ESP_SELECTORS_MAX) {
		*why = "too many traffic selectors";
		return NULL;
	}
	struct selectors *selectors = allocate(sizeof *selectors + count * sizeof selectors->at[0]);
	*why = take(selectors, row->local_selectors, row->local_selector_count);
	selectors->local_count = selectors->count;
	if (!*why) {
		*why = take(selectors, row->remote_selectors, row->remote_selector_count);
	}
	if (*why) {
		free(selectors);
		return NULL;
	}
	invariant(selectors->count == count && selectors->local_count <= selectors->count);
	selectors->any = whole_families(selectors->at, selectors->local_count) &
	                 whole_families(selectors->at + selectors->local_count, count - selectors->local_count);
	return selectors;
}

bool selectors_equal(const struct selectors *a, const struct selectors *b)
{
	if (!a || !b) {
		return a == b;
	}
	return a->count == b->count && a->local_count == b->local_count &&
	       memcmp(a->at, b->at, a->count * sizeof a->at[0]) == 0;
}

uint8_t selectors_any(const struct selectors *selectors)
{
	return selectors ? selectors->any : 4 | 16;
}

// What stands for the ports: those of TCP, UDP, DCCP, SCTP and UDP-Lite, or type and code of ICMP, which are one number in both
// directions (RFC 7296 §3.13.1). false where there is none to see: fragments, packets cut short, other protocols.
static bool ports_of(const uint8_t *packet, const struct inner *inner, uint16_t ports[static 2])
{
	if (inner->fragment || inner->length < inner->header + 4u) {
		return false;
	}
	const uint8_t *upper = packet + inner->header;
	switch (inner->protocol) {
	case PROTOCOL_ICMP:
	case PROTOCOL_ICMPV6:
		ports[0] = ports[1] = load16(upper);
		return true;
	case PROTOCOL_TCP:
	case PROTOCOL_UDP:
	case 33:  // DCCP
	case 132: // SCTP
	case 136: // UDP-Lite
		ports[0] = load16(upper);
		ports[1] = load16(upper + 2);
		return true;
	default:
		return false;
	}
}

static bool one_has(const struct selector *selector, const struct inner *inner, const uint8_t *address, const uint16_t *port)
{
	if (selector->octets != inner->octets || (selector->protocol != 0 && selector->protocol != inner->protocol) ||
	    memcmp(address, selector->first, inner->octets) < 0 || memcmp(address, selector->last, inner->octets) > 0) {
		return false;
	}
	if (!ports_matter(selector)) {
		return true;
	}
	return port ? *port >= selector->first_port && *port <= selector->last_port
	            : selector->first_port > selector->last_port;
}

static bool have(const struct selector *selectors, size_t count, const struct inner *inner, const uint8_t *address,
                 const uint16_t *port)
{
	for (size_t i = 0; i < count; i++) {
		if (one_has(&selectors[i], inner, address, port)) {
			return true;
		}
	}
	return count == 0;
}

static bool have_both(const struct selectors *selectors, const uint8_t *packet, const struct inner *inner, bool outbound)
{
	if (!selectors) {
		return true;
	}
	uint16_t ports[2];
	bool seen = ports_of(packet, inner, ports);
	const uint8_t *local = outbound ? inner->source : inner->destination;
	const uint8_t *remote = outbound ? inner->destination : inner->source;
	return have(selectors->at, selectors->local_count, inner, local, seen ? &ports[!outbound] : NULL) &&
	       have(selectors->at + selectors->local_count, selectors->count - selectors->local_count, inner, remote,
	            seen ? &ports[outbound] : NULL);
}

bool selectors_have_outbound(const struct selectors *selectors, const uint8_t *packet, const struct inner *inner)
{
	return have_both(selectors, packet, inner, true);
}

bool selectors_have_inbound(const struct selectors *selectors, const uint8_t *packet, const struct inner *inner)
{
	return have_both(selectors, packet, inner, false);
}
