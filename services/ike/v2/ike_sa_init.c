// IKE_SA_INIT, both roles (RFC 7296 §1.2, §2.6, §2.7, §2.10, §2.14): proposals, nonces and the key exchange, cookies,
// INVALID_KE_PAYLOAD, NAT detection.
#include "services/ike/v2/admission.h"
#include "services/ike/v2/exchanges.h"

#include "common/base/alloc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RETRIES_MAX = 5, HALF_OPEN_SECONDS = 15 };

static uint8_t *copy_of(struct bytes octets)
{
	uint8_t *copy = allocate(octets.length ? octets.length : 1);
	memcpy(copy, octets.data, octets.length);
	return copy;
}

static void write_sa(struct chain *chain, const struct tunnel *tunnel)
{
	chain_open(chain, PAYLOAD_SA);
	proposals_write(chain->w, PROTOCOL_IKE, (struct bytes){0}, &tunnel->config.ike, GROUPS_COUNT);
	chain_close(chain);
}

static void write_ke(struct chain *chain, const struct key_exchange *exchange)
{
	uint8_t value[PUBLIC_VALUE_MAX];
	size_t length = key_exchange_public(exchange, value);
	chain_ke(chain, exchange->group, (struct bytes){value, length});
}

// Writes a whole unprotected message around what `chain` will hold: begin, fill, end.
static struct chain plain_begin(struct writer *w, uint64_t spi_i, uint64_t spi_r, uint8_t flags)
{
	struct ike_header header = {
	    .spi_i = spi_i, .spi_r = spi_r, .version = IKE_VERSION_2, .exchange = EXCHANGE_IKE_SA_INIT, .flags = flags};
	header_write(w, &header);
	return chain_begin(w);
}

static struct bytes plain_end(struct writer *w, const struct chain *chain)
{
	w->start[16] = chain->first;
	header_finish(w, 0);
	return writer_bytes(w);
}

// ---- initiator ----
static void send_init(struct ike *ike, struct ike_sa *sa)
{
	struct handshake *handshake = sa->handshake;
	uint8_t octets[IKE_MESSAGE_MAX];
	struct writer w = writer_of(octets, sizeof octets);
	struct chain chain = plain_begin(&w, sa->spi_i, 0, FLAG_INITIATOR);
	if (handshake->cookie_length > 0) {
		// First of all payloads, the rest unchanged (§2.6).
		chain_notify(&chain, 0, (struct bytes){0}, COOKIE, (struct bytes){handshake->cookie, handshake->cookie_length});
	}
	write_sa(&chain, sa->tunnel);
	write_ke(&chain, &handshake->exchange);
	chain_payload(&chain, PAYLOAD_NONCE, nonce_bytes(&handshake->nonce_i));
	nat_detection_write(&chain, sa->spi_i, 0, &sa->local, sa->local_port, &sa->remote, sa->remote_port,
	                    sa->tunnel->config.force_encapsulation);
	struct bytes message = plain_end(&w, &chain);
	free(handshake->init_request);
	handshake->init_request = copy_of(message);
	handshake->init_request_length = message.length;
	request_send_plain(ike, sa, REQUEST_IKE_SA_INIT, message);
}

void ike_sa_init_begin(struct ike *ike, struct tunnel *tunnel)
{
	uint8_t group = 0;
	for (size_t i = 0; i < tunnel->config.ike.group_count && group == 0; i++) {
		group = group_known(tunnel->config.ike.groups[i]) ? tunnel->config.ike.groups[i] : 0;
	}
	if (group == 0 || tunnel->config.ike.encryption_count == 0 || tunnel->config.ike.integrity_count == 0) {
		tunnel_failed(ike, tunnel, "the tunnel has no usable IKE proposal");
		return;
	}
	struct ike_sa *sa = ike_sa_new(ike, tunnel, true);
	if (!sa) {
		tunnel_retry(ike, tunnel, SECONDS(5), SECONDS(1));
		return;
	}
	sa->state = IKE_SA_INIT_SENT;
	sa->spi_i = ike_spi_new(ike);
	const struct ike_sa *standing = tunnel_current(tunnel);
	bool mapped = standing && standing->nat.remote && standing->local_port == IKE_NAT_PORT;
	sa->local_port = mapped ? IKE_NAT_PORT : IKE_PORT; // beside one through the peer's NAT: where that is known to lead to it (§2.23)
	sa->remote_port = mapped ? standing->remote_port : IKE_PORT;
	struct handshake *handshake = sa->handshake = allocate(sizeof *handshake);
	handshake->nonce_i.length = NONCE_OURS;
	random_fill(&ike->random, handshake->nonce_i.octets, NONCE_OURS);
	key_exchange_init(&handshake->exchange, group, &ike->random);
	ike_sa_index(ike, sa);
	send_init(ike, sa);
}

