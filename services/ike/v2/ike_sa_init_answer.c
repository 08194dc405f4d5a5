// IKE_SA_INIT as responder (RFC 7296 §1.2, §2.6, §2.7, §2.10, §2.14): what a stranger may have for one datagram, which is a
// cookie and nothing else, always: whoever does not receive at the customer's address makes us compute nothing, remember
// nothing and tell nobody, and gets no more octets than it sent. It costs a peer one round trip. Nor is anything computed with
// a key exchange value that no peer may send. The other role is ike_sa_init.c.
#include "services/ike/v2/admission.h"
#include "services/ike/v2/cookie.h"
#include "services/ike/v2/exchanges.h"

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include <string.h>

enum {
	HALF_OPEN_SECONDS = 15,
	HALF_OPEN_TUNNEL_MAX = 4, // half-open IKE SAs of one tunnel; the oldest goes
	REPEATS_MAX = 8,          // how often an answer is sent again
	REPEAT_PAUSE = 100,       // milliseconds
};

// One IKE_SA_INIT that came in.
struct init {
	const struct ike_datagram *datagram;
	struct bytes message; // without the marker
	const struct ike_header *header;
	struct payloads payloads;
	struct tunnel *tunnel;
	struct bytes nonce;
};

static void answer_with(struct ike *ike, const struct init *init, uint16_t type, struct bytes data)
{
	uint8_t octets[128];
	struct writer w = writer_of(octets, sizeof octets);
	// No state is made, so the responder's SPI is zero (§2.6).
	struct chain chain = init_message_begin(&w, init->header->spi_i, 0, FLAG_RESPONSE);
	chain_notify(&chain, 0, (struct bytes){0}, type, data);
	struct bytes answer = init_message_end(&w, &chain);
	if (answer.length <= init->message.length) {
		action_send_stateless(ike, init->datagram, answer);
	}
}

// Whether the initiator returns our cookie; who doesn't is asked to.
static bool is_proven(struct ike *ike, const struct init *init)
{
	struct cookie_of of = {init->nonce, &init->datagram->remote, init->header->spi_i};
	struct notification n;
	if (notification_find(&init->payloads, COOKIE, &n) && cookie_good(ike->cookies, &ike->random, ike->now, &of, n.data)) {
		return true;
	}
	uint8_t cookie[COOKIE_LENGTH];
	cookie_make(ike->cookies, &ike->random, ike->now, &of, cookie);
	ike->counters[IKE_COOKIE_ASKED]++;
	answer_with(ike, init, COOKIE, (struct bytes){cookie, sizeof cookie});
	return false;
}

// The half-open ones of the tunnel, and the oldest of them.
static size_t half_open_of(const struct tunnel *tunnel, struct ike_sa **oldest)
{
	size_t count = 0;
	*oldest = NULL;
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		if (tunnel->sas[i]->state == IKE_SA_HALF_OPEN) {
			count++;
			*oldest = *oldest ? *oldest : tunnel->sas[i];
		}
	}
	return count;
}

// That which this very message began; one that is past its handshake is known by the initiator's SPI.
static struct ike_sa *begun_by(const struct tunnel *tunnel, const struct init *init)
{
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		struct ike_sa *sa = tunnel->sas[i];
		const struct handshake *handshake = sa->handshake;
		if (!sa->initiator && sa->spi_i == init->header->spi_i &&
		    (!handshake ||
		     bytes_equal((struct bytes){handshake->init_request, handshake->init_request_length}, init->message))) {
			return sa;
		}
	}
	return NULL;
}

// A retransmission: the same answer, but not for ever and not as fast as anybody likes.
static void answer_again(struct ike *ike, struct ike_sa *sa, const struct init *init)
{
	struct handshake *handshake = sa->handshake;
	if (sa->state != IKE_SA_HALF_OPEN) {
		ike->counters[IKE_DROP_STATE]++; // that SA is past it
		return;
	}
	if (handshake->repeated == REPEATS_MAX || ike->now - handshake->repeated_at < MILLISECONDS(REPEAT_PAUSE)) {
		ike->counters[IKE_DROP_REPEATED]++;
		return;
	}
	handshake->repeated++;
	handshake->repeated_at = ike->now;
	ike->counters[IKE_RETRANSMIT_ANSWERED]++;
	action_send_stateless(ike, init->datagram, (struct bytes){handshake->init_response, handshake->init_response_length});
}

