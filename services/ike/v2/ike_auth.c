// IKE_AUTH with a pre-shared key, both roles (RFC 7296 §1.2, §2.15, §2.21.2): identities, the proof, and the first child SA.
// Left out: certificates (RFC 7427), EAP, configuration payloads.
#include "services/ike/v2/exchanges.h"

#include "common/base/invariant.h"
#include "services/ike/v2/admission.h"
#include <stdio.h>
#include <string.h>

// After an answer that refuses the child SA it is asked for again later; after one that cannot be used, soon.
enum { UNUSABLE_PAUSE = 500 }; // milliseconds

// The octets of one end's proof: its own IKE_SA_INIT message, the other's nonce, its identity.
static size_t proof(struct ike *ike, const struct ike_sa *sa, bool of_initiator, struct bytes identity,
                    uint8_t out[static HASH_MAX])
{
	const struct handshake *handshake = sa->handshake;
	invariant(handshake && handshake->init_request && handshake->init_response);
	const struct secret *secret = tunnel_secret(ike, sa->tunnel);
	struct bytes request = {handshake->init_request, handshake->init_request_length};
	struct bytes response = {handshake->init_response, handshake->init_response_length};
	shared_key_auth(sa->suite.prf, secret, of_initiator ? request : response,
	                nonce_bytes(of_initiator ? &handshake->nonce_r : &handshake->nonce_i),
	                of_initiator ? &sa->keys.pi : &sa->keys.pr, identity, out);
	return hash_algorithm(sa->suite.prf)->length;
}

static void write_identity_and_proof(struct ike *ike, const struct ike_sa *sa, struct chain *chain)
{
	uint8_t body[IDENTITY_BODY_MAX], hash[HASH_MAX], auth[4 + HASH_MAX] = {AUTH_METHOD_SHARED_KEY};
	struct writer w = writer_of(body, sizeof body);
	identity_write(&w, sa->tunnel->config.local_id);
	chain_payload(chain, sa->initiator ? PAYLOAD_IDI : PAYLOAD_IDR, writer_bytes(&w));
	size_t length = proof(ike, sa, sa->initiator, writer_bytes(&w), hash);
	memcpy(auth + 4, hash, length);
	chain_payload(chain, PAYLOAD_AUTH, (struct bytes){auth, 4 + length});
}

enum proof { PROOF_GOOD, PROOF_OTHER_KEY, PROOF_OTHER_METHOD };

static enum proof proof_check(struct ike *ike, const struct ike_sa *sa, const struct payloads *payloads, uint8_t *method)
{
	struct auth_payload auth = {0};
	uint8_t hash[HASH_MAX];
	bool read = auth_read(payloads_body(payloads, PAYLOAD_AUTH), &auth);
	*method = auth.method;
	if (!read || auth.method != AUTH_METHOD_SHARED_KEY) {
		return PROOF_OTHER_METHOD;
	}
	if (!tunnel_secret(ike, sa->tunnel)) {
		return PROOF_OTHER_KEY;
	}
	size_t length =
	    proof(ike, sa, !sa->initiator, payloads_body(payloads, sa->initiator ? PAYLOAD_IDR : PAYLOAD_IDI), hash);
	return constant_time_equal(auth.data, (struct bytes){hash, length}) ? PROOF_GOOD : PROOF_OTHER_KEY;
}

static const char *why_not(enum proof proof, uint8_t method, char out[static 160])
{
	static const char *const names[] = {
	    [1] = "RSA signature", [2] = "pre-shared key", [3] = "DSS signature", [9] = "ECDSA-256",
	    [10] = "ECDSA-384",    [11] = "ECDSA-521",     [13] = "NULL",         [14] = "digital signature"};
	if (proof == PROOF_OTHER_KEY) {
		return "pre-shared key mismatch: the peer's proof is not that of our key";
	}
	const char *name = method < sizeof names / sizeof names[0] ? names[method] : NULL;
	snprintf(out, 160,
	         "authentication method mismatch: the peer authenticates itself by method %u%s%s%s; we accept a pre-shared key",
	         method, name ? " (" : "", name ? name : "", name ? ")" : "");
	return out;
}

