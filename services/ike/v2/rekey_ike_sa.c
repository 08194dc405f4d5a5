// CREATE_CHILD_SA for the IKE SA itself (RFC 7296 §1.3.2, §2.8, §2.18, §2.25.2): a new IKE SA takes over the child SAs, and who
// made it deletes the old one.
#include "services/ike/v2/exchanges.h"

#include "common/base/invariant.h"
#include <string.h>

enum {
	REPLACED_SECONDS = 65,    // longer than any request goes unanswered
	DOUBT_MILLISECONDS = 500, // for the next answer after INVALID_SYNTAX, which may have been the last (§2.21.3)
};

static struct bytes spi_octets(uint64_t spi, uint8_t out[static IKE_SPI_LENGTH])
{
	struct writer w = writer_of(out, IKE_SPI_LENGTH);
	write_u64(&w, spi);
	return writer_bytes(&w);
}

static bool read_spi(struct bytes octets, uint64_t *out)
{
	struct reader r = reader_of(octets);
	*out = read_u64(&r);
	return octets.length == IKE_SPI_LENGTH && *out != 0;
}

// A new IKE SA on the path and in the place of `old`.
static struct ike_sa *successor(struct ike *ike, struct ike_sa *old, bool initiator, uint64_t spi_i, uint64_t spi_r,
                                const struct suite *suite, const struct key_inputs *inputs)
{
	struct ike_sa *sa = ike_sa_new(ike, old->tunnel, initiator);
	if (!sa) {
		return NULL;
	}
	invariant(old->state >= IKE_SA_ESTABLISHED && old->tunnel == sa->tunnel);
	sa->spi_i = spi_i;
	sa->spi_r = spi_r;
	ike_sa_index(ike, sa);
	sa->state = IKE_SA_ESTABLISHED;
	sa->established = old->established;
	sa->encapsulate = old->encapsulate;
	sa->nat = old->nat;
	sa->local_port = old->local_port;
	sa->remote_port = old->remote_port;
	sa->keepalive_at = old->keepalive_at;
	sa->suite = *suite;
	struct secret skeyseed;
	skeyseed_rekey(old->suite.prf, &old->keys.d, inputs, &skeyseed);
	ike_keys_derive(suite, &skeyseed, inputs, &sa->keys);
	secret_wipe(&skeyseed);
	ike_sa_clock(ike, sa);
	return sa;
}

static void take_over(struct ike *ike, struct ike_sa *old, struct ike_sa *sa, const char *by)
{
	invariant(sa != old && sa->state == IKE_SA_ESTABLISHED && old->child_count + sa->child_count <= CHILDREN_MAX);
	sa->provisional = false;
	ike_sa_move_children(ike, old, sa);
	invariant(old->child_count == 0);
	sa->tunnel->ike_rekeys++;
	sa->tunnel->status_dirty = true;
	tunnel_event(ike, sa->tunnel, "ike-sa-rekeyed", "%s", by);
}

static void replaced(struct ike *ike, struct ike_sa *sa)
{
	sa->state = IKE_SA_REPLACED;
	sa->provisional = false;
	sa->close_at = ike->now + SECONDS(REPLACED_SECONDS);
	sa->dirty = true;
}

static struct ike_sa *find_rival(const struct ike *ike, const struct ike_sa *sa)
{
	uint64_t spi = sa->request.kind == REQUEST_REKEY_IKE ? sa->request.ike.rival : 0;
	struct ike_sa *rival = spi ? ike_sa_find(ike, spi) : NULL;
	return rival && rival->state == IKE_SA_ESTABLISHED && rival->provisional ? rival : NULL;
}

void rekey_ike_adopt_rival(struct ike *ike, struct ike_sa *sa)
{
	struct ike_sa *rival = find_rival(ike, sa);
	if (rival) {
		take_over(ike, sa, rival, "by the peer");
		if (sa->state == IKE_SA_ESTABLISHED) {
			replaced(ike, sa);
		}
	}
}

void rekey_ike_decided(struct ike *ike, struct ike_sa *provisional)
{
	struct tunnel *tunnel = provisional->tunnel;
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		struct ike_sa *sa = tunnel->sas[i];
		if (sa->request.kind == REQUEST_REKEY_IKE && sa->request.ike.rival == ike_sa_spi(provisional)) {
			sa->request.ike.decided = true;
			rekey_ike_adopt_rival(ike, sa);
			return;
		}
	}
}

