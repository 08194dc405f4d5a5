// See openapi.h. The paths and operations; the schemas they name are openapi_schema.c's. All of it comes from the tables of
// resource_rules.h: kinds, fields, actions.
#include "proto/openapi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/openapi_schema.h"

static json_t *content(const char *type, json_t *schema)
{
	return json_pack("{s:{s:o}}", type, "schema", schema);
}

// ---- answers ----
// The statuses, separated by commas, each a problem document.
static void add_problems(json_t *responses, const char *statuses)
{
	while (*statuses) {
		char status[8];
		size_t length = strcspn(statuses, ",");
		snprintf(status, sizeof status, "%.*s", (int)length, statuses);
		json_object_set_new(responses, status, json_pack("{s:s}", "$ref", "#/components/responses/Problem"));
		statuses += length + (statuses[length] == ',');
	}
}

static json_t *done(json_t *answer, const char *type)
{
	json_t *good = json_pack("{s:s}", "description", "Done");
	if (answer) {
		json_object_set_new(good, "content", content(type, answer));
	}
	return good;
}

static json_t *operation(const char *id, const char *name, const char *summary, const char *status, json_t *answer,
                         const char *problems)
{
	json_t *responses = json_object();
	json_object_set_new(responses, status, done(answer, "application/json"));
	add_problems(responses, problems);
	return json_pack("{s:o, s:s, s:[], s:o}", "operationId", json_sprintf("%s%s", id, name), "summary", summary,
	                 "parameters", "responses", responses);
}

static void add_body(json_t *operation_json, json_t *body, bool required)
{
	json_object_set_new(operation_json, "requestBody",
	                    json_pack("{s:b, s:o}", "required", required, "content", content("application/json", body)));
}

static json_t *list_of(json_t *item, bool paged)
{
	json_t *schema = json_pack("{s:s, s:{s:{s:s, s:o}}, s:[s]}", "type", "object", "properties", "items", "type", "array",
	                           "items", item, "required", "items");
	if (paged) {
		json_object_set_new(json_object_get(schema, "properties"), "nextCursor",
		                    json_pack("{s:s, s:s}", "type", "string", "description",
		                              "The `cursor` of the next page. Absent: this was the last one. A page may be "
		                              "short and have a next one"));
	}
	return schema;
}

// ---- parameters ----
static void add_parameter(json_t *operation_json, const char *name, const char *in, bool required, json_t *schema,
                          const char *description)
{
	json_array_append_new(json_object_get(operation_json, "parameters"),
	                      json_pack("{s:s, s:s, s:b, s:o, s:s}", "name", name, "in", in, "required", required, "schema",
	                                schema, "description", description));
}

static json_t *text_schema(void)
{
	return json_pack("{s:s}", "type", "string");
}

static void add_pages(json_t *operation_json)
{
	add_parameter(operation_json, "limit", "query", false,
	              json_pack("{s:s, s:i, s:i, s:i}", "type", "integer", "minimum", 1, "maximum", PAGE_MAXIMUM, "default",
	                        PAGE_DEFAULT),
	              "How many items a page has at most");
	add_parameter(operation_json, "cursor", "query", false, text_schema(), "The nextCursor of the page before");
}

static void add_filters(json_t *operation_json, enum resource_kind kind)
{
	size_t count;
	const struct field_rule *rules = field_rules_of(kind, &count);
	for (size_t i = 0; i < count; i++) {
		if (field_can_filter(&rules[i])) {
			add_parameter(operation_json, rules[i].path, "query", false, schema_of_filter(&rules[i]),
			              "Only those that have this value; of a list: in it");
		}
	}
}

static json_t *id_parameter(void)
{
	return json_pack("{s:s, s:s, s:b, s:o, s:s}", "name", "id", "in", "path", "required", 1, "schema", text_schema(),
	                 "description", "The resource's id");
}

