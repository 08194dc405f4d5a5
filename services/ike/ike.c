// The door: events in, each to the tunnel it belongs to, a datagram to the version of the protocol that its header names.
#include "services/ike/ike.h"

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "services/ike/tunnel/tunnel.h"
#include "services/ike/v2/cookie.h"
#include "services/ike/v2/exchanges.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct ike *ike_new(const uint8_t seed[static 32])
{
	struct ike *ike = allocate(sizeof *ike);
	random_init(&ike->random, seed);
	uint8_t key[16];
	random_fill(&ike->random, key, sizeof key);
	ike->tunnels = map_new(NULL);
	ike->tunnels_by_addresses = map_new(key);
	ike->secrets = map_new(NULL);
	ike->sas = map_new(key);
	ike->child_spis = map_new(key);
	ike->cookies = cookie_jar_new();
	ike->versions[2] = &ike_version_2;
	return ike;
}

static void free_secret(void *value)
{
	secret_wipe(value);
	free(value);
}

void ike_free(struct ike **ike)
{
	if (!*ike) {
		return;
	}
	struct ike_actions unwanted = {0};
	(*ike)->out = &unwanted;
	for (struct map_cursor cursor = {0}; map_next((*ike)->tunnels, &cursor);) {
		tunnel_free(*ike, cursor.value);
	}
	ike_actions_free(&unwanted);
	map_free(&(*ike)->tunnels, NULL);
	map_free(&(*ike)->tunnels_by_addresses, NULL);
	map_free(&(*ike)->secrets, free_secret);
	map_free(&(*ike)->sas, NULL);
	map_free(&(*ike)->child_spis, NULL);
	heap_fini(&(*ike)->deadlines);
	free((*ike)->scratch);
	cookie_jar_free(&(*ike)->cookies);
	wipe(*ike, sizeof **ike);
	free(*ike);
	*ike = NULL;
}

static void wipe_child(struct child_sa *child)
{
	secret_wipe(&child->encryption_in);
	secret_wipe(&child->integrity_in);
	secret_wipe(&child->encryption_out);
	secret_wipe(&child->integrity_out);
}

static void wipe_sa(struct ike_sa *sa)
{
	ike_keys_wipe(&sa->keys);
	key_exchange_wipe(&sa->request.exchange);
	if (sa->handshake) {
		key_exchange_wipe(&sa->handshake->exchange);
	}
	for (size_t i = 0; i < sa->child_count && i < CHILDREN_MAX; i++) {
		wipe_child(sa->children[i]);
	}
}

void ike_wipe(struct ike *ike)
{
	for (struct map_cursor cursor = {0}; map_next(ike->tunnels, &cursor);) {
		const struct tunnel *tunnel = cursor.value;
		for (size_t i = 0; i < tunnel->sa_count && i < TUNNEL_SAS_MAX; i++) {
			wipe_sa(tunnel->sas[i]);
		}
	}
	for (struct map_cursor cursor = {0}; map_next(ike->secrets, &cursor);) {
		secret_wipe(cursor.value);
	}
	wipe(&ike->random, sizeof ike->random);
}

const char *ike_counter_text(enum ike_counter counter)
{
	static const char *const texts[] = {
#define X(name, text) [IKE_##name] = text,
	    IKE_COUNTERS(X)
#undef X
	};
	return texts[counter];
}

const uint64_t *ike_counters(const struct ike *ike)
{
	return ike->counters;
}

struct ike_gauges ike_gauges(const struct ike *ike)
{
	struct ike_gauges gauges = {.tunnels = map_count(ike->tunnels),
	                            .ike_sas = map_count(ike->sas),
	                            .half_open = ike->half_open,
	                            .child_sas = map_count(ike->child_spis)};
	for (struct map_cursor cursor = {0}; map_next(ike->tunnels, &cursor);) {
		gauges.tunnels_up += ((const struct tunnel *)cursor.value)->state == TUNNEL_UP;
	}
	return gauges;
}

// ---- datagrams ----
static void wrong_version(struct ike *ike, const struct ike_datagram *datagram, const struct ike_header *header)
{
	ike->counters[IKE_DROP_VERSION]++;
	struct tunnel *tunnel = tunnel_by_addresses(ike, &datagram->local, &datagram->remote);
	if (tunnel && header->version >> 4 == 1 && header->spi_r == 0) {
		tunnel_refused(ike, tunnel, STANDING_UNPROVEN, "version mismatch: the peer speaks IKEv1; we speak IKEv2");
		tunnel_run(ike, tunnel);
	}
}

