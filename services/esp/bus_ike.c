// What the node's ike says: child SAs, and the sealed states of its IKE SAs, which are kept for the next ike.
//
// An SA row counts as applied when its change is published to the workers (the core's tables are read under RCU), which is
// before these functions return; what was replaced the core frees after the workers' grace period, so nobody waits for it.
#include <stdlib.h>

#include "common/base/secret.h"
#include "services/esp/bus_shell.h"

static struct esp_sa_keys keys_of(const Twinspan__SaDirection *row)
{
	return (struct esp_sa_keys){.spi = row->spi,
	                            .encryption = {row->encryption_key.data, row->encryption_key.len},
	                            .integrity = {row->integrity_key.data, row->integrity_key.len}};
}

static bool take_selectors(struct esp_selector out[static ESP_SELECTORS_MAX], Twinspan__ChildSelector *const *rows,
                           size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const Twinspan__ChildSelector *row = rows[i];
		if (!address_from_bytes((struct bytes){row->first.data, row->first.len}, &out[i].first) ||
		    !address_from_bytes((struct bytes){row->last.data, row->last.len}, &out[i].last) ||
		    row->protocol > UINT8_MAX || row->first_port > UINT16_MAX || row->last_port > UINT16_MAX) {
			return false;
		}
		out[i].protocol = (uint8_t)row->protocol;
		out[i].first_port = (uint16_t)row->first_port;
		out[i].last_port = (uint16_t)row->last_port;
	}
	return true;
}

static const char *set_sa(struct esp_bus *bus, const Twinspan__ChildSa *row)
{
	static const enum esp_encryption encryption[] = {
	    [TWINSPAN__CHILD_ENCRYPTION__AES_CBC_128] = ESP_AES_CBC_128,
	    [TWINSPAN__CHILD_ENCRYPTION__AES_CBC_192] = ESP_AES_CBC_192,
	    [TWINSPAN__CHILD_ENCRYPTION__AES_CBC_256] = ESP_AES_CBC_256,
	    [TWINSPAN__CHILD_ENCRYPTION__AES_GCM16_128] = ESP_AES_GCM16_128,
	    [TWINSPAN__CHILD_ENCRYPTION__AES_GCM16_256] = ESP_AES_GCM16_256,
	};
	static const enum esp_integrity integrity[] = {
	    [TWINSPAN__CHILD_INTEGRITY__NONE] = ESP_INTEGRITY_NONE,
	    [TWINSPAN__CHILD_INTEGRITY__HMAC_SHA1_96] = ESP_HMAC_SHA1_96,
	    [TWINSPAN__CHILD_INTEGRITY__HMAC_SHA2_256_128] = ESP_HMAC_SHA2_256_128,
	    [TWINSPAN__CHILD_INTEGRITY__HMAC_SHA2_384_192] = ESP_HMAC_SHA2_384_192,
	    [TWINSPAN__CHILD_INTEGRITY__HMAC_SHA2_512_256] = ESP_HMAC_SHA2_512_256,
	};
	if (!row->inbound || !row->outbound || (unsigned)row->encryption >= sizeof encryption / sizeof *encryption ||
	    (unsigned)row->integrity >= sizeof integrity / sizeof *integrity) {
		return "its directions or algorithms";
	}
	struct esp_sa_row sa = {.tunnel = row->tunnel_id,
	                        .inbound = keys_of(row->inbound),
	                        .outbound = keys_of(row->outbound),
	                        .outbound_in_use = row->outbound_in_use,
	                        .generation = row->generation,
	                        .encryption = encryption[row->encryption],
	                        .integrity = integrity[row->integrity],
	                        .udp = row->udp_encapsulation,
	                        .extended = row->extended_sequence_numbers,
	                        .local_port = (uint16_t)row->local_port,
	                        .remote_port = (uint16_t)row->remote_port,
	                        .replay_window = row->replay_window};
	if (!address_from_bytes((struct bytes){row->local_address.data, row->local_address.len}, &sa.local) ||
	    !address_from_bytes((struct bytes){row->remote_address.data, row->remote_address.len}, &sa.remote)) {
		return "its addresses";
	}
	struct esp_selector local[ESP_SELECTORS_MAX], remote[ESP_SELECTORS_MAX];
	if (row->n_local_selectors > ESP_SELECTORS_MAX || row->n_remote_selectors > ESP_SELECTORS_MAX ||
	    !take_selectors(local, row->local_selectors, row->n_local_selectors) ||
	    !take_selectors(remote, row->remote_selectors, row->n_remote_selectors)) {
		return "its traffic selectors";
	}
	sa.local_selectors = local;
	sa.local_selector_count = row->n_local_selectors;
	sa.remote_selectors = remote;
	sa.remote_selector_count = row->n_remote_selectors;
	const char *why = esp_sa_set(bus->parts.esp, &sa);
	// The message held keys; the core has its own copy.
	wipe(row->inbound->encryption_key.data, row->inbound->encryption_key.len);
	wipe(row->inbound->integrity_key.data, row->inbound->integrity_key.len);
	wipe(row->outbound->encryption_key.data, row->outbound->encryption_key.len);
	wipe(row->outbound->integrity_key.data, row->outbound->integrity_key.len);
	return why;
}

static const char *take_sa(void *context, const struct row_key *key, const void *message)
{
	struct esp_bus *bus = context;
	if (message) {
		return set_sa(bus, message);
	}
	char *end = NULL;
	unsigned long spi = strtoul(key->rest, &end, 16);
	if (*end == '\0' && spi <= UINT32_MAX) {
		esp_sa_remove(bus->parts.esp, key->id, (uint32_t)spi);
	}
	table_remove(bus->sa_usage, text_bytes(key->text));
	table_commit(bus->sa_usage);
	return NULL;
}

const struct feed_kind bus_child_sa_kind = {"child_sa", &twinspan__child_sa__descriptor, take_sa, bus_settled};

// The sealed states of ike's SAs are given back as they are, under another name.
void bus_ike_sa_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct esp_bus *bus = context;
	for (size_t i = 0; i < count; i++) {
		if (rows[i].removed) {
			table_remove(bus->held_ike_sa, rows[i].key);
		} else {
			table_put(bus->held_ike_sa, bus->parts.node, rows[i].key, rows[i].value);
		}
	}
	table_commit(bus->held_ike_sa);
}
