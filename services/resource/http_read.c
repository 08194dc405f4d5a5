// What GET does below /v1: one resource, lists, what hangs below a tunnel; and the answers that every request shares.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "proto/message_json.h"
#include "services/resource/shell.h"

// ---- answers ----
void answer_json(const struct api_call *call, unsigned status, json_t *json, const char *location, uint64_t revision)
{
	char etag[32];
	struct http_field fields[3] = {{"Cache-Control", "no-store"}};
	size_t count = 1;
	if (revision) {
		snprintf(etag, sizeof etag, "\"%llu\"", (unsigned long long)revision);
		fields[count++] = (struct http_field){"ETag", etag};
	}
	if (location) {
		fields[count++] = (struct http_field){"Location", location};
	}
	char *text = json_dumps(json, JSON_INDENT(2));
	json_decref(json);
	api_respond(call->request, status, "application/json", text, fields, count);
	wipe(text, strlen(text)); // it may hold a generated key
	free(text);
}

json_t *shown_json(const struct service *service, const struct record *row, bool routes)
{
	struct record *shown = resource_show(service->resource, row, routes);
	json_t *json = record_to_json(shown);
	record_free(&shown);
	if (!routes) {
		json_object_del(json, "routes");
	}
	return json;
}

static const struct record *find_row(const struct api_call *call)
{
	struct problem problem = {0};
	if (!resource_may_read(&call->actor, call->kind, &problem)) {
		answer_problem(call->request, &problem);
		return NULL;
	}
	const struct record *row = resource_find(call->service->resource, call->kind, call->id);
	if (!row || !resource_visible(&call->actor, row)) {
		problem_set(&problem, 404, "not-found", "id", call->id, "there is no such %s", kind_rules[call->kind].singular);
		answer_problem(call->request, &problem);
		return NULL;
	}
	return row;
}

// ---- reading ----
struct filters {
	enum resource_kind kind;
	const char *allowed; // one parameter's name, or NULL: the texts of the kind
	struct problem problem;
};

static void check_parameter(void *context, const char *name, const char *value)
{
	struct filters *filters = context;
	(void)value;
	bool known;
	if (filters->allowed) {
		known = strcmp(name, filters->allowed) == 0;
	} else {
		struct field_shape shape = field_shape_of(filters->kind, name);
		known = shape.type == TYPE_TEXT && !shape.list && !strchr(name, '.');
	}
	if (!known && filters->problem.status == 0) {
		problem_set(&filters->problem, 400, "unknown-parameter", name, NULL, "there is no such query parameter here");
	}
}

bool parameters_fit(const struct api_call *call, const char *allowed)
{
	struct filters filters = {.kind = call->kind, .allowed = allowed};
	http_query_each(call->request, check_parameter, &filters);
	if (filters.problem.status) {
		answer_problem(call->request, &filters.problem);
	}
	return filters.problem.status == 0;
}

static bool passes_filters(const struct api_call *call, const struct record *row)
{
	size_t count;
	const struct field_rule *rules = field_rules_of(call->kind, &count);
	for (size_t i = 0; i < count; i++) {
		struct field_shape shape = field_shape_of(call->kind, rules[i].path);
		const char *wanted = shape.type == TYPE_TEXT && !shape.list && !strchr(rules[i].path, '.')
		                         ? http_query(call->request, rules[i].path)
		                         : NULL;
		if (wanted && !record_is(row, rules[i].path, wanted)) {
			return false;
		}
	}
	return true;
}

void api_list(const struct api_call *call)
{
	struct problem problem = {0};
	if (!resource_may_read(&call->actor, call->kind, &problem)) {
		answer_problem(call->request, &problem);
		return;
	}
	if (!parameters_fit(call, NULL)) {
		return;
	}
	json_t *items = json_array();
	for (struct row_cursor c = {0}; resource_next(call->service->resource, call->kind, &c);) {
		if (resource_visible(&call->actor, c.row) && passes_filters(call, c.row)) {
			json_array_append_new(items, shown_json(call->service, c.row, false));
		}
	}
	answer_json(call, 200, json_pack("{s:o}", "items", items), NULL, 0);
}

void api_show(const struct api_call *call)
{
	const struct record *row = find_row(call);
	if (row && parameters_fit(call, "")) {
		answer_json(call, 200, shown_json(call->service, row, true), NULL, record_number(row, "revision"));
	}
}

void api_configuration(const struct api_call *call)
{
	const struct record *row = find_row(call);
	if (!row || !parameters_fit(call, "vendor")) {
		return;
	}
	const char *vendor = http_query(call->request, "vendor");
	struct problem problem = {0};
	char *text = resource_configuration(call->service->resource, row, vendor ? vendor : "", &problem);
	if (!text) {
		answer_problem(call->request, &problem);
		return;
	}
	const struct http_field fields[] = {{"Cache-Control", "no-store"}};
	api_respond(call->request, 200, "text/plain; charset=utf-8", text, fields, 1);
	free(text);
}

void api_events(const struct api_call *call)
{
	const struct record *row = find_row(call);
	if (!row || !parameters_fit(call, "")) {
		return;
	}
	struct tunnel_event events[2 * TUNNEL_EVENTS];
	size_t count = resource_events(call->service->resource, call->id, events);
	json_t *items = json_array();
	for (size_t i = 0; i < count; i++) {
		char time[TIME_TEXT];
		json_array_append_new(items, json_pack("{s:s, s:I, s:s, s:s, s:s}", "service",
		                                       node_service_names[events[i].service], "number",
		                                       (json_int_t)events[i].number, "time", time_format(events[i].time, time),
		                                       "event", events[i].event, "detail", events[i].detail));
	}
	answer_json(call, 200, json_pack("{s:o}", "items", items), NULL, 0);
}
