// The door: events in, each to the tunnel it belongs to; a datagram through its header, its IKE SA, its message ID (RFC 7296
// §2.2, §2.3), its cipher and the legality of what is in it, to the exchange it is part of.
#include "services/ike/v2/ike_sa.h"

#include "common/base/alloc.h"
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
	free((*ike)->heap);
	wipe(*ike, sizeof **ike);
	free(*ike);
	*ike = NULL;
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
static bool kind_of(const struct ike_header *header, const struct payloads *payloads, const struct ike_sa *sa,
                    enum message_kind *kind)
{
	bool response = (header->flags & FLAG_RESPONSE) != 0;
	switch (header->exchange) {
	case EXCHANGE_IKE_AUTH:
		*kind = response ? MESSAGE_IKE_AUTH_RESPONSE : MESSAGE_IKE_AUTH_REQUEST;
		return true;
	case EXCHANGE_CREATE_CHILD_SA: {
		// A request is about the IKE SA when its first proposal is; an answer is about what was asked.
		struct bytes body = payloads_body(payloads, PAYLOAD_SA);
		bool of_ike =
		    response ? sa->request.kind == REQUEST_REKEY_IKE : body.length > 5 && body.data[5] == PROTOCOL_IKE;
		*kind = of_ike ? MESSAGE_REKEY_IKE_SA_REQUEST : MESSAGE_CREATE_CHILD_SA_REQUEST;
		*kind = (enum message_kind)(*kind + response);
		return true;
	}
	case EXCHANGE_INFORMATIONAL:
		*kind = response ? MESSAGE_INFORMATIONAL_RESPONSE : MESSAGE_INFORMATIONAL_REQUEST;
		return true;
	default:
		return false;
	}
}

// The exchange that an answer to our request must be of.
static uint8_t exchange_of(enum request_kind kind)
{
	switch (kind) {
	case REQUEST_IKE_SA_INIT:
		return EXCHANGE_IKE_SA_INIT;
	case REQUEST_IKE_AUTH:
		return EXCHANGE_IKE_AUTH;
	case REQUEST_REKEY_IKE:
	case REQUEST_REKEY_CHILD:
	case REQUEST_NEW_CHILD:
		return EXCHANGE_CREATE_CHILD_SA;
	default:
		return EXCHANGE_INFORMATIONAL;
	}
}

// An authentic new message: the peer lives, and is where it came from (§2.23: unless a NAT is before us, whose mapping is ours
// to keep).
static void sign_of_life(struct ike *ike, struct ike_sa *sa, const struct ike_datagram *datagram)
{
	sa->last_in = ike->now;
	if (sa->local_port == datagram->local_port && sa->remote_port == datagram->remote_port) {
		return;
	}
	if (sa->nat.local && sa->state >= IKE_SA_ESTABLISHED) {
		return;
	}
	sa->local_port = datagram->local_port;
	sa->remote_port = datagram->remote_port;
	sa->dirty = true;
	for (size_t i = 0; i < sa->child_count && sa->encapsulate; i++) {
		action_put_child(ike, sa, sa->children[i]);
	}
}

static bool is_whole_delete(const struct payloads *payloads)
{
	struct delete_payload d;
	const struct payload *payload = payloads_find(payloads, PAYLOAD_DELETE);
	return payload && delete_read(payload->body, &d) && d.protocol == PROTOCOL_IKE;
}

