// INFORMATIONAL exchanges, both roles (RFC 7296 §1.4, §1.4.1, §2.4, §2.25): deletes of child and IKE SAs, and the empty one
// that asks whether the peer is alive.
#include "services/ike/v2/exchanges.h"

#include "common/base/invariant.h"
#include <stdio.h>

enum { CLOSES_ALL_MILLISECONDS = 300, IDLE_SECONDS = 5 };

void informational_begin(struct ike *ike, struct ike_sa *sa, enum request_kind kind, uint32_t spi_in)
{
	invariant(sa->request.kind == REQUEST_NONE && (kind == REQUEST_DELETE_CHILD) == (spi_in != 0));
	uint8_t inner[128];
	struct writer w = writer_of(inner, sizeof inner);
	struct chain chain = chain_begin(&w);
	if (kind == REQUEST_DELETE_CHILD) {
		chain_delete_child(&chain, spi_in);
		sa->request.child.old = spi_in;
	} else if (kind == REQUEST_DELETE_IKE) {
		if (sa->farewell != 0) {
			chain_notify(&chain, 0, (struct bytes){0}, sa->farewell, (struct bytes){0});
		}
		chain_delete_ike(&chain);
	}
	request_send(ike, sa, kind, EXCHANGE_INFORMATIONAL, &chain);
}

void informational_response(struct ike *ike, struct ike_sa *sa, enum request_kind kind, uint32_t old_spi)
{
	if (kind == REQUEST_DELETE_IKE) {
		ike_sa_closed(ike, sa);
	} else if (kind == REQUEST_DELETE_CHILD) {
		struct child_sa *child = child_find_in(sa, old_spi);
		if (child) {
			child_linger(ike, sa, child);
		}
	} else if (kind == REQUEST_PROBE && ike->now - sa->out_at < SECONDS(IDLE_SECONDS)) {
		sa->idle_answers = 1; // it lives, and has nothing to send
	}
}

// The peer closes the IKE SA. When it has made another in its place meanwhile, the child SAs live on there.
static void delete_ike(struct ike *ike, struct ike_sa *sa)
{
	struct tunnel *tunnel = sa->tunnel;
	bool ended = sa->state == IKE_SA_ESTABLISHED && !sa->provisional;
	if (ended && sa->request.kind == REQUEST_REKEY_IKE) {
		rekey_ike_adopt_rival(ike, sa);
		ended = sa->state == IKE_SA_ESTABLISHED;
	}
	ike_sa_closed(ike, sa);
	if (ended && !tunnel_current(tunnel)) {
		tunnel_failed(ike, tunnel, "the peer closed the IKE SA");
		tunnel_retry(ike, tunnel, MILLISECONDS(200), MILLISECONDS(400));
	}
}

static void delete_children(struct ike *ike, struct ike_sa *sa, const struct delete_payload *d, struct chain *chain)
{
	for (size_t i = 0; i < d->count; i++) {
		struct child_sa *child = child_find_out(sa, d->spis[i]);
		if (!child) {
			continue;
		}
		bool crossing = child->state == CHILD_DELETING;
		uint32_t spi_in = child->spi_in;
		bool was_live = child->state == CHILD_LIVE;
		child_linger(ike, sa, child);
		if (!crossing) {
			chain_delete_child(chain, spi_in); // when both delete it, the answer is empty (§1.4.1)
		}
		if (child_count_live(sa) == 0) {
			// A peer that closes everything does so in a moment.
			sa->new_child_at = ike->now + MILLISECONDS(CLOSES_ALL_MILLISECONDS);
		}
		if (was_live && child_count_live(sa) == 0) {
			tunnel_event(ike, sa->tunnel, "child-sa-deleted", "by the peer");
			snprintf(sa->tunnel->reason, sizeof sa->tunnel->reason, "the peer closed the child SA");
		}
	}
	sa->tunnel->status_dirty = true;
}

void informational_request(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads, struct chain *chain)
{
	struct delete_payload d;
	struct notification n;
	bool whole = notification_find(payloads, AUTHENTICATION_FAILED, &n); // §2.21.2
	for (size_t i = 0; i < payloads->count; i++) {
		if (payloads->items[i].type != PAYLOAD_DELETE || !delete_read(payloads->items[i].body, &d)) {
			continue;
		}
		if (d.protocol == PROTOCOL_IKE) {
			whole = true;
		} else if (d.protocol == PROTOCOL_ESP) {
			delete_children(ike, sa, &d, chain);
		}
	}
	if (whole) {
		delete_ike(ike, sa);
	}
}