static void give_up(struct ike *ike, struct ike_sa *sa, const char *reason)
{
	tunnel_failed(ike, sa->tunnel, "%s", reason);
	ike_sa_close(ike, sa);
}

// A notification instead of an answer: another try, or the end. These are not protected; the SPI says that the sender has seen
// our request.
static void init_refused(struct ike *ike, struct ike_sa *sa, const struct notification *n)
{
	struct handshake *handshake = sa->handshake;
	bool again = handshake->retries++ < RETRIES_MAX;
	if (n->type == COOKIE && again && n->data.length > 0 && n->data.length <= COOKIE_MAX) {
		handshake->cookie_length = n->data.length;
		memcpy(handshake->cookie, n->data.data, n->data.length);
		send_init(ike, sa);
		return;
	}
	char ours[REASON_MAX / 2], reason[REASON_MAX];
	algorithms_format(&sa->tunnel->config.ike, PROTOCOL_IKE, GROUPS_COUNT, ours, sizeof ours);
	if (n->type == INVALID_KE_PAYLOAD && n->data.length == 2) {
		unsigned group = (unsigned)n->data.data[0] << 8 | n->data.data[1];
		if (again && group_known(group) && algorithms_have_group(&sa->tunnel->config.ike, group) &&
		    group != handshake->exchange.group) {
			key_exchange_init(&handshake->exchange, group, &ike->random);
			send_init(ike, sa);
			return;
		}
		const char *name = group_name(group);
		snprintf(reason, sizeof reason, "no common Diffie-Hellman group: the peer asks for %s (%u); we offer %s",
		         name ? name : "group", group, ours);
	} else if (n->type == NO_PROPOSAL_CHOSEN) {
		snprintf(reason, sizeof reason, "the peer accepts none of our IKE proposals (NO_PROPOSAL_CHOSEN); we offer %s",
		         ours);
	} else if (n->type == INVALID_MAJOR_VERSION) {
		snprintf(reason, sizeof reason, "the peer does not speak IKEv2 (INVALID_MAJOR_VERSION)");
	} else {
		snprintf(reason, sizeof reason, "the peer refuses IKE_SA_INIT (%s)", notify_name(n->type));
	}
	give_up(ike, sa, reason);
}

// The keys of the first IKE SA (§2.14). false: the peer's public value is not one.
static bool derive(struct ike_sa *sa, struct bytes peer_value)
{
	struct handshake *handshake = sa->handshake;
	struct shared_secret shared;
	if (!key_exchange_shared(&handshake->exchange, peer_value, &shared)) {
		return false;
	}
	struct key_inputs inputs = {.nonce_i = nonce_bytes(&handshake->nonce_i),
	                            .nonce_r = nonce_bytes(&handshake->nonce_r),
	                            .shared = shared_secret_bytes(&shared),
	                            .spi_i = sa->spi_i,
	                            .spi_r = sa->spi_r};
	struct secret skeyseed;
	skeyseed_initial(sa->suite.prf, &inputs, &skeyseed);
	ike_keys_derive(&sa->suite, &skeyseed, &inputs, &sa->keys);
	secret_wipe(&skeyseed);
	wipe(&shared, sizeof shared);
	key_exchange_wipe(&handshake->exchange);
	sa->lowest = *nonce_lower(&handshake->nonce_i, &handshake->nonce_r);
	return true;
}

