// CREATE_CHILD_SA for child SAs, both roles: new ones and rekeying (RFC 7296 §1.3.1, §1.3.3, §2.8, §2.8.1 simultaneous
// rekeying, §2.9 traffic selectors, §2.25 collisions). A rekeyed child SA is sent on by its initiator as soon as the answer is
// here, by its responder when the peer shows that it has it.
#include "services/ike/v2/exchanges.h"

#include "common/base/invariant.h"
#include <stdio.h>
#include <string.h>

enum {
	REPLACED_SECONDS = 65, // longer than any request goes unanswered
	DOUBT_MILLISECONDS = 500,
};

// ---- parts that IKE_AUTH shares ----
void selectors_write(struct chain *chain, uint8_t type, const struct traffic_selectors *selectors)
{
	chain_open(chain, type);
	traffic_selectors_write(chain->w, selectors);
	chain_close(chain);
}

static bool read_spi(struct bytes spi, uint32_t *out)
{
	struct reader r = reader_of(spi);
	*out = read_u32(&r);
	return !r.failed && spi.length == 4 && *out >= 256; // RFC 4303 §2.1
}

enum notify child_choose(const struct tunnel *tunnel, const struct payloads *payloads, enum proposal_groups groups,
                         unsigned ke_group, struct child_choice *out)
{
	struct proposals offered;
	struct traffic_selectors ts_i, ts_r, ours = traffic_selectors_any();
	if (!proposals_read(payloads_body(payloads, PAYLOAD_SA), &offered) ||
	    !traffic_selectors_read(payloads_body(payloads, PAYLOAD_TSI), &ts_i) ||
	    !traffic_selectors_read(payloads_body(payloads, PAYLOAD_TSR), &ts_r)) {
		snprintf(out->reason, sizeof out->reason, "the peer's request for a child SA is malformed");
		return INVALID_SYNTAX;
	}
	const struct proposal *chosen =
	    proposals_choose(&offered, PROTOCOL_ESP, &tunnel->config.child, groups, ke_group, &out->suite);
	if (!chosen || !read_spi(chosen->spi, &out->spi_out)) {
		proposals_mismatch(&offered, PROTOCOL_ESP, &tunnel->config.child, groups, out->reason);
		return NO_PROPOSAL_CHOSEN;
	}
	out->number = chosen->number;
	traffic_selectors_narrow(&ts_i, &ours, &out->ts_i);
	traffic_selectors_narrow(&ts_r, &ours, &out->ts_r);
	if (out->ts_i.count == 0 || out->ts_r.count == 0) {
		char text_i[128], text_r[128];
		snprintf(out->reason, sizeof out->reason,
		         "no common traffic selectors: the peer offers %s === %s; we accept IPv4",
		         traffic_selectors_format(&ts_i, text_i, sizeof text_i),
		         traffic_selectors_format(&ts_r, text_r, sizeof text_r));
		return TS_UNACCEPTABLE;
	}
	return NOTIFY_NONE;
}

enum notify child_accept(const struct tunnel *tunnel, const struct payloads *payloads, enum proposal_groups groups,
                         struct child_choice *out)
{
	struct proposals answer;
	struct traffic_selectors ours = traffic_selectors_any();
	const struct proposal *chosen = NULL;
	if (proposals_read(payloads_body(payloads, PAYLOAD_SA), &answer)) {
		chosen = proposals_accept(&answer, PROTOCOL_ESP, &tunnel->config.child, groups, &out->suite);
	}
	if (!chosen || !read_spi(chosen->spi, &out->spi_out)) {
		snprintf(out->reason, sizeof out->reason, "the peer chose a child SA proposal that we did not offer");
		return NO_PROPOSAL_CHOSEN;
	}
	if (!traffic_selectors_read(payloads_body(payloads, PAYLOAD_TSI), &out->ts_i) ||
	    !traffic_selectors_read(payloads_body(payloads, PAYLOAD_TSR), &out->ts_r) ||
	    !traffic_selectors_within(&out->ts_i, &ours) || !traffic_selectors_within(&out->ts_r, &ours)) {
		snprintf(out->reason, sizeof out->reason, "the peer chose traffic selectors that we did not offer");
		return TS_UNACCEPTABLE;
	}
	return NOTIFY_NONE;
}

