// See check.h.
#include "services/resource/check.h"

#include <stdio.h>
#include <string.h>

#include "services/resource/format.h"

// A rule of a field inside a list of messages ("propagations.ranges") is applied to each item of the list: this splits it at
// the list.
struct nested {
	bool inside;
	char list[64];
	const char *field;
};

static struct nested nested_of(const struct field_rule *rule)
{
	struct nested nested = {0};
	for (const char *dot = strchr(rule->path, '.'); dot; dot = strchr(dot + 1, '.')) {
		snprintf(nested.list, sizeof nested.list, "%.*s", (int)(dot - rule->path), rule->path);
		if (field_shape_of(rule->kind, nested.list).list) {
			nested.inside = true;
			nested.field = dot + 1;
			break;
		}
	}
	return nested;
}

static bool same_value(const struct record *a, const struct record *b, const char *path)
{
	size_t count = record_count(a, path);
	if (count != record_count(b, path)) {
		return false;
	}
	for (size_t i = 0; i < count; i++) {
		if (strcmp(record_text_at(a, path, i), record_text_at(b, path, i)) != 0) {
			return false;
		}
	}
	return true;
}

bool check_given(struct draft *draft, const struct record *body, const struct record *before)
{
	const struct actor *actor = &draft->request->actor;
	size_t count;
	const struct field_rule *rules = field_rules_of(record_kind(body), &count);
	for (size_t i = 0; i < count; i++) {
		const struct field_rule *rule = &rules[i];
		struct nested nested = nested_of(rule);
		if (nested.inside || !record_has(body, rule->path)) {
			continue;
		}
		bool lock = strcmp(rule->path, "revision") == 0 && before;
		if (rule->flags & FIELD_OUTPUT && !lock) {
			return refuse(draft, 422, "output-field", rule->path, NULL, "is an output and cannot be set");
		}
		if (rule->flags & FIELD_REGION_ACTOR && actor->tenant[0] && !record_is(body, rule->path, actor->tenant)) {
			return refuse(draft, 422, "foreign-tenant", rule->path, record_text(body, rule->path),
			              "must be the token's own tenant");
		}
		// All immutable fields are single texts or enums.
		if (rule->flags & FIELD_IMMUTABLE && before && !same_value(body, before, rule->path)) {
			return refuse(draft, 422, "immutable-field", rule->path, record_text(body, rule->path),
			              "cannot be changed");
		}
	}
	return true;
}

bool apply_cleared(struct draft *draft, const struct cleared *cleared, struct record *row)
{
	for (size_t i = 0; cleared && i < cleared->count; i++) {
		const char *path = cleared->fields[i].path;
		const struct field_rule *rule = field_rule_find(record_kind(row), path);
		bool update = draft->request->action == ACTION_UPDATE;
		if (!rule) {
			if (update) {
				return refuse(draft, 422, "not-clearable", path, NULL,
				              "is not a field that can be cleared; name its fields");
			}
			continue;
		}
		if (rule->flags & FIELD_OUTPUT) {
			return refuse(draft, 422, "output-field", path, NULL, "is an output and cannot be set");
		}
		if (cleared->fields[i].empty_list && rule->count_minimum > 0) {
			return refuse(draft, 422, "count", path, "[]", "must have %u to %u items", rule->count_minimum,
			              rule->count_maximum);
		}
		if (!update || strchr(path, '[')) {
			continue; // absent in what is new: nothing to take back
		}
		if (rule->flags & (FIELD_IMMUTABLE | FIELD_REQUIRED | FIELD_SECRET)) {
			return refuse(draft, 422, "not-clearable", path, NULL, "cannot be cleared");
		}
		record_clear(row, path);
	}
	return true;
}

// Refuses a missing required field, except without a draft.
static bool fill_field(struct draft *draft, const struct field_rule *rule, struct record *holder, const char *path,
                       const char *place)
{
	if (record_has(holder, path)) {
		return true;
	}
	if (rule->flags & FIELD_REQUIRED && draft) {
		return refuse(draft, 422, "required-field", place, NULL, "is required: %s", rule->help);
	}
	if (rule->fallback) {
		record_set_from_text(holder, path, rule->fallback);
	}
	return true;
}

bool fill_defaults(struct draft *draft, struct record *row)
{
	size_t count;
	const struct field_rule *rules = field_rules_of(record_kind(row), &count);
	for (size_t i = 0; i < count; i++) {
		struct nested nested = nested_of(&rules[i]);
		if (!nested.inside) {
			if (!fill_field(draft, &rules[i], row, rules[i].path, rules[i].path)) {
				return false;
			}
			continue;
		}
		for (size_t item = 0, items = record_count(row, nested.list); item < items; item++) {
			char place[PROBLEM_FIELD];
			snprintf(place, sizeof place, "%s[%zu].%s", nested.list, item, nested.field);
			if (!fill_field(draft, &rules[i], record_item(row, nested.list, item), nested.field, place)) {
				return false;
			}
		}
	}
	return true;
}

void fill_missing(struct record *row)
{
	fill_defaults(NULL, row);
}

// ---- values ----
struct check {
	struct draft *draft;
	const struct record *row;
	const struct field_rule *rule;
};

static bool check_reference(const struct check *check, const struct record_value *value)
{
	const struct record *found = draft_find(check->draft, check->rule->reference, value->text);
	// A row of another tenant is as good as none, and the answer is the same.
	if (found && record_is(found, "tenant", record_text(check->row, "tenant"))) {
		return true;
	}
	return refuse(check->draft, 422, "unknown-reference", value->place, value->text, "there is no such %s",
	              kind_rules[check->rule->reference].singular);
}

