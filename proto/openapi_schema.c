// See openapi_schema.h.
#include "proto/openapi_schema.h"

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

json_t *values_of_text(const char *values)
{
	return items_from(values, TYPE_TEXT);
}

static void add_text_form(json_t *schema, const struct field_rule *rule)
{
	const struct form_rule *form = &form_rules[rule->format];
	if (form->pattern) {
		json_object_set_new(schema, "pattern", json_string(form->pattern));
	}
	if (form->name) {
		json_object_set_new(schema, "format", json_string(form->name));
	}
	if (rule->format == FORMAT_ID) {
		char pattern[64];
		snprintf(pattern, sizeof pattern, "^%s-[a-z2-7]{10}$", kind_rules[rule->reference].id_prefix);
		json_object_set_new(schema, "pattern", json_string(pattern));
	}
	if (rule->format == FORMAT_LABEL) {
		json_object_set_new(schema, "maxLength", json_integer((json_int_t)rule->maximum));
	}
	if (rule->values) {
		json_object_set_new(schema, "enum", items_from(rule->values, TYPE_TEXT));
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

// null is back to the default.
static void allow_null(json_t *schema)
{
	json_t *type = json_object_get(schema, "type"), *values = json_object_get(schema, "enum");
	json_object_set_new(schema, "type", json_pack("[O, s]", type, "null"));
	if (values) {
		json_array_append_new(values, json_null());
	}
}

json_t *schema_of_filter(const struct field_rule *rule)
{
	const ProtobufCMessageDescriptor *descriptor = kind_rules[rule->kind].descriptor;
	const ProtobufCFieldDescriptor *field = field_by_json_name(descriptor, rule->path, strlen(rule->path));
	return schema_of_value(rule->kind, field, rule->path, rule, SHOWN);
}

// What every answer has: what must be given, what has a default, and what every resource has. A list is there when it is empty,
// but a route table's routes are in the answer to one resource alone.
static bool is_always_shown(const ProtobufCFieldDescriptor *field, const struct field_rule *rule, const char *path)
{
	if (!rule || strlen(rule->path) < strlen(path) || rule->flags & FIELD_SECRET) {
		return false;
	}
	return rule->fallback || rule->flags & FIELD_REQUIRED || in_list("id,region,createdAt,updatedAt,revision", path) ||
	       (field_is_list(field) && strcmp(path, "routes") != 0);
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
	if (purpose == UPDATING && !(rule->flags & (FIELD_OUTPUT | FIELD_IMMUTABLE | FIELD_REQUIRED | FIELD_SECRET))) {
		allow_null(schema);
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
		bool given = rule && rule->flags & FIELD_REQUIRED && (purpose == CREATING || (purpose == UPDATING && *path));
		if (given || (purpose == SHOWN && is_always_shown(&descriptor->fields[i], rule, place))) {
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

static json_t *problem_schema(void)
{
	static const char *const texts[] = {"type", "title", "detail", "field", "value", "rule"};
	json_t *properties = json_pack("{s:{s:s}}", "status", "type", "integer");
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		json_object_set_new(properties, texts[i], json_pack("{s:s}", "type", "string"));
	}
	return json_pack("{s:s, s:o}", "type", "object", "properties", properties);
}

static json_t *event_schema(void)
{
	json_t *properties = json_pack("{s:{s:s, s:[s, s]}, s:{s:s}}", "service", "type", "string", "enum", "ike", "bgp",
	                               "number", "type", "integer");
	json_t *required = json_pack("[s, s]", "service", "number");
	static const char *const texts[] = {"time", "event", "detail"};
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		json_object_set_new(properties, texts[i], json_pack("{s:s}", "type", "string"));
		json_array_append_new(required, json_string(texts[i]));
	}
	return json_pack("{s:s, s:o, s:o}", "type", "object", "properties", properties, "required", required);
}

// What went along with a deletion.
static json_t *deletion_schema(void)
{
	json_t *item =
	    json_pack("{s:s, s:{s:{s:s}, s:{s:s}, s:{s:s}}, s:[s, s, s]}", "type", "object", "properties", "kind", "type",
	              "string", "id", "type", "string", "what", "type", "string", "required", "kind", "id", "what");
	return json_pack("{s:s, s:{s:{s:s}, s:{s:s, s:o}}, s:[s, s]}", "type", "object", "properties", "id", "type", "string",
	                 "removed", "type", "array", "items", item, "required", "id", "removed");
}

json_t *schema_named(const char *prefix, const char *name)
{
	return json_pack("{s:o}", "$ref", json_sprintf("#/components/schemas/%s%s", prefix, name));
}

json_t *openapi_schemas(void)
{
	json_t *schemas = json_object();
	for (size_t i = 0; i < RESOURCE_KINDS; i++) {
		static const char *const prefixes[] = {[SHOWN] = "", [CREATING] = "New", [UPDATING] = "Changed"};
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
	const ProtobufCMessageDescriptor *table = kind_rules[RESOURCE_VPC_ROUTE_TABLE].descriptor;
	json_object_set_new(
	    schemas, "RouteView",
	    schema_of_message(RESOURCE_VPC_ROUTE_TABLE, field_by_json_name(table, "routes", 6)->descriptor, "routes", SHOWN));
	json_object_set_new(schemas, "TunnelEvent", event_schema());
	json_object_set_new(schemas, "Deletion", deletion_schema());
	json_object_set_new(schemas, "Problem", problem_schema());
	return schemas;
}
