// CREATE_CHILD_SA for child SAs, both roles: new ones and rekeying (RFC 7296 §1.3.1, §1.3.3, §2.8, §2.8.1 simultaneous
// rekeying, §2.9 traffic selectors, §2.25 collisions). A rekeyed child SA is sent on by its initiator as soon as the answer is
// here, by its responder when the peer shows that it has it.
#include "services/ike/v2/exchanges.h"

#include <stdio.h>
#include <string.h>

enum { REPLACED_SECONDS = 65 }; // longer than any request goes unanswered

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
	struct request *request = &sa->request;
	uint8_t inner[IKE_MESSAGE_MAX], spi[4], value[PUBLIC_VALUE_MAX];
	struct writer w = writer_of(inner, sizeof inner);
	struct chain chain = chain_begin(&w);
	if (old) {
		chain_notify(&chain, PROTOCOL_ESP, spi_octets(old->spi_in, spi), REKEY_SA, (struct bytes){0});
	}
	request->old_spi = old ? old->spi_in : 0;
	request->new_spi = child_spi_new(ike);
	request->nonce.length = NONCE_OURS;
	random_fill(&ike->random, request->nonce.octets, NONCE_OURS);
	chain_open(&chain, PAYLOAD_SA);
	proposals_write(chain.w, PROTOCOL_ESP, spi_octets(request->new_spi, spi), ours, GROUPS_COUNT);
	chain_close(&chain);
	chain_payload(&chain, PAYLOAD_NONCE, nonce_bytes(&request->nonce));
	uint8_t group = sa->child_group != 0xff ? sa->child_group : ours->group_count > 0 ? ours->groups[0] : GROUP_NONE;
	if (group != GROUP_NONE && group_known(group)) {
		key_exchange_init(&request->exchange, group, &ike->random);
		size_t length = key_exchange_public(&request->exchange, value);
		chain_ke(&chain, group, (struct bytes){value, length});
	}
	struct traffic_selectors any = traffic_selectors_any();
	selectors_write(&chain, PAYLOAD_TSI, &any);
	selectors_write(&chain, PAYLOAD_TSR, &any);
	request_send(ike, sa, old ? REQUEST_REKEY_CHILD : REQUEST_NEW_CHILD, EXCHANGE_CREATE_CHILD_SA, &chain);
}

static struct child_sa *find_rival(const struct ike_sa *sa)
{
	struct child_sa *rival = sa->request.rival_child ? child_find_in(sa, sa->request.rival_child) : NULL;
	return rival && rival->state == CHILD_LIVE ? rival : NULL;
}

static struct child_sa *find_old(const struct ike_sa *sa)
{
	struct child_sa *old = sa->request.old_spi ? child_find_in(sa, sa->request.old_spi) : NULL;
	return old && old->state == CHILD_LIVE ? old : NULL;
}

static void replaced(struct ike *ike, struct ike_sa *sa, struct child_sa *child)
{
	child->state = CHILD_REPLACED;
	child->remove_at = ike->now + SECONDS(REPLACED_SECONDS);
	sa->dirty = true;
}

// Our request came to nothing.
static void refused(struct ike *ike, struct ike_sa *sa, const struct notification *n)
{
	struct tunnel *tunnel = sa->tunnel;
	struct child_sa *old = find_old(sa);
	instant again = ike->now + SECONDS(1) + MILLISECONDS(random_below(&ike->random, 2000));
	sa->dirty = true;
	if (n->type == INVALID_KE_PAYLOAD && n->data.length == 2) {
		unsigned group = (unsigned)n->data.data[0] << 8 | n->data.data[1];
		if (algorithms_have_group(&tunnel->config.child, group) && sa->child_group != group) {
			sa->child_group = (uint8_t)group;
			again = ike->now;
		}
	}
	if (find_rival(sa)) {
		if (old) {
			replaced(ike, sa, old); // by what the peer made; it will delete the old one
		}
	} else if (n->type == CHILD_SA_NOT_FOUND && old) {
		child_linger(ike, sa, old); // the peer has lost it: begin with a new one (§2.25.1)
		sa->new_child_at = ike->now;
	} else if (old) {
		old->rekey_at = again;
	} else {
		sa->new_child_at = n->type == TEMPORARY_FAILURE ? again : again + SECONDS(8);
	}
	if (n->type != TEMPORARY_FAILURE && n->type != CHILD_SA_NOT_FOUND && n->type != INVALID_KE_PAYLOAD) {
		char ours[REASON_MAX / 2];
		algorithms_format(&tunnel->config.child, PROTOCOL_ESP, GROUPS_COUNT, ours, sizeof ours);
		tunnel_failed(ike, tunnel, "the peer refuses a child SA (%s); we offer %s", notify_name(n->type), ours);
		if (old) {
			old->rekey_at = ike->now + SECONDS(10);
		}
	}
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
	if (sa->request.kind == REQUEST_NEW_CHILD && child_count_live(sa) > 1) {
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
		       ke.group == choice.suite.group && key_exchange_shared(&request->exchange, ke.data, &shared);
	}
	if (!good || sa->child_count == CHILDREN_MAX) {
		refused(ike, sa, &(struct notification){.type = NO_PROPOSAL_CHOSEN});
		request_done(ike, sa);
		return;
	}
	struct key_inputs inputs = {
	    .nonce_i = nonce_bytes(&request->nonce), .nonce_r = nonce_bytes(&nonce_r), .shared = shared_secret_bytes(&shared)};
	struct child_sa *child = child_new(ike, sa, request->new_spi, choice.spi_out, &choice.suite, &inputs, true, false);
	wipe(&shared, sizeof shared);
	settle(ike, sa, child, nonce_lower(&request->nonce, &nonce_r));
	request_done(ike, sa);
	if (rekey) {
		tunnel->child_rekeys++;
		tunnel_event(ike, tunnel, "child-sa-rekeyed", "by us, %08x/%08x", child->spi_in, child->spi_out);
	}
	tunnel->status_dirty = true;
}

