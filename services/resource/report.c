// What the services of the nodes report of tunnels, as it was last, and which of them are heard.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "services/resource/store.h"

const char *const node_service_names[NODE_SERVICES] = {[SERVICE_IKE] = "ike", [SERVICE_ESP] = "esp", [SERVICE_BGP] = "bgp"};

static void free_session(struct bgp_session *session)
{
	free((char *)(uintptr_t)session->state);
	free((char *)(uintptr_t)session->reason);
	free((char *)(uintptr_t)session->last_error);
}

static void free_report(void *at)
{
	struct report *report = at;
	for (size_t service = 0; service < NODE_SERVICES; service++) {
		for (size_t i = 0; i < report->events[service].count; i++) {
			free(report->events[service].list[i].event);
			free(report->events[service].list[i].detail);
		}
	}
	free(report->reason);
	free(report->ike_suite);
	free(report->child_suite);
	free_session(&report->bgp);
	free(report);
}

const struct report *report_find(const struct resource *resource, const char *tunnel_id)
{
	return map_find_text(resource->reports, tunnel_id);
}

static struct report *report_of(struct resource *resource, const char *tunnel_id)
{
	struct report *report = map_find_text(resource->reports, tunnel_id);
	if (!report) {
		report = allocate(sizeof *report);
		map_insert_text(resource->reports, tunnel_id, report);
	}
	return report;
}

// Nothing is known of the tunnel any more: its report goes, so that a deleted tunnel leaves nothing behind.
static void forget(struct resource *resource, const char *tunnel_id)
{
	const struct report *report = report_find(resource, tunnel_id);
	const struct tunnel_counters none = {0};
	size_t events = 0;
	for (size_t service = 0; report && service < NODE_SERVICES; service++) {
		events += report->events[service].count;
	}
	if (report && !report->has_status && !report->has_bgp && events == 0 &&
	    memcmp(&report->counters, &none, sizeof none) == 0) {
		free_report(map_remove_text(resource->reports, tunnel_id));
	}
}

void report_drop(struct resource *resource, const char *tunnel_id)
{
	struct report *report = map_remove_text(resource->reports, tunnel_id);
	if (report) {
		free_report(report);
	}
}

static void replace_text(char **text, const char *with)
{
	free(*text);
	*text = duplicate_text(with);
}

void resource_report_status(struct resource *resource, const char *tunnel_id, const struct tunnel_status *status)
{
	struct report *report = report_of(resource, tunnel_id);
	report->has_status = status != NULL;
	report->state = status ? status->state : TUNNEL_DOWN;
	report->since = status ? status->since : 0;
	replace_text(&report->reason, status ? status->reason : NULL);
	replace_text(&report->ike_suite, status ? status->ike_suite : NULL);
	replace_text(&report->child_suite, status ? status->child_suite : NULL);
	forget(resource, tunnel_id);
}

void resource_report_counters(struct resource *resource, const char *tunnel_id, const struct tunnel_counters *counters)
{
	report_of(resource, tunnel_id)->counters = counters ? *counters : (struct tunnel_counters){0};
	forget(resource, tunnel_id);
}

void resource_report_bgp(struct resource *resource, const char *tunnel_id, const struct bgp_session *session)
{
	struct report *report = report_of(resource, tunnel_id);
	free_session(&report->bgp);
	report->has_bgp = session != NULL;
	report->bgp = session ? *session : (struct bgp_session){0};
	report->bgp.state = duplicate_text(session ? session->state : NULL);
	report->bgp.reason = duplicate_text(session ? session->reason : NULL);
	report->bgp.last_error = duplicate_text(session ? session->last_error : NULL);
	forget(resource, tunnel_id);
}

// ---- events ----
void resource_report_event(struct resource *resource, const char *tunnel_id, const struct tunnel_event *event)
{
	if (!resource_find(resource, RESOURCE_VPN_TUNNEL, tunnel_id)) {
		return; // the last words of a tunnel that is gone: nobody could ask for them
	}
	struct report *report = report_of(resource, tunnel_id);
	struct event_report *list = report->events[event->service].list;
	size_t count = report->events[event->service].count, at = count;
	invariant(count <= TUNNEL_EVENTS);
	while (at > 0 && list[at - 1].number > event->number) {
		at--;
	}
	if (at > 0 && list[at - 1].number == event->number) {
		return; // heard before
	}
	if (count == TUNNEL_EVENTS) {
		if (at == 0) {
			return; // older than all that are kept
		}
		free(list[0].event);
		free(list[0].detail);
		memmove(&list[0], &list[1], (TUNNEL_EVENTS - 1) * sizeof list[0]);
		count--;
		at--;
	}
	memmove(&list[at + 1], &list[at], (count - at) * sizeof list[0]);
	list[at] =
	    (struct event_report){event->number, event->time, duplicate_text(event->event), duplicate_text(event->detail)};
	report->events[event->service].count = count + 1;
}

// By time, each service's in the order of its own numbers: a clock that was set back does not turn a service's story round.
size_t resource_events(const struct resource *resource, const char *tunnel_id,
                       struct tunnel_event out[static 2 * TUNNEL_EVENTS])
{
	static const enum node_service speakers[2] = {SERVICE_IKE, SERVICE_BGP};
	const struct report *report = report_find(resource, tunnel_id);
	size_t at[2] = {0}, count = 0;
	while (report) {
		const struct event_report *first = NULL;
		size_t from = 0;
		for (size_t i = 0; i < 2; i++) {
			const struct event_report *next = &report->events[speakers[i]].list[at[i]];
			if (at[i] < report->events[speakers[i]].count && (!first || next->time < first->time)) {
				first = next;
				from = i;
			}
		}
		if (!first) {
			break;
		}
		at[from]++;
		invariant(count < 2 * TUNNEL_EVENTS);
		out[count++] = (struct tunnel_event){speakers[from], first->number, first->time, first->event, first->detail};
	}
	return count;
}

// ---- nodes ----
void resource_report_service(struct resource *resource, const char *node_id, enum node_service service, bool heard)
{
	struct node_report *node = map_find_text(resource->nodes, node_id);
	if (!node) {
		node = allocate(sizeof *node);
		map_insert_text(resource->nodes, node_id, node);
	}
	node->silent[service] = !heard;
}

void resource_forget_node(struct resource *resource, const char *node_id)
{
	free(map_remove_text(resource->nodes, node_id));
}

bool service_is_silent(const struct resource *resource, const char *node_id, enum node_service service)
{
	const struct node_report *node = map_find_text(resource->nodes, node_id);
	return node && node->silent[service];
}

bool node_is_silent(const struct resource *resource, const char *node_id)
{
	const struct node_report *node = map_find_text(resource->nodes, node_id);
	bool silent = node != NULL;
	for (size_t i = 0; node && i < NODE_SERVICES; i++) {
		silent = silent && node->silent[i];
	}
	return silent;
}

void reports_free(struct resource *resource)
{
	map_free(&resource->reports, free_report);
	map_free(&resource->nodes, free);
}