static void answer_request(struct ike *ike, struct ike_sa *sa, const struct ike_header *header, enum notify error,
                           struct payloads *payloads)
{
	uint8_t inner[IKE_MESSAGE_MAX], offender = 0;
	struct writer w = writer_of(inner, sizeof inner);
	struct chain chain = chain_begin(&w);
	enum message_kind kind = MESSAGE_INFORMATIONAL_REQUEST;
	if (error == NOTIFY_NONE) {
		kind_of(header, payloads, sa, &kind);
		error = payloads_legal(payloads, kind, &offender);
	}
	if (error == UNSUPPORTED_CRITICAL_PAYLOAD) {
		chain_notify(&chain, 0, (struct bytes){0}, UNSUPPORTED_CRITICAL_PAYLOAD, (struct bytes){&offender, 1});
	} else if (error != NOTIFY_NONE) {
		ike->counters[IKE_DROP_SYNTAX]++;
		chain_notify(&chain, 0, (struct bytes){0}, INVALID_SYNTAX, (struct bytes){0});
	} else {
		if (sa->provisional && !is_whole_delete(payloads)) {
			rekey_ike_decided(ike, sa);
		}
		switch (kind) {
		case MESSAGE_IKE_AUTH_REQUEST:
			ike_auth_request(ike, sa, payloads, &chain);
			break;
		case MESSAGE_CREATE_CHILD_SA_REQUEST:
			create_child_request(ike, sa, payloads, &chain);
			break;
		case MESSAGE_REKEY_IKE_SA_REQUEST:
			rekey_ike_request(ike, sa, payloads, &chain);
			break;
		default:
			informational_request(ike, sa, payloads, &chain);
			break;
		}
	}
	respond(ike, sa, header->exchange, &chain);
	if (error == INVALID_SYNTAX) {
		// Fatal to the IKE SA at both ends (§2.21.3); one of IKE_AUTH was never there.
		bool current = tunnel_current(sa->tunnel) == sa;
		ike_sa_closed(ike, sa);
		if (current) {
			tunnel_failed(ike, sa->tunnel, "the peer sent a malformed message");
		}
	}
}

static void receive_request(struct ike *ike, struct ike_sa *sa, const struct ike_datagram *datagram, struct bytes message,
                            const struct ike_header *header)
{
	bool auth = header->exchange == EXCHANGE_IKE_AUTH;
	if (sa->state == IKE_SA_INIT_SENT || sa->state == IKE_SA_AUTH_SENT || header->exchange == EXCHANGE_IKE_SA_INIT) {
		ike->counters[IKE_DROP_STATE]++;
		return;
	}
	bool again = header->message_id + 1 == sa->next_expected && sa->response;
	if (header->message_id != sa->next_expected && !again) {
		ike->counters[IKE_DROP_MESSAGE_ID]++;
		return;
	}
	if (!again && (auth != (sa->state == IKE_SA_HALF_OPEN) || sa->state == IKE_SA_CLOSED)) {
		ike->counters[IKE_DROP_STATE]++;
		return;
	}
	uint8_t plain[IKE_MESSAGE_MAX];
	struct payloads payloads;
	enum notify error = message_open(sa, message, header, plain, &payloads);
	if (error == AUTHENTICATION_FAILED) {
		ike->counters[IKE_DROP_INTEGRITY]++;
	} else if (again) {
		ike->counters[IKE_RETRANSMIT_ANSWERED]++;
		action_send(ike, sa, (struct bytes){sa->response, sa->response_length});
	} else {
		sign_of_life(ike, sa, datagram);
		children_confirm(ike, sa);
		answer_request(ike, sa, header, error, &payloads);
	}
	wipe(plain, sizeof plain);
}

static void take_response(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads)
{
	enum request_kind kind = sa->request.kind;
	uint32_t old_spi = sa->request.old_spi;
	sa->next_request++;
	sa->dirty = true;
	switch (kind) {
	case REQUEST_IKE_AUTH:
		ike_auth_response(ike, sa, payloads);
		break;
	case REQUEST_REKEY_CHILD:
	case REQUEST_NEW_CHILD:
		create_child_response(ike, sa, payloads);
		break;
	case REQUEST_REKEY_IKE:
		rekey_ike_response(ike, sa, payloads);
		break;
	default:
		request_done(ike, sa);
		informational_response(ike, sa, kind, old_spi);
		break;
	}
}

