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

bool answer_unusable(const struct api_call *call)
{
	const struct unusable *unusable = call->id ? store_unusable(call->service->store, call->kind, call->id) : NULL;
	if (!unusable || (call->actor.tenant[0] && strcmp(call->actor.tenant, unusable->tenant) != 0)) {
		return false;
	}
	struct problem problem = {0};
	problem_set(
	    &problem, 500, "unusable-row", "id", call->id,
	    "this release cannot read it in the database (%s); it is kept there as it is: the release that wrote it can, or "
	    "have the row repaired",
	    unusable->why);
	answer_problem(call->request, &problem);
	return true;
}

static const struct record *find_row(const struct api_call *call)
{
	struct problem problem = {0};
	if (!resource_may_read(&call->actor, call->kind, &problem)) {
		answer_problem(call->request, &problem);
		return NULL;
	}
	const struct record *row = resource_find(call->service->resource, call->kind, call->id);
	if (!row && answer_unusable(call)) {
		return NULL;
	}
	if (!row || !resource_visible(&call->actor, row)) {
		problem_set(&problem, 404, "not-found", "id", call->id, "there is no such %s", kind_rules[call->kind].singular);
		answer_problem(call->request, &problem);
		return NULL;
	}
	return row;
}

// ---- reading ----
struct parameters {
	const char *allowed; // names, separated by commas
	struct problem problem;
};

static void check_parameter(void *context, const char *name, const char *value)
{
	struct parameters *parameters = context;
	(void)value;
	if (!in_list(parameters->allowed, name) && parameters->problem.status == 0) {
		problem_set(&parameters->problem, 400, "unknown-parameter", name, NULL,
		            "there is no such query parameter here; /openapi.json lists those there are");
	}
}

bool parameters_fit(const struct api_call *call, const char *allowed)
{
	struct parameters parameters = {.allowed = allowed};
	http_query_each(call->request, check_parameter, &parameters);
	if (parameters.problem.status) {
		answer_problem(call->request, &parameters.problem);
	}
	return parameters.problem.status == 0;
}

// ---- pages ----
static bool read_limit(const char *text, size_t *limit, struct problem *problem)
{
	*limit = text ? 0 : PAGE_DEFAULT;
	for (const char *at = text; at && *at >= '0' && *at <= '9' && *limit <= PAGE_MAXIMUM; at++) {
		*limit = *limit * 10 + (size_t)(*at - '0');
	}
	bool number = !text || text[strspn(text, "0123456789")] == '\0';
	return (number && *limit >= 1 && *limit <= PAGE_MAXIMUM) ||
	       problem_set(problem, 400, "out-of-range", "limit", text, "must be a whole number from 1 to %d", PAGE_MAXIMUM);
}

static bool read_page(const struct api_call *call, struct page *page, struct problem *problem)
{
	*page = (struct page){.cursor = http_query(call->request, "cursor")};
	return read_limit(http_query(call->request, "limit"), &page->limit, problem);
}

static void answer_page(const struct api_call *call, json_t *items, const struct page *page)
{
	json_t *json = json_pack("{s:o}", "items", items);
	if (page->next[0]) {
		json_object_set_new(json, "nextCursor", json_string(page->next));
	}
	answer_json(call, 200, json, NULL, 0);
}

struct reading {
	const struct api_call *call;
	struct list_query query;
	struct problem problem;
	json_t *items;
};

static void read_filter(void *context, const char *name, const char *value)
{
	struct reading *reading = context;
	if (in_list("limit,cursor", name) || reading->problem.status) {
		return;
	}
	struct list_filter filter = {name, value ? value : ""};
	if (!list_filter_fits(reading->query.kind, &filter, &reading->problem)) {
		return;
	}
	if (reading->query.filter_count == LIST_FILTERS) {
		problem_set(&reading->problem, 400, "too-many-parameters", name, NULL, "at most %d filters at once",
		            LIST_FILTERS);
		return;
	}
	reading->query.filters[reading->query.filter_count++] = filter;
}

static void add_item(void *context, const struct record *row)
{
	struct reading *reading = context;
	json_array_append_new(reading->items, shown_json(reading->call->service, row, false));
}

void api_list(const struct api_call *call)
{
	struct reading reading = {.call = call, .query = {.actor = &call->actor, .kind = call->kind}};
	struct page page;
	if (resource_may_read(&call->actor, call->kind, &reading.problem) && read_page(call, &page, &reading.problem)) {
		http_query_each(call->request, read_filter, &reading);
	}
	reading.items = json_array();
	if (reading.problem.status ||
	    !resource_list(call->service->resource, &reading.query, &page, add_item, &reading, &reading.problem)) {
		json_decref(reading.items);
		answer_problem(call->request, &reading.problem);
		return;
	}
	answer_page(call, reading.items, &page);
}

// The array at a path like "routeTables.effectiveRoutes", taken out of the JSON that it is in.
static json_t *take_list(json_t *json, const char *path)
{
	json_t *at = json;
	while (*path) {
		char name[64];
		size_t length = strcspn(path, ".");
		snprintf(name, sizeof name, "%.*s", (int)length, path);
		at = json_object_get(at, name);
		path += length + (path[length] == '.');
	}
	json_t *list = at ? json_incref(at) : json_array();
	json_decref(json);
	return list;
}

static enum shown_table table_of(const char *name)
{
	return !name || strcmp(name, "EFFECTIVE") == 0 ? SHOWN_EFFECTIVE
	       : strcmp(name, "PROPAGATED") == 0       ? SHOWN_PROPAGATED
	                                               : SHOWN_STATIC;
}

void api_routes(const struct api_call *call)
{
	bool gateway = call->kind == RESOURCE_BORDER_GATEWAY;
	const struct record *row = find_row(call);
	if (!row || !parameters_fit(call, gateway ? "limit,cursor,destination,table" : "limit,cursor,destination")) {
		return;
	}
	const char *table = http_query(call->request, "table");
	struct route_query query = {.table = gateway ? table_of(table) : SHOWN_VPC,
	                            .destination = http_query(call->request, "destination")};
	struct problem problem = {0};
	struct page page;
	struct record *routes = NULL;
	if (table && !in_list(ROUTE_TABLE_VALUES, table)) {
		problem_set(&problem, 400, "wrong-type", "table", table, "must be one of %s", ROUTE_TABLE_VALUES);
	} else if (read_page(call, &page, &problem)) {
		routes = resource_routes(call->service->resource, row, &query, &page, &problem);
	}
	if (!routes) {
		answer_problem(call->request, &problem);
		return;
	}
	json_t *items = take_list(record_to_json(routes), route_list_path(query.table));
	record_free(&routes);
	answer_page(call, items, &page);
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
