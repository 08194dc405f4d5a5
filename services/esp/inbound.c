// What a tunnel may send: from the prefixes that lead to its own connection, into attachments (or, where the border gateway
// allows transit, to another connection); from its customer inside address to its cloud inside address and nowhere else. And
// ICMP errors of routers behind the customer, whose addresses need not be in any prefix: those about packets that this tunnel's
// own connection was sent (RFC 4301 §6).
#include "services/esp/octets.h"
#include "services/esp/worker.h"

static bool leads_to(const struct esp *esp, uint32_t target, uint32_t connection)
{
	if (target < TARGET_FIRST) {
		return false;
	}
	struct esp_group *group = load(load(esp->targets)->at[target]);
	const struct members *members = group ? load(group->members) : NULL;
	for (size_t i = 0; members && i < members->connection_count; i++) {
		if (members->connections[i] == connection) {
			return true;
		}
	}
	return false;
}

static bool may_reach(const struct esp *esp, const struct tunnel_config *config, const struct inner *inner)
{
	if (inner->octets == 4 && is_link_local(inner->destination)) {
		return false;
	}
	const struct esp_gateway *gateway = config->gateway;
	uint32_t target = fib_lookup(gateway->fib, inner->destination, inner->octets);
	bool transit = target >= TARGET_FIRST && atomic_load_explicit(&gateway->transit, memory_order_relaxed) &&
	               !leads_to(esp, target, config->connection_number);
	return target == TARGET_ATTACHMENT || transit;
}

enum esp_drop inbound_admit(const struct esp *esp, const struct tunnel_config *config, const struct inner *inner)
{
	if (inner->octets == 4 && is_link_local(inner->source)) {
		if (config->customer == 0 || raw32(inner->source) != config->customer) {
			return ESP_DROP_INNER_SOURCE;
		}
		return raw32(inner->destination) == config->cloud ? ESP_DROPS : ESP_DROP_INNER_DESTINATION;
	}
	if (!leads_to(esp, fib_lookup(config->gateway->fib, inner->source, inner->octets), config->connection_number)) {
		return ESP_DROP_INNER_SOURCE;
	}
	return may_reach(esp, config, inner) ? ESP_DROPS : ESP_DROP_INNER_DESTINATION;
}

// Offsets of what an ICMP error quotes, or 0: it is none. RFC 792; RFC 4443 §2.1: types below 128.
static unsigned quote_of(const uint8_t *packet, const struct inner *inner)
{
	if (inner->fragment || inner->length < inner->header + 8u) {
		return 0;
	}
	uint8_t type = packet[inner->header];
	bool error = inner->octets == 4 ? inner->protocol == PROTOCOL_ICMP && (type == 3 || type == 11 || type == 12)
	                                : inner->protocol == PROTOCOL_ICMPV6 && type >= 1 && type < 128;
	return error ? inner->header + 8u : 0;
}

bool inbound_selected(const struct selectors *selectors, const uint8_t *packet, const struct inner *inner)
{
	if (selectors_have_inbound(selectors, packet, inner)) {
		return true;
	}
	unsigned quote = quote_of(packet, inner);
	struct inner about;
	return quote > 0 && inner_parse_quote(packet + quote, inner->length - quote, &about) && about.octets == inner->octets &&
	       memcmp(about.source, inner->destination, inner->octets) == 0 &&
	       selectors_have_outbound(selectors, packet + quote, &about);
}

bool inbound_error_about_own(const struct esp *esp, const struct tunnel_config *config, const uint8_t *packet,
                             const struct inner *inner)
{
	unsigned quote = quote_of(packet, inner);
	unsigned addresses = quote + (inner->octets == 4 ? 12u : 8u); // of the quoted header
	if (quote == 0 || inner->length < addresses + 2u * inner->octets ||
	    packet[quote] >> 4 != (inner->octets == 4 ? 4 : 6)) {
		return false;
	}
	const struct fib *fib = config->gateway->fib;
	const uint8_t *source = packet + addresses, *destination = source + inner->octets;
	bool unicast = inner->octets == 4 ? inner->source[0] != 0 && inner->source[0] != 127 && inner->source[0] < 224
	                                  : inner->source[0] != 0 && inner->source[0] < 0xfe;
	return unicast && !(inner->octets == 4 && is_link_local(inner->source)) &&
	       fib_lookup(fib, inner->source, inner->octets) == TARGET_NONE &&
	       memcmp(source, inner->destination, inner->octets) == 0 &&
	       leads_to(esp, fib_lookup(fib, destination, inner->octets), config->connection_number) &&
	       may_reach(esp, config, inner);
}