// ---- initiator ----
void rekey_ike_begin(struct ike *ike, struct ike_sa *sa)
{
	struct request *request = &sa->request;
	const struct algorithms *ours = &sa->tunnel->config.ike;
	uint8_t inner[IKE_MESSAGE_MAX], spi[IKE_SPI_LENGTH];
	struct ke_value value;
	uint8_t group = rekey_attempts_next(&sa->ike_attempts, ours, sa->suite.group, NO_GROUP); // what worked
	if (group == NO_GROUP) {
		rekey_attempts_done(&sa->ike_attempts);
		group = rekey_attempts_next(&sa->ike_attempts, ours, sa->suite.group, NO_GROUP);
	}
	if (group == NO_GROUP || group == GROUP_NONE) {
		tunnel_begin_beside(ike, sa->tunnel); // with what is configured now
		return;
	}
	struct algorithms offer = rekey_attempts_offer(&sa->ike_attempts, ours, group);
	struct writer w = writer_of(inner, sizeof inner);
	struct chain chain = chain_begin(&w);
	request->ike.new = ike_spi_new(ike);
	chain_open(&chain, PAYLOAD_SA);
	proposals_write(chain.w, PROTOCOL_IKE, spi_octets(request->ike.new, spi), &offer, GROUPS_COUNT);
	chain_close(&chain);
	request->nonce.length = NONCE_OURS;
	random_fill(&ike->random, request->nonce.octets, NONCE_OURS);
	chain_payload(&chain, PAYLOAD_NONCE, nonce_bytes(&request->nonce));
	exchange_begin(ike, &request->exchange, group, &value);
	chain_ke(&chain, group, ke_value_bytes(&value));
	request_send(ike, sa, REQUEST_REKEY_IKE, EXCHANGE_CREATE_CHILD_SA, &chain);
}

static void refused(struct ike *ike, struct ike_sa *sa, const struct notification *n)
{
	struct tunnel *tunnel = sa->tunnel;
	bool last = false;
	sa->dirty = true;
	switch (rekey_attempts_refused(&sa->ike_attempts, &tunnel->config.ike, n)) {
	case REKEY_AGAIN:
		sa->rekey_at = ike->now;
		break;
	case REKEY_LATER:
		sa->rekey_at = ike->now + SECONDS(1) + MILLISECONDS(random_below(&ike->random, 2000));
		break;
	case REKEY_IN_NEW_IKE_SA:
		last = true;
		sa->rekey_at = ike->now + SECONDS(10);
		if (!find_rival(ike, sa)) {
			tunnel_begin_beside(ike, tunnel);
		}
		break;
	}
	if (n->type == INVALID_SYNTAX) {
		sa->doubt_at = ike->now + MILLISECONDS(DOUBT_MILLISECONDS) + (ike->now - sa->request.first_sent);
	}
	if (n->type != TEMPORARY_FAILURE && (n->type != INVALID_KE_PAYLOAD || last)) {
		tunnel_failed(ike, tunnel, "the peer refuses to rekey the IKE SA (%s)%s", notify_name(n->type),
		              last ? "; a new one is negotiated in its place" : "");
	}
	rekey_ike_adopt_rival(ike, sa);
}

void rekey_ike_response(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads)
{
	struct request *request = &sa->request;
	struct notification n;
	struct proposals answer;
	struct suite suite;
	struct nonce nonce_r;
	struct ke_payload ke;
	struct shared_secret shared = {0};
	uint64_t spi_r = 0;
	if (notification_find_error(payloads, &n)) {
		refused(ike, sa, &n);
		request_done(ike, sa);
		return;
	}
	const struct proposal *chosen = NULL;
	if (proposals_read(payloads_body(payloads, PAYLOAD_SA), &answer)) {
		chosen = proposals_accept(&answer, PROTOCOL_IKE, &sa->tunnel->config.ike, GROUPS_COUNT, &suite);
	}
	bool good = chosen && read_spi(chosen->spi, &spi_r) && suite.group == request->exchange.group &&
	            nonce_set(&nonce_r, payloads_body(payloads, PAYLOAD_NONCE)) &&
	            ke_read(payloads_body(payloads, PAYLOAD_KE), &ke) && ke.group == suite.group &&
	            exchange_finish(ike, &request->exchange, ke.data, &shared);
	struct ike_sa *new_sa = NULL;
	if (good) {
		struct key_inputs inputs = {.nonce_i = nonce_bytes(&request->nonce),
		                            .nonce_r = nonce_bytes(&nonce_r),
		                            .shared = shared_secret_bytes(&shared),
		                            .spi_i = request->ike.new,
		                            .spi_r = spi_r};
		new_sa = successor(ike, sa, true, request->ike.new, spi_r, &suite, &inputs);
		wipe(&shared, sizeof shared);
	}
	if (!new_sa) {
		refused(ike, sa, &(struct notification){.type = NO_PROPOSAL_CHOSEN});
		request_done(ike, sa);
		return;
	}
	new_sa->lowest = *nonce_lower(&request->nonce, &nonce_r);
	struct ike_sa *rival = find_rival(ike, sa);
	if (request->ike.decided || sa->state != IKE_SA_ESTABLISHED) {
		ike_sa_close(ike, new_sa);
	} else if (rival && nonce_less(&new_sa->lowest, &request->rival_lowest)) {
		rekey_ike_adopt_rival(ike, sa); // the peer deletes the old one, we the redundant one
		ike_sa_close(ike, new_sa);
	} else {
		if (rival) {
			replaced(ike, rival); // the peer deletes it
		}
		take_over(ike, sa, new_sa, "by us");
		ike_sa_close(ike, sa);
	}
	request_done(ike, sa);
}