static struct key_inputs inputs_of(const struct ike_sa *sa)
{
	return (struct key_inputs){.nonce_i = nonce_bytes(&sa->handshake->nonce_i),
	                           .nonce_r = nonce_bytes(&sa->handshake->nonce_r)};
}

// Does another IKE SA of the tunnel have a child SA? Then one that has none does not take its place.
static bool is_up_without(const struct tunnel *tunnel, const struct ike_sa *sa)
{
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		const struct ike_sa *other = tunnel->sas[i];
		if (other != sa && other->state == IKE_SA_ESTABLISHED && child_count_live(other) > 0) {
			return true;
		}
	}
	return false;
}

// The IKE SA stands.
static void establish(struct ike *ike, struct ike_sa *sa, bool initial_contact, bool with_child)
{
	invariant(sa->handshake != NULL && (sa->initiator ? sa->state == IKE_SA_AUTH_SENT : sa->state == IKE_SA_HALF_OPEN));
	ike->half_open -= sa->state == IKE_SA_HALF_OPEN;
	sa->state = IKE_SA_ESTABLISHED;
	if (!sa->initiator) {
		admission_forgive(sa->tunnel);
	}
	sa->tunnel->ike_group = sa->suite.group;
	sa->established = sa->last_in = ike->now;
	sa->close_at = INSTANT_NEVER;
	sa->new_child_at = ike->now + SECONDS(10); // when the first child SA is refused
	sa->keepalive_at = sa->nat.local ? ike->now + SECONDS(20) : INSTANT_NEVER;
	ike_sa_clock(ike, sa);
	if (with_child || initial_contact || !is_up_without(sa->tunnel, sa)) {
		ike_sa_authenticated(ike, sa, initial_contact);
	}
	char suite[SUITE_TEXT_MAX];
	tunnel_event(ike, sa->tunnel, "ike-sa-established", "%s, %s%s", sa->initiator ? "by us" : "by the peer",
	             suite_format(&sa->suite, suite), sa->encapsulate ? ", UDP-encapsulated" : "");
}

static void established_child(struct ike *ike, struct tunnel *tunnel, const struct child_sa *child,
                              const struct child_choice *choice, bool transport)
{
	char suite[SUITE_TEXT_MAX], ts_i[96], ts_r[96];
	tunnel_event(ike, tunnel, "child-sa-established", "%08x/%08x %s, traffic selectors %s === %s%s", child->spi_in,
	             child->spi_out, suite_format(&child->suite, suite),
	             traffic_selectors_format(&choice->ts_i, ts_i, sizeof ts_i),
	             traffic_selectors_format(&choice->ts_r, ts_r, sizeof ts_r),
	             transport ? "; the peer asks for transport mode, we make tunnel mode" : "");
}

// ---- initiator ----
void ike_auth_begin(struct ike *ike, struct ike_sa *sa)
{
	const struct tunnel *tunnel = sa->tunnel;
	if (!tunnel_secret(ike, tunnel)) {
		tunnel_failed(ike, sa->tunnel, "the tunnel has no pre-shared key");
		ike_sa_close(ike, sa);
		return;
	}
	uint8_t inner[IKE_MESSAGE_MAX], spi[4], body[IDENTITY_BODY_MAX];
	struct writer w = writer_of(inner, sizeof inner);
	struct chain chain = chain_begin(&w);
	write_identity_and_proof(ike, sa, &chain);
	struct writer idr = writer_of(body, sizeof body);
	identity_write(&idr, tunnel->config.remote_id);
	chain_payload(&chain, PAYLOAD_IDR, writer_bytes(&idr));
	sa->handshake->child_spi = child_spi_new(ike);
	struct writer spi_writer = writer_of(spi, sizeof spi);
	write_u32(&spi_writer, sa->handshake->child_spi);
	chain_open(&chain, PAYLOAD_SA);
	proposals_write(chain.w, PROTOCOL_ESP, writer_bytes(&spi_writer), &tunnel->config.child, GROUPS_IGNORED);
	chain_close(&chain);
	struct traffic_selectors any = traffic_selectors_any();
	selectors_write(&chain, PAYLOAD_TSI, &any);
	selectors_write(&chain, PAYLOAD_TSR, &any);
	if (!tunnel_current(tunnel)) {
		chain_notify(&chain, 0, (struct bytes){0}, INITIAL_CONTACT, (struct bytes){0}); // §2.4
	}
	sa->state = IKE_SA_AUTH_SENT;
	request_send(ike, sa, REQUEST_IKE_AUTH, EXCHANGE_IKE_AUTH, &chain);
}

