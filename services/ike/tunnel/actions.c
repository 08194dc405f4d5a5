// The actions of a step: what the shell carries out.
#include "services/ike/tunnel/tunnel.h"

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct ike_action *add(struct ike *ike, enum ike_action_kind kind)
{
	struct ike_actions *out = ike->out;
	invariant(out != NULL && out->count <= out->capacity); // only in a step
	if (out->count == out->capacity) {
		out->capacity = out->capacity ? 2 * out->capacity : 16;
		out->items = reallocate(out->items, out->capacity, sizeof *out->items);
	}
	struct ike_action *action = &out->items[out->count++];
	*action = (struct ike_action){.kind = kind};
	return action;
}

static void free_secret(void *memory, size_t length)
{
	if (memory) {
		wipe(memory, length);
		free(memory);
	}
}

void ike_actions_clear(struct ike_actions *actions)
{
	for (size_t i = 0; i < actions->count; i++) {
		struct ike_action *action = &actions->items[i];
		free_secret(action->octets, action->length);
		free_secret(action->child, sizeof *action->child);
		free(action->status);
		free(action->event);
	}
	actions->count = 0;
}

void ike_actions_free(struct ike_actions *actions)
{
	ike_actions_clear(actions);
	free(actions->items);
	*actions = (struct ike_actions){0};
}

void actions_sends_last(struct ike_actions *actions)
{
	struct ike_action *sends = allocate_array(actions->count ? actions->count : 1, sizeof *sends);
	size_t send_count = 0, kept = 0;
	for (size_t i = 0; i < actions->count; i++) {
		if (actions->items[i].kind == IKE_ACTION_SEND) {
			sends[send_count++] = actions->items[i];
		} else {
			actions->items[kept++] = actions->items[i];
		}
	}
	invariant(kept + send_count == actions->count);
	if (send_count > 0) {
		memcpy(actions->items + kept, sends, send_count * sizeof *sends);
	}
	free(sends);
}

static struct ike_action *send_from(struct ike *ike, const struct ike_datagram *path, struct bytes message, bool marker)
{
	struct ike_action *action = add(ike, IKE_ACTION_SEND);
	size_t before = marker && path->local_port == IKE_NAT_PORT ? NON_ESP_MARKER_LENGTH : 0;
	action->length = before + message.length;
	action->octets = allocate(action->length);
	memcpy(action->octets + before, message.data, message.length);
	action->datagram = *path;
	action->datagram.octets = (struct bytes){action->octets, action->length};
	return action;
}

static struct ike_datagram path_of(const struct ike_sa *sa)
{
	return (struct ike_datagram){
	    .local = sa->local, .remote = sa->remote, .local_port = sa->local_port, .remote_port = sa->remote_port};
}

void action_send(struct ike *ike, const struct ike_sa *sa, struct bytes message)
{
	struct ike_datagram path = path_of(sa);
	send_from(ike, &path, message, true)->stateless = !ike_sa_waits(sa);
}

void action_answer(struct ike *ike, const struct ike_sa *sa, const struct ike_datagram *to, struct bytes message)
{
	send_from(ike, to, message, true)->stateless = !ike_sa_waits(sa);
}

void action_send_stateless(struct ike *ike, const struct ike_datagram *to, struct bytes message)
{
	send_from(ike, to, message, true)->stateless = true;
}

void action_keepalive(struct ike *ike, const struct ike_sa *sa)
{
	static const uint8_t keepalive = 0xff; // RFC 3948 §2.3
	struct ike_datagram path = path_of(sa);
	send_from(ike, &path, (struct bytes){&keepalive, 1}, false)->stateless = true;
}

static uint8_t fill_selectors(struct child_selector out[static CHILD_SELECTORS_MAX], const struct traffic_selectors *from)
{
	_Static_assert((int)SELECTORS_MAX <= (int)CHILD_SELECTORS_MAX, "each has a place in the row");
	for (size_t i = 0; i < from->count; i++) {
		const struct traffic_selector *s = &from->items[i];
		out[i] = (struct child_selector){s->first, s->last, s->first_port, s->last_port, s->protocol};
	}
	return (uint8_t)from->count;
}