static void receive_response(struct ike *ike, struct ike_sa *sa, const struct ike_datagram *datagram, struct bytes message,
                             const struct ike_header *header)
{
	if (sa->request.kind == REQUEST_NONE || header->message_id != sa->request.message_id) {
		ike->counters[IKE_DROP_MESSAGE_ID]++;
		return;
	}
	if (header->exchange != exchange_of(sa->request.kind)) {
		ike->counters[IKE_DROP_STATE]++;
		return;
	}
	if (sa->request.kind == REQUEST_IKE_SA_INIT) {
		ike_sa_init_response(ike, sa, datagram, message, header);
		return;
	}
	uint8_t plain[IKE_MESSAGE_MAX], offender;
	struct payloads payloads;
	enum message_kind kind;
	enum notify error = message_open(sa, message, header, plain, &payloads);
	if (error == AUTHENTICATION_FAILED) {
		ike->counters[IKE_DROP_INTEGRITY]++;
	} else if (error != NOTIFY_NONE || !kind_of(header, &payloads, sa, &kind) ||
	           payloads_legal(&payloads, kind, &offender) != NOTIFY_NONE) {
		// As if it had not come: the request is repeated, and in the end the peer counts as dead.
		ike->counters[IKE_DROP_SYNTAX]++;
	} else {
		sign_of_life(ike, sa, datagram);
		take_response(ike, sa, &payloads);
	}
	wipe(plain, sizeof plain);
}

static void wrong_version(struct ike *ike, const struct ike_datagram *datagram, const struct ike_header *header)
{
	ike->counters[IKE_DROP_VERSION]++;
	struct tunnel *tunnel = tunnel_by_addresses(ike, &datagram->local, &datagram->remote);
	if (tunnel && header->version >> 4 == 1 && header->spi_r == 0) {
		tunnel_refused(ike, tunnel, "version mismatch: the peer speaks IKEv1; we speak IKEv2");
		tunnel_run(ike, tunnel);
	}
}

static struct ike_sa *find_sa(struct ike *ike, const struct ike_datagram *datagram, const struct ike_header *header)
{
	bool from_initiator = (header->flags & FLAG_INITIATOR) != 0;
	struct ike_sa *sa = ike_sa_find(ike, from_initiator ? header->spi_r : header->spi_i);
	if (!sa || sa->initiator == from_initiator) {
		ike->counters[IKE_DROP_UNKNOWN_SPI]++;
		return NULL;
	}
	uint64_t peer = sa->initiator ? sa->spi_r : sa->spi_i;
	uint64_t claimed = from_initiator ? header->spi_i : header->spi_r;
	bool first_answer = sa->state == IKE_SA_INIT_SENT;
	if ((!first_answer && claimed != peer) || !address_equal(&datagram->local, &sa->local) ||
	    !address_equal(&datagram->remote, &sa->remote)) {
		ike->counters[IKE_DROP_UNKNOWN_SPI]++;
		return NULL;
	}
	return sa;
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
	if (message.length < IKE_HEADER_LENGTH || message.length > IKE_MESSAGE_MAX) {
		ike->counters[IKE_DROP_SHORT]++;
	} else if (!header_read(message, &header)) {
		ike->counters[IKE_DROP_LENGTH]++;
	} else if (header.version >> 4 != IKE_VERSION_2 >> 4) {
		wrong_version(ike, datagram, &header);
	} else if (header.exchange < EXCHANGE_IKE_SA_INIT || header.exchange > EXCHANGE_INFORMATIONAL) {
		ike->counters[IKE_DROP_EXCHANGE]++;
	} else if (!ike->started) {
		ike->counters[IKE_DROP_NOT_STARTED]++;
	} else if (header.exchange == EXCHANGE_IKE_SA_INIT && header.spi_r == 0 && !(header.flags & FLAG_RESPONSE)) {
		if (!(header.flags & FLAG_INITIATOR) || header.message_id != 0 || header.spi_i == 0) {
			ike->counters[IKE_DROP_SYNTAX]++;
			return;
		}
		ike_sa_init_request(ike, datagram, message, &header);
		struct tunnel *tunnel = tunnel_by_addresses(ike, &datagram->local, &datagram->remote);
		if (tunnel) {
			tunnel_run(ike, tunnel);
		}
	} else {
		struct ike_sa *sa = find_sa(ike, datagram, &header);
		struct tunnel *tunnel = sa ? sa->tunnel : NULL;
		if (sa && (header.flags & FLAG_RESPONSE)) {
			receive_response(ike, sa, datagram, message, &header);
		} else if (sa) {
			receive_request(ike, sa, datagram, message, &header);
		}
		if (tunnel) {
			tunnel_run(ike, tunnel);
		}
	}
}