// The peer's answer does not prove it: it is told so in an exchange of its own (§2.21.2).
static void refuse_peer(struct ike *ike, struct ike_sa *sa)
{
	invariant(sa->initiator && sa->state == IKE_SA_AUTH_SENT && sa->child_count == 0);
	sa->farewell = AUTHENTICATION_FAILED;
	child_spi_release(ike, sa->handshake->child_spi);
	handshake_free(sa);
	ike_sa_close(ike, sa);
}

// What of ours the peer's refusal is about.
static void refusal_format(const struct tunnel *tunnel, const char *what, uint16_t type, char out[static REASON_MAX])
{
	char ours[REASON_MAX / 2] = "", selectors[96];
	if (type == NO_PROPOSAL_CHOSEN) {
		algorithms_format(&tunnel->config.child, PROTOCOL_ESP, GROUPS_IGNORED, ours, sizeof ours);
	} else if (type == TS_UNACCEPTABLE || type == SINGLE_PAIR_REQUIRED) {
		struct traffic_selectors any = traffic_selectors_any();
		traffic_selectors_format(&any, selectors, sizeof selectors);
		snprintf(ours, sizeof ours, "traffic selectors %s === %s", selectors, selectors);
	}
	snprintf(out, REASON_MAX, "the peer refuses %s (%s)%s%s", what, notify_name(type), ours[0] ? "; we offer " : "", ours);
}

void ike_auth_response(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads)
{
	struct tunnel *tunnel = sa->tunnel;
	const struct tunnel_config *config = &tunnel->config;
	struct notification n = {0};
	bool error = notification_find_error(payloads, &n);
	request_done(ike, sa);
	struct bytes identity = payloads_body(payloads, PAYLOAD_IDR);
	if (error && (identity.length == 0 || n.type == AUTHENTICATION_FAILED)) {
		if (n.type == AUTHENTICATION_FAILED) {
			tunnel_failed(
			    ike, tunnel,
			    "the peer refuses our pre-shared key or identity (AUTHENTICATION_FAILED); we are %s and call it %s",
			    config->local_id, config->remote_id);
		} else {
			char reason[REASON_MAX];
			refusal_format(tunnel, "IKE_AUTH", n.type, reason);
			tunnel_failed(ike, tunnel, "%s", reason);
		}
		ike_sa_close(ike, sa);
		return;
	}
	char theirs[IDENTITY_TEXT_MAX];
	if (!identity_matches(identity, config->remote_id)) {
		tunnel_failed(ike, tunnel, "identity mismatch: the peer says it is %s; we expect %s",
		              identity_format(identity, theirs), config->remote_id);
		refuse_peer(ike, sa);
		return;
	}
	uint8_t method;
	char why[160];
	enum proof proven = proof_check(ike, sa, payloads, &method);
	if (proven != PROOF_GOOD) {
		tunnel_failed(ike, tunnel, "%s", why_not(proven, method, why));
		refuse_peer(ike, sa);
		return;
	}
	struct child_choice choice;
	struct child_sa *child = NULL;
	uint32_t spi_in = sa->handshake->child_spi;
	if (error) {
		refusal_format(tunnel, "the child SA", n.type, choice.reason);
	} else if (child_accept(tunnel, payloads, GROUPS_IGNORED, &choice) == NOTIFY_NONE) {
		struct key_inputs inputs = inputs_of(sa);
		child = child_new(
		    ike, sa,
		    &(struct child_agreement){spi_in, choice.spi_out, &choice.suite, &inputs, &choice.ts_i, &choice.ts_r}, true,
		    true);
	}
	if (!child && is_up_without(tunnel, sa)) {
		// It was begun beside an IKE SA that stands and has what this one lacks.
		child_spi_release(ike, spi_in);
		handshake_free(sa);
		sa->state = IKE_SA_ESTABLISHED;
		ike_sa_close(ike, sa);
		tunnel_failed(ike, tunnel, "%s, in a new IKE SA too", choice.reason);
		return;
	}
	establish(ike, sa, false, child != NULL);
	if (child) {
		established_child(ike, tunnel, child, &choice, false);
	} else {
		child_spi_release(ike, spi_in);
		tunnel_failed(ike, tunnel, "%s", choice.reason);
		if (!error) {
			sa->new_child_at = ike->now + MILLISECONDS(UNUSABLE_PAUSE);
		}
	}
	handshake_free(sa);
}

