// The saved state of an IKE SA: all that a core needs to go on as if it had never gone, message IDs, the request under way and
// its private key included, and its tunnel as far as it is not told anew. Fields are tagged (archive.h): a version that knows
// more, or less, goes on with what it knows.
#include "services/ike/tunnel/archive.h"
#include "services/ike/tunnel/tunnel.h"

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include <stdlib.h>
#include <string.h>

enum { STATE_FORMAT = 3, STATE_MAX = 48 * 1024 };
enum { PART_CONFIG = 1, PART_TUNNEL, PART_IKE_SA, PART_CHILD_SA };

static void nonce(struct archive *a, uint8_t tag, struct nonce *value)
{
	size_t length = value->length;
	archive_octets(a, tag, value->octets, sizeof value->octets, &length);
	value->length = (uint16_t)length;
}

static void list(struct archive *a, uint8_t tag, uint8_t *items, size_t capacity, uint8_t *count)
{
	size_t length = *count;
	archive_octets(a, tag, items, capacity, &length);
	*count = (uint8_t)length;
}

static void suite_fields(struct archive *a, void *of)
{
	struct suite *value = of;
	archive_u8(a, 1, &value->encryption);
	archive_u8(a, 2, &value->integrity);
	archive_u8(a, 3, &value->prf);
	archive_u8(a, 4, &value->group);
	archive_flag(a, 5, &value->esn);
}

static void algorithms_fields(struct archive *a, void *of)
{
	struct algorithms *value = of;
	list(a, 1, value->encryption, sizeof value->encryption, &value->encryption_count);
	list(a, 2, value->integrity, sizeof value->integrity, &value->integrity_count);
	list(a, 3, value->groups, sizeof value->groups, &value->group_count);
}

static void config_fields(struct archive *a, void *of)
{
	struct tunnel_config *value = of;
	archive_text(a, 1, value->id, sizeof value->id);
	archive_text(a, 2, value->border_gateway_id, sizeof value->border_gateway_id);
	archive_address(a, 3, &value->local);
	archive_address(a, 4, &value->remote);
	archive_text(a, 5, value->local_id, sizeof value->local_id);
	archive_text(a, 6, value->remote_id, sizeof value->remote_id);
	archive_flag(a, 7, &value->enabled);
	archive_flag(a, 8, &value->initiate);
	archive_flag(a, 9, &value->version_1);
	archive_flag(a, 10, &value->force_encapsulation);
	archive_part(a, 11, algorithms_fields, &value->ike);
	archive_part(a, 12, algorithms_fields, &value->child);
	archive_u32(a, 13, &value->ike_lifetime);
	archive_u32(a, 14, &value->child_lifetime);
	archive_u64(a, 15, &value->child_bytes);
	archive_u64(a, 16, &value->child_packets);
	archive_u32(a, 17, &value->rekey_margin);
	archive_u32(a, 18, &value->rekey_fuzz);
	archive_u32(a, 19, &value->replay_window);
	archive_flag(a, 20, &value->dpd);
	archive_u32(a, 21, &value->dpd_interval);
	archive_u32(a, 22, &value->dpd_timeout);
	archive_u8(a, 23, &value->dpd_action);
	archive_u64(a, 24, &value->rekey_child_requests);
	archive_u64(a, 25, &value->rekey_ike_requests);
	archive_u64(a, 26, &value->restart_requests);
}

static void tunnel_fields(struct archive *a, void *of)
{
	struct tunnel *value = of;
	uint8_t state = (uint8_t)value->state;
	archive_u8(a, 1, &state);
	value->state = state <= TUNNEL_UP ? state : TUNNEL_DOWN;
	archive_instant(a, 2, &value->since);
	archive_u64(a, 3, &value->generation);
	archive_u64(a, 4, &value->child_rekeys);
	archive_u64(a, 5, &value->ike_rekeys);
	archive_u64(a, 6, &value->event_number);
	archive_u64(a, 7, &value->rekey_child_handled);
	archive_u64(a, 8, &value->rekey_ike_handled);
	archive_u64(a, 9, &value->restart_handled);
	archive_u8(a, 10, &value->child_group);
}

