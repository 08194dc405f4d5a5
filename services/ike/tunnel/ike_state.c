// The saved state of an IKE SA: all that a core needs to go on as if it had never gone, message IDs, the request under way and
// its private key included, and its tunnel as far as it is not told anew. One function per struct goes over the fields in both
// directions, so that what is written is what is read. The format is this version's own: a state with another version is
// refused, and the peer's liveness begins anew.
#include "services/ike/tunnel/tunnel.h"

#include "common/base/alloc.h"
#include <stdlib.h>
#include <string.h>

enum { STATE_VERSION = 2, STATE_MAX = 64 * 1024 };

struct archive {
	struct writer *w; // NULL when reading
	struct reader r;
};

static void number64(struct archive *a, uint64_t *value)
{
	if (a->w) {
		write_u64(a->w, *value);
	} else {
		*value = read_u64(&a->r);
	}
}

// An instant is that of CLOCK_MONOTONIC, which goes on when only the process ends.
static void time64(struct archive *a, instant *value)
{
	uint64_t octets = (uint64_t)*value;
	number64(a, &octets);
	*value = (instant)octets;
}

static void number32(struct archive *a, uint32_t *value)
{
	uint64_t wide = *value;
	number64(a, &wide);
	*value = (uint32_t)wide;
}

static void number16(struct archive *a, uint16_t *value)
{
	uint64_t wide = *value;
	number64(a, &wide);
	*value = (uint16_t)wide;
}

static void number8(struct archive *a, uint8_t *value)
{
	if (a->w) {
		write_u8(a->w, *value);
	} else {
		*value = read_u8(&a->r);
	}
}

static void flag(struct archive *a, bool *value)
{
	uint8_t octet = *value;
	number8(a, &octet);
	*value = octet != 0;
}

static void octets(struct archive *a, void *out, size_t length)
{
	if (a->w) {
		write_bytes(a->w, (struct bytes){out, length});
		return;
	}
	struct bytes run = read_bytes(&a->r, length);
	memset(out, 0, length);
	if (run.length == length) {
		memcpy(out, run.data, length);
	}
}

static void text(struct archive *a, char *out, size_t capacity)
{
	uint16_t length = (uint16_t)(a->w ? strlen(out) : 0);
	number16(a, &length);
	if (!a->w && length >= capacity) {
		a->r.failed = true;
		return;
	}
	octets(a, out, length);
	if (!a->w) {
		out[length] = '\0';
	}
}

static void counted(struct archive *a, uint16_t *length, uint8_t *out, size_t capacity)
{
	number16(a, length);
	if (*length > capacity) {
		a->r.failed = true;
		*length = 0;
		return;
	}
	octets(a, out, *length);
}

static void allocated(struct archive *a, uint8_t **out, size_t *length)
{
	uint64_t wide = *length;
	number64(a, &wide);
	if (!a->w) {
		if (wide > IKE_MESSAGE_MAX) {
			a->r.failed = true;
			wide = 0;
		}
		*length = (size_t)wide;
		*out = wide > 0 ? allocate((size_t)wide) : NULL;
	}
	if (*out) {
		octets(a, *out, *length);
	}
}

static void secret(struct archive *a, struct secret *value)
{
	counted(a, &value->length, value->octets, sizeof value->octets);
}

static void nonce(struct archive *a, struct nonce *value)
{
	counted(a, &value->length, value->octets, sizeof value->octets);
}

static void address(struct archive *a, struct address *value)
{
	number8(a, &value->length);
	octets(a, value->octets, sizeof value->octets);
}

static void suite(struct archive *a, struct suite *value)
{
	number8(a, &value->encryption);
	number8(a, &value->integrity);
	number8(a, &value->prf);
	number8(a, &value->group);
	flag(a, &value->esn);
}

static void algorithms(struct archive *a, struct algorithms *value)
{
	octets(a, value->encryption, sizeof value->encryption);
	octets(a, value->integrity, sizeof value->integrity);
	octets(a, value->groups, sizeof value->groups);
	number8(a, &value->encryption_count);
	number8(a, &value->integrity_count);
	number8(a, &value->group_count);
}