// The answer to come: all but what is random in it is known before anything is computed.
struct init_answer {
	struct suite suite;
	uint8_t number; // of the proposal
	struct bytes peer_value;
	bool nat_detection; // the initiator sent its own
};

static struct bytes write_answer(struct writer *w, const struct ike_sa *sa, const struct init_answer *answer,
                                 struct bytes value, struct bytes nonce)
{
	struct chain chain = init_message_begin(w, sa->spi_i, sa->spi_r, FLAG_RESPONSE);
	chain_open(&chain, PAYLOAD_SA);
	proposal_write_chosen(chain.w, PROTOCOL_IKE, answer->number, (struct bytes){0}, &answer->suite, GROUPS_COUNT);
	chain_close(&chain);
	chain_ke(&chain, answer->suite.group, value);
	chain_payload(&chain, PAYLOAD_NONCE, nonce);
	if (answer->nat_detection) {
		nat_detection_write(&chain, sa->spi_i, sa->spi_r, &sa->local, sa->local_port, &sa->remote, sa->remote_port,
		                    sa->tunnel->config.force_encapsulation);
	}
	return init_message_end(w, &chain);
}

static void accept_init(struct ike *ike, const struct init *init, const struct init_answer *answer)
{
	struct tunnel *tunnel = init->tunnel;
	struct ke_value value;
	struct shared_secret shared;
	if (!exchange_respond(ike, answer->suite.group, answer->peer_value, &value, &shared)) {
		ike->counters[IKE_DROP_SYNTAX]++;
		return;
	}
	struct ike_sa *oldest;
	if (half_open_of(tunnel, &oldest) >= HALF_OPEN_TUNNEL_MAX) {
		ike_sa_remove(ike, oldest);
	}
	struct ike_sa *sa = ike_sa_new(ike, tunnel, false);
	if (!sa) {
		ike->counters[IKE_DROP_HALF_OPEN]++;
		wipe(&shared, sizeof shared);
		return;
	}
	sa->state = IKE_SA_HALF_OPEN;
	ike->half_open++;
	sa->spi_i = init->header->spi_i;
	sa->spi_r = ike_spi_new(ike);
	ike_sa_index(ike, sa);
	sa->suite = answer->suite;
	sa->local_port = init->datagram->local_port;
	sa->remote_port = init->datagram->remote_port;
	sa->close_at = ike->now + SECONDS(HALF_OPEN_SECONDS);
	sa->next_expected = 1;
	struct handshake *handshake = sa->handshake = allocate(sizeof *handshake);
	nonce_set(&handshake->nonce_i, init->nonce);
	handshake->nonce_r.length = NONCE_OURS;
	random_fill(&ike->random, handshake->nonce_r.octets, NONCE_OURS);
	handshake_keep(&handshake->init_request, &handshake->init_request_length, init->message);
	sa->nat = nat_detection_read(&init->payloads, init->header->spi_i, init->header->spi_r, &sa->local, sa->local_port,
	                             &sa->remote, sa->remote_port);
	sa->encapsulate = sa->nat.supported && (sa->nat.local || sa->nat.remote || tunnel->config.force_encapsulation);
	uint8_t octets[IKE_MESSAGE_MAX];
	struct writer w = writer_of(octets, sizeof octets);
	struct bytes response = write_answer(&w, sa, answer, ke_value_bytes(&value), nonce_bytes(&handshake->nonce_r));
	handshake_keep(&handshake->init_response, &handshake->init_response_length, response);
	init_keys(sa, &shared);
	invariant(ike->half_open > 0 && tunnel->sa_count <= TUNNEL_SAS_MAX);
	action_send(ike, sa, response);
}

