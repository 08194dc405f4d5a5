// What comes in, of IKEv2: a message through its IKE SA, its message ID (RFC 7296 §2.2, §2.3), its cipher and the legality of
// what is in it, to the exchange it is part of.
#include "services/ike/v2/exchanges.h"

#include "common/base/invariant.h"
#include <string.h>

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

// An authentic new message: the peer lives. Its ports are those that the message came from while it has not authenticated
// itself (it may go to 4500 with IKE_AUTH), and afterwards when a NAT is before it that may have a new mapping (§2.23); not
// when a NAT is before us, whose mapping is ours to keep, and not when there is none: then a changed port is only what somebody
// on the way wrote.
static void sign_of_life(struct ike *ike, struct ike_sa *sa, const struct ike_datagram *datagram)
{
	sa->last_in = ike->now;
	sa->heard_esp = false;
	sa->doubt_at = INSTANT_NEVER;
	if (sa->local_port == datagram->local_port && sa->remote_port == datagram->remote_port) {
		return;
	}
	bool may_move = sa->nat.remote && !sa->nat.local;
	if (sa->state >= IKE_SA_ESTABLISHED && !may_move) {
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

static void answer_request(struct ike *ike, struct ike_sa *sa, const struct ike_datagram *datagram,
                           const struct ike_header *header, enum notify error, struct payloads *payloads)
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
			error = create_child_request(ike, sa, payloads, &chain);
			break;
		case MESSAGE_REKEY_IKE_SA_REQUEST:
			error = rekey_ike_request(ike, sa, payloads, &chain);
			break;
		default:
			informational_request(ike, sa, payloads, &chain);
			break;
		}
	}
	respond(ike, sa, datagram, header->exchange, &chain);
	if (error == INVALID_SYNTAX) {
		// Fatal to the IKE SA at both ends (§2.21.3); one of IKE_AUTH was never there.
		bool current = tunnel_current(sa->tunnel) == sa;
		ike_sa_closed(ike, sa);
		if (current) {
			tunnel_failed(ike, sa->tunnel, "the peer sent a malformed message");
			tunnel_retry(ike, sa->tunnel, MILLISECONDS(200), MILLISECONDS(400));
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
	invariant(sa->spi_i != 0 && sa->spi_r != 0);
	uint8_t plain[IKE_MESSAGE_MAX];
	struct payloads payloads;
	enum notify error = message_open(sa, message, header, plain, &payloads);
	if (error == AUTHENTICATION_FAILED) {
		ike->counters[IKE_DROP_INTEGRITY]++;
	} else if (again) {
		ike->counters[IKE_RETRANSMIT_ANSWERED]++;
		// Where it came from (§2.11).
		action_answer(ike, sa, datagram, (struct bytes){sa->response, sa->response_length});
	} else {
		sign_of_life(ike, sa, datagram);
		children_confirm(ike, sa);
		answer_request(ike, sa, datagram, header, error, &payloads);
	}
	wipe(plain, sizeof plain);
}

static void take_response(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads)
{
	enum request_kind kind = sa->request.kind;
	invariant(kind > REQUEST_IKE_SA_INIT && kind <= REQUEST_PROBE && sa->request.message_id == sa->next_request);
	uint32_t old_spi = kind == REQUEST_DELETE_CHILD ? sa->request.child.old : 0;
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

// An answer to our request that is none. In a handshake the peer is asked once more, and then anew from the beginning; else it
// is as if it had not come: the request is repeated, and in the end the peer counts as dead.
static void spoiled(struct ike *ike, struct ike_sa *sa, enum ike_counter counter, const char *what)
{
	ike->counters[counter]++;
	if (sa->request.kind == REQUEST_IKE_SA_INIT || sa->request.kind == REQUEST_IKE_AUTH) {
		handshake_spoiled(ike, sa, what);
	}
}

// Whether it is about the request under way. One that has only its message ID or only its exchange is an answer gone wrong.
static bool answers_request(struct ike *ike, struct ike_sa *sa, const struct ike_header *header)
{
	bool id = header->message_id == sa->request.message_id, exchange = header->exchange == exchange_of(sa->request.kind);
	if (sa->request.kind != REQUEST_NONE && id && exchange) {
		return true;
	}
	if (sa->request.kind == REQUEST_NONE || (!id && !exchange)) {
		ike->counters[IKE_DROP_MESSAGE_ID]++;
	} else if (!id) {
		spoiled(ike, sa, IKE_DROP_MESSAGE_ID, "has the message ID of another");
	} else {
		spoiled(ike, sa, IKE_DROP_STATE, "is of another exchange");
	}
	return false;
}

static void receive_response(struct ike *ike, struct ike_sa *sa, const struct ike_datagram *datagram, struct bytes message,
                             const struct ike_header *header)
{
	if (!header_fits(header, message)) {
		spoiled(ike, sa, IKE_DROP_LENGTH, "is not as long as it says");
		return;
	}
	if (!answers_request(ike, sa, header)) {
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
		spoiled(ike, sa, IKE_DROP_INTEGRITY, "does not decrypt");
	} else if (error != NOTIFY_NONE || !kind_of(header, &payloads, sa, &kind) ||
	           payloads_legal(&payloads, kind, &offender) != NOTIFY_NONE) {
		spoiled(ike, sa, IKE_DROP_SYNTAX, "is malformed");
	} else {
		sign_of_life(ike, sa, datagram);
		take_response(ike, sa, &payloads);
	}
	wipe(plain, sizeof plain);
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

static void receive(struct ike *ike, const struct ike_datagram *datagram, struct bytes message, const struct ike_header *header)
{
	struct tunnel *tunnel = NULL;
	bool response = (header->flags & FLAG_RESPONSE) != 0;
	if (!response && (header->exchange < EXCHANGE_IKE_SA_INIT || header->exchange > EXCHANGE_INFORMATIONAL)) {
		ike->counters[IKE_DROP_EXCHANGE]++;
	} else if (!response && !header_fits(header, message)) {
		ike->counters[IKE_DROP_LENGTH]++;
	} else if (!ike->started) {
		ike->counters[IKE_DROP_NOT_STARTED]++;
	} else if (header->exchange == EXCHANGE_IKE_SA_INIT && header->spi_r == 0 && !response) {
		if (!(header->flags & FLAG_INITIATOR) || header->message_id != 0 || header->spi_i == 0) {
			ike->counters[IKE_DROP_SYNTAX]++;
			return;
		}
		tunnel = ike_sa_init_request(ike, datagram, message, header);
	} else {
		struct ike_sa *sa = find_sa(ike, datagram, header);
		tunnel = sa ? sa->tunnel : NULL;
		if (sa && response) {
			receive_response(ike, sa, datagram, message, header);
		} else if (sa) {
			receive_request(ike, sa, datagram, message, header);
		}
	}
	if (tunnel) {
		tunnel_run(ike, tunnel);
	}
}

const struct ike_version ike_version_2 = {
    .receive = receive, .begin = ike_sa_init_begin, .run = ike_sa_run, .deadline = ike_sa_deadline};