// ---- the other events ----
static void take_usage(struct ike *ike, const struct sa_usage *usage)
{
	void *found =
	    map_find(ike->child_spis, (struct bytes){(const uint8_t *)&usage->inbound_spi, sizeof usage->inbound_spi});
	if (!found || found == ike) {
		return;
	}
	struct child_sa *child = found;
	struct ike_sa *sa = child->sa;
	const struct tunnel_config *config = &sa->tunnel->config;
	if (usage->last_in != INSTANT_NEVER && usage->last_in > sa->last_in && usage->last_in <= ike->now) {
		sa->last_in = usage->last_in;
	}
	if (usage->packets_in > child->packets_in && child->state == CHILD_LIVE && !child->in_use &&
	    sa->state == IKE_SA_ESTABLISHED) {
		child->confirmed_at = ike->now; // the peer sends on it, so it has it
		child_use(ike, sa, child);
	}
	child->packets_in = usage->packets_in;
	uint64_t bytes = usage->bytes_in > usage->bytes_out ? usage->bytes_in : usage->bytes_out;
	uint64_t packets = usage->packets_in > usage->packets_out ? usage->packets_in : usage->packets_out;
	bool soft = (child->bytes_soft && bytes >= child->bytes_soft) ||
	            (child->packets_soft && packets >= child->packets_soft) ||
	            (!child->suite.esn && usage->sequence_out >= 0xc0000000u);
	bool hard = (config->child_bytes && bytes >= config->child_bytes) ||
	            (config->child_packets && packets >= config->child_packets);
	if (soft && child->state == CHILD_LIVE && child->rekey_at > ike->now + SECONDS(10)) {
		child->rekey_wanted = true;
	}
	if (hard && child->expire_at > ike->now + SECONDS(10)) {
		child->expire_at = ike->now + SECONDS(10); // time for the rekeying that is under way
	}
	bool moved = usage->seen_remote.length > 0 && sa->encapsulate && sa->nat.remote && !sa->nat.local &&
	             address_equal(&usage->seen_remote, &sa->remote) && usage->seen_remote_port != 0 &&
	             usage->seen_remote_port != sa->remote_port && sa->local_port == IKE_NAT_PORT;
	if (moved) {
		sa->remote_port = usage->seen_remote_port; // §2.23: the NAT has a new mapping
		sa->dirty = true;
		for (size_t i = 0; i < sa->child_count; i++) {
			action_put_child(ike, sa, sa->children[i]);
		}
	}
	tunnel_run(ike, sa->tunnel);
}

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

static void run_due(struct ike *ike)
{
	while (ike->heap_count > 0 && ike->heap[1]->deadline <= ike->now) {
		struct tunnel *tunnel = ike->heap[1];
		heap_remove(ike, tunnel); // tunnel_run sets the next
		tunnel_run(ike, tunnel);
		if (ike->heap_count > 0 && ike->heap[1] == tunnel && tunnel->deadline <= ike->now) {
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
		take_usage(ike, &event->usage);
		break;
	case IKE_EVENT_RESTORE:
		state_restore(ike, event->bytes);
		break;
	case IKE_EVENT_START:
		start(ike);
		break;
	}
	run_due(ike);
	actions_sends_last(out);
	ike->out = NULL;
}

instant ike_deadline(const struct ike *ike)
{
	return ike->heap_count > 0 ? ike->heap[1]->deadline : INSTANT_NEVER;
}