void ike_sa_init_response(struct ike *ike, struct ike_sa *sa, const struct ike_datagram *datagram, struct bytes message,
                          const struct ike_header *header)
{
	struct payloads payloads;
	struct bytes chain = {message.data + IKE_HEADER_LENGTH, message.length - IKE_HEADER_LENGTH};
	uint8_t offender;
	if (payloads_read(chain, header->first_payload, &payloads) != NOTIFY_NONE ||
	    payloads_legal(&payloads, MESSAGE_IKE_SA_INIT_RESPONSE, &offender) != NOTIFY_NONE) {
		ike->counters[IKE_DROP_SYNTAX]++;
		return;
	}
	struct notification n;
	if (notification_find(&payloads, COOKIE, &n) || notification_find_error(&payloads, &n)) {
		init_refused(ike, sa, &n);
		return;
	}
	struct handshake *handshake = sa->handshake;
	struct proposals answer;
	struct ke_payload ke;
	if (header->spi_r == 0 || !proposals_read(payloads_body(&payloads, PAYLOAD_SA), &answer) ||
	    !ke_read(payloads_body(&payloads, PAYLOAD_KE), &ke) ||
	    !nonce_set(&handshake->nonce_r, payloads_body(&payloads, PAYLOAD_NONCE))) {
		ike->counters[IKE_DROP_SYNTAX]++;
		return;
	}
	if (!proposals_accept(&answer, PROTOCOL_IKE, &sa->tunnel->config.ike, GROUPS_COUNT, &sa->suite) ||
	    sa->suite.group != handshake->exchange.group || ke.group != sa->suite.group) {
		give_up(ike, sa, "the peer chose an IKE proposal that we did not offer");
		return;
	}
	sa->spi_r = header->spi_r;
	if (!derive(sa, ke.data)) {
		give_up(ike, sa, "the peer's Diffie-Hellman value is not valid");
		return;
	}
	handshake->init_response = copy_of(message);
	handshake->init_response_length = message.length;
	sa->nat = nat_detection_read(&payloads, sa->spi_i, sa->spi_r, &datagram->local, datagram->local_port, &datagram->remote,
	                             datagram->remote_port);
	sa->encapsulate = sa->nat.supported && (sa->nat.local || sa->nat.remote || sa->tunnel->config.force_encapsulation);
	request_done(ike, sa);
	sa->next_request = 1;
	sa->last_in = ike->now;
	if (sa->encapsulate && sa->local_port != IKE_NAT_PORT) {
		sa->local_port = sa->remote_port = IKE_NAT_PORT; // §2.23
	}
	ike_auth_begin(ike, sa);
}

// ---- responder ----
static void answer_with(struct ike *ike, const struct ike_datagram *datagram, const struct ike_header *header, uint16_t type,
                        struct bytes data)
{
	uint8_t octets[128];
	struct writer w = writer_of(octets, sizeof octets);
	// No state is made, so the responder's SPI is zero (§2.6).
	struct chain chain = plain_begin(&w, header->spi_i, 0, FLAG_RESPONSE);
	chain_notify(&chain, 0, (struct bytes){0}, type, data);
	action_send_datagram(ike, datagram, plain_end(&w, &chain));
}

// The half-open ones of a tunnel that the peer began; `same`: that which this very message began.
static size_t half_open_of(const struct tunnel *tunnel, const struct ike_header *header, struct bytes message,
                           struct ike_sa **same, struct ike_sa **oldest)
{
	size_t count = 0;
	*same = *oldest = NULL;
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		struct ike_sa *sa = tunnel->sas[i];
		if (sa->initiator || sa->spi_i != header->spi_i) {
			if (sa->state == IKE_SA_HALF_OPEN) {
				count++;
				*oldest = *oldest ? *oldest : sa;
			}
			continue;
		}
		struct handshake *handshake = sa->handshake;
		count += sa->state == IKE_SA_HALF_OPEN;
		if (!handshake ||
		    bytes_equal((struct bytes){handshake->init_request, handshake->init_request_length}, message)) {
			*same = sa;
		}
	}
	return count;
}