// Chooses a proposal and looks at the key exchange; answers with an error when that is the end of it.
static void choose(struct ike *ike, const struct init *init)
{
	struct tunnel *tunnel = init->tunnel;
	struct proposals offered;
	struct ke_payload ke;
	struct init_answer answer;
	if (!proposals_read(payloads_body(&init->payloads, PAYLOAD_SA), &offered) ||
	    !ke_read(payloads_body(&init->payloads, PAYLOAD_KE), &ke)) {
		ike->counters[IKE_DROP_SYNTAX]++;
		return;
	}
	const struct proposal *chosen =
	    proposals_choose(&offered, PROTOCOL_IKE, &tunnel->config.ike, GROUPS_COUNT, ke.group, &answer.suite);
	if (!chosen || !group_known(answer.suite.group)) {
		if (tunnel_hears(ike, tunnel, STANDING_REACHABLE)) {
			char reason[REASON_MAX];
			proposals_mismatch(&offered, PROTOCOL_IKE, &tunnel->config.ike, GROUPS_COUNT, reason);
			tunnel_refused(ike, tunnel, STANDING_REACHABLE, "%s", reason);
		}
		answer_with(ike, init, NO_PROPOSAL_CHOSEN, (struct bytes){0});
		return;
	}
	if (ke.group != answer.suite.group) {
		uint8_t group[2] = {0, answer.suite.group};
		answer_with(ike, init, INVALID_KE_PAYLOAD, (struct bytes){group, sizeof group}); // §1.3
		return;
	}
	if (!key_exchange_acceptable(answer.suite.group, ke.data)) {
		ike->counters[IKE_DROP_SYNTAX]++;
		return;
	}
	struct notification n;
	answer.number = chosen->number;
	answer.peer_value = ke.data;
	answer.nat_detection = notification_find(&init->payloads, NAT_DETECTION_SOURCE_IP, &n);
	accept_init(ike, init, &answer);
}

// Our own IKE_SA_INIT, sent back to us.
static bool is_reflected(const struct ike *ike, const struct init *init)
{
	const struct ike_sa *ours = ike_sa_find(ike, init->header->spi_i);
	return ours && ours->initiator && ours->tunnel == init->tunnel;
}

struct tunnel *ike_sa_init_request(struct ike *ike, const struct ike_datagram *datagram, struct bytes message,
                                   const struct ike_header *header)
{
	struct tunnel *tunnel = tunnel_by_addresses(ike, &datagram->local, &datagram->remote);
	if (!tunnel || !tunnel->config.enabled || tunnel->config.version_1 || !tunnel_secret(ike, tunnel)) {
		ike->counters[!tunnel ? IKE_DROP_UNKNOWN_PEER : IKE_DROP_DISABLED]++;
		return NULL;
	}
	struct init init = {.datagram = datagram, .message = message, .header = header, .tunnel = tunnel};
	struct ike_sa *same = begun_by(tunnel, &init);
	if (same) {
		answer_again(ike, same, &init);
		return NULL;
	}
	struct bytes chain = {message.data + IKE_HEADER_LENGTH, message.length - IKE_HEADER_LENGTH};
	uint8_t offender = 0;
	enum notify error = payloads_read(chain, header->first_payload, &init.payloads);
	error = error == NOTIFY_NONE ? payloads_legal(&init.payloads, MESSAGE_IKE_SA_INIT_REQUEST, &offender) : error;
	init.nonce = payloads_body(&init.payloads, PAYLOAD_NONCE);
	if ((error != NOTIFY_NONE && error != UNSUPPORTED_CRITICAL_PAYLOAD) || init.nonce.length < NONCE_MIN ||
	    init.nonce.length > NONCE_MAX || is_reflected(ike, &init)) {
		ike->counters[IKE_DROP_SYNTAX]++;
		return NULL;
	}
	ike_sa_peer_begins(ike, tunnel);
	if (!is_proven(ike, &init)) {
		return NULL;
	}
	if (!admission_take(ike, tunnel)) {
		ike->counters[IKE_DROP_HALF_OPEN]++;
		return NULL;
	}
	if (error == UNSUPPORTED_CRITICAL_PAYLOAD) {
		answer_with(ike, &init, UNSUPPORTED_CRITICAL_PAYLOAD, (struct bytes){&offender, 1});
		return NULL;
	}
	choose(ike, &init);
	return tunnel;
}