// ---- responder ----
static void refuse_initiator(struct ike *ike, struct ike_sa *sa, struct chain *chain)
{
	invariant(!sa->initiator && sa->state == IKE_SA_HALF_OPEN && sa->child_count == 0);
	chain_notify(chain, 0, (struct bytes){0}, AUTHENTICATION_FAILED, (struct bytes){0});
	ike->half_open -= sa->state == IKE_SA_HALF_OPEN;
	sa->state = IKE_SA_CLOSED;
	sa->close_at = ike->now + SECONDS(5);
	handshake_free(sa);
}

void ike_auth_request(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads, struct chain *chain)
{
	struct tunnel *tunnel = sa->tunnel;
	const struct tunnel_config *config = &tunnel->config;
	struct bytes identity = payloads_body(payloads, PAYLOAD_IDI), wanted = payloads_body(payloads, PAYLOAD_IDR);
	char theirs[IDENTITY_TEXT_MAX];
	if (!identity_matches(identity, config->remote_id)) {
		tunnel_refused(ike, tunnel, STANDING_REACHABLE, "identity mismatch: the peer says it is %s; we expect %s",
		               identity_format(identity, theirs), config->remote_id);
		refuse_initiator(ike, sa, chain);
		return;
	}
	if (wanted.length > 0 && !identity_matches(wanted, config->local_id)) {
		tunnel_refused(ike, tunnel, STANDING_REACHABLE, "identity mismatch: the peer expects us to be %s; we are %s",
		               identity_format(wanted, theirs), config->local_id);
		refuse_initiator(ike, sa, chain);
		return;
	}
	uint8_t method;
	char why[160];
	enum proof proven = proof_check(ike, sa, payloads, &method);
	if (proven != PROOF_GOOD) {
		tunnel_refused(ike, tunnel, STANDING_REACHABLE, "%s", why_not(proven, method, why));
		refuse_initiator(ike, sa, chain);
		return;
	}
	struct notification n;
	struct child_choice choice;
	enum notify error = child_choose(tunnel, payloads, GROUPS_IGNORED, GROUP_NONE, &choice);
	establish(ike, sa, notification_find(payloads, INITIAL_CONTACT, &n), error == NOTIFY_NONE);
	write_identity_and_proof(ike, sa, chain);
	if (error != NOTIFY_NONE) {
		chain_notify(chain, 0, (struct bytes){0}, (uint16_t)error, (struct bytes){0});
		tunnel_failed(ike, tunnel, "%s", choice.reason);
	} else {
		struct key_inputs inputs = inputs_of(sa);
		struct child_sa *child = child_new(ike, sa,
		                                   &(struct child_agreement){child_spi_new(ike), choice.spi_out, &choice.suite,
		                                                             &inputs, &choice.ts_i, &choice.ts_r},
		                                   false, false);
		child_answer_write(chain, &choice, child->spi_in, GROUPS_IGNORED);
		established_child(ike, tunnel, child, &choice, notification_find(payloads, USE_TRANSPORT_MODE, &n));
	}
	handshake_free(sa);
}