static void answer_init(struct ike_sa *sa, uint8_t number)
{
	struct handshake *handshake = sa->handshake;
	uint8_t octets[IKE_MESSAGE_MAX];
	struct writer w = writer_of(octets, sizeof octets);
	struct chain chain = plain_begin(&w, sa->spi_i, sa->spi_r, FLAG_RESPONSE);
	chain_open(&chain, PAYLOAD_SA);
	proposal_write_chosen(chain.w, PROTOCOL_IKE, number, (struct bytes){0}, &sa->suite, GROUPS_COUNT);
	chain_close(&chain);
	write_ke(&chain, &handshake->exchange);
	chain_payload(&chain, PAYLOAD_NONCE, nonce_bytes(&handshake->nonce_r));
	nat_detection_write(&chain, sa->spi_i, sa->spi_r, &sa->local, sa->local_port, &sa->remote, sa->remote_port,
	                    sa->tunnel->config.force_encapsulation);
	struct bytes message = plain_end(&w, &chain);
	handshake->init_response = copy_of(message);
	handshake->init_response_length = message.length;
}

static void accept_init(struct ike *ike, struct tunnel *tunnel, const struct ike_datagram *datagram, struct bytes message,
                        const struct ike_header *header, const struct payloads *payloads, const struct suite *suite,
                        uint8_t number, const struct ke_payload *ke)
{
	struct ike_sa *sa = ike_sa_new(ike, tunnel, false);
	if (!sa) {
		ike->counters[IKE_DROP_HALF_OPEN]++;
		return;
	}
	sa->state = IKE_SA_HALF_OPEN;
	ike->half_open++;
	sa->spi_i = header->spi_i;
	sa->spi_r = ike_spi_new(ike);
	ike_sa_index(ike, sa);
	sa->suite = *suite;
	sa->local_port = datagram->local_port;
	sa->remote_port = datagram->remote_port;
	sa->close_at = ike->now + SECONDS(HALF_OPEN_SECONDS);
	sa->next_expected = 1;
	struct handshake *handshake = sa->handshake = allocate(sizeof *handshake);
	nonce_set(&handshake->nonce_i, payloads_body(payloads, PAYLOAD_NONCE));
	handshake->nonce_r.length = NONCE_OURS;
	random_fill(&ike->random, handshake->nonce_r.octets, NONCE_OURS);
	key_exchange_init(&handshake->exchange, suite->group, &ike->random);
	handshake->init_request = copy_of(message);
	handshake->init_request_length = message.length;
	sa->nat = nat_detection_read(payloads, header->spi_i, header->spi_r, &datagram->local, datagram->local_port,
	                             &datagram->remote, datagram->remote_port);
	sa->encapsulate = sa->nat.supported && (sa->nat.local || sa->nat.remote || tunnel->config.force_encapsulation);
	answer_init(sa, number); // before the private value is wiped
	if (!derive(sa, ke->data)) {
		ike_sa_remove(ike, sa);
		ike->counters[IKE_DROP_SYNTAX]++;
		return;
	}
	action_send(ike, sa, (struct bytes){handshake->init_response, handshake->init_response_length});
}

