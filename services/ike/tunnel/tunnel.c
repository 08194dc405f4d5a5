// Tunnels: configured, begun, begun again for ever, and what they say of themselves.
#include "services/ike/tunnel/tunnel.h"

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	EVENT_REPEAT_SECONDS = 300,
	REFUSED_PAUSE_SECONDS = 10,
	BESIDE_PAUSE_SECONDS = 10,
	TURN = 2, // milliseconds
	TURNS_AT_ONCE = 100,
};

// ---- finding ----
struct address_pair {
	uint8_t octets[34];
	size_t length;
};

static struct address_pair pair_of(const struct address *local, const struct address *remote)
{
	struct address_pair pair;
	struct writer w = writer_of(pair.octets, sizeof pair.octets);
	write_u8(&w, local->length);
	write_bytes(&w, address_bytes(local));
	write_u8(&w, remote->length);
	write_bytes(&w, address_bytes(remote));
	pair.length = writer_length(&w);
	return pair;
}

struct tunnel *tunnel_find(const struct ike *ike, const char *id)
{
	return map_find_text(ike->tunnels, id);
}

struct tunnel *tunnel_by_addresses(const struct ike *ike, const struct address *local, const struct address *remote)
{
	struct address_pair pair = pair_of(local, remote);
	return map_find(ike->tunnels_by_addresses, (struct bytes){pair.octets, pair.length});
}

static void index_addresses(struct ike *ike, struct tunnel *tunnel)
{
	struct address_pair pair = pair_of(&tunnel->config.local, &tunnel->config.remote);
	map_insert(ike->tunnels_by_addresses, (struct bytes){pair.octets, pair.length}, tunnel);
}

static void unindex_addresses(struct ike *ike, struct tunnel *tunnel)
{
	if (tunnel_by_addresses(ike, &tunnel->config.local, &tunnel->config.remote) == tunnel) {
		struct address_pair pair = pair_of(&tunnel->config.local, &tunnel->config.remote);
		map_remove(ike->tunnels_by_addresses, (struct bytes){pair.octets, pair.length});
	}
}

const struct secret *tunnel_secret(const struct ike *ike, const struct tunnel *tunnel)
{
	return map_find_text(ike->secrets, tunnel->config.id);
}

struct ike_sa *tunnel_current(const struct tunnel *tunnel)
{
	struct ike_sa *current = NULL;
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		struct ike_sa *sa = tunnel->sas[i];
		if (sa->state == IKE_SA_ESTABLISHED && !sa->provisional && (!current || sa->created >= current->created)) {
			current = sa;
		}
	}
	return current;
}

instant tunnel_heard(const struct tunnel *tunnel)
{
	instant heard = 0;
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		const struct ike_sa *sa = tunnel->sas[i];
		if (sa->state == IKE_SA_ESTABLISHED || sa->state == IKE_SA_REPLACED) {
			heard = instant_max(heard, sa->last_in);
		}
	}
	return heard;
}

// NULL: the version that is configured is not spoken.
static const struct ike_version *version_of(const struct ike *ike, const struct tunnel *tunnel)
{
	return ike->versions[tunnel->config.version_1 ? 1 : 2];
}

// ---- made and unmade ----
struct tunnel *tunnel_new(struct ike *ike, const struct tunnel_config *config)
{
	struct tunnel *tunnel = allocate(sizeof *tunnel);
	tunnel->config = *config;
	tunnel->since = tunnel->retry_at = ike->now;
	tunnel->beside_at = INSTANT_NEVER;
	tunnel->child_group = NO_GROUP;
	tunnel->status_dirty = true;
	tunnel->rekey_child_handled = config->rekey_child_requests;
	tunnel->rekey_ike_handled = config->rekey_ike_requests;
	tunnel->restart_handled = config->restart_requests;
	invariant(config->id[0] != '\0' && !map_find_text(ike->tunnels, config->id));
	map_insert_text(ike->tunnels, config->id, tunnel);
	index_addresses(ike, tunnel);
	return tunnel;
}

