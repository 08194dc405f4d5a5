// IKE_SA_INIT as initiator (RFC 7296 §1.2, §2.6, §2.7, §2.10, §2.14, §2.21.1): proposals, nonces and the key exchange, cookies,
// INVALID_KE_PAYLOAD, NAT detection. Errors are not protected here, so none of them is the end: the request is repeated, and
// what they said is the reason when nothing better comes. The other role is ike_sa_init_answer.c.
#include "services/ike/v2/exchanges.h"

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	RETRIES_MAX = 5,
	SPOILED_MAX = 2,
	SPOILED_PAUSE = 100, // milliseconds
};

static void write_sa(struct chain *chain, const struct tunnel *tunnel)
{
	chain_open(chain, PAYLOAD_SA);
	proposals_write(chain->w, PROTOCOL_IKE, (struct bytes){0}, &tunnel->config.ike, GROUPS_COUNT);
	chain_close(chain);
}

struct chain init_message_begin(struct writer *w, uint64_t spi_i, uint64_t spi_r, uint8_t flags)
{
	struct ike_header header = {
	    .spi_i = spi_i, .spi_r = spi_r, .version = IKE_VERSION_2, .exchange = EXCHANGE_IKE_SA_INIT, .flags = flags};
	header_write(w, &header);
	return chain_begin(w);
}

struct bytes init_message_end(struct writer *w, const struct chain *chain)
{
	w->start[16] = chain->first;
	header_finish(w, 0);
	return writer_bytes(w);
}

void handshake_keep(uint8_t **copy, size_t *length, struct bytes message)
{
	free(*copy);
	*copy = allocate(message.length);
	*length = message.length;
	memcpy(*copy, message.data, message.length);
}

static void send_init(struct ike *ike, struct ike_sa *sa)
{
	struct handshake *handshake = sa->handshake;
	invariant(handshake->value && handshake->value->length > 0 && handshake->cookie_length <= COOKIE_MAX);
	uint8_t octets[IKE_MESSAGE_MAX];
	struct writer w = writer_of(octets, sizeof octets);
	struct chain chain = init_message_begin(&w, sa->spi_i, 0, FLAG_INITIATOR);
	if (handshake->cookie_length > 0) {
		// First of all payloads, the rest unchanged (§2.6).
		chain_notify(&chain, 0, (struct bytes){0}, COOKIE, (struct bytes){handshake->cookie, handshake->cookie_length});
	}
	write_sa(&chain, sa->tunnel);
	chain_ke(&chain, handshake->exchange.group, ke_value_bytes(handshake->value));
	chain_payload(&chain, PAYLOAD_NONCE, nonce_bytes(&handshake->nonce_i));
	nat_detection_write(&chain, sa->spi_i, 0, &sa->local, sa->local_port, &sa->remote, sa->remote_port,
	                    sa->tunnel->config.force_encapsulation);
	struct bytes message = init_message_end(&w, &chain);
	handshake_keep(&handshake->init_request, &handshake->init_request_length, message);
	request_send_plain(ike, sa, REQUEST_IKE_SA_INIT, message);
}

static void begin_exchange(struct ike *ike, struct handshake *handshake, uint8_t group)
{
	key_exchange_wipe(&handshake->exchange);
	exchange_begin(ike, &handshake->exchange, group, handshake->value);
}

// The group that worked last, or the first of ours.
static uint8_t first_group(const struct tunnel *tunnel)
{
	const struct algorithms *ours = &tunnel->config.ike;
	if (group_known(tunnel->ike_group) && algorithms_have_group(ours, tunnel->ike_group)) {
		return tunnel->ike_group;
	}
	for (size_t i = 0; i < ours->group_count; i++) {
		if (group_known(ours->groups[i])) {
			return ours->groups[i];
		}
	}
	return GROUP_NONE;
}

