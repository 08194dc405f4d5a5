// See openapi.h. A schema per kind for what is shown, one for what creates it and one for what updates it; the paths are those
// of services/resource/http_api.c.
#include "proto/openapi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/field.h"

// ---- schemas ----
enum purpose { SHOWN, CREATING, UPDATING };

static json_t *number_from(const char *text, enum field_type type)
{
	if (type == TYPE_NUMBER) {
		return json_integer((json_int_t)strtoull(text, NULL, 10));
	}
	return type == TYPE_FLAG ? json_boolean(strcmp(text, "true") == 0) : json_string(text);
}

static json_t *items_from(const char *list, enum field_type type)
{
	json_t *items = json_array();
	char item[128];
	while (list && *list) {
		size_t length = strcspn(list, ",");
		snprintf(item, sizeof item, "%.*s", (int)length, list);
		json_array_append_new(items, number_from(item, type));
		list += length + (list[length] == ',');
	}
	return items;
}

static void add_text_form(json_t *schema, const struct field_rule *rule)
{
	switch (rule->format) {
	case FORMAT_PSK:
		json_object_set_new(schema, "pattern", json_string("^[A-Za-z1-9._][A-Za-z0-9._]{7,63}$"));
		break;
	case FORMAT_NODE_NAME:
		json_object_set_new(schema, "pattern", json_string("^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"));
		break;
	case FORMAT_UNICAST:
		json_object_set_new(schema, "format", json_string("ipv4"));
		break;
	case FORMAT_PREFIX:
	case FORMAT_INSIDE:
		json_object_set_new(schema, "pattern", json_string("^[0-9]+(\\.[0-9]+){3}/[0-9]+$"));
		break;
	case FORMAT_ID: {
		char pattern[64];
		snprintf(pattern, sizeof pattern, "^%s-[a-z2-7]{10}$", kind_rules[rule->reference].id_prefix);
		json_object_set_new(schema, "pattern", json_string(pattern));
		break;
	}
	case FORMAT_LABEL:
		json_object_set_new(schema, "maxLength", json_integer((json_int_t)rule->maximum));
		break;
	default:
		break;
	}
}

static json_t *enum_values(const ProtobufCFieldDescriptor *field, const struct field_rule *rule)
{
	const ProtobufCEnumDescriptor *descriptor = field->descriptor;
	json_t *values = json_array();
	for (unsigned i = 0; i < descriptor->n_values; i++) {
		const char *name = enum_json_name(descriptor, descriptor->values[i].value);
		if (!rule || !rule->values || in_list(rule->values, name)) {
			json_array_append_new(values, json_string(name));
		}
	}
	return values;
}

static json_t *schema_of_message(enum resource_kind kind, const ProtobufCMessageDescriptor *descriptor, const char *path,
                                 enum purpose purpose);

static json_t *schema_of_value(enum resource_kind kind, const ProtobufCFieldDescriptor *field, const char *path,
                               const struct field_rule *rule, enum purpose purpose)
{
	json_t *schema = json_object();
	switch (field_type(field)) {
	case TYPE_NUMBER:
		json_object_set_new(schema, "type", json_string("integer"));
		json_object_set_new(schema, "minimum", json_integer(rule ? (json_int_t)rule->minimum : 0));
		json_object_set_new(
		    schema, "maximum",
		    json_integer(rule && rule->maximum ? (json_int_t)rule->maximum : (json_int_t)field_largest(field)));
		if (rule && rule->values) {
			json_object_set_new(schema, "enum", items_from(rule->values, TYPE_NUMBER));
		}
		break;
	case TYPE_FLAG:
		json_object_set_new(schema, "type", json_string("boolean"));
		break;
	case TYPE_ENUM:
		json_object_set_new(schema, "type", json_string("string"));
		json_object_set_new(schema, "enum", enum_values(field, rule));
		break;
	case TYPE_MESSAGE:
		json_decref(schema);
		return schema_of_message(kind, field->descriptor, path, purpose);
	default:
		json_object_set_new(schema, "type", json_string("string"));
		if (rule) {
			add_text_form(schema, rule);
		}
		break;
	}
	return schema;
}