void tunnel_free(struct ike *ike, struct tunnel *tunnel)
{
	while (tunnel->sa_count > 0) {
		ike_sa_remove(ike, tunnel->sas[0]);
	}
	invariant(tunnel->sa_count == 0);
	heap_remove(&ike->deadlines, &tunnel->due);
	unindex_addresses(ike, tunnel);
	map_remove_text(ike->tunnels, tunnel->config.id);
	free(tunnel->shown);
	free(tunnel);
}

static void close_all(struct ike *ike, struct tunnel *tunnel)
{
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		ike_sa_close(ike, tunnel->sas[i]);
	}
	tunnel->status_dirty = true;
}

void tunnel_remove(struct ike *ike, struct tunnel *tunnel)
{
	tunnel->removed = true;
	close_all(ike, tunnel);
}

// What cannot change under a standing IKE SA.
static bool needs_restart(const struct tunnel_config *a, const struct tunnel_config *b)
{
	return !address_equal(&a->local, &b->local) || !address_equal(&a->remote, &b->remote) ||
	       strcmp(a->local_id, b->local_id) != 0 || strcmp(a->remote_id, b->remote_id) != 0 ||
	       strcmp(a->border_gateway_id, b->border_gateway_id) != 0 || a->version_1 != b->version_1 ||
	       a->force_encapsulation != b->force_encapsulation;
}

// Deeds that were asked for by counting up.
static void do_requests(struct ike *ike, struct tunnel *tunnel)
{
	const struct tunnel_config *config = &tunnel->config;
	struct ike_sa *sa = tunnel_current(tunnel);
	if (config->restart_requests > tunnel->restart_handled) {
		tunnel_event(ike, tunnel, "restart", "asked for");
		snprintf(tunnel->reason, sizeof tunnel->reason, "restarted");
		tunnel->child_group = NO_GROUP;
		close_all(ike, tunnel);
		tunnel->retry_at = ike->now;
	} else if (sa) {
		if (config->rekey_ike_requests > tunnel->rekey_ike_handled) {
			sa->rekey_wanted = true;
		}
		for (size_t i = 0; i < sa->child_count && config->rekey_child_requests > tunnel->rekey_child_handled; i++) {
			sa->children[i]->rekey_wanted = sa->children[i]->state == CHILD_LIVE;
		}
	}
	// A number that went down is a new beginning of its counting.
	tunnel->restart_handled = config->restart_requests;
	tunnel->rekey_ike_handled = config->rekey_ike_requests;
	tunnel->rekey_child_handled = config->rekey_child_requests;
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		tunnel->sas[i]->dirty = true; // what was handled is kept with them
	}
}

void tunnel_configure(struct ike *ike, const struct tunnel_config *config)
{
	struct tunnel *tunnel = tunnel_find(ike, config->id);
	if (!tunnel) {
		tunnel = tunnel_new(ike, config);
	} else {
		bool restart = needs_restart(&tunnel->config, config);
		bool woken = config->enabled && (!tunnel->config.enabled || tunnel->removed || restart);
		if (restart) {
			close_all(ike, tunnel); // the farewell goes by the old addresses, which each IKE SA has for itself
		}
		unindex_addresses(ike, tunnel);
		tunnel->config = *config;
		tunnel->removed = false;
		index_addresses(ike, tunnel);
		if (woken) {
			tunnel->retry_at = ike->now;
			tunnel->tried = false;
			tunnel->reason[0] = '\0';
		}
	}
	tunnel->known = true;
	tunnel->status_dirty = true;
	do_requests(ike, tunnel);
	tunnel_run(ike, tunnel);
}

// ---- failing and trying again ----
void tunnel_retry(struct ike *ike, struct tunnel *tunnel, duration least, duration spread)
{
	invariant(least >= 0 && spread >= 0);
	tunnel->retry_at = ike->now + least + MILLISECONDS(random_below(&ike->random, (uint32_t)(spread / 1000) + 1));
}