void ike_sa_init_begin(struct ike *ike, struct tunnel *tunnel)
{
	uint8_t group = first_group(tunnel);
	if (group == GROUP_NONE || tunnel->config.ike.encryption_count == 0 || tunnel->config.ike.integrity_count == 0) {
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
	sa->local_port =
	    mapped ? IKE_NAT_PORT : IKE_PORT; // beside one through the peer's NAT: where that is known to lead to it (§2.23)
	sa->remote_port = mapped ? standing->remote_port : IKE_PORT;
	struct handshake *handshake = sa->handshake = allocate(sizeof *handshake);
	handshake->value = allocate(sizeof *handshake->value);
	handshake->nonce_i.length = NONCE_OURS;
	random_fill(&ike->random, handshake->nonce_i.octets, NONCE_OURS);
	begin_exchange(ike, handshake, group);
	ike_sa_index(ike, sa);
	send_init(ike, sa);
}

// What the peer said instead of an answer is told, and kept for the end of the attempt (§2.21.1).
static void note_refusal(struct ike *ike, struct ike_sa *sa, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void note_refusal(struct ike *ike, struct ike_sa *sa, const char *format, ...)
{
	struct handshake *handshake = sa->handshake;
	char reason[REASON_MAX];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(reason, sizeof reason, format, arguments);
	va_end(arguments);
	if (length < 0 || (handshake->refusal && strcmp(handshake->refusal, reason) == 0)) {
		return;
	}
	free(handshake->refusal);
	size_t octets = strlen(reason) + 1;
	handshake->refusal = allocate(octets);
	memcpy(handshake->refusal, reason, octets);
	tunnel_refused(ike, sa->tunnel, STANDING_REACHABLE, "%s", reason);
}

void handshake_spoiled(struct ike *ike, struct ike_sa *sa, const char *what)
{
	struct handshake *handshake = sa->handshake;
	invariant(handshake != NULL && (sa->state == IKE_SA_INIT_SENT || sa->state == IKE_SA_AUTH_SENT));
	if (++handshake->spoiled < SPOILED_MAX) {
		// One may be anybody's, and the right one may still come; it is asked for soon.
		sa->request.resend_at = instant_min(sa->request.resend_at, ike->now + MILLISECONDS(SPOILED_PAUSE));
		return;
	}
	tunnel_failed(ike, sa->tunnel, "the peer's answer to %s %s", sa->state == IKE_SA_INIT_SENT ? "IKE_SA_INIT" : "IKE_AUTH",
	              what);
	ike_sa_remove(ike, sa);
}

// Another group is asked for. What was begun with our resends may be asked for once more: that says nothing new.
static void other_group(struct ike *ike, struct ike_sa *sa, const struct notification *n)
{
	struct handshake *handshake = sa->handshake;
	unsigned group = n->data.length == 2 ? (unsigned)n->data.data[0] << 8 | n->data.data[1] : 0;
	if (group == handshake->exchange.group && handshake->retries > 0) {
		return;
	}
	if (group != handshake->exchange.group && group_known(group) && algorithms_have_group(&sa->tunnel->config.ike, group) &&
	    handshake->retries < RETRIES_MAX) {
		handshake->retries++;
		sa->tunnel->ike_group = (uint8_t)group;
		begin_exchange(ike, handshake, (uint8_t)group);
		send_init(ike, sa);
		return;
	}
	char ours[REASON_MAX / 2];
	algorithms_format(&sa->tunnel->config.ike, PROTOCOL_IKE, GROUPS_COUNT, ours, sizeof ours);
	const char *name = group_name(group);
	note_refusal(ike, sa, "no common Diffie-Hellman group: the peer asks for %s (%u); we offer %s", name ? name : "group",
	             group, ours);
}

static void demands_cookie(struct ike *ike, struct ike_sa *sa, const struct notification *n)
{
	struct handshake *handshake = sa->handshake;
	if (n->data.length == 0 || n->data.length > COOKIE_MAX) {
		handshake_spoiled(ike, sa, "has a cookie that is none");
		return;
	}
	if (bytes_equal(n->data, (struct bytes){handshake->cookie, handshake->cookie_length})) {
		return; // the same may come twice: that says nothing new
	}
	if (handshake->retries >= RETRIES_MAX) {
		handshake_spoiled(ike, sa, "asks for another cookie again and again");
		return;
	}
	handshake->retries++;
	handshake->cookie_length = n->data.length;
	memcpy(handshake->cookie, n->data.data, n->data.length);
	send_init(ike, sa);
}

static void init_refused(struct ike *ike, struct ike_sa *sa, const struct notification *n)
{
	if (n->type == COOKIE) {
		demands_cookie(ike, sa, n);
	} else if (n->type == INVALID_KE_PAYLOAD) {
		other_group(ike, sa, n);
	} else if (n->type == NO_PROPOSAL_CHOSEN) {
		char ours[REASON_MAX / 2];
		algorithms_format(&sa->tunnel->config.ike, PROTOCOL_IKE, GROUPS_COUNT, ours, sizeof ours);
		note_refusal(ike, sa, "the peer accepts none of our IKE proposals (NO_PROPOSAL_CHOSEN); we offer %s", ours);
	} else if (n->type == INVALID_MAJOR_VERSION) {
		note_refusal(ike, sa, "the peer does not speak IKEv2 (INVALID_MAJOR_VERSION)");
	} else {
		note_refusal(ike, sa, "the peer refuses IKE_SA_INIT (%s)", notify_name(n->type));
	}
}

void init_keys(struct ike_sa *sa, struct shared_secret *shared)
{
	struct handshake *handshake = sa->handshake;
	struct key_inputs inputs = {.nonce_i = nonce_bytes(&handshake->nonce_i),
	                            .nonce_r = nonce_bytes(&handshake->nonce_r),
	                            .shared = shared_secret_bytes(shared),
	                            .spi_i = sa->spi_i,
	                            .spi_r = sa->spi_r};
	invariant(sa->spi_i != 0 && sa->spi_r != 0 && shared->length > 0);
	struct secret skeyseed;
	skeyseed_initial(sa->suite.prf, &inputs, &skeyseed);
	ike_keys_derive(&sa->suite, &skeyseed, &inputs, &sa->keys);
	secret_wipe(&skeyseed);
	wipe(shared, sizeof *shared);
	sa->lowest = *nonce_lower(&handshake->nonce_i, &handshake->nonce_r);
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
		handshake_spoiled(ike, sa, "is malformed");
		return;
	}
	struct notification n;
	if (notification_find(&payloads, COOKIE, &n) || notification_find_error(&payloads, &n)) {
		init_refused(ike, sa, &n);
		return;
	}
	if (ike_sa_yields(ike, sa)) {
		ike->counters[IKE_DROP_STATE]++; // it comes again, when ours is still wanted
		return;
	}
	struct handshake *handshake = sa->handshake;
	struct proposals answer;
	struct ke_payload ke;
	struct suite suite;
	struct shared_secret shared;
	if (header->spi_r == 0 || !proposals_read(payloads_body(&payloads, PAYLOAD_SA), &answer) ||
	    !ke_read(payloads_body(&payloads, PAYLOAD_KE), &ke) ||
	    !nonce_set(&handshake->nonce_r, payloads_body(&payloads, PAYLOAD_NONCE))) {
		ike->counters[IKE_DROP_SYNTAX]++;
		handshake_spoiled(ike, sa, "is malformed");
		return;
	}
	if (!proposals_accept(&answer, PROTOCOL_IKE, &sa->tunnel->config.ike, GROUPS_COUNT, &suite) ||
	    suite.group != handshake->exchange.group || ke.group != suite.group) {
		handshake_spoiled(ike, sa, "has an IKE proposal that we did not offer");
		return;
	}
	if (!exchange_finish(ike, &handshake->exchange, ke.data, &shared)) {
		handshake_spoiled(ike, sa, "has a key exchange value that is not valid");
		return;
	}
	invariant(sa->initiator && sa->state == IKE_SA_INIT_SENT && sa->spi_r == 0);
	key_exchange_wipe(&handshake->exchange);
	sa->suite = suite;
	sa->spi_r = header->spi_r;
	init_keys(sa, &shared);
	handshake_keep(&handshake->init_response, &handshake->init_response_length, message);
	sa->nat = nat_detection_read(&payloads, sa->spi_i, sa->spi_r, &datagram->local, datagram->local_port, &datagram->remote,
	                             datagram->remote_port);
	sa->encapsulate = sa->nat.supported && (sa->nat.local || sa->nat.remote || sa->tunnel->config.force_encapsulation);
	request_done(ike, sa);
	sa->next_request = 1;
	sa->last_in = ike->now;
	handshake->spoiled = 0;
	if (sa->encapsulate && sa->local_port != IKE_NAT_PORT) {
		sa->local_port = sa->remote_port = IKE_NAT_PORT; // §2.23
	}
	ike_auth_begin(ike, sa);
}
