// The rows of resource that say what to negotiate: vpn_tunnel and tunnel_secret, as events of the core.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/io/log.h"
#include "proto/resource.pb-c.h"
#include "proto/tables.pb-c.h"
#include "services/ike/bus_parts.h"

static const char *or_empty(const char *text)
{
	return text ? text : "";
}

// Copies a row's text; one that does not fit makes the row unusable.
static bool copy_text(char *out, size_t capacity, const char *from)
{
	size_t length = strlen(or_empty(from));
	if (length >= capacity) {
		return false;
	}
	memcpy(out, or_empty(from), length);
	out[length] = '\0';
	return true;
}

static bool algorithms_from(struct algorithms *out, const Twinspan__Encryption *encryption, size_t encryption_count,
                            const Twinspan__Integrity *integrity, size_t integrity_count, const uint32_t *groups,
                            size_t group_count)
{
	static const uint8_t encryption_numbers[] = {
	    [TWINSPAN__ENCRYPTION__ENCRYPTION_AES128] = ENCRYPTION_AES_CBC_128,
	    [TWINSPAN__ENCRYPTION__ENCRYPTION_AES192] = ENCRYPTION_AES_CBC_192,
	    [TWINSPAN__ENCRYPTION__ENCRYPTION_AES256] = ENCRYPTION_AES_CBC_256,
	    [TWINSPAN__ENCRYPTION__ENCRYPTION_AES128_GCM16] = ENCRYPTION_AES_GCM16_128,
	    [TWINSPAN__ENCRYPTION__ENCRYPTION_AES256_GCM16] = ENCRYPTION_AES_GCM16_256,
	};
	static const uint8_t integrity_numbers[] = {
	    [TWINSPAN__INTEGRITY__INTEGRITY_SHA1] = INTEGRITY_SHA1,
	    [TWINSPAN__INTEGRITY__INTEGRITY_SHA2_256] = INTEGRITY_SHA2_256,
	    [TWINSPAN__INTEGRITY__INTEGRITY_SHA2_384] = INTEGRITY_SHA2_384,
	    [TWINSPAN__INTEGRITY__INTEGRITY_SHA2_512] = INTEGRITY_SHA2_512,
	};
	if (encryption_count > ALGORITHMS_MAX || integrity_count > ALGORITHMS_MAX || group_count > GROUPS_MAX) {
		return false;
	}
	for (size_t i = 0; i < encryption_count; i++) {
		if ((size_t)encryption[i] >= sizeof encryption_numbers || encryption_numbers[encryption[i]] == 0) {
			return false;
		}
		out->encryption[out->encryption_count++] = encryption_numbers[encryption[i]];
	}
	for (size_t i = 0; i < integrity_count; i++) {
		if ((size_t)integrity[i] >= sizeof integrity_numbers || integrity_numbers[integrity[i]] == 0) {
			return false;
		}
		out->integrity[out->integrity_count++] = integrity_numbers[integrity[i]];
	}
	for (size_t i = 0; i < group_count; i++) {
		if (groups[i] > UINT8_MAX) {
			return false;
		}
		out->groups[out->group_count++] = (uint8_t)groups[i];
	}
	return true;
}