static struct bytes spi_octets(uint32_t spi, uint8_t out[static 4])
{
	struct writer w = writer_of(out, 4);
	write_u32(&w, spi);
	return writer_bytes(&w);
}

void child_answer_write(struct chain *chain, const struct child_choice *choice, uint32_t spi_in, enum proposal_groups groups)
{
	uint8_t spi[4];
	chain_open(chain, PAYLOAD_SA);
	proposal_write_chosen(chain->w, PROTOCOL_ESP, choice->number, spi_octets(spi_in, spi), &choice->suite, groups);
	chain_close(chain);
	selectors_write(chain, PAYLOAD_TSI, &choice->ts_i);
	selectors_write(chain, PAYLOAD_TSR, &choice->ts_r);
}

// ---- initiator ----
void create_child_begin(struct ike *ike, struct ike_sa *sa, struct child_sa *old)
{
	const struct algorithms *ours = &sa->tunnel->config.child;
	struct rekey_attempts *attempts = &sa->child_attempts;
	struct request *request = &sa->request;
	// First what worked last; of a peer that has not told yet, it is the IKE SA's.
	uint8_t group = rekey_attempts_next(attempts, ours, sa->tunnel->child_group, sa->suite.group);
	if (group == NO_GROUP) {
		rekey_attempts_done(attempts); // another round, from what worked last
		group = rekey_attempts_next(attempts, ours, sa->tunnel->child_group, sa->suite.group);
	}
	if (group == NO_GROUP) {
		tunnel_failed(ike, sa->tunnel, "no Diffie-Hellman group that is configured for child SAs is known here");
		tunnel_begin_beside(ike, sa->tunnel);
		return;
	}
	struct algorithms offer = rekey_attempts_offer(attempts, ours, group);
	uint8_t inner[IKE_MESSAGE_MAX], spi[4];
	struct writer w = writer_of(inner, sizeof inner);
	struct chain chain = chain_begin(&w);
	if (old) {
		chain_notify(&chain, PROTOCOL_ESP, spi_octets(old->spi_in, spi), REKEY_SA, (struct bytes){0});
	}
	invariant(request->kind == REQUEST_NONE && sa->state == IKE_SA_ESTABLISHED && (!old || old->state == CHILD_LIVE));
	request->child.old = old ? old->spi_in : 0;
	request->child.new = child_spi_new(ike);
	request->nonce.length = NONCE_OURS;
	random_fill(&ike->random, request->nonce.octets, NONCE_OURS);
	chain_open(&chain, PAYLOAD_SA);
	proposals_write(chain.w, PROTOCOL_ESP, spi_octets(request->child.new, spi), &offer, GROUPS_COUNT);
	chain_close(&chain);
	chain_payload(&chain, PAYLOAD_NONCE, nonce_bytes(&request->nonce));
	if (group != GROUP_NONE) {
		struct ke_value value;
		exchange_begin(ike, &request->exchange, group, &value);
		chain_ke(&chain, group, ke_value_bytes(&value));
	}
	// Of one to be rekeyed what it has (§2.9.2): asked for everything again, a peer with several could answer with
	// another's.
	struct traffic_selectors any = traffic_selectors_any();
	selectors_write(&chain, PAYLOAD_TSI, old && old->selectors ? &old->selectors->local : &any);
	selectors_write(&chain, PAYLOAD_TSR, old && old->selectors ? &old->selectors->remote : &any);
	request_send(ike, sa, old ? REQUEST_REKEY_CHILD : REQUEST_NEW_CHILD, EXCHANGE_CREATE_CHILD_SA, &chain);
}

static struct child_sa *find_rival(const struct ike_sa *sa)
{
	struct child_sa *rival = sa->request.child.rival ? child_find_in(sa, sa->request.child.rival) : NULL;
	return rival && rival->state == CHILD_LIVE ? rival : NULL;
}

static struct child_sa *find_old(const struct ike_sa *sa)
{
	struct child_sa *old = sa->request.child.old ? child_find_in(sa, sa->request.child.old) : NULL;
	return old && old->state == CHILD_LIVE ? old : NULL;
}

static void replaced(struct ike *ike, struct ike_sa *sa, struct child_sa *child)
{
	invariant(child->state == CHILD_LIVE && child->sa == sa);
	child->state = CHILD_REPLACED;
	child->remove_at = ike->now + SECONDS(REPLACED_SECONDS);
	sa->dirty = true;
}

