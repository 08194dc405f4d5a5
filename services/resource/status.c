// What a tunnel and a connection are now. Derived from the row and from what is heard, never from the last report alone: what a
// service reported and cannot confirm, because it is silent, is not claimed.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/invariant.h"
#include "services/resource/store.h"

static const char *const states[] = {[TUNNEL_DOWN] = "DOWN", [TUNNEL_CONNECTING] = "CONNECTING", [TUNNEL_UP] = "UP"};

const char *tunnel_state_name(enum tunnel_state state)
{
	return states[state];
}

static void __attribute__((format(printf, 3, 4))) say(char *out, size_t capacity, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(out, capacity, format, arguments);
	va_end(arguments);
}

#define SAY(out, ...) say(out, sizeof(out), __VA_ARGS__)

static void view_running(const struct resource *resource, const struct record *tunnel, const struct report *report,
                         struct tunnel_view *view)
{
	const char *node = record_text(tunnel, "nodeId");
	bool reported = report && report->has_status;
	view->running = "DOWN";
	if (record_is(tunnel, "adminState", "DOWN")) {
		SAY(view->reason, "administratively down");
	} else if (node_is_silent(resource, node)) {
		SAY(view->reason, "no service of node %s answers: the node is taken as gone", node);
	} else if (service_is_silent(resource, node, SERVICE_IKE)) {
		view->running = "UNKNOWN";
		SAY(view->reason, "ike of node %s does not answer; before that the tunnel was %s", node,
		    reported ? states[report->state] : "not reported on");
	} else if (!reported) {
		SAY(view->reason, "its node has not reported on it yet");
	} else if (report->state == TUNNEL_UP && service_is_silent(resource, node, SERVICE_ESP)) {
		view->running = "UNKNOWN";
		SAY(view->reason, "negotiated, but esp of node %s does not answer: whether packets pass is not known", node);
	} else {
		view->running = states[report->state];
		if (report->state != TUNNEL_UP) {
			SAY(view->reason, "%s", report->reason ? report->reason : "");
		}
	}
}

static void view_bgp(const struct resource *resource, const struct record *tunnel, const struct report *report,
                     struct tunnel_view *view)
{
	const char *node = record_text(tunnel, "nodeId");
	bool up = strcmp(view->running, "UP") == 0;
	const struct bgp_session *session = report && report->has_bgp ? &report->bgp : NULL;
	const char *state = session && session->state ? session->state : "Idle";
	bool established = strcmp(state, "Established") == 0;
	view->bgp = state;
	if (record_is(tunnel, "adminState", "DOWN") || node_is_silent(resource, node)) {
		view->bgp = "Idle";
		SAY(view->bgp_reason, "the tunnel is DOWN: %s", view->reason);
	} else if (service_is_silent(resource, node, SERVICE_BGP)) {
		view->bgp = "Unknown";
		SAY(view->bgp_reason, "bgp of node %s does not answer; before that the session was %s", node, state);
	} else if (established && !up) {
		// The session cannot be better than its tunnel; bgp closes it, or the one that is silent comes back.
		view->bgp = "Unknown";
		SAY(view->bgp_reason, "the tunnel is %s: %s", view->running, view->reason);
	} else if (!session) {
		SAY(view->bgp_reason, "%s",
		    up ? "bgp of its node has not reported on the session yet" : "the tunnel is not UP");
	} else if (session->reason && *session->reason) {
		SAY(view->bgp_reason, "%s", session->reason);
	} else if (!established && session->last_error && *session->last_error) {
		SAY(view->bgp_reason, "%s", session->last_error);
	} else if (!established && !up) {
		SAY(view->bgp_reason, "the tunnel is not UP");
	}
}

void tunnel_view(const struct resource *resource, const struct record *tunnel, struct tunnel_view *view)
{
	*view = (struct tunnel_view){0};
	const struct report *report = report_find(resource, record_text(tunnel, "id"));
	const struct record *connection =
	    resource_find(resource, RESOURCE_VPN_CONNECTION, record_text(tunnel, "vpnConnectionId"));
	view_running(resource, tunnel, report, view);
	bool up = strcmp(view->running, "UP") == 0;
	if (connection && record_is(connection, "routing", "BGP")) {
		view_bgp(resource, tunnel, report, view);
	}
	view->carries = up && (!view->bgp || strcmp(view->bgp, "Established") == 0);
	if (up && view->bgp && !view->carries) {
		// Packets pass, and no route leads to them: whoever looks at the tunnel's reason is told.
		SAY(view->reason, "BGP is %s: %.200s", view->bgp, *view->bgp_reason ? view->bgp_reason : "no reason is known");
	}
	invariant(in_list(RUNNING_STATUS_VALUES, view->running) && (!view->bgp || in_list(BGP_STATE_VALUES, view->bgp)));
	invariant(up || !view->bgp || strcmp(view->bgp, "Established") != 0);
	invariant(!record_is(tunnel, "adminState", "DOWN") || !up);
}

// Two tunnels that carry, on the two cloud addresses and to two customer addresses. A connection has a handful of tunnels (a
// quota).
const char *ha_status(const struct resource *resource, const struct record *connection)
{
	static const char yes[] = "HIGHLY_AVAILABLE", no[] = "NOT_HIGHLY_AVAILABLE";
	const char *first = record_text(record_at(connection, "cloudAddresses", 0), "address");
	struct index_key tunnels = {RESOURCE_VPN_TUNNEL, "vpnConnectionId", record_text(connection, "id")};
	struct tunnel_view view;
	const char *one = NULL; // the customer address of a tunnel on the first cloud address
	bool more = false;      // there are such to two customer addresses: any on the second will do
	for (struct index_cursor c = {0}; index_next(resource->index, tunnels, &c);) {
		if (record_is(c.row, "cloudAddress", first)) {
			tunnel_view(resource, c.row, &view);
			more = more || (view.carries && one && !record_is(c.row, "customerAddress", one));
			one = view.carries && !one ? record_text(c.row, "customerAddress") : one;
		}
	}
	for (struct index_cursor c = {0}; one && index_next(resource->index, tunnels, &c);) {
		if (!record_is(c.row, "cloudAddress", first) && (more || !record_is(c.row, "customerAddress", one))) {
			tunnel_view(resource, c.row, &view);
			if (view.carries) {
				return yes;
			}
		}
	}
	return no;
}
