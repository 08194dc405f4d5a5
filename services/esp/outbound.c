// From vpn0 into a tunnel: inside addresses, longest-prefix match, next-hop group, member by the hash of the flow, its newest
// SA.
#include "services/esp/octets.h"
#include "services/esp/worker.h"

static const struct inside_pair *find_customer(const struct inside *inside, uint32_t customer)
{
	size_t low = 0, high = inside ? inside->count : 0;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (inside->at[middle].customer == customer) {
			return &inside->at[middle];
		}
		if (inside->at[middle].customer < customer) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return NULL;
}

static bool is_cloud_address(const struct inside *inside, uint32_t address)
{
	for (size_t i = 0; inside && i < inside->count; i++) {
		if (inside->at[i].cloud == address) {
			return true;
		}
	}
	return false;
}

// The newest SA in use whose traffic selectors have the packet (RFC 4301 §5.1). NULL: none.
static struct sa *sa_for(const struct esp_tunnel *tunnel, const uint8_t *packet, const struct inner *inner)
{
	struct sa *sa = load(tunnel->outbound);
	if (!sa || sa_carries_all(sa, inner)) {
		return sa;
	}
	while (sa && !(load(sa->in_use) && selectors_have_outbound(load(sa->selectors), packet, inner))) {
		sa = load(sa->next);
	}
	return sa;
}

// The member with the highest weight of (flow, member) among those that can send: when one goes, only its flows move
// (rendezvous hashing).
static struct sa *choose(const struct esp *esp, const struct members *members, const uint8_t *packet, const struct inner *inner)
{
	if (members->tunnel_count == 1) {
		return sa_for(members->tunnels[0], packet, inner);
	}
	struct sa *best = NULL;
	uint64_t best_weight = 0;
	uint32_t hash = inner_hash(packet, inner, esp->config.hash_seed);
	for (size_t i = 0; i < members->tunnel_count; i++) {
		struct esp_tunnel *tunnel = members->tunnels[i];
		struct sa *sa = sa_for(tunnel, packet, inner);
		if (!sa) {
			continue;
		}
		uint64_t weight = (tunnel->seed ^ hash) * 0x9fb21c651e98df25u;
		weight = (weight ^ weight >> 29) * 0xbf58476d1ce4e5b9u;
		weight ^= weight >> 32;
		if (!best || weight > best_weight) {
			best = sa;
			best_weight = weight;
		}
	}
	return best;
}

static struct outbound dropped(enum esp_drop reason, struct esp_tunnel *tunnel)
{
	return (struct outbound){.reason = reason, .tunnel = tunnel};
}

static struct outbound through(struct sa *sa, struct esp_tunnel *tunnel)
{
	if (sa) {
		return (struct outbound){.sa = sa, .reason = ESP_DROPS, .tunnel = sa->tunnel};
	}
	return dropped(load(tunnel->outbound) ? ESP_DROP_OUTBOUND_SELECTORS : ESP_DROP_NO_OUTBOUND_SA, tunnel);
}

static struct outbound to_inside(const struct esp_gateway *gateway, const uint8_t *packet, const struct inner *inner)
{
	const struct inside_pair *pair = find_customer(load(gateway->inside), raw32(inner->destination));
	if (!pair || pair->cloud != raw32(inner->source)) {
		return dropped(ESP_DROP_LINK_LOCAL, pair ? pair->tunnel : NULL);
	}
	return through(sa_for(pair->tunnel, packet, inner), pair->tunnel);
}

struct outbound outbound_find(const struct esp *esp, const struct esp_gateway *gateway, const uint8_t *packet,
                              const struct inner *inner)
{
	if (inner->octets == 4 && is_link_local(inner->destination)) {
		return to_inside(gateway, packet, inner);
	}
	if (inner->octets == 4 && is_link_local(inner->source) &&
	    !is_cloud_address(load(gateway->inside), raw32(inner->source))) {
		return dropped(ESP_DROP_LINK_LOCAL, NULL);
	}
	uint32_t target = fib_lookup(gateway->fib, inner->destination, inner->octets);
	if (target < TARGET_FIRST) {
		return dropped(target == TARGET_ATTACHMENT ? ESP_DROP_NOT_TUNNEL : ESP_DROP_NO_ROUTE, NULL);
	}
	struct esp_group *group = load(load(esp->targets)->at[target]);
	const struct members *members = group ? load(group->members) : NULL;
	if (!members || members->tunnel_count == 0) {
		return dropped(ESP_DROP_NO_MEMBER, NULL);
	}
	return through(choose(esp, members, packet, inner), members->tunnels[0]);
}