// ---- what every kind has ----
static void add_kind(json_t *paths, enum resource_kind kind)
{
	const struct kind_rule *rule = &kind_rules[kind];
	char path[128];
	json_t *list = operation("list", rule->message, rule->help, "200", list_of(schema_named("", rule->message), true),
	                         "400,401,403,503");
	add_pages(list);
	add_filters(list, kind);
	json_t *create = operation("create", rule->message, rule->help, "201", schema_named("", rule->message),
	                           "400,401,403,409,413,415,422,503");
	add_body(create, schema_named("New", rule->message), true);
	snprintf(path, sizeof path, "/v1/%s", rule->plural);
	json_object_set_new(paths, path, json_pack("{s:o, s:o}", "get", list, "post", create));

	json_t *show =
	    operation("show", rule->message, rule->help, "200", schema_named("", rule->message), "400,401,403,404,503");
	json_t *update = operation("update", rule->message, "Fields that are left out stay; null is back to the default", "200",
	                           schema_named("", rule->message), "400,401,403,404,409,412,413,415,422,428,503");
	add_body(update, schema_named("Changed", rule->message), true);
	add_parameter(update, "If-Match", "header", false, text_schema(),
	              "The revision that the update is based on, unless the body has it");
	json_t *removal = operation("delete", rule->message, "Deletes it", "204", NULL, "400,401,403,404,409,412,503");
	add_parameter(removal, "If-Match", "header", false, text_schema(), "The revision that was seen");
	json_object_set_new(json_object_get(removal, "responses"), "200",
	                    done(schema_named("", "Deletion"), "application/json"));
	snprintf(path, sizeof path, "/v1/%s/{id}", rule->plural);
	json_object_set_new(
	    paths, path,
	    json_pack("{s:[o], s:o, s:o, s:o}", "parameters", id_parameter(), "get", show, "patch", update, "delete", removal));
}

// ---- actions ----
static json_t *answer_schema(const struct action_rule *rule)
{
	return rule->answer == ANSWER_ITEM    ? schema_named("", rule->item)
	       : rule->answer == ANSWER_ITEMS ? list_of(schema_named("", rule->item), rule->paged)
	                                      : NULL;
}

static json_t *values_schema(const char *values)
{
	json_t *schema = text_schema();
	if (values) {
		json_object_set_new(schema, "enum", values_of_text(values));
	}
	return schema;
}

static void add_action_parameters(json_t *action, const struct action_rule *rule)
{
	const char *at = rule->parameters;
	for (size_t i = 0; at && *at; i++) {
		char name[32];
		size_t length = strcspn(at, ",");
		snprintf(name, sizeof name, "%.*s", (int)length, at);
		add_parameter(action, name, "query", i == 0 && rule->required, values_schema(i == 0 ? rule->values : NULL),
		              rule->help);
		at += length + (at[length] == ',');
	}
	if (rule->paged) {
		add_pages(action);
	}
}

static void add_action(json_t *paths, const struct action_rule *rule)
{
	bool post = strcmp(rule->method, "POST") == 0;
	json_t *action = operation(rule->operation, "", rule->help, rule->body ? "201" : "200", answer_schema(rule),
	                           post ? "400,401,403,404,409,412,413,415,422,503" : "400,401,403,404,422,503");
	if (rule->answer == ANSWER_TEXT) {
		json_object_set_new(json_object_get(action, "responses"), "200", done(text_schema(), "text/plain"));
	}
	if (post) {
		add_parameter(action, "If-Match", "header", false, text_schema(), "The revision that was seen");
	}
	if (rule->body) {
		add_body(action, schema_named("", rule->body), false);
	} else if (post && rule->parameters) {
		add_body(action,
		         json_pack("{s:s, s:{s:o}, s:[s], s:b}", "type", "object", "properties", rule->parameters,
		                   values_schema(rule->values), "required", rule->parameters, "additionalProperties", 0),
		         true);
	} else if (!post) {
		add_action_parameters(action, rule);
	}
	char path[128], method[8];
	snprintf(path, sizeof path, "/v1/%s/{id}/%s", kind_rules[rule->kind].plural, rule->name);
	snprintf(method, sizeof method, "%s", post ? "post" : "get");
	json_object_set_new(paths, path, json_pack("{s:[o], s:o}", "parameters", id_parameter(), method, action));
}

json_t *openapi_document(void)
{
	json_t *paths = json_object();
	for (size_t kind = 0; kind < RESOURCE_KINDS; kind++) {
		add_kind(paths, (enum resource_kind)kind);
	}
	for (size_t i = 0; i < ACTION_RULES; i++) {
		add_action(paths, &action_rules[i]);
	}
	json_t *problem = json_pack("{s:s, s:o}", "description", "A problem (RFC 9457): what, why, what to do", "content",
	                            content("application/problem+json", schema_named("", "Problem")));
	json_t *components = json_pack("{s:o, s:{s:o}, s:{s:{s:s, s:s}}}", "schemas", openapi_schemas(), "responses", "Problem",
	                               problem, "securitySchemes", "token", "type", "http", "scheme", "bearer");
	json_t *info = json_pack("{s:s, s:s, s:{s:s, s:s}}", "title", "Twinspan", "version", "1", "license", "name",
	                         "Apache-2.0", "identifier", "Apache-2.0");
	return json_pack("{s:s, s:o, s:[{s:s, s:s}], s:o, s:o, s:[{s:[]}]}", "openapi", "3.1.0", "info", info, "servers", "url",
	                 "/", "description", "The address that this document came from", "paths", paths, "components",
	                 components, "security", "token");
}