// Says so, and for a child SA that stands: what is done about it.
static void tell_refusal(struct ike *ike, struct ike_sa *sa, const struct notification *n, bool last)
{
	struct tunnel *tunnel = sa->tunnel;
	char ours[REASON_MAX / 2];
	const char *what = sa->request.kind == REQUEST_REKEY_CHILD ? "to rekey the child SA" : "a child SA";
	algorithms_format(&tunnel->config.child, PROTOCOL_ESP, GROUPS_COUNT, ours, sizeof ours);
	tunnel_failed(ike, tunnel, "the peer refuses %s (%s); we offer %s%s", what, notify_name(n->type), ours,
	              last && sa->had_child ? "; a new IKE SA is negotiated in its place" : "");
}

// When to ask again: soon while there is no child SA at all, in no hurry while the old one stands.
static instant again_at(struct ike *ike, const struct ike_sa *sa, bool standing)
{
	unsigned doubled = sa->child_attempts.refusals < 6 ? sa->child_attempts.refusals : 6;
	duration least = standing ? SECONDS(1) : MILLISECONDS(50) << doubled;
	return ike->now + least + MILLISECONDS(random_below(&ike->random, (uint32_t)(least / 500) + 1));
}

// Our request came to nothing.
static void refused(struct ike *ike, struct ike_sa *sa, const struct notification *n)
{
	struct tunnel *tunnel = sa->tunnel;
	struct child_sa *old = find_old(sa);
	bool last = false;
	sa->dirty = true;
	if (find_rival(sa)) {
		if (old) {
			replaced(ike, sa, old); // by what the peer made; it will delete the old one
		}
		return;
	}
	if (n->type == CHILD_SA_NOT_FOUND) {
		if (old) {
			child_linger(ike, sa, old); // the peer has lost it: begin with a new one (§2.25.1)
		}
		sa->new_child_at = ike->now;
		return;
	}
	instant again = ike->now;
	enum rekey_remedy remedy = rekey_attempts_refused(&sa->child_attempts, &tunnel->config.child, n);
	if (!sa->had_child && n->type != INVALID_KE_PAYLOAD && n->type != TEMPORARY_FAILURE) {
		remedy = REKEY_IN_NEW_IKE_SA; // refused in IKE_AUTH too, where there is no group: it is not the group
	}
	switch (remedy) {
	case REKEY_AGAIN:
		break;
	case REKEY_LATER:
		again = again_at(ike, sa, old != NULL);
		break;
	case REKEY_IN_NEW_IKE_SA:
		last = true;
		again = ike->now + SECONDS(10);
		if (sa->had_child) {
			tunnel_begin_beside(ike, tunnel);
		} else {
			rekey_attempts_done(&sa->child_attempts);
		}
		break;
	}
	if (n->type == INVALID_SYNTAX) {
		// By §2.21.3 the peer has ended the IKE SA; many do not. If it does not answer the next request, it has.
		sa->doubt_at = ike->now + MILLISECONDS(DOUBT_MILLISECONDS) + (ike->now - sa->request.first_sent);
	}
	if (old) {
		old->rekey_at = again;
	} else {
		sa->new_child_at = again;
	}
	if (n->type != TEMPORARY_FAILURE && (n->type != INVALID_KE_PAYLOAD || last)) {
		tell_refusal(ike, sa, n, last);
	}
}

// Is there another that carries all that this one does?
static bool is_spare(const struct ike_sa *sa, const struct child_sa *child)
{
	for (size_t i = 0; i < sa->child_count; i++) {
		const struct child_sa *other = sa->children[i];
		if (other != child && other->state <= CHILD_REPLACED && child_covers(other, child)) {
			return true;
		}
	}
	return false;
}

// Which of old, new and the rival made by the peer meanwhile stays.
static void settle(struct ike *ike, struct ike_sa *sa, struct child_sa *child, const struct nonce *lowest)
{
	struct child_sa *old = find_old(sa), *rival = find_rival(sa);
	if (rival && nonce_less(lowest, &sa->request.rival_lowest)) {
		child->state = CHILD_DELETING; // ours has the lowest nonce: we close it, the peer deletes the old one
		if (old) {
			replaced(ike, sa, old);
		}
		return;
	}
	if (sa->request.kind == REQUEST_NEW_CHILD && is_spare(sa, child)) {
		// There was none when we asked, and meanwhile the peer made one (the other way round may_create refuses): one
		// is enough.
		child->state = CHILD_DELETING;
		return;
	}
	if (rival) {
		replaced(ike, sa, rival); // the peer closes it
	}
	child_use(ike, sa, child);
	if (old) {
		old->state = CHILD_DELETING;
	}
}

