// What a tunnel may send: from the prefixes that lead to its own connection, into attachments (or, where the border gateway
// allows transit, to another connection); from its customer inside address to its cloud inside address and nowhere else.
#include "services/esp/octets.h"
#include "services/esp/worker.h"

static bool leads_to(const struct esp_worker *worker, uint32_t target, uint32_t connection)
{
	if (target < TARGET_FIRST) {
		return false;
	}
	struct esp_group *group = load(load(worker->esp->targets)->at[target]);
	const struct members *members = group ? load(group->members) : NULL;
	for (size_t i = 0; members && i < members->connection_count; i++) {
		if (members->connections[i] == connection) {
			return true;
		}
	}
	return false;
}

static bool refuse(struct esp_worker *worker, const struct sa *sa, enum esp_drop reason)
{
	worker_drop(worker, sa->tunnel, reason, 1);
	return false;
}

bool inbound_admit(struct esp_worker *worker, const struct sa *sa, const struct tunnel_config *config, const uint8_t *packet,
                   const struct inner *inner)
{
	if (inner->octets == 4 && worker->checked_sa == sa && worker->checked_pair == raw64(packet + 12)) {
		return true;
	}
	const struct esp_gateway *gateway = config->gateway;
	if (inner->octets == 4 && is_link_local(inner->source)) {
		if (config->customer == 0 || raw32(inner->source) != config->customer) {
			return refuse(worker, sa, ESP_DROP_INNER_SOURCE);
		}
		if (raw32(inner->destination) != config->cloud) {
			return refuse(worker, sa, ESP_DROP_INNER_DESTINATION);
		}
	} else {
		if (!leads_to(worker, fib_lookup(gateway->fib, inner->source, inner->octets), config->connection_number)) {
			return refuse(worker, sa, ESP_DROP_INNER_SOURCE);
		}
		if (inner->octets == 4 && is_link_local(inner->destination)) {
			return refuse(worker, sa, ESP_DROP_INNER_DESTINATION);
		}
		uint32_t target = fib_lookup(gateway->fib, inner->destination, inner->octets);
		bool transit = target >= TARGET_FIRST && atomic_load_explicit(&gateway->transit, memory_order_relaxed) &&
		               !leads_to(worker, target, config->connection_number);
		if (target != TARGET_ATTACHMENT && !transit) {
			return refuse(worker, sa, ESP_DROP_INNER_DESTINATION);
		}
	}
	if (inner->octets == 4) {
		worker->checked_sa = sa;
		worker->checked_pair = raw64(packet + 12);
	}
	return true;
}