static bool tunnel_from(struct tunnel_config *out, const Twinspan__VpnTunnel *row)
{
	if (!row->ike || !row->ipsec || !row->dpd) {
		return false;
	}
	*out = (struct tunnel_config){
	    .enabled = row->admin_state == TWINSPAN__ADMIN_STATE__ADMIN_STATE_UP,
	    .initiate = row->startup == TWINSPAN__STARTUP__STARTUP_INITIATE,
	    .version_1 = row->ike->version == TWINSPAN__IKE_VERSION__IKE_VERSION_V1,
	    .force_encapsulation = row->ipsec->encapsulation == TWINSPAN__ENCAPSULATION__ENCAPSULATION_UDP,
	    .ike_lifetime = row->ike->lifetime_seconds,
	    .child_lifetime = row->ipsec->lifetime_seconds,
	    .child_bytes = row->ipsec->lifetime_bytes,
	    .child_packets = row->ipsec->lifetime_packets,
	    .rekey_margin = row->rekey_margin_seconds,
	    .rekey_fuzz = row->rekey_fuzz_percent,
	    .replay_window = row->ipsec->replay_window,
	    .dpd = row->dpd->enabled,
	    .dpd_interval = row->dpd->interval_seconds,
	    .dpd_timeout = row->dpd->timeout_seconds,
	    .rekey_child_requests = row->rekey_child_requests,
	    .rekey_ike_requests = row->rekey_ike_requests,
	    .restart_requests = row->restart_requests,
	};
	switch (row->dpd->action) {
	case TWINSPAN__DPD_ACTION__DPD_ACTION_CLEAR:
		out->dpd_action = DPD_CLEAR;
		break;
	case TWINSPAN__DPD_ACTION__DPD_ACTION_NONE:
		out->dpd_action = DPD_NONE;
		break;
	default:
		out->dpd_action = DPD_RESTART;
		break;
	}
	return copy_text(out->id, sizeof out->id, row->id) &&
	       copy_text(out->border_gateway_id, sizeof out->border_gateway_id, row->border_gateway_id) &&
	       copy_text(out->local_id, sizeof out->local_id, row->local_id) &&
	       copy_text(out->remote_id, sizeof out->remote_id, row->remote_id) &&
	       address_parse(or_empty(row->cloud_address), &out->local) &&
	       address_parse(or_empty(row->customer_address), &out->remote) &&
	       algorithms_from(&out->ike, row->ike->encryption, row->ike->n_encryption, row->ike->integrity,
	                       row->ike->n_integrity, row->ike->dh_groups, row->ike->n_dh_groups) &&
	       algorithms_from(&out->child, row->ipsec->encryption, row->ipsec->n_encryption, row->ipsec->integrity,
	                       row->ipsec->n_integrity, row->ipsec->pfs_groups, row->ipsec->n_pfs_groups);
}

static const char *take_tunnel(void *context, const struct row_key *key, const void *message)
{
	struct ike_bus *bus = context;
	const Twinspan__VpnTunnel *row = message;
	struct tunnel_config tunnel;
	struct ike_event event = {.kind = IKE_EVENT_TUNNEL_REMOVED, .text = key->text};
	if (row && tunnel_from(&tunnel, row)) {
		event = (struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &tunnel};
	} else if (row) {
		// There is such a tunnel, and it says something that this version does not know: what stands, stands.
		event.kind = IKE_EVENT_TUNNEL_KEPT;
		log_limited(LOG_ERROR, "tunnel-not-understood", "tunnel", key->text, "rule",
		            "addresses, identities and algorithms that this version of ike knows; it goes on as before", NULL);
	}
	service_step(bus->service, &event);
	return NULL;
}

static const char *take_secret(void *context, const struct row_key *key, const void *message)
{
	struct ike_bus *bus = context;
	const Twinspan__TunnelSecret *row = message;
	struct ike_event event = {.kind = IKE_EVENT_SECRET_REMOVED, .text = key->text};
	struct secret secret = {.length = 0};
	bool fits = !row || secret_set(&secret, (struct bytes){row->pre_shared_key.data, row->pre_shared_key.len});
	if (row) {
		wipe(row->pre_shared_key.data, row->pre_shared_key.len); // the feed only frees it
		event = (struct ike_event){.kind = IKE_EVENT_SECRET, .text = key->text, .secret = &secret};
	}
	if (fits) {
		service_step(bus->service, &event);
	}
	secret_wipe(&secret);
	return fits ? NULL : "its pre-shared key is too long";
}

static void settled(void *context)
{
	struct ike_bus *bus = context;
	service_settle(bus->service);
}

const struct feed_kind feed_of_tunnels = {
    .table = "vpn_tunnel", .descriptor = &twinspan__vpn_tunnel__descriptor, .take = take_tunnel, .settled = settled};
const struct feed_kind feed_of_secrets = {
    .table = "tunnel_secret", .descriptor = &twinspan__tunnel_secret__descriptor, .take = take_secret, .settled = settled};