// ---- responder ----
static void refuse(struct chain *chain, enum notify type, struct bytes data)
{
	chain_notify(chain, 0, (struct bytes){0}, (uint16_t)type, data);
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

void create_child_request(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads, struct chain *chain)
{
	struct tunnel *tunnel = sa->tunnel;
	struct child_sa *old;
	struct notification rekey = {0};
	enum notify error = may_create(sa, payloads, &old, &rekey);
	if (error == CHILD_SA_NOT_FOUND) {
		chain_notify(chain, PROTOCOL_ESP, rekey.spi, CHILD_SA_NOT_FOUND, (struct bytes){0});
		return;
	}
	if (error != NOTIFY_NONE) {
		refuse(chain, error, (struct bytes){0});
		return;
	}
	if (child_count_live(sa) >= CHILDREN_LIVE_MAX || sa->child_count >= CHILDREN_MAX - 1) {
		refuse(chain, old ? TEMPORARY_FAILURE : NO_ADDITIONAL_SAS, (struct bytes){0});
		return;
	}
	struct ke_payload ke = {0};
	struct bytes ke_body = payloads_body(payloads, PAYLOAD_KE);
	struct child_choice choice;
	struct nonce nonce_i, nonce_r = {.length = NONCE_OURS};
	if ((ke_body.data && !ke_read(ke_body, &ke)) || !nonce_set(&nonce_i, payloads_body(payloads, PAYLOAD_NONCE))) {
		refuse(chain, INVALID_SYNTAX, (struct bytes){0});
		return;
	}
	error = child_choose(tunnel, payloads, GROUPS_COUNT, ke.group, &choice);
	if (error != NOTIFY_NONE) {
		tunnel_failed(ike, tunnel, "%s", choice.reason);
		refuse(chain, error, (struct bytes){0});
		return;
	}
	struct key_exchange exchange = {0};
	struct shared_secret shared = {0};
	if (choice.suite.group != GROUP_NONE) {
		if (ke.group != choice.suite.group) {
			uint8_t group[2] = {0, choice.suite.group};
			refuse(chain, INVALID_KE_PAYLOAD, (struct bytes){group, sizeof group});
			return;
		}
		key_exchange_init(&exchange, choice.suite.group, &ike->random);
		if (!key_exchange_shared(&exchange, ke.data, &shared)) {
			key_exchange_wipe(&exchange);
			refuse(chain, INVALID_SYNTAX, (struct bytes){0});
			return;
		}
	}
	random_fill(&ike->random, nonce_r.octets, NONCE_OURS);
	struct key_inputs inputs = {
	    .nonce_i = nonce_bytes(&nonce_i), .nonce_r = nonce_bytes(&nonce_r), .shared = shared_secret_bytes(&shared)};
	struct child_sa *child = child_new(ike, sa, child_spi_new(ike), choice.spi_out, &choice.suite, &inputs, false, false);
	wipe(&shared, sizeof shared);
	child_answer_write(chain, &choice, child->spi_in, GROUPS_COUNT);
	chain_payload(chain, PAYLOAD_NONCE, nonce_bytes(&nonce_r));
	if (exchange.group != GROUP_NONE) {
		uint8_t value[PUBLIC_VALUE_MAX];
		size_t length = key_exchange_public(&exchange, value);
		chain_ke(chain, exchange.group, (struct bytes){value, length});
		key_exchange_wipe(&exchange);
	}
	if (old && sa->request.kind == REQUEST_REKEY_CHILD && sa->request.old_spi == old->spi_in) {
		sa->request.rival_child = child->spi_in; // settled when our own answer comes
		sa->request.rival_lowest = *nonce_lower(&nonce_i, &nonce_r);
	} else if (old) {
		replaced(ike, sa, old);
	}
	if (old) {
		tunnel->child_rekeys++;
		tunnel_event(ike, tunnel, "child-sa-rekeyed", "by the peer, %08x/%08x", child->spi_in, child->spi_out);
	}
	tunnel->status_dirty = true;
}
