// Child SAs: their keys, their rows in the dataplane, and which one sends. Inbound comes first and goes last (RFC 7296 §2.8): a
// new one receives before the peer may send on it, an old one still receives for a while after its delete.
#include "services/ike/tunnel/tunnel.h"

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include <stdlib.h>
#include <string.h>

enum { LINGER_SECONDS = 6, CONFIRM_SECONDS = 60 };

static struct bytes spi_key(const uint32_t *spi)
{
	return (struct bytes){(const uint8_t *)spi, sizeof *spi};
}

uint32_t child_spi_new(struct ike *ike)
{
	uint32_t spi;
	do {
		spi = random_u32(&ike->random);
	} while (spi < 256 || map_find(ike->child_spis, spi_key(&spi)));
	map_insert(ike->child_spis, spi_key(&spi), ike); // a promise
	return spi;
}

void child_spi_release(struct ike *ike, uint32_t spi)
{
	if (map_find(ike->child_spis, spi_key(&spi)) == ike) {
		map_remove(ike->child_spis, spi_key(&spi));
	}
}

// The lifetime less margin and fuzz; never so early that an SA only rekeys.
static void start_clock(struct ike *ike, const struct tunnel_config *config, struct child_sa *child)
{
	duration lifetime = SECONDS(config->child_lifetime ? config->child_lifetime : 3600);
	duration fuzz = SECONDS(config->rekey_margin) * random_below(&ike->random, config->rekey_fuzz + 1) / 100;
	duration soft = lifetime - SECONDS(config->rekey_margin) - fuzz;
	child->rekey_at = ike->now + (soft > lifetime / 4 ? soft : lifetime / 4);
	child->expire_at = ike->now + lifetime;
	unsigned percent = 70 + random_below(&ike->random, 16);
	child->bytes_soft = config->child_bytes / 100 * percent;
	child->packets_soft = config->child_packets / 100 * percent;
	child->bytes_hard = config->child_bytes;
	child->packets_hard = config->child_packets;
	child->replay_window = config->replay_window;
}

// NULL when they are everything: nothing has to be looked at then.
static struct child_selectors *selectors_of(const struct traffic_selectors *local, const struct traffic_selectors *remote)
{
	struct traffic_selectors any = traffic_selectors_any();
	if (traffic_selectors_within(&any, local) && traffic_selectors_within(&any, remote)) {
		return NULL;
	}
	struct child_selectors *selectors = allocate(sizeof *selectors);
	*selectors = (struct child_selectors){.local = *local, .remote = *remote};
	return selectors;
}

bool child_covers(const struct child_sa *a, const struct child_sa *b)
{
	return !a->selectors || (b->selectors && traffic_selectors_within(&b->selectors->local, &a->selectors->local) &&
	                         traffic_selectors_within(&b->selectors->remote, &a->selectors->remote));
}

struct child_sa *child_new(struct ike *ike, struct ike_sa *sa, const struct child_agreement *agreed, bool initiator,
                           bool in_use)
{
	const struct suite *suite = agreed->suite;
	const struct key_inputs *inputs = agreed->inputs;
	uint32_t spi_in = agreed->spi_in;
	invariant(map_find(ike->child_spis, spi_key(&spi_in)) == ike); // promised, so of no other child SA
	struct child_sa *child = allocate(sizeof *child);
	child->sa = sa;
	child->spi_in = spi_in;
	child->spi_out = agreed->spi_out;
	child->selectors = initiator ? selectors_of(agreed->ts_i, agreed->ts_r) : selectors_of(agreed->ts_r, agreed->ts_i);
	child->suite = *suite;
	child->generation = ++ike->child_generation;
	child->in_use = in_use;
	child->remove_at = INSTANT_NEVER;
	child->confirmed_at = initiator ? ike->now : ike->now + SECONDS(CONFIRM_SECONDS);
	struct child_keys keys;
	child_keys_derive(suite, sa->suite.prf, &sa->keys.d, inputs, &keys);
	child->encryption_out = initiator ? keys.encryption_i : keys.encryption_r;
	child->integrity_out = initiator ? keys.integrity_i : keys.integrity_r;
	child->encryption_in = initiator ? keys.encryption_r : keys.encryption_i;
	child->integrity_in = initiator ? keys.integrity_r : keys.integrity_i;
	wipe(&keys, sizeof keys);
	start_clock(ike, &sa->tunnel->config, child);
	map_insert(ike->child_spis, spi_key(&spi_in), child);
	invariant(sa->child_count < CHILDREN_MAX); // callers see to it
	sa->children[sa->child_count++] = child;
	sa->had_child = true;
	sa->dirty = true;
	action_put_child(ike, sa, child);
	return child;
}

struct child_sa *child_find_in(const struct ike_sa *sa, uint32_t spi_in)
{
	for (size_t i = 0; i < sa->child_count; i++) {
		if (sa->children[i]->spi_in == spi_in) {
			return sa->children[i];
		}
	}
	return NULL;
}