// A child SA made outside IKE_AUTH.
static void made(struct ike *ike, struct tunnel *tunnel, const struct child_sa *child, bool rekey, const char *by,
                 const struct child_choice *choice)
{
	tunnel->child_group = child->suite.group;
	tunnel->status_dirty = true;
	if (rekey) {
		tunnel->child_rekeys++;
		tunnel_event(ike, tunnel, "child-sa-rekeyed", "%s, %08x/%08x", by, child->spi_in, child->spi_out);
		return;
	}
	char suite[SUITE_TEXT_MAX], ts_i[96], ts_r[96];
	tunnel_event(ike, tunnel, "child-sa-established", "%s, %08x/%08x %s, traffic selectors %s === %s", by, child->spi_in,
	             child->spi_out, suite_format(&child->suite, suite),
	             traffic_selectors_format(&choice->ts_i, ts_i, sizeof ts_i),
	             traffic_selectors_format(&choice->ts_r, ts_r, sizeof ts_r));
}

void create_child_response(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads)
{
	struct tunnel *tunnel = sa->tunnel;
	struct request *request = &sa->request;
	struct notification n;
	struct child_choice choice;
	struct nonce nonce_r;
	struct ke_payload ke = {0};
	struct shared_secret shared = {0};
	bool rekey = request->kind == REQUEST_REKEY_CHILD;
	invariant(rekey || request->kind == REQUEST_NEW_CHILD);
	if (notification_find_error(payloads, &n)) {
		refused(ike, sa, &n);
		request_done(ike, sa);
		return;
	}
	struct bytes ke_body = payloads_body(payloads, PAYLOAD_KE);
	bool good = child_accept(tunnel, payloads, GROUPS_COUNT, &choice) == NOTIFY_NONE &&
	            nonce_set(&nonce_r, payloads_body(payloads, PAYLOAD_NONCE));
	if (good && choice.suite.group != GROUP_NONE) {
		good = choice.suite.group == request->exchange.group && ke_read(ke_body, &ke) &&
		       ke.group == choice.suite.group && exchange_finish(ike, &request->exchange, ke.data, &shared);
	}
	if (!good || sa->child_count == CHILDREN_MAX) {
		sa->orphan = request->child.new; // the peer has made it
		refused(ike, sa, &(struct notification){.type = NO_PROPOSAL_CHOSEN});
		request_done(ike, sa);
		return;
	}
	struct key_inputs inputs = {
	    .nonce_i = nonce_bytes(&request->nonce), .nonce_r = nonce_bytes(&nonce_r), .shared = shared_secret_bytes(&shared)};
	struct child_sa *child = child_new(
	    ike, sa,
	    &(struct child_agreement){request->child.new, choice.spi_out, &choice.suite, &inputs, &choice.ts_i, &choice.ts_r},
	    true, false);
	wipe(&shared, sizeof shared);
	settle(ike, sa, child, nonce_lower(&request->nonce, &nonce_r));
	request_done(ike, sa);
	rekey_attempts_done(&sa->child_attempts);
	made(ike, tunnel, child, rekey, "by us", &choice);
}

// ---- responder ----
// Returns what the caller of create_child_request has to know: whether that was the end of the IKE SA.
static enum notify refuse(struct chain *chain, enum notify type, struct bytes data)
{
	chain_notify(chain, 0, (struct bytes){0}, (uint16_t)type, data);
	return type == INVALID_SYNTAX ? INVALID_SYNTAX : NOTIFY_NONE;
}