static json_t *schema_of_field(enum resource_kind kind, const ProtobufCFieldDescriptor *field, const char *path,
                               enum purpose purpose)
{
	const struct field_rule *rule = field_rule_find(kind, path);
	json_t *schema = schema_of_value(kind, field, path, rule, purpose);
	if (field_is_list(field)) {
		schema = json_pack("{s:s, s:o}", "type", "array", "items", schema);
		if (rule && rule->count_maximum && !(rule->flags & FIELD_OUTPUT)) {
			json_object_set_new(schema, "minItems", json_integer(rule->count_minimum));
			json_object_set_new(schema, "maxItems", json_integer(rule->count_maximum));
		}
	}
	if (!rule || strlen(rule->path) < strlen(path)) {
		return schema; // the rule of a message above says nothing of this field
	}
	json_object_set_new(schema, "description", json_string(rule->help));
	if (rule->fallback && purpose == CREATING) {
		json_object_set_new(schema, "default",
		                    field_is_list(field) ? items_from(rule->fallback, field_type(field))
		                                         : number_from(rule->fallback, field_type(field)));
	}
	if (rule->flags & FIELD_OUTPUT) {
		json_object_set_new(schema, "readOnly", json_true());
	}
	if (rule->flags & FIELD_SECRET && !(rule->flags & FIELD_OUTPUT)) {
		json_object_set_new(schema, "writeOnly", json_true());
	}
	if (rule->weak) {
		json_object_set_new(schema, "x-weak", items_from(rule->weak, field_type(field)));
	}
	if (rule->unavailable) {
		json_object_set_new(schema, "x-unavailable", items_from(rule->unavailable, field_type(field)));
	}
	return schema;
}

static bool belongs(const struct field_rule *rule, const char *path, enum purpose purpose)
{
	bool output = rule && rule->flags & FIELD_OUTPUT;
	if (purpose == SHOWN) {
		return true;
	}
	if (purpose == UPDATING && strcmp(path, "revision") == 0) {
		return true;
	}
	return !output && !(purpose == UPDATING && rule && rule->flags & FIELD_IMMUTABLE);
}

static json_t *schema_of_message(enum resource_kind kind, const ProtobufCMessageDescriptor *descriptor, const char *path,
                                 enum purpose purpose)
{
	json_t *properties = json_object(), *required = json_array();
	for (unsigned i = 0; i < descriptor->n_fields; i++) {
		char name[FIELD_NAME], place[160];
		field_json_name(descriptor->fields[i].name, name);
		snprintf(place, sizeof place, "%s%s%s", path, *path ? "." : "", name);
		const struct field_rule *rule = field_rule_find(kind, place);
		if (!belongs(rule, place, purpose)) {
			continue;
		}
		json_object_set_new(properties, name, schema_of_field(kind, &descriptor->fields[i], place, purpose));
		if (rule && rule->flags & FIELD_REQUIRED && (purpose == CREATING || *path)) {
			json_array_append_new(required, json_string(name));
		}
	}
	json_t *schema = json_pack("{s:s, s:o, s:b}", "type", "object", "properties", properties, "additionalProperties", 0);
	if (json_array_size(required) > 0) {
		json_object_set(schema, "required", required);
	}
	json_decref(required);
	return schema;
}

// ---- paths ----
static json_t *reference(const char *prefix, const char *name)
{
	return json_pack("{s:o}", "$ref", json_sprintf("#/components/schemas/%s%s", prefix, name));
}

static json_t *content(const char *type, json_t *schema)
{
	return json_pack("{s:{s:o}}", type, "schema", schema);
}

static json_t *operation(const char *id, const char *name, const char *summary, json_t *body, const char *status,
                         json_t *answer)
{
	json_t *responses = json_object();
	json_t *good = json_pack("{s:s}", "description", "Done");
	if (answer) {
		json_object_set_new(good, "content", content("application/json", answer));
	}
	json_object_set_new(responses, status, good);
	json_object_set_new(responses, "default",
	                    json_pack("{s:s, s:o}", "description", "A problem (RFC 9457)", "content",
	                              content("application/problem+json", reference("", "Problem"))));
	json_t *json = json_pack("{s:o, s:s, s:o}", "operationId", json_sprintf("%s%s", id, name), "summary", summary,
	                         "responses", responses);
	if (body) {
		json_object_set_new(json, "requestBody",
		                    json_pack("{s:b, s:o}", "required", 1, "content", content("application/json", body)));
	}
	return json;
}

static json_t *list_of(json_t *item)
{
	return json_pack("{s:s, s:{s:{s:s, s:o}}, s:[s]}", "type", "object", "properties", "items", "type", "array", "items",
	                 item, "required", "items");
}

static json_t *parameter(const char *name, const char *in, bool required, const char *description)
{
	return json_pack("{s:s, s:s, s:b, s:{s:s}, s:s}", "name", name, "in", in, "required", required, "schema", "type",
	                 "string", "description", description);
}

static void add_kind(json_t *paths, const struct kind_rule *kind)
{
	char path[128];
	snprintf(path, sizeof path, "/v1/%s", kind->plural);
	json_object_set_new(
	    paths, path,
	    json_pack("{s:o, s:o}", "get",
	              operation("list", kind->message, kind->help, NULL, "200", list_of(reference("", kind->message))), "post",
	              operation("create", kind->message, kind->help, reference("New", kind->message), "201",
	                        reference("", kind->message))));
	json_t *update = operation("update", kind->message, "Fields that are left out stay; null is back to the default",
	                           reference("Changed", kind->message), "200", reference("", kind->message));
	json_object_set_new(update, "parameters",
	                    json_pack("[o]", parameter("If-Match", "header", false,
	                                               "The revision that the update is based on, unless the body has it")));
	snprintf(path, sizeof path, "/v1/%s/{id}", kind->plural);
	json_object_set_new(
	    paths, path,
	    json_pack("{s:[o], s:o, s:o, s:o}", "parameters", parameter("id", "path", true, "The resource's id"), "get",
	              operation("show", kind->message, kind->help, NULL, "200", reference("", kind->message)), "patch", update,
	              "delete", operation("delete", kind->message, "Deletes it", NULL, "204", NULL)));
}