static void receive(struct ike *ike, const struct ike_datagram *datagram)
{
	struct bytes message = datagram->octets;
	if (datagram->local_port == IKE_NAT_PORT) {
		static const uint8_t marker[NON_ESP_MARKER_LENGTH];
		if (message.length == 1 && message.data[0] == 0xff) {
			ike->counters[IKE_DROP_KEEPALIVE]++;
			return;
		}
		if (message.length < sizeof marker || memcmp(message.data, marker, sizeof marker) != 0) {
			ike->counters[IKE_DROP_NOT_IKE]++;
			return;
		}
		message = (struct bytes){message.data + sizeof marker, message.length - sizeof marker};
	}
	struct ike_header header;
	if (message.length > IKE_MESSAGE_MAX || !header_read(message, &header)) {
		ike->counters[IKE_DROP_SHORT]++;
	} else {
		size_t major = header.version >> 4;
		const struct ike_version *version = major < IKE_VERSIONS ? ike->versions[major] : NULL;
		if (version) {
			version->receive(ike, datagram, message, &header);
		} else {
			wrong_version(ike, datagram, &header);
		}
	}
}

// ---- the other events ----
static void take_secret(struct ike *ike, const char *tunnel_id, const struct secret *secret)
{
	struct secret *old;
	if (secret) {
		struct secret *copy = allocate(sizeof *copy);
		*copy = *secret;
		old = map_insert_text(ike->secrets, tunnel_id, copy);
	} else {
		old = map_remove_text(ike->secrets, tunnel_id);
	}
	if (old) {
		free_secret(old);
	}
	struct tunnel *tunnel = tunnel_find(ike, tunnel_id);
	if (tunnel) {
		if (secret && strcmp(tunnel->reason, "waiting for the pre-shared key") == 0) {
			tunnel->reason[0] = '\0';
			tunnel->status_dirty = true;
		}
		tunnel_run(ike, tunnel);
	}
}

static struct tunnel *tunnel_of(struct heap_entry *due)
{
	return (struct tunnel *)((uint8_t *)due - offsetof(struct tunnel, due));
}

static void run_due(struct ike *ike)
{
	while (heap_due(&ike->deadlines) <= ike->now) {
		struct heap_entry *first = heap_first(&ike->deadlines);
		heap_remove(&ike->deadlines, first); // tunnel_run sets the next
		tunnel_run(ike, tunnel_of(first));
		if (heap_first(&ike->deadlines) == first && first->at <= ike->now) {
			break; // one look at a time: the next step goes on
		}
	}
}

static void forget_unknown(struct ike *ike)
{
	for (struct map_cursor cursor = {0}; map_next(ike->tunnels, &cursor);) {
		struct tunnel *tunnel = cursor.value;
		if (!tunnel->known) {
			tunnel_remove(ike, tunnel);
			tunnel_run(ike, tunnel);
		}
	}
}

static void start(struct ike *ike)
{
	ike->started = true;
	for (struct map_cursor cursor = {0}; map_next(ike->tunnels, &cursor);) {
		tunnel_run(ike, cursor.value);
	}
}

void ike_step(struct ike *ike, const struct ike_event *event, instant now, struct ike_actions *out)
{
	ike->now = now;
	ike->out = out;
	struct tunnel *tunnel;
	switch (event->kind) {
	case IKE_EVENT_TIME:
		break;
	case IKE_EVENT_DATAGRAM:
		receive(ike, &event->datagram);
		break;
	case IKE_EVENT_TUNNEL:
		tunnel_configure(ike, event->tunnel);
		break;
	case IKE_EVENT_TUNNEL_REMOVED:
		if ((tunnel = tunnel_find(ike, event->text)) != NULL) {
			tunnel_remove(ike, tunnel);
			tunnel_run(ike, tunnel);
		}
		break;
	case IKE_EVENT_TUNNEL_KEPT:
		if ((tunnel = tunnel_find(ike, event->text)) != NULL) {
			tunnel->known = true;
			tunnel_run(ike, tunnel);
		}
		break;
	case IKE_EVENT_TUNNELS_KNOWN:
		forget_unknown(ike);
		break;
	case IKE_EVENT_SECRET:
		take_secret(ike, event->text, event->secret);
		break;
	case IKE_EVENT_SECRET_REMOVED:
		take_secret(ike, event->text, NULL);
		break;
	case IKE_EVENT_USAGE:
		tunnel_usage(ike, &event->usage);
		break;
	case IKE_EVENT_RESTORE:
		state_restore(ike, event->bytes);
		break;
	case IKE_EVENT_START:
		start(ike);
		break;
	}
	invariant(ike->half_open <= map_count(ike->sas));
	run_due(ike);
	actions_sends_last(out);
	ike->out = NULL;
}

instant ike_deadline(const struct ike *ike)
{
	return heap_due(&ike->deadlines);
}
