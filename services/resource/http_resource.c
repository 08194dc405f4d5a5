// What changes below /v1: creation, update, deletion, actions. A change goes core → database → core → bus → answer.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"
#include "common/io/log.h"
#include "proto/message_json.h"
#include "services/resource/shell.h"

static void refuse_call(const struct api_call *call, int status, const char *type, const char *field, const char *value,
                        const char *rule)
{
	struct problem problem = {0};
	problem_set(&problem, status, type, field, value, "%s", rule);
	answer_problem(call->request, &problem);
}

// ---- bodies ----
static bool is_json(const char *content_type)
{
	static const char *const types[] = {"application/json", "application/merge-patch+json"};
	for (size_t i = 0; content_type && i < sizeof types / sizeof types[0]; i++) {
		size_t length = strlen(types[i]);
		if (strncasecmp(content_type, types[i], length) == 0 && strchr("; \t", content_type[length])) {
			return true; // strchr finds the end of the text too
		}
	}
	return false;
}

// The body as JSON; NULL after a problem was answered. `optional`: no body is an empty object.
static json_t *read_body(const struct api_call *call, bool optional)
{
	struct http_request *request = call->request;
	if (request->body_too_large) {
		refuse_call(call, 413, "too-large", "body", NULL, "a body has at most 1048576 octets");
		return NULL;
	}
	if (request->body.length == 0 && optional) {
		return json_object();
	}
	if (!is_json(http_header(request, "Content-Type"))) {
		refuse_call(call, 415, "wrong-content-type", NULL, NULL, "a body is application/json");
		return NULL;
	}
	json_error_t error;
	json_t *json = json_loadb((const char *)request->body.data, request->body.length, JSON_REJECT_DUPLICATES, &error);
	if (!json) {
		struct problem problem = {0};
		// jansson's own text would repeat what is near, which may be a key.
		problem_set(&problem, 400, "bad-json", NULL, NULL, "the body is not JSON: line %d, column %d", error.line,
		            error.column);
		answer_problem(request, &problem);
	}
	return json;
}

// If-Match: "7", or 7. * is no condition; anything else is a revision that nothing has.
static void read_revision(const struct api_call *call, struct request *request)
{
	const char *text = http_header(call->request, "If-Match");
	if (!text || strcmp(text, "*") == 0) {
		return;
	}
	const char *end = text + strlen(text);
	if (*text == '"' && end - text > 1 && end[-1] == '"') {
		text++;
		end--;
	}
	request->has_revision = true;
	request->revision = 0;
	for (; text < end; text++) {
		if (!isdigit((unsigned char)*text) || request->revision > UINT32_MAX) {
			request->revision = 0;
			return;
		}
		request->revision = request->revision * 10 + (uint64_t)(*text - '0');
	}
}

// ---- changing ----
static json_t *change_json(const struct service *service, enum resource_kind kind, const char *id,
                           const struct secret *generated)
{
	json_t *json = shown_json(service, resource_find(service->resource, kind, id), true);
	if (generated->length) {
		json_t *text = json_stringn((const char *)generated->octets, generated->length);
		json_t *holder = kind == RESOURCE_VPN_TUNNEL ? json_object_get(json, "ike") : json;
		json_object_set_new(holder, kind == RESOURCE_VPN_TUNNEL ? "preSharedKey" : "token", text);
	}
	return json;
}

static void publish(struct service *service, const struct actor *actor, const struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct change *change = &plan->changes[i];
		const struct record *row = resource_find(service->resource, change->kind, change->id);
		resource_bus_row(service->bus, change->kind, change->id, row);
		if (change->secret.length && change->kind == RESOURCE_VPN_TUNNEL && row) {
			resource_bus_secret(service->bus, change->id, record_text(row, "nodeId"),
			                    secret_bytes(&change->secret));
		}
		if (change->kind == RESOURCE_TOKEN && change->secret.length) {
			char hash[SHA256_TEXT];
			sha256_text(secret_bytes(&change->secret), hash);
			free(map_insert_text(service->token_ids, hash, duplicate_text(change->id)));
		}
		// The hash of a token that is gone stays in the map until the next reading: it leads to no row.
		log_event(LOG_INFO, row ? "resource-written" : "resource-deleted", kind_rules[change->kind].singular,
		          change->id, "revision", row ? log_number((int64_t)record_number(row, "revision")) : NULL, "by",
		          actor->token, "tenant", actor->tenant, "removed", *change->note ? change->note : NULL, NULL);
	}
	resource_bus_commit(service->bus, false);
}