static void traffic_count_fields(struct archive *a, void *of)
{
	struct traffic_count *value = of;
	archive_u64(a, 1, &value->bytes);
	archive_u64(a, 2, &value->packets);
	archive_u64(a, 3, &value->bytes_before);
	archive_u64(a, 4, &value->packets_before);
}

static void selector_fields(struct archive *a, void *of)
{
	struct traffic_selector *value = of;
	archive_u8(a, 1, &value->type);
	archive_u8(a, 2, &value->protocol);
	archive_u16(a, 3, &value->first_port);
	archive_u16(a, 4, &value->last_port);
	archive_address(a, 5, &value->first);
	archive_address(a, 6, &value->last);
}

static void selectors(struct archive *a, uint8_t tag, struct traffic_selectors *value)
{
	for (size_t i = 0; a->w && i < value->count; i++) {
		archive_part(a, tag, selector_fields, &value->items[i]);
	}
	struct archive part;
	for (size_t after = 0; !a->w && archive_next(a, tag, &after, &part);) {
		if (value->count == SELECTORS_MAX) {
			a->failed = true;
			return;
		}
		selector_fields(&part, &value->items[value->count++]);
		a->failed = a->failed || part.failed;
	}
}

// None in the state: everything.
static void child_selectors(struct archive *a, struct child_sa *value)
{
	struct child_selectors read = {0}, *both = a->w ? value->selectors : &read;
	if (both) {
		selectors(a, 23, &both->local);
		selectors(a, 24, &both->remote);
	}
	if (!a->w && read.local.count > 0 && read.remote.count > 0) {
		value->selectors = allocate(sizeof read);
		*value->selectors = read;
	}
}

static void child_sa_fields(struct archive *a, void *of)
{
	struct child_sa *value = of;
	archive_u32(a, 1, &value->spi_in);
	archive_u32(a, 2, &value->spi_out);
	archive_u64(a, 3, &value->generation);
	archive_part(a, 4, suite_fields, &value->suite);
	archive_secret(a, 5, &value->encryption_in);
	archive_secret(a, 6, &value->integrity_in);
	archive_secret(a, 7, &value->encryption_out);
	archive_secret(a, 8, &value->integrity_out);
	archive_u8(a, 9, &value->state);
	archive_flag(a, 10, &value->in_use);
	archive_flag(a, 11, &value->rekey_wanted);
	archive_instant(a, 12, &value->rekey_at);
	archive_instant(a, 13, &value->expire_at);
	archive_instant(a, 14, &value->remove_at);
	archive_instant(a, 15, &value->confirmed_at);
	archive_u64(a, 16, &value->bytes_soft);
	archive_u64(a, 17, &value->packets_soft);
	archive_u64(a, 18, &value->bytes_hard);
	archive_u64(a, 19, &value->packets_hard);
	archive_u32(a, 20, &value->replay_window);
	archive_part(a, 21, traffic_count_fields, &value->in);
	archive_part(a, 22, traffic_count_fields, &value->out);
	child_selectors(a, value);
}

static void request_fields(struct archive *a, void *of)
{
	struct request *value = of;
	archive_u8(a, 1, &value->kind);
	if (value->kind == REQUEST_NONE) {
		return;
	}
	archive_u32(a, 2, &value->message_id);
	archive_allocated(a, 3, &value->octets, &value->length, IKE_MESSAGE_MAX);
	archive_instant(a, 4, &value->first_sent);
	archive_instant(a, 5, &value->resend_at);
	archive_instant(a, 6, &value->interval);
	nonce(a, 7, &value->nonce);
	archive_u8(a, 8, &value->exchange.group);
	archive_secret(a, 9, &value->exchange.private_value);
	if (request_is_child(value)) {
		archive_u32(a, 10, &value->child.new);
		archive_u32(a, 12, &value->child.old);
		archive_u32(a, 13, &value->child.rival);
	} else if (value->kind == REQUEST_REKEY_IKE) {
		archive_u64(a, 11, &value->ike.new);
		archive_u64(a, 14, &value->ike.rival);
		archive_flag(a, 15, &value->ike.decided);
	}
	nonce(a, 16, &value->rival_lowest);
}