void tunnel_begin_beside(struct ike *ike, struct tunnel *tunnel)
{
	if (tunnel->beside_at == INSTANT_NEVER) {
		instant soonest = tunnel->beside_last + SECONDS(BESIDE_PAUSE_SECONDS);
		bool first = tunnel->beside_last == 0 || soonest < ike->now;
		tunnel->beside_at = first ? ike->now : soonest;
	}
}

// Whether it can carry traffic, whatever was told of it last.
static bool is_up(const struct tunnel *tunnel)
{
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		const struct ike_sa *sa = tunnel->sas[i];
		if (sa->state != IKE_SA_ESTABLISHED && sa->state != IKE_SA_REPLACED) {
			continue;
		}
		if (child_count_live(sa) > 0) {
			return true;
		}
	}
	return false;
}

// The same failure over and over is one event in five minutes, and so are a few that take turns. Returns the place of the
// reason: that of the same one, or of the oldest.
static struct told_reason *told_before(struct tunnel *tunnel, uint64_t hash)
{
	struct told_reason *oldest = &tunnel->told[0];
	for (size_t i = 0; i < REASONS_TOLD; i++) {
		struct told_reason *told = &tunnel->told[i];
		if (told->at != 0 && told->hash == hash) {
			return told;
		}
		oldest = told->at < oldest->at ? told : oldest;
	}
	return oldest;
}

static uint64_t hash_of(const char *text)
{
	uint64_t hash = 14695981039346656037u; // FNV-1a
	for (; *text != '\0'; text++) {
		hash = (hash ^ (uint8_t)*text) * 1099511628211u;
	}
	return hash;
}

static void fail(struct ike *ike, struct tunnel *tunnel, const char *reason, duration pause)
{
	uint64_t hash = hash_of(reason);
	struct told_reason *told = told_before(tunnel, hash);
	bool same = told->at != 0 && told->hash == hash;
	snprintf(tunnel->event_reason, sizeof tunnel->event_reason, "%s", reason);
	// That a tunnel goes down for it is an event of its own, with the reason.
	bool goes_down = tunnel->state == TUNNEL_UP && !is_up(tunnel);
	if (!goes_down && (same ? ike->now - told->at > SECONDS(EVENT_REPEAT_SECONDS)
	                        : tunnel->event_at == 0 || ike->now - tunnel->event_at > pause)) {
		*told = (struct told_reason){.hash = hash, .at = ike->now};
		tunnel->event_at = ike->now;
		tunnel_event(ike, tunnel, "negotiation-failed", "%s", reason);
	}
	if (!is_up(tunnel)) {
		snprintf(tunnel->reason, sizeof tunnel->reason, "%s", reason);
		tunnel->status_dirty = true;
		tunnel->tried = true;
	}
}

// The first failure may be a chance; what goes on failing is not asked without end.
static void pause(struct ike *ike, struct tunnel *tunnel)
{
	static const struct {
		uint16_t least, spread; // milliseconds
	} pauses[] = {{100, 200}, {500, 500}, {2000, 2000}};
	size_t last = sizeof pauses / sizeof pauses[0] - 1;
	size_t i = tunnel->failures < last ? tunnel->failures : last;
	tunnel_retry(ike, tunnel, MILLISECONDS(pauses[i].least), MILLISECONDS(pauses[i].spread));
	tunnel->failures = (uint8_t)(i < last ? i + 1 : last);
	invariant(tunnel->retry_at > ike->now);
}

void tunnel_failed(struct ike *ike, struct tunnel *tunnel, const char *format, ...)
{
	char reason[REASON_MAX];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(reason, sizeof reason, format, arguments);
	va_end(arguments);
	fail(ike, tunnel, reason, -1);
	if (tunnel->retry_at <= ike->now) {
		pause(ike, tunnel);
	}
}

