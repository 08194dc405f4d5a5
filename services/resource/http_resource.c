// What changes below /v1: creation, update, deletion, actions. What is asked for is read here and carried out in http_change.c.
#include <ctype.h>
#include <string.h>
#include <strings.h>

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
static void read_revision(const struct api_call *call, struct wanted_change *wanted)
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
	wanted->has_revision = true;
	wanted->revision = 0;
	for (; text < end; text++) {
		if (!isdigit((unsigned char)*text) || wanted->revision > UINT32_MAX) {
			wanted->revision = 0;
			return;
		}
		wanted->revision = wanted->revision * 10 + (uint64_t)(*text - '0');
	}
}

void api_change(const struct api_call *call, enum action action)
{
	struct wanted_change wanted = {.action = action};
	if (!parameters_fit(call, "")) {
		return;
	}
	bool with_body = action == ACTION_CREATE || action == ACTION_UPDATE || action == ACTION_ADD_TUNNELS;
	json_t *json = read_body(call, !with_body || action == ACTION_ADD_TUNNELS);
	if (!json) {
		return;
	}
	struct problem problem = {0};
	if (with_body) {
		enum resource_kind kind = action == ACTION_ADD_TUNNELS ? RESOURCE_VPN_TUNNEL : call->kind;
		wanted.body = record_from_json(kind, json, &wanted.cleared, &problem);
	} else if (!json_is_object(json) || json_object_size(json) > 0) {
		problem_set(&problem, 400, "unexpected-body", NULL, NULL, "this request has no body");
	}
	json_decref(json);
	if (problem.status) {
		answer_problem(call->request, &problem);
		return;
	}
	read_revision(call, &wanted);
	change_begin(call, &wanted);
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
	struct wanted_change wanted = {.action = child ? ACTION_REKEY_CHILD : ACTION_REKEY_IKE};
	read_revision(call, &wanted);
	change_begin(call, &wanted);
}