static void ike_sa_fields(struct archive *a, void *of)
{
	struct ike_sa *value = of;
	archive_u64(a, 1, &value->spi_i);
	archive_u64(a, 2, &value->spi_r);
	archive_flag(a, 3, &value->initiator);
	archive_u8(a, 4, &value->state);
	archive_flag(a, 5, &value->provisional);
	archive_flag(a, 6, &value->encapsulate);
	archive_flag(a, 7, &value->nat.supported);
	archive_flag(a, 8, &value->nat.local);
	archive_flag(a, 9, &value->nat.remote);
	archive_address(a, 10, &value->local);
	archive_address(a, 11, &value->remote);
	archive_u16(a, 12, &value->local_port);
	archive_u16(a, 13, &value->remote_port);
	archive_part(a, 14, suite_fields, &value->suite);
	archive_secret(a, 15, &value->keys.d);
	archive_secret(a, 16, &value->keys.ai);
	archive_secret(a, 17, &value->keys.ar);
	archive_secret(a, 18, &value->keys.ei);
	archive_secret(a, 19, &value->keys.er);
	archive_u32(a, 20, &value->next_request);
	archive_u32(a, 21, &value->next_expected);
	archive_part(a, 22, request_fields, &value->request);
	archive_allocated(a, 23, &value->response, &value->response_length, IKE_MESSAGE_MAX);
	nonce(a, 24, &value->lowest);
	archive_instant(a, 25, &value->created);
	archive_instant(a, 26, &value->established);
	archive_instant(a, 27, &value->rekey_at);
	archive_instant(a, 28, &value->expire_at);
	archive_instant(a, 29, &value->close_at);
	archive_instant(a, 30, &value->new_child_at);
	archive_instant(a, 31, &value->keepalive_at);
	archive_flag(a, 32, &value->rekey_wanted);
	archive_flag(a, 33, &value->had_child);
	archive_u16(a, 34, &value->farewell);
}

void state_save(struct ike *ike, struct ike_sa *sa)
{
	if (sa->state != IKE_SA_ESTABLISHED && sa->state != IKE_SA_REPLACED && sa->state != IKE_SA_CLOSING) {
		return;
	}
	if (!ike->scratch) {
		ike->scratch = allocate(STATE_MAX);
	}
	struct writer w = writer_of(ike->scratch, STATE_MAX);
	struct archive a = archive_writing(&w);
	write_u8(&w, STATE_FORMAT);
	archive_part(&a, PART_CONFIG, config_fields, &sa->tunnel->config);
	archive_part(&a, PART_TUNNEL, tunnel_fields, sa->tunnel);
	archive_part(&a, PART_IKE_SA, ike_sa_fields, sa);
	for (size_t i = 0; i < sa->child_count; i++) {
		archive_part(&a, PART_CHILD_SA, child_sa_fields, sa->children[i]);
	}
	invariant(!w.failed); // two messages and CHILDREN_MAX child SAs fit
	action_state(ike, ike_sa_spi(sa), writer_bytes(&w));
	wipe(ike->scratch, writer_length(&w));
}

// Sealed states are authentic, but an older version's could still be wrong: what would break an invariant is refused.
static bool sensible(const struct ike_sa *sa)
{
	const struct encryption_algorithm *encryption = encryption_algorithm(sa->suite.encryption);
	bool state = sa->state == IKE_SA_ESTABLISHED || sa->state == IKE_SA_REPLACED || sa->state == IKE_SA_CLOSING;
	bool request_known = sa->request.kind <= REQUEST_PROBE && (sa->request.kind == REQUEST_NONE || sa->request.octets);
	bool in_order = sa->request.kind == REQUEST_NONE || sa->request.message_id == sa->next_request;
	return state && request_known && in_order && sa->spi_i != 0 && sa->spi_r != 0 && sa->keys.d.length > 0 && encryption &&
	       hash_algorithm(sa->suite.prf) && (encryption->aead || hash_algorithm(sa->suite.integrity));
}

