// The REST API: who asks, for what; the rest is http_resource.c's. Problems are RFC 9457 documents. A request is looked at in
// this order: its path (404), its token (401), method (405), size (413), form (415, 400), then the rules of the core.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"
#include "common/io/log.h"
#include "proto/message_json.h"
#include "proto/openapi.h"
#include "services/resource/shell.h"

static const struct http_field problem_fields[] = {{"Cache-Control", "no-store"}};

static void count_answer(int status)
{
	static const char *const labels[] = {"status=\"2xx\"", "status=\"3xx\"", "status=\"4xx\"", "status=\"5xx\""};
	metric_add(metric(METRIC_COUNTER, "twinspan_api_requests_total", labels[(status / 100 - 2) & 3],
	                  "Requests of the API by status"),
	           1);
}

void api_respond(struct http_request *request, unsigned status, const char *type, const char *text,
                 const struct http_field *fields, size_t count)
{
	struct bytes body = {(const uint8_t *)text, text ? strlen(text) : 0};
	count_answer((int)status);
	http_respond(request, status, type, body, fields, count);
}

static void answer_problem_with(struct http_request *request, const struct problem *problem, const struct http_field *fields,
                                size_t count)
{
	json_t *json = problem_to_json(problem);
	char *text = json_dumps(json, JSON_INDENT(2));
	json_decref(json);
	api_respond(request, (unsigned)problem->status, "application/problem+json", text, fields, count);
	free(text);
}

void answer_problem(struct http_request *request, const struct problem *problem)
{
	answer_problem_with(request, problem, problem_fields, 1);
}

static void refuse_request(struct http_request *request, int status, const char *type, const char *rule)
{
	struct problem problem = {0};
	problem_set(&problem, status, type, NULL, NULL, "%s", rule);
	answer_problem(request, &problem);
}

// ---- who asks ----
static bool same_text(const char *a, const char *b)
{
	return constant_time_equal((struct bytes){(const uint8_t *)a, strlen(a)},
	                           (struct bytes){(const uint8_t *)b, strlen(b)});
}

static bool find_actor(struct service *service, const char *header, struct actor *actor)
{
	char hash[SHA256_TEXT];
	if (!header || strncasecmp(header, "Bearer ", 7) != 0) {
		return false;
	}
	const char *token = header + 7 + strspn(header + 7, " ");
	sha256_text((struct bytes){(const uint8_t *)token, strlen(token)}, hash);
	if (same_text(hash, service->admin_hash)) {
		*actor = (struct actor){.token = "first-token", .role = ROLE_ADMIN};
		return true;
	}
	const char *id = map_find_text(service->token_ids, hash);
	const struct record *row = id ? resource_find(service->resource, RESOURCE_TOKEN, id) : NULL;
	if (row) {
		*actor = actor_of_token(row);
	}
	return row != NULL;
}

// ---- for what ----
struct route {
	bool item; // below an id
	const char *method;
	void (*handle)(const struct api_call *call);
};

static void create(const struct api_call *call)
{
	api_change(call, ACTION_CREATE);
}

static void update(const struct api_call *call)
{
	api_change(call, ACTION_UPDATE);
}

static void delete (const struct api_call *call)
{
	api_change(call, ACTION_DELETE);
}

static void add_tunnels(const struct api_call *call)
{
	api_change(call, ACTION_ADD_TUNNELS);
}

static void restart(const struct api_call *call)
{
	api_change(call, ACTION_RESTART);
}

// Of every kind.
static const struct route routes[] = {
    {false, "GET", api_list}, {false, "POST", create},  {true, "GET", api_show},
    {true, "PATCH", update},  {true, "DELETE", delete},
};
enum { ROUTES = sizeof routes / sizeof routes[0] };

// What action_rules says there is below a resource.
static void (*const actions[ACTION_RULES])(const struct api_call *call) = {
    [ACTION_TUNNELS] = add_tunnels,       [ACTION_REKEY] = api_rekey,         [ACTION_RESTART_TUNNEL] = restart,
    [ACTION_EVENTS] = api_events,         [ACTION_TABLE_ROUTES] = api_routes, [ACTION_CONFIGURATION] = api_configuration,
    [ACTION_GATEWAY_ROUTES] = api_routes,
};