static void config(struct archive *a, struct tunnel_config *value)
{
	text(a, value->id, sizeof value->id);
	text(a, value->border_gateway_id, sizeof value->border_gateway_id);
	address(a, &value->local);
	address(a, &value->remote);
	text(a, value->local_id, sizeof value->local_id);
	text(a, value->remote_id, sizeof value->remote_id);
	flag(a, &value->enabled);
	flag(a, &value->initiate);
	flag(a, &value->version_1);
	flag(a, &value->force_encapsulation);
	algorithms(a, &value->ike);
	algorithms(a, &value->child);
	number32(a, &value->ike_lifetime);
	number32(a, &value->child_lifetime);
	number64(a, &value->child_bytes);
	number64(a, &value->child_packets);
	number32(a, &value->rekey_margin);
	number32(a, &value->rekey_fuzz);
	number32(a, &value->replay_window);
	flag(a, &value->dpd);
	number32(a, &value->dpd_interval);
	number32(a, &value->dpd_timeout);
	number8(a, &value->dpd_action);
	number64(a, &value->rekey_child_requests);
	number64(a, &value->rekey_ike_requests);
	number64(a, &value->restart_requests);
}

static void tunnel(struct archive *a, struct tunnel *value)
{
	uint8_t state = (uint8_t)value->state;
	number8(a, &state);
	value->state = state <= TUNNEL_UP ? state : TUNNEL_DOWN;
	time64(a, &value->since);
	number64(a, &value->generation);
	number64(a, &value->child_rekeys);
	number64(a, &value->ike_rekeys);
	number64(a, &value->event_number);
	number64(a, &value->rekey_child_handled);
	number64(a, &value->rekey_ike_handled);
	number64(a, &value->restart_handled);
	number8(a, &value->child_group);
}

static void traffic_count(struct archive *a, struct traffic_count *value)
{
	number64(a, &value->bytes);
	number64(a, &value->packets);
	number64(a, &value->bytes_before);
	number64(a, &value->packets_before);
}

static void child_sa(struct archive *a, struct child_sa *value)
{
	number32(a, &value->spi_in);
	number32(a, &value->spi_out);
	number64(a, &value->generation);
	suite(a, &value->suite);
	secret(a, &value->encryption_in);
	secret(a, &value->integrity_in);
	secret(a, &value->encryption_out);
	secret(a, &value->integrity_out);
	number8(a, &value->state);
	flag(a, &value->in_use);
	flag(a, &value->rekey_wanted);
	time64(a, &value->rekey_at);
	time64(a, &value->expire_at);
	time64(a, &value->remove_at);
	time64(a, &value->confirmed_at);
	number64(a, &value->bytes_soft);
	number64(a, &value->packets_soft);
	number64(a, &value->bytes_hard);
	number64(a, &value->packets_hard);
	number32(a, &value->replay_window);
	traffic_count(a, &value->in);
	traffic_count(a, &value->out);
}

static void request(struct archive *a, struct request *value)
{
	number8(a, &value->kind);
	if (value->kind == REQUEST_NONE) {
		return;
	}
	number32(a, &value->message_id);
	allocated(a, &value->octets, &value->length);
	time64(a, &value->first_sent);
	time64(a, &value->resend_at);
	time64(a, &value->interval);
	nonce(a, &value->nonce);
	number8(a, &value->exchange.group);
	secret(a, &value->exchange.private_value);
	number32(a, &value->new_spi);
	number64(a, &value->new_ike_spi);
	number32(a, &value->old_spi);
	number32(a, &value->rival_child);
	number64(a, &value->rival_ike);
	flag(a, &value->decided);
	nonce(a, &value->rival_lowest);
}

static void ike_sa(struct archive *a, struct ike_sa *value)
{
	number64(a, &value->spi_i);
	number64(a, &value->spi_r);
	flag(a, &value->initiator);
	number8(a, &value->state);
	flag(a, &value->provisional);
	flag(a, &value->encapsulate);
	flag(a, &value->nat.supported);
	flag(a, &value->nat.local);
	flag(a, &value->nat.remote);
	address(a, &value->local);
	address(a, &value->remote);
	number16(a, &value->local_port);
	number16(a, &value->remote_port);
	suite(a, &value->suite);
	secret(a, &value->keys.d);
	secret(a, &value->keys.ai);
	secret(a, &value->keys.ar);
	secret(a, &value->keys.ei);
	secret(a, &value->keys.er);
	number32(a, &value->next_request);
	number32(a, &value->next_expected);
	request(a, &value->request);
	allocated(a, &value->response, &value->response_length);
	nonce(a, &value->lowest);
	time64(a, &value->created);
	time64(a, &value->established);
	time64(a, &value->rekey_at);
	time64(a, &value->expire_at);
	time64(a, &value->close_at);
	time64(a, &value->new_child_at);
	time64(a, &value->keepalive_at);
	flag(a, &value->rekey_wanted);
	flag(a, &value->had_child);
	number16(a, &value->farewell);
}