static bool check_number(const struct check *check, const struct record_value *value, const char *number)
{
	const struct field_rule *rule = check->rule;
	if (rule->values && !in_list(rule->values, number)) {
		return refuse(check->draft, 422, "not-allowed", value->place, number, "must be one of %s", rule->values);
	}
	bool bounded = rule->minimum || rule->maximum;
	if (bounded && (value->number < rule->minimum || value->number > rule->maximum)) {
		return refuse(check->draft, 422, "out-of-range", value->place, number, "must be %llu to %llu",
		              (unsigned long long)rule->minimum, (unsigned long long)rule->maximum);
	}
	if (rule->format == FORMAT_ASN && !asn_allowed(value->number)) {
		return refuse(check->draft, 422, "out-of-range", value->place, number,
		              "must be an AS number that may be used (not 0, 23456, 65535, 4294967295)");
	}
	return true;
}

static bool check_value(void *context, const struct record_value *value)
{
	const struct check *check = context;
	const struct field_rule *rule = check->rule;
	char number[24];
	snprintf(number, sizeof number, "%llu", (unsigned long long)value->number);
	const char *text = value->text ? value->text : number;
	if (in_list(rule->unavailable, text)) {
		return refuse(check->draft, 422, "not-available", value->place, text, "%s is not available yet", text);
	}
	if (!value->text) {
		return check_number(check, value, number);
	}
	if (rule->values && !in_list(rule->values, text)) {
		return refuse(check->draft, 422, "not-allowed", value->place, text, "must be one of %s", rule->values);
	}
	if (rule->format == FORMAT_ID) {
		return check_reference(check, value);
	}
	const char *broken = value->is_text ? format_check(rule, text) : NULL;
	if (broken) {
		return refuse(check->draft, 422, "bad-value", value->place, rule->flags & FIELD_SECRET ? NULL : text,
		              "must be %s", broken);
	}
	return true;
}

// No item of a list of plain values may come twice.
static bool check_list(struct draft *draft, const struct record *holder, const struct field_rule *rule, const char *path,
                       const char *place)
{
	struct field_shape shape = field_shape_of(rule->kind, rule->path);
	size_t count = record_count(holder, path);
	if (!shape.list || count == 0) {
		return true;
	}
	if (count < rule->count_minimum || count > rule->count_maximum) {
		char number[32];
		snprintf(number, sizeof number, "%zu items", count);
		return refuse(draft, 422, "count", place, number, "must have %u to %u items", rule->count_minimum,
		              rule->count_maximum);
	}
	for (size_t i = 1; i < count && shape.type != TYPE_MESSAGE; i++) {
		for (size_t j = 0; j < i; j++) {
			bool same = shape.type == TYPE_NUMBER
			                ? record_number_at(holder, path, i) == record_number_at(holder, path, j)
			                : strcmp(record_text_at(holder, path, i), record_text_at(holder, path, j)) == 0;
			if (same) {
				char twice[PROBLEM_FIELD + 24];
				snprintf(twice, sizeof twice, "%s[%zu]", place, i);
				return refuse(draft, 422, "duplicate", twice,
				              shape.type == TYPE_NUMBER ? NULL : record_text_at(holder, path, i),
				              "must not come twice");
			}
		}
	}
	return true;
}

static bool check_rule(struct draft *draft, const struct record *row, const struct field_rule *rule)
{
	struct nested nested = nested_of(rule);
	if (!nested.inside) {
		return check_list(draft, row, rule, rule->path, rule->path);
	}
	for (size_t item = 0, items = record_count(row, nested.list); item < items; item++) {
		char place[PROBLEM_FIELD];
		snprintf(place, sizeof place, "%s[%zu].%s", nested.list, item, nested.field);
		if (!check_list(draft, record_at(row, nested.list, item), rule, nested.field, place)) {
			return false;
		}
	}
	return true;
}

bool check_values(struct draft *draft, const struct record *row)
{
	size_t count;
	const struct field_rule *rules = field_rules_of(record_kind(row), &count);
	for (size_t i = 0; i < count; i++) {
		if (rules[i].flags & FIELD_OUTPUT) {
			continue;
		}
		struct check check = {draft, row, &rules[i]};
		if (!check_rule(draft, row, &rules[i]) || !record_walk(row, rules[i].path, check_value, &check)) {
			return false;
		}
	}
	return true;
}

// ---- weak choices ----
struct weak {
	struct record *row;
	const struct field_rule *rule;
};

static bool note_weak(void *context, const struct record_value *value)
{
	const struct weak *weak = context;
	char number[24];
	snprintf(number, sizeof number, "%llu", (unsigned long long)value->number);
	const char *text = value->text ? value->text : number;
	if (in_list(weak->rule->weak, text)) {
		char note[96];
		snprintf(note, sizeof note, "%s %s", weak->rule->path, text);
		record_append_text(weak->row, "weak", note);
	}
	return true;
}

void list_weak(struct record *row)
{
	size_t count;
	const struct field_rule *rules = field_rules_of(record_kind(row), &count);
	for (size_t i = 0; i < count; i++) {
		if (rules[i].weak) {
			record_walk(row, rules[i].path, note_weak, &(struct weak){row, &rules[i]});
		}
	}
}