struct child_sa *child_find_out(const struct ike_sa *sa, uint32_t spi_out)
{
	for (size_t i = 0; i < sa->child_count; i++) {
		if (sa->children[i]->spi_out == spi_out && sa->children[i]->state != CHILD_LINGERING) {
			return sa->children[i];
		}
	}
	return NULL;
}

size_t child_count_live(const struct ike_sa *sa)
{
	size_t count = 0;
	for (size_t i = 0; i < sa->child_count; i++) {
		count += sa->children[i]->state == CHILD_LIVE || sa->children[i]->state == CHILD_REPLACED;
	}
	return count;
}

void child_linger(struct ike *ike, struct ike_sa *sa, struct child_sa *child)
{
	if (child->state == CHILD_LINGERING) {
		return;
	}
	invariant(child->sa == sa && map_find(ike->child_spis, spi_key(&child->spi_in)) == child);
	child->state = CHILD_LINGERING;
	child->in_use = false;
	child->remove_at = ike->now + SECONDS(LINGER_SECONDS);
	sa->dirty = true;
	action_put_child(ike, sa, child);
}

void child_remove(struct ike *ike, struct ike_sa *sa, struct child_sa *child)
{
	for (size_t i = 0; i < sa->child_count; i++) {
		if (sa->children[i] == child) {
			sa->children[i] = sa->children[--sa->child_count];
			break;
		}
	}
	map_remove(ike->child_spis, spi_key(&child->spi_in));
	action_remove_child(ike, sa->tunnel, child->spi_in);
	sa->dirty = true;
	child_free(child);
}

void child_free(struct child_sa *child)
{
	free(child->selectors);
	wipe(child, sizeof *child);
	free(child);
}

static void set_in_use(struct ike *ike, struct ike_sa *sa, struct child_sa *child, bool in_use)
{
	if (child->in_use != in_use) {
		child->in_use = in_use;
		sa->dirty = true;
		action_put_child(ike, sa, child);
	}
}

void child_use(struct ike *ike, struct ike_sa *sa, struct child_sa *child)
{
	invariant(child->sa == sa && child->state != CHILD_LINGERING);
	set_in_use(ike, sa, child, true);
	const struct tunnel *tunnel = sa->tunnel;
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		for (size_t k = 0; k < tunnel->sas[i]->child_count; k++) {
			struct child_sa *other = tunnel->sas[i]->children[k];
			if (other != child && other->generation < child->generation && child_covers(child, other)) {
				set_in_use(ike, tunnel->sas[i], other, false);
			}
		}
	}
}

void children_confirm(struct ike *ike, struct ike_sa *sa)
{
	for (size_t i = 0; i < sa->child_count; i++) {
		struct child_sa *child = sa->children[i];
		if (child->confirmed_at <= ike->now) {
			continue;
		}
		child->confirmed_at = ike->now;
		sa->dirty = true;
		bool rival = request_is_child(&sa->request) && child->spi_in == sa->request.child.rival;
		if (child->state == CHILD_LIVE && !rival) {
			child_use(ike, sa, child);
		}
	}
}

// A better one to send on has a higher rank.
static int rank(const struct ike *ike, const struct child_sa *child)
{
	bool standing = child->sa->state == IKE_SA_ESTABLISHED;
	if ((!standing && child->sa->state != IKE_SA_REPLACED) || child->state > CHILD_REPLACED) {
		return 0;
	}
	return 1 + (child->state == CHILD_LIVE ? 1 : 0) + (child->confirmed_at <= ike->now ? 2 : 0) + (standing ? 4 : 0);
}

enum { TUNNEL_CHILDREN_MAX = TUNNEL_SAS_MAX * CHILDREN_MAX };

// The best of those that are needed: of no other that is in use, or is better, does it carry only a part.
static struct child_sa *needed(const struct ike *ike, struct child_sa *const *children, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct child_sa *child = children[i];
		bool spare = child->in_use;
		for (size_t k = 0; k < count && !spare; k++) {
			const struct child_sa *other = children[k];
			int order = rank(ike, other) - rank(ike, child);
			bool better = order > 0 || (order == 0 && other->generation > child->generation);
			spare = other != child && (other->in_use || better) && child_covers(other, child);
		}
		if (!spare) {
			return child;
		}
	}
	return NULL;
}

void tunnel_select_outbound(struct ike *ike, struct tunnel *tunnel)
{
	struct child_sa *children[TUNNEL_CHILDREN_MAX];
	size_t count = 0;
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		struct ike_sa *sa = tunnel->sas[i];
		invariant(sa->child_count <= CHILDREN_MAX);
		for (size_t k = 0; k < sa->child_count; k++) {
			if (rank(ike, sa->children[k]) > 0) {
				children[count++] = sa->children[k];
			}
		}
	}
	struct child_sa *child;
	while ((child = needed(ike, children, count)) != NULL) {
		child_use(ike, child->sa, child);
		invariant(child->in_use);
	}
}