// The action with this method, or (`method` NULL) any.
static size_t find_action(const struct api_call *call, const char *method)
{
	size_t i = 0;
	while (i < ACTION_RULES && !(action_rules[i].kind == call->kind && strcmp(action_rules[i].name, call->below) == 0 &&
	                             (!method || strcmp(action_rules[i].method, method) == 0))) {
		i++;
	}
	return i;
}

static void add_method(char allow[static 64], const char *method)
{
	size_t n = strlen(allow);
	snprintf(allow + n, 64 - n, "%s%s", n ? ", " : "", method);
}

static void dispatch(const struct api_call *call)
{
	const char *method = call->request->method;
	char allow[64] = "";
	if (call->below) {
		size_t action = find_action(call, method);
		if (action < ACTION_RULES) {
			actions[action](call);
			return;
		}
		add_method(allow, action_rules[find_action(call, NULL)].method);
	}
	for (size_t i = 0; i < ROUTES && !call->below; i++) {
		if (routes[i].item != (call->id != NULL)) {
			continue;
		}
		if (strcmp(routes[i].method, method) == 0) {
			routes[i].handle(call);
			return;
		}
		add_method(allow, routes[i].method);
	}
	struct problem problem = {0};
	problem_set(&problem, 405, "wrong-method", NULL, method, "the methods here are %s", allow);
	const struct http_field fields[] = {{"Cache-Control", "no-store"}, {"Allow", allow}};
	answer_problem_with(call->request, &problem, fields, 2);
}

// "/v1/<plural>[/<id>[/<below>]]"; `path` is cut into its parts.
static bool read_path(char *path, struct api_call *call)
{
	if (strncmp(path, "/v1/", 4) != 0) {
		return false;
	}
	char *parts[4] = {0};
	size_t count = 0;
	for (char *at = path + 4; at && count < 4;) {
		parts[count++] = strsep(&at, "/");
	}
	if (count > 3) {
		return false;
	}
	for (size_t i = 0; i < count; i++) {
		if (!parts[i][0]) {
			return false;
		}
	}
	call->kind = kind_by_plural(parts[0]);
	call->id = parts[1];
	call->below = parts[2];
	return call->kind != RESOURCE_KINDS && (!call->below || find_action(call, NULL) < ACTION_RULES);
}

// The same for everybody and all the time: made when it is asked for first.
static void answer_openapi(struct service *service, struct http_request *request)
{
	if (!service->openapi) {
		json_t *document = openapi_document();
		service->openapi = json_dumps(document, JSON_INDENT(2));
		json_decref(document);
	}
	api_respond(request, 200, "application/json", service->openapi, NULL, 0);
}

// For who stands in front of the API and has no way to TWINSPAN_HEALTH, where what is waited for is said too.
static bool answer_probe(struct service *service, struct http_request *request)
{
	bool alive = strcmp(request->path, "/healthz") == 0;
	if ((!alive && strcmp(request->path, "/readyz") != 0) || strcmp(request->method, "GET") != 0) {
		return false;
	}
	bool good = alive || health_ready(service->health);
	api_respond(request, good ? 200 : 503, "text/plain", good ? "ok\n" : "not ready\n", problem_fields, 1);
	return true;
}

void api_handle(void *context, struct http_request *request)
{
	struct service *service = context;
	struct api_call call = {.service = service, .request = request};
	if (strcmp(request->path, "/openapi.json") == 0 && strcmp(request->method, "GET") == 0) {
		answer_openapi(service, request);
		return;
	}
	if (answer_probe(service, request)) {
		return;
	}
	char *path = duplicate_text(request->path);
	if (!read_path(path, &call)) {
		refuse_request(request, 404, "unknown-path",
		               "there is nothing at this path; /openapi.json lists what there is");
	} else if (!store_loaded(service->store)) {
		refuse_request(request, 503, "not-ready", "the resources have not been read from the database yet");
	} else if (!find_actor(service, http_header(request, "Authorization"), &call.actor)) {
		struct problem problem = {0};
		problem_set(&problem, 401, "no-token", "Authorization", NULL,
		            "a valid token is needed: Authorization: Bearer <token>");
		const struct http_field fields[] = {{"Cache-Control", "no-store"}, {"WWW-Authenticate", "Bearer"}};
		answer_problem_with(request, &problem, fields, 2);
	} else {
		dispatch(&call);
	}
	free(path);
}