// 204, or 200 with what went along and does not come back by itself.
static void answer_deletion(const struct api_call *call, const struct plan *plan)
{
	json_t *removed = json_array();
	for (size_t i = 0; i < plan->count; i++) {
		const struct change *change = &plan->changes[i];
		if (*change->note) {
			json_array_append_new(removed, json_pack("{s:s, s:s, s:s}", "kind", kind_rules[change->kind].singular,
			                                         "id", change->id, "what", change->note));
		}
	}
	if (json_array_size(removed) > 0) {
		answer_json(call, 200, json_pack("{s:s, s:o}", "id", call->id, "removed", removed), NULL, 0);
		return;
	}
	json_decref(removed);
	const struct http_field fields[] = {{"Cache-Control", "no-store"}};
	api_respond(call->request, 204, NULL, NULL, fields, 1);
}

static void answer_change(const struct api_call *call, enum action action, const struct plan *plan)
{
	if (action == ACTION_DELETE) {
		answer_deletion(call, plan);
		return;
	}
	json_t *items = json_array();
	const struct change *last = NULL;
	for (size_t i = 0; i < plan->count; i++) {
		const struct change *change = &plan->changes[i];
		if (change->answer) {
			static const struct secret none;
			json_array_append_new(items, change_json(call->service, change->kind, change->id,
			                                         change->generated ? &change->secret : &none));
			last = change;
		}
	}
	if (action == ACTION_ADD_TUNNELS) {
		answer_json(call, 201, json_pack("{s:o}", "items", items), NULL, 0);
		return;
	}
	json_t *item = json_incref(json_array_get(items, 0));
	json_decref(items);
	char location[128];
	snprintf(location, sizeof location, "/v1/%s/%s", kind_rules[last->kind].plural, last->id);
	const struct record *row = resource_find(call->service->resource, last->kind, last->id);
	bool made = action == ACTION_CREATE;
	answer_json(call, made ? 201 : 200, item, made ? location : NULL, record_number(row, "revision"));
}

static void carry_out(const struct api_call *call, struct request *request)
{
	struct service *service = call->service;
	struct plan plan;
	store_refresh(service->store);
	request->actor = call->actor;
	request->kind = call->kind;
	request->id = call->id;
	request->now = wall_clock();
	request->random = &service->random;
	read_revision(call, request);
	if (!resource_plan(service->resource, request, &plan)) {
		answer_problem(call->request, &plan.problem);
		plan_free(&plan);
		return;
	}
	switch (store_write(service->store, &plan)) {
	case STORE_DONE:
		resource_apply(service->resource, &plan);
		publish(service, &call->actor, &plan);
		answer_change(call, request->action, &plan);
		break;
	case STORE_RACED:
		refuse_call(call, 503, "try-again", NULL, NULL, "somebody else changed this meanwhile; nothing was written");
		break;
	case STORE_AWAY:
		refuse_call(call, 503, "database-away", NULL, NULL,
		            "the database does not answer; reads go on, nothing can be changed");
		break;
	}
	plan_free(&plan);
}

static void wipe_key(struct record *body)
{
	if (record_kind(body) == RESOURCE_VPN_TUNNEL && record_has(body, "ike.preSharedKey")) {
		const char *key = record_text(body, "ike.preSharedKey");
		wipe((char *)(uintptr_t)key, strlen(key));
	}
}

void api_change(const struct api_call *call, enum action action)
{
	struct request request = {.action = action};
	if (!parameters_fit(call, "")) {
		return;
	}
	bool with_body = action == ACTION_CREATE || action == ACTION_UPDATE || action == ACTION_ADD_TUNNELS;
	json_t *json = read_body(call, !with_body || action == ACTION_ADD_TUNNELS);
	if (!json) {
		return;
	}
	struct problem problem = {0};
	struct cleared cleared;
	struct record *body = NULL;
	if (with_body) {
		enum resource_kind kind = action == ACTION_ADD_TUNNELS ? RESOURCE_VPN_TUNNEL : call->kind;
		body = record_from_json(kind, json, &cleared, &problem);
		request.body = body;
		request.cleared = &cleared;
	} else if (!json_is_object(json) || json_object_size(json) > 0) {
		problem_set(&problem, 400, "unexpected-body", NULL, NULL, "this request has no body");
	}
	json_decref(json);
	if (problem.status) {
		answer_problem(call->request, &problem);
	} else {
		carry_out(call, &request);
	}
	if (body) {
		wipe_key(body);
		record_free(&body);
	}
}

void api_rekey(const struct api_call *call)
{
	if (!parameters_fit(call, "")) {
		return;
	}
	json_t *json = read_body(call, false);
	if (!json) {
		return;
	}
	const char *sa = json_string_value(json_object_get(json, "sa"));
	bool child = sa && strcmp(sa, "CHILD") == 0, ike = sa && strcmp(sa, "IKE") == 0;
	bool fits = (child || ike) && json_object_size(json) == 1;
	json_decref(json);
	if (!fits) {
		refuse_call(call, 422, "not-allowed", "sa", NULL, "the body is {\"sa\": \"CHILD\"} or {\"sa\": \"IKE\"}");
		return;
	}
	struct request request = {.action = child ? ACTION_REKEY_CHILD : ACTION_REKEY_IKE};
	carry_out(call, &request);
}