void action_put_child(struct ike *ike, const struct ike_sa *sa, const struct child_sa *child)
{
	struct child_row *row = allocate(sizeof *row);
	const struct tunnel_config *config = &sa->tunnel->config;
	memcpy(row->tunnel_id, config->id, sizeof row->tunnel_id);
	memcpy(row->border_gateway_id, config->border_gateway_id, sizeof row->border_gateway_id);
	invariant(child->spi_in >= 256 && child->sa == sa); // RFC 4303 §2.1
	row->inbound = (struct child_direction){child->spi_in, child->encryption_in, child->integrity_in};
	row->outbound = (struct child_direction){child->spi_out, child->encryption_out, child->integrity_out};
	row->outbound_in_use = child->in_use;
	row->generation = child->generation;
	row->encryption = child->suite.encryption;
	row->integrity = child->suite.integrity;
	row->extended_sequence_numbers = child->suite.esn;
	row->udp_encapsulation = sa->encapsulate;
	row->local = sa->local;
	row->remote = sa->remote;
	if (sa->encapsulate) {
		// An IKE SA that stayed on port 500 though a NAT was found: ESP still goes by 4500 (RFC 3948 §4).
		row->local_port = IKE_NAT_PORT;
		row->remote_port = sa->local_port == IKE_NAT_PORT ? sa->remote_port : IKE_NAT_PORT;
	}
	row->replay_window = child->replay_window; // as it was when the child SA was made: esp cannot change a standing window
	if (child->selectors) {
		row->local_selector_count = fill_selectors(row->local_selectors, &child->selectors->local);
		row->remote_selector_count = fill_selectors(row->remote_selectors, &child->selectors->remote);
	}
	add(ike, IKE_ACTION_PUT_CHILD)->child = row;
}

void action_remove_child(struct ike *ike, const struct tunnel *tunnel, uint32_t spi_in)
{
	struct child_row *row = allocate(sizeof *row);
	memcpy(row->tunnel_id, tunnel->config.id, sizeof row->tunnel_id);
	row->inbound.spi = spi_in;
	add(ike, IKE_ACTION_REMOVE_CHILD)->child = row;
}

void action_state(struct ike *ike, uint64_t key, struct bytes state)
{
	struct ike_action *action = add(ike, state.length > 0 ? IKE_ACTION_PUT_STATE : IKE_ACTION_REMOVE_STATE);
	action->key = key;
	if (state.length > 0) {
		action->octets = allocate(state.length);
		action->length = state.length;
		memcpy(action->octets, state.data, state.length);
	}
}

static void fill_suites(const struct tunnel *tunnel, struct tunnel_status_row *row)
{
	const struct ike_sa *sa = tunnel_current(tunnel);
	if (!sa) {
		return;
	}
	suite_format(&sa->suite, row->ike_suite);
	row->weak = suite_is_weak(&sa->suite);
	row->udp_encapsulated = sa->encapsulate;
	const struct child_sa *newest = NULL;
	for (size_t i = 0; i < sa->child_count; i++) {
		bool live = sa->children[i]->state == CHILD_LIVE;
		if (live && (!newest || sa->children[i]->generation > newest->generation)) {
			newest = sa->children[i];
		}
	}
	if (newest) {
		suite_format(&newest->suite, row->child_suite);
		row->weak = row->weak || suite_is_weak(&newest->suite);
	}
}

void action_status(struct ike *ike, struct tunnel *tunnel, bool remove)
{
	struct tunnel_status_row *row = allocate(sizeof *row);
	strcpy(row->tunnel_id, tunnel->config.id);
	row->state = tunnel->state;
	strcpy(row->reason, tunnel->reason);
	row->since = tunnel->since;
	row->generation = tunnel->generation;
	row->child_rekeys = tunnel->child_rekeys;
	row->ike_rekeys = tunnel->ike_rekeys;
	fill_suites(tunnel, row);
	if (!remove && tunnel->shown && memcmp(tunnel->shown, row, sizeof *row) == 0) {
		free(row);
		return;
	}
	if (!tunnel->shown) {
		tunnel->shown = allocate(sizeof *row);
	}
	memcpy(tunnel->shown, row, sizeof *row);
	add(ike, remove ? IKE_ACTION_REMOVE_STATUS : IKE_ACTION_STATUS)->status = row;
}

void tunnel_event(struct ike *ike, struct tunnel *tunnel, const char *event, const char *format, ...)
{
	struct tunnel_event_row *row = allocate(sizeof *row);
	memcpy(row->tunnel_id, tunnel->config.id, sizeof row->tunnel_id);
	row->number = ++tunnel->event_number;
	snprintf(row->event, sizeof row->event, "%s", event);
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(row->detail, sizeof row->detail, format, arguments);
	va_end(arguments);
	add(ike, IKE_ACTION_EVENT)->event = row;
}