// Chooses a proposal and looks at the group of the key exchange; answers with an error when that is the end of it.
static void choose(struct ike *ike, struct tunnel *tunnel, const struct ike_datagram *datagram, struct bytes message,
                   const struct ike_header *header, const struct payloads *payloads)
{
	struct proposals offered;
	struct ke_payload ke;
	struct suite suite;
	if (!proposals_read(payloads_body(payloads, PAYLOAD_SA), &offered) ||
	    !ke_read(payloads_body(payloads, PAYLOAD_KE), &ke)) {
		ike->counters[IKE_DROP_SYNTAX]++;
		return;
	}
	const struct proposal *chosen =
	    proposals_choose(&offered, PROTOCOL_IKE, &tunnel->config.ike, GROUPS_COUNT, ke.group, &suite);
	if (!chosen || !group_known(suite.group)) {
		char reason[REASON_MAX];
		proposals_mismatch(&offered, PROTOCOL_IKE, &tunnel->config.ike, GROUPS_COUNT, reason);
		tunnel_refused(ike, tunnel, "%s", reason);
		answer_with(ike, datagram, header, NO_PROPOSAL_CHOSEN, (struct bytes){0});
		return;
	}
	if (ke.group != suite.group) {
		uint8_t group[2] = {0, suite.group};
		answer_with(ike, datagram, header, INVALID_KE_PAYLOAD, (struct bytes){group, sizeof group}); // §1.3
		return;
	}
	if (ke.data.length != group_public_length(suite.group)) {
		ike->counters[IKE_DROP_SYNTAX]++;
		return;
	}
	accept_init(ike, tunnel, datagram, message, header, payloads, &suite, chosen->number, &ke);
}

struct tunnel *ike_sa_init_request(struct ike *ike, const struct ike_datagram *datagram, struct bytes message,
                                   const struct ike_header *header)
{
	struct tunnel *tunnel = tunnel_by_addresses(ike, &datagram->local, &datagram->remote);
	if (!tunnel || !tunnel->config.enabled || tunnel->config.version_1 || !tunnel_secret(ike, tunnel)) {
		ike->counters[!tunnel ? IKE_DROP_UNKNOWN_PEER : IKE_DROP_DISABLED]++;
		return tunnel;
	}
	struct ike_sa *same, *oldest;
	size_t half_open = half_open_of(tunnel, header, message, &same, &oldest);
	if (same) {
		if (same->state == IKE_SA_HALF_OPEN) {
			ike->counters[IKE_RETRANSMIT_ANSWERED]++;
			struct handshake *handshake = same->handshake;
			action_send_datagram(ike, datagram,
			                     (struct bytes){handshake->init_response, handshake->init_response_length});
		} else {
			ike->counters[IKE_DROP_STATE]++; // an old retransmission: that SA is past it
		}
		return tunnel;
	}
	struct payloads payloads;
	struct bytes chain = {message.data + IKE_HEADER_LENGTH, message.length - IKE_HEADER_LENGTH};
	uint8_t offender = 0;
	enum notify error = payloads_read(chain, header->first_payload, &payloads);
	error = error == NOTIFY_NONE ? payloads_legal(&payloads, MESSAGE_IKE_SA_INIT_REQUEST, &offender) : error;
	if (error == UNSUPPORTED_CRITICAL_PAYLOAD) {
		answer_with(ike, datagram, header, UNSUPPORTED_CRITICAL_PAYLOAD, (struct bytes){&offender, 1});
		return tunnel;
	}
	struct bytes nonce = payloads_body(&payloads, PAYLOAD_NONCE);
	if (error != NOTIFY_NONE || nonce.length < NONCE_MIN || nonce.length > NONCE_MAX) {
		ike->counters[IKE_DROP_SYNTAX]++;
		return tunnel;
	}
	if (half_open >= HALF_OPEN_TUNNEL_COOKIES || ike->half_open >= HALF_OPEN_COOKIES) {
		struct notification n;
		if (!notification_find(&payloads, COOKIE, &n) ||
		    !cookie_good(admission_cookies(ike->admission), &ike->random, ike->now, nonce, &datagram->remote,
		                 header->spi_i, n.data)) {
			uint8_t cookie[COOKIE_LENGTH];
			cookie_make(admission_cookies(ike->admission), &ike->random, ike->now, nonce, &datagram->remote,
			            header->spi_i, cookie);
			answer_with(ike, datagram, header, COOKIE, (struct bytes){cookie, sizeof cookie});
			return tunnel;
		}
		if (half_open >= HALF_OPEN_TUNNEL_MAX && oldest) {
			ike_sa_remove(ike, oldest);
		}
	}
	choose(ike, tunnel, datagram, message, header, &payloads);
	return tunnel;
}
