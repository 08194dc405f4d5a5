// IKE SAs as things: made, found by our SPI, replaced, closed, removed; and which one remains when a tunnel has several (RFC
// 7296 §2.4 INITIAL_CONTACT, §2.8 redundant ones).
#include "services/ike/tunnel/tunnel.h"

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include <stdlib.h>
#include <string.h>

enum {
	CLOSED_SECONDS = 15,   // how long retransmissions are answered: a peer may send its second after 11
	DUPLICATE_SECONDS = 3, // how long the peer has to close the IKE SA it replaced with another
	CROSSING_SECONDS = 3,  // or the one of two crossing ones that was its own
	BESIDE_SECONDS = 1,    // how long we still receive on the one that we replaced with another
	DUPLICATES_MAX = 2,    // so many closed in DUPLICATE_PAUSE seconds are enough
	DUPLICATE_PAUSE = 600,
	STANDING_MAX = 4, // of a device that makes another whenever one is closed
	// Milliseconds: how long ours waits when the peer begins, until it may wait again, and how old it is when it no longer does.
	YIELD_LEAST = 200,
	YIELD_SPREAD = 400,
	YIELD_PAUSE = 2000,
	YIELD_MOST = 2000,
};

static struct bytes spi_key(const uint64_t *spi)
{
	return (struct bytes){(const uint8_t *)spi, sizeof *spi};
}

uint64_t ike_sa_spi(const struct ike_sa *sa)
{
	return sa->initiator ? sa->spi_i : sa->spi_r;
}

uint64_t ike_spi_new(struct ike *ike)
{
	uint64_t spi;
	do {
		spi = random_u64(&ike->random);
	} while (spi == 0 || map_find(ike->sas, spi_key(&spi)));
	return spi;
}

// The oldest of those that only answer retransmissions goes, or that have shown nothing yet: no stranger can keep a peer out by
// filling the tunnel's places, nor what replaces an IKE SA.
static bool make_room(struct ike *ike, struct tunnel *tunnel)
{
	static const uint8_t order[] = {IKE_SA_CLOSED, IKE_SA_HALF_OPEN};
	for (size_t k = 0; k < sizeof order; k++) {
		for (size_t i = 0; i < tunnel->sa_count; i++) {
			if (tunnel->sas[i]->state == order[k]) {
				ike_sa_remove(ike, tunnel->sas[i]);
				return true;
			}
		}
	}
	return false;
}

struct ike_sa *ike_sa_new(struct ike *ike, struct tunnel *tunnel, bool initiator)
{
	if (tunnel->sa_count == TUNNEL_SAS_MAX && !make_room(ike, tunnel)) {
		return NULL;
	}
	invariant(tunnel->sa_count < TUNNEL_SAS_MAX);
	struct ike_sa *sa = allocate(sizeof *sa);
	sa->tunnel = tunnel;
	sa->version = ike->versions[2]; // IKEv1 is to say so itself
	sa->initiator = initiator;
	sa->local = tunnel->config.local;
	sa->remote = tunnel->config.remote;
	sa->created = sa->last_in = ike->now;
	sa->rekey_at = sa->expire_at = sa->close_at = sa->keepalive_at = INSTANT_NEVER;
	sa->new_child_at = ike->now;
	sa->doubt_at = INSTANT_NEVER;
	sa->child_attempts = sa->ike_attempts = (struct rekey_attempts){.wish = NO_GROUP, .offered = NO_GROUP};
	random_fill(&ike->random, &sa->next_iv, sizeof sa->next_iv);
	tunnel->sas[tunnel->sa_count++] = sa;
	return sa;
}

void ike_sa_index(struct ike *ike, struct ike_sa *sa)
{
	uint64_t spi = ike_sa_spi(sa);
	invariant(spi != 0 && map_find(ike->sas, spi_key(&spi)) == NULL);
	map_insert(ike->sas, spi_key(&spi), sa);
}

struct ike_sa *ike_sa_find(const struct ike *ike, uint64_t spi)
{
	return map_find(ike->sas, spi_key(&spi));
}

bool request_is_child(const struct request *request)
{
	return request->kind >= REQUEST_REKEY_CHILD && request->kind <= REQUEST_DELETE_CHILD;
}

void request_done(struct ike *ike, struct ike_sa *sa)
{
	struct request *request = &sa->request;
	if (request->kind == REQUEST_NONE) {
		return;
	}
	if (request_is_child(request)) {
		child_spi_release(ike, request->child.new);
	}
	free(request->octets);
	wipe(request, sizeof *request);
	sa->dirty = true;
}

void handshake_free(struct ike_sa *sa)
{
	struct handshake *handshake = sa->handshake;
	if (handshake) {
		free(handshake->init_request);
		free(handshake->init_response);
		free(handshake->value);
		free(handshake->refusal);
		wipe(handshake, sizeof *handshake);
		free(handshake);
		sa->handshake = NULL;
	}
}

static bool is_saved(const struct ike_sa *sa)
{
	return sa->state == IKE_SA_ESTABLISHED || sa->state == IKE_SA_REPLACED || sa->state == IKE_SA_CLOSING;
}