// §2.25.1. NOTIFY_NONE: go on; `*old` is the child SA to be replaced, or NULL for a new one.
static enum notify may_create(const struct ike_sa *sa, const struct payloads *payloads, struct child_sa **old,
                              struct notification *rekey)
{
	*old = NULL;
	bool rekeys = notification_find(payloads, REKEY_SA, rekey);
	if (sa->state != IKE_SA_ESTABLISHED || sa->provisional || sa->request.kind == REQUEST_REKEY_IKE ||
	    sa->request.kind == REQUEST_DELETE_IKE) {
		return TEMPORARY_FAILURE;
	}
	if (!rekeys) {
		bool crossing = sa->request.kind == REQUEST_NEW_CHILD && sa->initiator;
		return crossing ? TEMPORARY_FAILURE : NOTIFY_NONE;
	}
	uint32_t spi;
	*old = read_spi(rekey->spi, &spi) ? child_find_out(sa, spi) : NULL;
	if (!*old) {
		return CHILD_SA_NOT_FOUND;
	}
	return (*old)->state == CHILD_LIVE ? NOTIFY_NONE : TEMPORARY_FAILURE;
}

enum notify create_child_request(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads, struct chain *chain)
{
	struct tunnel *tunnel = sa->tunnel;
	struct child_sa *old;
	struct notification rekey = {0};
	enum notify error = may_create(sa, payloads, &old, &rekey);
	if (error == CHILD_SA_NOT_FOUND) {
		chain_notify(chain, PROTOCOL_ESP, rekey.spi, CHILD_SA_NOT_FOUND, (struct bytes){0});
		return NOTIFY_NONE;
	}
	if (error != NOTIFY_NONE) {
		return refuse(chain, error, (struct bytes){0});
	}
	if (child_count_live(sa) >= CHILDREN_LIVE_MAX || sa->child_count >= CHILDREN_MAX - 1) {
		return refuse(chain, old ? TEMPORARY_FAILURE : NO_ADDITIONAL_SAS, (struct bytes){0});
	}
	struct ke_payload ke = {0};
	struct bytes ke_body = payloads_body(payloads, PAYLOAD_KE);
	struct child_choice choice;
	struct nonce nonce_i, nonce_r = {.length = NONCE_OURS};
	if ((ke_body.data && !ke_read(ke_body, &ke)) || !nonce_set(&nonce_i, payloads_body(payloads, PAYLOAD_NONCE))) {
		return refuse(chain, INVALID_SYNTAX, (struct bytes){0});
	}
	error = child_choose(tunnel, payloads, GROUPS_COUNT, ke.group, &choice);
	if (error != NOTIFY_NONE) {
		tunnel_failed(ike, tunnel, "%s", choice.reason);
		return refuse(chain, error, (struct bytes){0});
	}
	struct ke_value value = {0};
	struct shared_secret shared = {0};
	if (choice.suite.group != GROUP_NONE) {
		if (ke.group != choice.suite.group) {
			uint8_t group[2] = {0, choice.suite.group};
			return refuse(chain, INVALID_KE_PAYLOAD, (struct bytes){group, sizeof group});
		}
		if (!exchange_respond(ike, ke.group, ke.data, &value, &shared)) {
			return refuse(chain, INVALID_SYNTAX, (struct bytes){0});
		}
	}
	random_fill(&ike->random, nonce_r.octets, NONCE_OURS);
	struct key_inputs inputs = {
	    .nonce_i = nonce_bytes(&nonce_i), .nonce_r = nonce_bytes(&nonce_r), .shared = shared_secret_bytes(&shared)};
	struct child_sa *child = child_new(
	    ike, sa,
	    &(struct child_agreement){child_spi_new(ike), choice.spi_out, &choice.suite, &inputs, &choice.ts_i, &choice.ts_r},
	    false, false);
	wipe(&shared, sizeof shared);
	child_answer_write(chain, &choice, child->spi_in, GROUPS_COUNT);
	chain_payload(chain, PAYLOAD_NONCE, nonce_bytes(&nonce_r));
	if (choice.suite.group != GROUP_NONE) {
		chain_ke(chain, choice.suite.group, ke_value_bytes(&value));
	}
	if (old && sa->request.kind == REQUEST_REKEY_CHILD && sa->request.child.old == old->spi_in) {
		sa->request.child.rival = child->spi_in; // settled when our own answer comes
		sa->request.rival_lowest = *nonce_lower(&nonce_i, &nonce_r);
	} else if (old) {
		replaced(ike, sa, old);
	}
	made(ike, tunnel, child, old != NULL, "by the peer", &choice);
	return NOTIFY_NONE;
}