// One that proves nothing is told once in ten seconds, and does not take the place of what is known better.
bool tunnel_hears(const struct ike *ike, const struct tunnel *tunnel, enum standing standing)
{
	static const duration pause[STANDINGS] = {[STANDING_UNPROVEN] = SECONDS(10), [STANDING_REACHABLE] = SECONDS(1)};
	for (int better = standing; better < STANDINGS; better++) {
		instant last = tunnel->refused_at[better];
		if (last != 0 && ike->now - last < pause[standing]) {
			return false;
		}
	}
	return !is_up(tunnel);
}

void tunnel_refused(struct ike *ike, struct tunnel *tunnel, enum standing standing, const char *format, ...)
{
	if (!tunnel_hears(ike, tunnel, standing)) {
		return;
	}
	invariant(standing < STANDINGS);
	tunnel->refused_at[standing] = ike->now;
	char reason[REASON_MAX];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(reason, sizeof reason, format, arguments);
	va_end(arguments);
	fail(ike, tunnel, reason, SECONDS(REFUSED_PAUSE_SECONDS));
}

// ---- status ----
static void set_state(struct ike *ike, struct tunnel *tunnel, enum tunnel_state state)
{
	if (tunnel->state == state) {
		return;
	}
	if (state == TUNNEL_UP) {
		tunnel->generation++;
		tunnel->reason[0] = tunnel->event_reason[0] = '\0';
		memset(tunnel->told, 0, sizeof tunnel->told);
		tunnel->tried = false;
		tunnel->failures = 0;
		tunnel_event(ike, tunnel, "tunnel-up", "%s", "");
	} else if (tunnel->state == TUNNEL_UP) {
		if (tunnel->reason[0] == '\0') {
			snprintf(tunnel->reason, sizeof tunnel->reason, "its IKE SA ended");
		}
		tunnel_event(ike, tunnel, "tunnel-down", "%s", tunnel->reason);
	}
	tunnel->state = state;
	tunnel->since = ike->now;
	tunnel->status_dirty = true;
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		tunnel->sas[i]->dirty = true;
	}
}

static void refresh_status(struct ike *ike, struct tunnel *tunnel)
{
	const struct tunnel_config *config = &tunnel->config;
	bool trying = false;
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		trying = trying || tunnel->sas[i]->state < IKE_SA_ESTABLISHED;
	}
	if (!config->enabled) {
		snprintf(tunnel->reason, sizeof tunnel->reason, "administratively down");
		set_state(ike, tunnel, TUNNEL_DOWN);
	} else if (!version_of(ike, tunnel)) {
		snprintf(tunnel->reason, sizeof tunnel->reason, "IKE version 1 is not spoken by this gateway");
		set_state(ike, tunnel, TUNNEL_DOWN);
	} else if (is_up(tunnel)) {
		set_state(ike, tunnel, TUNNEL_UP);
	} else {
		// A first attempt is CONNECTING; after a failure DOWN with its reason is more honest, while the next is made.
		if (!tunnel->tried && !tunnel_secret(ike, tunnel)) {
			snprintf(tunnel->reason, sizeof tunnel->reason, "waiting for the pre-shared key");
		} else if (!tunnel->tried && tunnel->reason[0] == '\0' && !config->initiate) {
			snprintf(tunnel->reason, sizeof tunnel->reason, "waiting for the peer to begin");
		}
		set_state(ike, tunnel, trying && !tunnel->tried ? TUNNEL_CONNECTING : TUNNEL_DOWN);
	}
	if (tunnel->status_dirty) {
		tunnel->status_dirty = false;
		action_status(ike, tunnel, false);
	}
}

// ---- what is due ----
static bool may_begin(const struct ike *ike, const struct tunnel *tunnel)
{
	const struct tunnel_config *config = &tunnel->config;
	return ike->started && tunnel->known && !tunnel->removed && config->enabled && version_of(ike, tunnel) &&
	       tunnel_secret(ike, tunnel);
}