bool ike_sa_waits(const struct ike_sa *sa)
{
	return sa->state == IKE_SA_ESTABLISHED || sa->state == IKE_SA_REPLACED ||
	       (sa->state > IKE_SA_REPLACED && tunnel_current(sa->tunnel));
}

void ike_sa_remove(struct ike *ike, struct ike_sa *sa)
{
	struct tunnel *tunnel = sa->tunnel;
	invariant(tunnel->sa_count > 0 && tunnel->sa_count <= TUNNEL_SAS_MAX);
	while (sa->child_count > 0) {
		child_remove(ike, sa, sa->children[0]);
	}
	if (sa->handshake) {
		child_spi_release(ike, sa->handshake->child_spi);
	}
	request_done(ike, sa);
	if (is_saved(sa)) {
		action_state(ike, ike_sa_spi(sa), (struct bytes){0});
	}
	invariant(sa->state != IKE_SA_HALF_OPEN || ike->half_open > 0);
	ike->half_open -= sa->state == IKE_SA_HALF_OPEN;
	uint64_t spi = ike_sa_spi(sa);
	if (map_find(ike->sas, spi_key(&spi)) == sa) {
		map_remove(ike->sas, spi_key(&spi));
	}
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		if (tunnel->sas[i] == sa) {
			memmove(&tunnel->sas[i], &tunnel->sas[i + 1], (tunnel->sa_count - i - 1) * sizeof tunnel->sas[0]);
			tunnel->sa_count--;
			break;
		}
	}
	tunnel->status_dirty = true;
	handshake_free(sa);
	free(sa->response);
	wipe(sa, sizeof *sa);
	free(sa);
}

void ike_sa_clock(struct ike *ike, struct ike_sa *sa)
{
	const struct tunnel_config *config = &sa->tunnel->config;
	duration lifetime = SECONDS(config->ike_lifetime ? config->ike_lifetime : 28800);
	duration fuzz = SECONDS(config->rekey_margin) * random_below(&ike->random, config->rekey_fuzz + 1) / 100;
	duration soft = lifetime - SECONDS(config->rekey_margin) - fuzz;
	sa->rekey_at = ike->now + (soft > lifetime / 4 ? soft : lifetime / 4);
	sa->expire_at = ike->now + lifetime;
	sa->rekey_wanted = false;
	sa->dirty = true;
}

static void stop_sending(struct ike *ike, struct ike_sa *sa)
{
	for (size_t i = 0; i < sa->child_count; i++) {
		if (sa->children[i]->in_use) {
			sa->children[i]->in_use = false;
			action_put_child(ike, sa, sa->children[i]);
		}
	}
}

void ike_sa_close(struct ike *ike, struct ike_sa *sa)
{
	if (sa->state >= IKE_SA_CLOSING) {
		return;
	}
	if (sa->state == IKE_SA_AUTH_SENT && sa->request.kind == REQUEST_IKE_AUTH) {
		// The peer may have it by now: it gets a delete as its next request, which is nothing to one that has not.
		request_done(ike, sa);
		child_spi_release(ike, sa->handshake->child_spi);
		handshake_free(sa);
		sa->next_request = 2;
	} else if (sa->state < IKE_SA_ESTABLISHED && sa->farewell == 0) {
		ike->half_open -= sa->state == IKE_SA_HALF_OPEN;
		sa->state = IKE_SA_CLOSED; // the peer has nothing to delete, or will find out by itself
		sa->close_at = ike->now;
		return;
	}
	stop_sending(ike, sa);
	invariant(sa->spi_i != 0 && sa->spi_r != 0); // it can be named to the peer
	sa->state = IKE_SA_CLOSING;
	sa->close_at = ike->now + SECONDS(CLOSING_SECONDS);
	sa->dirty = true;
	sa->tunnel->status_dirty = true;
}

void ike_sa_closed(struct ike *ike, struct ike_sa *sa)
{
	if (sa->state == IKE_SA_CLOSED) {
		return;
	}
	request_done(ike, sa);
	invariant(sa->request.kind == REQUEST_NONE && sa->request.octets == NULL);
	if (is_saved(sa)) {
		action_state(ike, ike_sa_spi(sa), (struct bytes){0});
	}
	for (size_t i = 0; i < sa->child_count; i++) {
		child_linger(ike, sa, sa->children[i]);
	}
	ike->half_open -= sa->state == IKE_SA_HALF_OPEN;
	sa->state = IKE_SA_CLOSED;
	sa->close_at = ike->now + SECONDS(CLOSED_SECONDS);
	sa->tunnel->status_dirty = true;
}

void ike_sa_move_children(struct ike *ike, struct ike_sa *from, struct ike_sa *to)
{
	while (from->child_count > 0 && to->child_count < CHILDREN_MAX) {
		struct child_sa *child = from->children[0];
		memmove(&from->children[0], &from->children[1], --from->child_count * sizeof from->children[0]);
		to->children[to->child_count++] = child;
		invariant(child->sa == from);
		child->sa = to;
		action_put_child(ike, to, child);
	}
	to->new_child_at = instant_min(to->new_child_at, from->new_child_at);
	to->had_child = to->had_child || from->had_child;
	from->dirty = to->dirty = true;
}