// ---- responder ----
static bool may_rekey(const struct ike_sa *sa)
{
	if (request_is_child(&sa->request) || sa->request.kind == REQUEST_DELETE_IKE) {
		return false; // §2.25.1, §2.25.2
	}
	bool has_rival = sa->request.kind == REQUEST_REKEY_IKE && sa->request.ike.rival != 0;
	return sa->state == IKE_SA_ESTABLISHED && !sa->provisional && !has_rival;
}

enum notify rekey_ike_request(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads, struct chain *chain)
{
	struct proposals offered;
	struct suite suite;
	struct ke_payload ke;
	struct nonce nonce_i, nonce_r = {.length = NONCE_OURS};
	struct ke_value value;
	struct shared_secret shared;
	uint64_t spi_i;
	if (!may_rekey(sa)) {
		chain_notify(chain, 0, (struct bytes){0}, TEMPORARY_FAILURE, (struct bytes){0});
		return NOTIFY_NONE;
	}
	if (!proposals_read(payloads_body(payloads, PAYLOAD_SA), &offered) ||
	    !ke_read(payloads_body(payloads, PAYLOAD_KE), &ke) ||
	    !nonce_set(&nonce_i, payloads_body(payloads, PAYLOAD_NONCE))) {
		chain_notify(chain, 0, (struct bytes){0}, INVALID_SYNTAX, (struct bytes){0});
		return INVALID_SYNTAX;
	}
	const struct proposal *chosen =
	    proposals_choose(&offered, PROTOCOL_IKE, &sa->tunnel->config.ike, GROUPS_COUNT, ke.group, &suite);
	if (!chosen || !read_spi(chosen->spi, &spi_i) || !group_known(suite.group)) {
		char reason[REASON_MAX];
		proposals_mismatch(&offered, PROTOCOL_IKE, &sa->tunnel->config.ike, GROUPS_COUNT, reason);
		tunnel_failed(ike, sa->tunnel, "%s", reason);
		chain_notify(chain, 0, (struct bytes){0}, NO_PROPOSAL_CHOSEN, (struct bytes){0});
		return NOTIFY_NONE;
	}
	if (ke.group != suite.group) {
		uint8_t group[2] = {0, suite.group};
		chain_notify(chain, 0, (struct bytes){0}, INVALID_KE_PAYLOAD, (struct bytes){group, sizeof group});
		return NOTIFY_NONE;
	}
	if (!exchange_respond(ike, suite.group, ke.data, &value, &shared)) {
		chain_notify(chain, 0, (struct bytes){0}, INVALID_SYNTAX, (struct bytes){0});
		return INVALID_SYNTAX;
	}
	random_fill(&ike->random, nonce_r.octets, NONCE_OURS);
	struct key_inputs inputs = {.nonce_i = nonce_bytes(&nonce_i),
	                            .nonce_r = nonce_bytes(&nonce_r),
	                            .shared = shared_secret_bytes(&shared),
	                            .spi_i = spi_i,
	                            .spi_r = ike_spi_new(ike)};
	struct ike_sa *new_sa = successor(ike, sa, false, spi_i, inputs.spi_r, &suite, &inputs);
	wipe(&shared, sizeof shared);
	if (!new_sa) {
		chain_notify(chain, 0, (struct bytes){0}, TEMPORARY_FAILURE, (struct bytes){0});
		return NOTIFY_NONE;
	}
	new_sa->lowest = *nonce_lower(&nonce_i, &nonce_r);
	uint8_t spi[IKE_SPI_LENGTH];
	chain_open(chain, PAYLOAD_SA);
	proposal_write_chosen(chain->w, PROTOCOL_IKE, chosen->number, spi_octets(new_sa->spi_r, spi), &suite, GROUPS_COUNT);
	chain_close(chain);
	chain_payload(chain, PAYLOAD_NONCE, nonce_bytes(&nonce_r));
	chain_ke(chain, suite.group, ke_value_bytes(&value));
	if (sa->request.kind == REQUEST_REKEY_IKE) {
		new_sa->provisional = true; // ours is under way: settled when its answer comes
		sa->request.ike.rival = new_sa->spi_r;
		sa->request.rival_lowest = new_sa->lowest;
	} else {
		take_over(ike, sa, new_sa, "by the peer");
		replaced(ike, sa);
	}
	return NOTIFY_NONE;
}