void state_save(struct ike *ike, struct ike_sa *sa)
{
	if (sa->state != IKE_SA_ESTABLISHED && sa->state != IKE_SA_REPLACED && sa->state != IKE_SA_CLOSING) {
		return;
	}
	uint8_t *buffer = allocate(STATE_MAX);
	struct writer w = writer_of(buffer, STATE_MAX);
	struct archive a = {.w = &w};
	write_u8(&w, STATE_VERSION);
	config(&a, &sa->tunnel->config);
	tunnel(&a, sa->tunnel);
	ike_sa(&a, sa);
	write_u8(&w, (uint8_t)sa->child_count);
	for (size_t i = 0; i < sa->child_count; i++) {
		child_sa(&a, sa->children[i]);
	}
	if (!w.failed) {
		action_state(ike, ike_sa_spi(sa), writer_bytes(&w));
	}
	wipe(buffer, writer_length(&w));
	free(buffer);
}

// Sealed states are authentic, but an older version's could still be wrong: what would break an invariant is refused.
static bool sensible(const struct ike_sa *sa)
{
	const struct encryption_algorithm *encryption = encryption_algorithm(sa->suite.encryption);
	bool state = sa->state == IKE_SA_ESTABLISHED || sa->state == IKE_SA_REPLACED || sa->state == IKE_SA_CLOSING;
	bool request_known = sa->request.kind <= REQUEST_PROBE && (sa->request.kind == REQUEST_NONE || sa->request.octets);
	return state && request_known && encryption && hash_algorithm(sa->suite.prf) &&
	       (encryption->aead || hash_algorithm(sa->suite.integrity));
}

static bool restore_children(struct ike *ike, struct archive *a, struct ike_sa *sa)
{
	uint8_t count = read_u8(&a->r);
	if (count > CHILDREN_MAX) {
		return false;
	}
	for (uint8_t i = 0; i < count; i++) {
		struct child_sa *child = allocate(sizeof *child);
		child_sa(a, child);
		struct bytes key = {(const uint8_t *)&child->spi_in, sizeof child->spi_in};
		if (a->r.failed || child->state > CHILD_LINGERING || !encryption_algorithm(child->suite.encryption) ||
		    map_find(ike->child_spis, key)) {
			wipe(child, sizeof *child);
			free(child);
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
	config(a, &saved);
	struct tunnel history = {0};
	tunnel(a, &history);
	if (a->r.failed || saved.id[0] == '\0') {
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

bool state_restore(struct ike *ike, struct bytes state)
{
	struct archive a = {.r = reader_of(state)};
	if (read_u8(&a.r) != STATE_VERSION) {
		return false;
	}
	struct tunnel *found = restore_tunnel(ike, &a);
	struct ike_sa *sa = found ? ike_sa_new(ike, found, true) : NULL;
	if (!sa) {
		return false;
	}
	ike_sa(&a, sa);
	bool good =
	    !a.r.failed && sensible(sa) && !ike_sa_find(ike, ike_sa_spi(sa)) && restore_children(ike, &a, sa) && !a.r.failed;
	if (!good) {
		ike_sa_remove(ike, sa);
		return false;
	}
	ike_sa_index(ike, sa);
	found->ike_group = sa->suite.group;
	if (sa->request.new_spi && !map_find(ike->child_spis, (struct bytes){(const uint8_t *)&sa->request.new_spi, 4})) {
		map_insert(ike->child_spis, (struct bytes){(const uint8_t *)&sa->request.new_spi, 4}, ike);
	}
	// Nobody has listened in the meantime: the peer is asked at once, and has the rest of its time to answer.
	const struct tunnel_config *c = &found->config;
	duration interval = SECONDS(c->dpd_interval), half = SECONDS(c->dpd_timeout) / 2;
	sa->last_in = ike->now - (interval < half ? interval : half);
	if (sa->request.kind != REQUEST_NONE) {
		sa->request.first_sent = sa->request.resend_at = ike->now;
		sa->request.interval = MILLISECONDS(500);
		sa->request.urgent = false;
	}
	sa->dirty = true;
	for (size_t i = 0; i < sa->child_count; i++) {
		action_put_child(ike, sa, sa->children[i]);
	}
	return true;
}