bool nonce_less(const struct nonce *a, const struct nonce *b)
{
	size_t length = a->length < b->length ? a->length : b->length;
	int order = memcmp(a->octets, b->octets, length);
	return order < 0 || (order == 0 && a->length < b->length);
}

const struct nonce *nonce_lower(const struct nonce *a, const struct nonce *b)
{
	return nonce_less(b, a) ? b : a;
}

static void replaced(struct ike *ike, struct ike_sa *sa, duration closes_after)
{
	sa->state = IKE_SA_REPLACED;
	sa->close_at = ike->now + closes_after;
	sa->dirty = true;
}

// For as long as a handshake takes, and not again for a while: it may be anybody who begins, again and again. Not always equally
// long, for the peer may do the same.
void ike_sa_peer_begins(struct ike *ike, struct tunnel *tunnel)
{
	if (tunnel->yields_until == 0 || ike->now >= tunnel->yields_until + MILLISECONDS(YIELD_PAUSE)) {
		tunnel->yields_until = ike->now + MILLISECONDS(YIELD_LEAST + random_below(&ike->random, YIELD_SPREAD));
	}
}

bool ike_sa_yields(const struct ike *ike, const struct ike_sa *sa)
{
	return ike->now < sa->tunnel->yields_until && ike->now < sa->created + MILLISECONDS(YIELD_MOST);
}

// Some devices make another IKE SA whenever one is closed. One that comes back again and again is left with two, which both
// stand.
static bool may_close_duplicate(struct ike *ike, struct tunnel *tunnel)
{
	if (tunnel->duplicates_closed == 0 || ike->now - tunnel->duplicates_since > SECONDS(DUPLICATE_PAUSE)) {
		tunnel->duplicates_since = ike->now;
		tunnel->duplicates_closed = 0;
	}
	if (tunnel->duplicates_closed >= DUPLICATES_MAX) {
		return false;
	}
	tunnel->duplicates_closed++;
	return true;
}

// Both ends began an IKE SA before either was done: as with redundant rekeyed ones, that with the lowest nonce is closed by the
// end that created it.
static void resolve_crossing(struct ike *ike, struct ike_sa *a, struct ike_sa *b)
{
	struct ike_sa *loser = nonce_less(&a->lowest, &b->lowest) ? a : b;
	invariant(a->initiator != b->initiator);
	if (loser->initiator) {
		ike_sa_close(ike, loser);
	} else if (may_close_duplicate(ike, loser->tunnel)) {
		replaced(ike, loser, SECONDS(CROSSING_SECONDS));
	}
}

// Of those that stand beside `newest`, are there already as many that are newer than `sa` as may stay?
static bool is_one_too_many(const struct ike_sa *sa, const struct ike_sa *newest)
{
	const struct tunnel *tunnel = sa->tunnel;
	size_t newer = 0;
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		const struct ike_sa *other = tunnel->sas[i];
		newer += other != sa && other != newest && other->state == IKE_SA_ESTABLISHED && other->created > sa->created;
	}
	return newer + 2 > STANDING_MAX;
}

// `other` has its place taken by `sa`. Who made `sa` closes it: at once, as soon as what is under way has come; the other end
// waits for that a moment longer.
static void superseded(struct ike *ike, struct ike_sa *sa, struct ike_sa *other)
{
	if (sa->initiator) {
		replaced(ike, other, SECONDS(BESIDE_SECONDS));
	} else if (may_close_duplicate(ike, sa->tunnel) || is_one_too_many(other, sa)) {
		replaced(ike, other, SECONDS(DUPLICATE_SECONDS));
	}
}

void ike_sa_authenticated(struct ike *ike, struct ike_sa *sa, bool initial_contact)
{
	struct tunnel *tunnel = sa->tunnel;
	invariant(sa->state == IKE_SA_ESTABLISHED);
	for (size_t i = tunnel->sa_count; i-- > 0;) {
		struct ike_sa *other = tunnel->sas[i];
		if (other == sa || i >= tunnel->sa_count) {
			continue;
		}
		if (other->state == IKE_SA_INIT_SENT) {
			ike_sa_remove(ike, other); // not needed any more
		} else if (other->state == IKE_SA_CLOSING && initial_contact) {
			ike_sa_closed(ike, other);
		} else if (other->state == IKE_SA_REPLACED && initial_contact) {
			ike_sa_remove(ike, other);
		} else if (other->state != IKE_SA_ESTABLISHED) {
			continue;
		} else if (sa->initiator != other->initiator && sa->created < other->established) {
			resolve_crossing(ike, sa, other);
		} else if (initial_contact) {
			ike_sa_remove(ike, other); // the peer no longer knows of it
		} else {
			superseded(ike, sa, other);
		}
	}
	tunnel->beside_at = INSTANT_NEVER; // whatever it was wanted for
	tunnel->status_dirty = true;
}