static instant initiates_at(const struct ike *ike, const struct tunnel *tunnel)
{
	if (!may_begin(ike, tunnel) || !tunnel->config.initiate) {
		return INSTANT_NEVER;
	}
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		uint8_t state = tunnel->sas[i]->state;
		// The farewell first, so that it does not meet the new beginning; to one that does not answer it, only once.
		bool leaving = state == IKE_SA_CLOSING && tunnel->sas[i]->request.sends < 2;
		if (state == IKE_SA_INIT_SENT || state == IKE_SA_AUTH_SENT || state == IKE_SA_ESTABLISHED || leaving) {
			return INSTANT_NEVER;
		}
	}
	return instant_max(tunnel->retry_at, tunnel->yields_until);
}

// Where the peer began the IKE SA that stands, we begin the one beside it too: who waits for it loses the tunnel.
static bool may_begin_beside(const struct ike *ike, const struct tunnel *tunnel)
{
	if (tunnel->beside_at == INSTANT_NEVER || !may_begin(ike, tunnel) || !tunnel_current(tunnel)) {
		return false;
	}
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		uint8_t state = tunnel->sas[i]->state;
		if (state == IKE_SA_INIT_SENT || state == IKE_SA_AUTH_SENT) {
			return false;
		}
	}
	return true;
}

// An IKE SA may go while others are looked at, so each is found anew.
static void run_sas(struct ike *ike, struct tunnel *tunnel)
{
	for (size_t i = tunnel->sa_count; i-- > 0;) {
		if (i < tunnel->sa_count) {
			tunnel->sas[i]->version->run(ike, tunnel->sas[i]);
		}
	}
}

// Attempts of many tunnels at once, after a start, are made one after the other: TURN apart, when those of the last
// TURNS_AT_ONCE are over.
static bool has_turn(struct ike *ike, struct tunnel *tunnel)
{
	if (tunnel->turn == 0) {
		instant earliest = ike->now - TURNS_AT_ONCE * MILLISECONDS(TURN);
		tunnel->turn = ike->last_turn + MILLISECONDS(TURN);
		tunnel->turn = instant_max(tunnel->turn, earliest);
		ike->last_turn = tunnel->turn;
	}
	if (tunnel->turn > ike->now) {
		tunnel->retry_at = tunnel->turn;
		return false;
	}
	invariant(tunnel->turn <= ike->last_turn);
	tunnel->turn = 0;
	return true;
}

void tunnel_run(struct ike *ike, struct tunnel *tunnel)
{
	const struct tunnel_config *config = &tunnel->config;
	if (!ike->started) {
		return;
	}
	if (!config->enabled || !version_of(ike, tunnel) || tunnel->removed) {
		close_all(ike, tunnel);
	}
	run_sas(ike, tunnel);
	if (ike->now >= initiates_at(ike, tunnel) && has_turn(ike, tunnel)) {
		tunnel->retry_at = ike->now; // set when this attempt fails
		version_of(ike, tunnel)->begin(ike, tunnel);
	}
	if (may_begin_beside(ike, tunnel) && ike->now >= tunnel->beside_at) {
		tunnel->beside_at = INSTANT_NEVER;
		tunnel->beside_last = ike->now;
		version_of(ike, tunnel)->begin(ike, tunnel);
	}
	tunnel_select_outbound(ike, tunnel);
	invariant(tunnel->sa_count <= TUNNEL_SAS_MAX);
	if (tunnel->removed && tunnel->sa_count == 0) {
		action_status(ike, tunnel, true);
		tunnel_free(ike, tunnel);
		return;
	}
	refresh_status(ike, tunnel);
	instant deadline = initiates_at(ike, tunnel);
	deadline = may_begin_beside(ike, tunnel) ? instant_min(deadline, tunnel->beside_at) : deadline;
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		struct ike_sa *sa = tunnel->sas[i];
		invariant(sa->tunnel == tunnel && sa->child_count <= CHILDREN_MAX);
		if (sa->dirty) {
			sa->dirty = false;
			state_save(ike, sa);
		}
		deadline = instant_min(deadline, sa->version->deadline(sa));
	}
	heap_set(&ike->deadlines, &tunnel->due, deadline);
}