static void add_below(json_t *paths, const char *path, const char *method, json_t *action)
{
	json_object_set_new(
	    paths, path,
	    json_pack("{s:[o], s:o}", "parameters", parameter("id", "path", true, "The resource's id"), method, action));
}

static void add_actions(json_t *paths)
{
	add_below(paths, "/v1/vpn-connections/{id}/tunnels", "post",
	          operation("add", "Tunnels",
	                    "The first time the layout for high availability; later, or with both ends named, one tunnel",
	                    reference("New", "VpnTunnelTemplate"), "201", list_of(reference("", "VpnTunnel"))));
	json_t *sa = json_pack("{s:s, s:{s:{s:s, s:[s, s]}}, s:[s]}", "type", "object", "properties", "sa", "type", "string",
	                       "enum", "CHILD", "IKE", "required", "sa");
	add_below(paths, "/v1/vpn-tunnels/{id}/rekey", "post",
	          operation("rekey", "VpnTunnel", "Rekeys the child or the IKE SA now", sa, "200", reference("", "VpnTunnel")));
	add_below(paths, "/v1/vpn-tunnels/{id}/restart", "post",
	          operation("restart", "VpnTunnel", "Closes the tunnel and negotiates anew", NULL, "200",
	                    reference("", "VpnTunnel")));
	json_t *event =
	    json_pack("{s:s, s:{s:{s:s}, s:{s:s}, s:{s:s}, s:{s:s}}}", "type", "object", "properties", "number", "type",
	              "integer", "time", "type", "string", "event", "type", "string", "detail", "type", "string");
	add_below(
	    paths, "/v1/vpn-tunnels/{id}/events", "get",
	    operation("list", "VpnTunnelEvents", "The last events of the tunnel, oldest first", NULL, "200", list_of(event)));
	json_t *configuration = operation("show", "VpnTunnelConfiguration",
	                                  "Configuration of the customer's device, without the key", NULL, "200", NULL);
	json_object_set_new(configuration, "parameters",
	                    json_pack("[o]", parameter("vendor", "query", true, "strongswan-bird")));
	json_object_set_new(json_object_get(json_object_get(configuration, "responses"), "200"), "content",
	                    content("text/plain", json_pack("{s:s}", "type", "string")));
	add_below(paths, "/v1/vpn-tunnels/{id}/configuration", "get", configuration);
}

static json_t *problem_schema(void)
{
	static const char *const texts[] = {"type", "title", "detail", "field", "value", "rule"};
	json_t *properties = json_pack("{s:{s:s}}", "status", "type", "integer");
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		json_object_set_new(properties, texts[i], json_pack("{s:s}", "type", "string"));
	}
	return json_pack("{s:s, s:o}", "type", "object", "properties", properties);
}

json_t *openapi_document(void)
{
	json_t *paths = json_object(), *schemas = json_object();
	for (size_t i = 0; i < RESOURCE_KINDS; i++) {
		static const char *const prefixes[] = {[SHOWN] = "", [CREATING] = "New", [UPDATING] = "Changed"};
		add_kind(paths, &kind_rules[i]);
		for (size_t purpose = SHOWN; purpose <= UPDATING; purpose++) {
			char name[64];
			snprintf(name, sizeof name, "%s%s", prefixes[purpose], kind_rules[i].message);
			json_object_set_new(
			    schemas, name,
			    schema_of_message((enum resource_kind)i, kind_rules[i].descriptor, "", (enum purpose)purpose));
		}
	}
	json_t *template = json_deep_copy(json_object_get(schemas, "NewVpnTunnel"));
	json_object_del(template, "required"); // the connection is the path's, the ends may be left to the layout
	json_object_set_new(schemas, "NewVpnTunnelTemplate", template);
	json_object_set_new(schemas, "Problem", problem_schema());
	add_actions(paths);
	return json_pack("{s:s, s:{s:s, s:s, s:{s:s, s:s}}, s:o, s:{s:o, s:{s:{s:s, s:s}}}, s:[{s:[]}]}", "openapi", "3.1.0",
	                 "info", "title", "Twinspan", "version", "1", "license", "name", "Apache-2.0", "identifier",
	                 "Apache-2.0", "paths", paths, "components", "schemas", schemas, "securitySchemes", "token", "type",
	                 "http", "scheme", "bearer", "security", "token");
}