static bool restore_children(struct ike *ike, struct archive *a, struct ike_sa *sa)
{
	struct archive part;
	for (size_t after = 0; archive_next(a, PART_CHILD_SA, &after, &part);) {
		struct child_sa *child = allocate(sizeof *child);
		child->remove_at = INSTANT_NEVER;
		child_sa_fields(&part, child);
		struct bytes key = {(const uint8_t *)&child->spi_in, sizeof child->spi_in};
		if (part.failed || sa->child_count == CHILDREN_MAX || child->state > CHILD_LINGERING || child->spi_in < 256 ||
		    !encryption_algorithm(child->suite.encryption) || child->suite.integrity > INTEGRITY_SHA2_512 ||
		    map_find(ike->child_spis, key)) {
			child_free(child);
			return false;
		}
		child->sa = sa;
		sa->children[sa->child_count++] = child;
		map_insert(ike->child_spis, key, child);
		ike->child_generation = child->generation > ike->child_generation ? child->generation : ike->child_generation;
	}
	return true;
}

// The tunnel of a state: that of a sibling restored before, the one with more behind it, or a new one.
static struct tunnel *restore_tunnel(struct ike *ike, struct archive *a)
{
	struct tunnel_config saved;
	memset(&saved, 0, sizeof saved);
	archive_part(a, PART_CONFIG, config_fields, &saved);
	struct tunnel history = {.child_group = NO_GROUP};
	archive_part(a, PART_TUNNEL, tunnel_fields, &history);
	if (a->failed || saved.id[0] == '\0' || saved.local.length == 0 || saved.remote.length == 0) {
		return NULL;
	}
	struct tunnel *found = tunnel_find(ike, saved.id);
	if (!found) {
		found = tunnel_new(ike, &saved);
		found->event_number = 0;
		found->generation = 0;
	}
	if (history.event_number >= found->event_number) {
		found->state = history.state;
		found->since = history.since;
		found->generation = history.generation;
		found->child_rekeys = history.child_rekeys;
		found->ike_rekeys = history.ike_rekeys;
		found->event_number = history.event_number;
		found->rekey_child_handled = history.rekey_child_handled;
		found->rekey_ike_handled = history.rekey_ike_handled;
		found->restart_handled = history.restart_handled;
		found->child_group = history.child_group;
	}
	return found;
}

// A millisecond for each that was restored before, but never so late that the peer would count as dead for it.
static duration next_turn(struct ike *ike, duration half)
{
	duration most = half / 2 < SECONDS(5) ? half / 2 : SECONDS(5);
	return most > 0 ? MILLISECONDS(map_count(ike->sas)) % most : 0;
}

bool state_restore(struct ike *ike, struct bytes state)
{
	struct reader r = reader_of(state);
	if (read_u8(&r) != STATE_FORMAT) {
		return false;
	}
	struct archive a = archive_reading(read_rest(&r));
	struct tunnel *found = restore_tunnel(ike, &a);
	struct ike_sa *sa = found ? ike_sa_new(ike, found, true) : NULL;
	if (!sa) {
		return false;
	}
	archive_part(&a, PART_IKE_SA, ike_sa_fields, sa);
	bool good =
	    !a.failed && sensible(sa) && !ike_sa_find(ike, ike_sa_spi(sa)) && restore_children(ike, &a, sa) && !a.failed;
	if (!good) {
		sa->state = IKE_SA_CLOSED; // whatever it says
		ike_sa_remove(ike, sa);
		return false;
	}
	ike_sa_index(ike, sa);
	found->ike_group = sa->suite.group;
	uint32_t promised = request_is_child(&sa->request) ? sa->request.child.new : 0;
	if (promised && !map_find(ike->child_spis, (struct bytes){(const uint8_t *)&promised, sizeof promised})) {
		map_insert(ike->child_spis, (struct bytes){(const uint8_t *)&promised, sizeof promised}, ike);
	}
	// Nobody has listened in the meantime: the peer is asked soon, one after the other, and has the rest of its time to
	// answer.
	const struct tunnel_config *c = &found->config;
	duration interval = SECONDS(c->dpd_interval), half = SECONDS(c->dpd_timeout) / 2;
	duration turn = next_turn(ike, half);
	sa->last_in = ike->now - (interval < half ? interval : half) + turn;
	if (sa->request.kind != REQUEST_NONE) {
		sa->request.first_sent = sa->request.resend_at = ike->now + turn;
		sa->request.interval = MILLISECONDS(500);
		sa->request.urgent = false;
	}
	sa->dirty = true;
	for (size_t i = 0; i < sa->child_count; i++) {
		action_put_child(ike, sa, sa->children[i]);
	}
	return true;
}
