// Lists of rows in pages: which index is walked, what a filter means, where a page ends.
#include <stdio.h>
#include <string.h>

#include "common/base/hex.h"
#include "common/base/invariant.h"
#include "services/resource/cursor.h"
#include "services/resource/store.h"

// ---- cursors ----
void cursor_write(char out[static CURSOR_TEXT], struct bytes octets)
{
	invariant(octets.length <= CURSOR_OCTETS);
	hex_format(octets, out);
}

bool cursor_read(const char *text, uint8_t out[static CURSOR_OCTETS], size_t *length, struct problem *problem)
{
	ptrdiff_t octets = hex_parse(text, out, CURSOR_OCTETS);
	*length = octets > 0 ? (size_t)octets : 0;
	return octets > 0 || problem_set(problem, 400, "bad-cursor", "cursor", NULL,
	                                 "must be the nextCursor of the page before: begin without one");
}

// A row's place, as a cursor: when it was made, and its id. The id alone would not do once the row is gone.
static void write_place(char out[static CURSOR_TEXT], const struct record *row)
{
	char text[160];
	int length = snprintf(text, sizeof text, "%.40s %.100s", record_text(row, "createdAt"), record_text(row, "id"));
	cursor_write(out, (struct bytes){(const uint8_t *)text, (size_t)length});
}

static bool read_place(const struct resource *resource, enum resource_kind kind, const char *text, struct index_cursor *at,
                       struct problem *problem)
{
	uint8_t octets[CURSOR_OCTETS + 1];
	size_t length;
	if (!cursor_read(text, octets, &length, problem)) {
		return false;
	}
	octets[length] = '\0';
	char *created = (char *)octets, *id = strchr(created, ' ');
	if (!id) {
		return problem_set(problem, 400, "bad-cursor", "cursor", NULL, "is of another list: begin without one");
	}
	*id++ = '\0';
	const struct row *row = row_find(resource, kind, id);
	// Where the row is gone its millisecond begins again: a row may come twice then, and none is left out.
	at->started = row != NULL;
	at->place = row ? index_place_of(row->record, row->order) : index_place_at(created);
	return true;
}

// ---- filters ----
static bool is_value_of(const struct field_rule *rule, const struct field_shape *shape, const char *value)
{
	if (rule->values) {
		return in_list(rule->values, value);
	}
	bool found = shape->type != TYPE_ENUM;
	for (size_t i = 0; !found && i < shape->value_count; i++) {
		found = strcmp(shape->values[i], value) == 0;
	}
	return found;
}

static void join_values(const struct field_rule *rule, const struct field_shape *shape, char *out, size_t capacity)
{
	size_t n = (size_t)snprintf(out, capacity, "%s", rule->values ? rule->values : "");
	for (size_t i = 0; !rule->values && i < shape->value_count && n < capacity; i++) {
		n += (size_t)snprintf(out + n, capacity - n, "%s%s", i ? "," : "", shape->values[i]);
	}
}

bool list_filter_fits(enum resource_kind kind, const struct list_filter *filter, struct problem *problem)
{
	struct field_shape shape = field_shape_of(kind, filter->path);
	const struct field_rule *rule = shape.type == TYPE_NONE ? NULL : field_rule_find(kind, filter->path);
	const char *value = filter->value;
	char names[160];
	if (!rule || !field_can_filter(rule)) {
		return problem_set(problem, 400, "unknown-parameter", filter->path, NULL,
		                   "there is no such query parameter here; /openapi.json lists those there are");
	}
	if (shape.type == TYPE_NUMBER) {
		return (*value && !value[strspn(value, "0123456789")]) ||
		       problem_set(problem, 400, "wrong-type", filter->path, value, "must be a whole number");
	}
	if (shape.type == TYPE_FLAG) {
		return in_list("true,false", value) ||
		       problem_set(problem, 400, "wrong-type", filter->path, value, "must be true or false");
	}
	if (!is_value_of(rule, &shape, value)) {
		join_values(rule, &shape, names, sizeof names);
		return problem_set(problem, 400, "wrong-type", filter->path, value, "must be one of %s", names);
	}
	return true;
}

struct comparison {
	const char *value;
	bool flag, equal;
};

static bool compare_value(void *context, const struct record_value *value)
{
	struct comparison *comparison = context;
	char number[24];
	snprintf(number, sizeof number, "%llu", (unsigned long long)value->number);
	const char *text = value->text ? value->text : comparison->flag ? value->number ? "true" : "false" : number;
	comparison->equal = strcmp(text, comparison->value) == 0;
	return !comparison->equal;
}

// Whether the field, or an item of the list, is the value; what is absent is "".
static bool row_is(const struct record *row, const struct list_filter *filter)
{
	struct comparison comparison = {.value = filter->value,
	                                .flag = field_shape_of(record_kind(row), filter->path).type == TYPE_FLAG};
	record_walk(row, filter->path, compare_value, &comparison);
	return comparison.equal || (!*filter->value && !record_has(row, filter->path));
}

static bool same(const char *a, const char *b)
{
	return strcmp(a ? a : "", b) == 0;
}

// What is shown and not stored. What is asked for most costs no copy of the row.
static bool shown_is(const struct resource *resource, const struct record *row, const struct list_filter *filter)
{
	enum resource_kind kind = record_kind(row);
	if (kind == RESOURCE_VPN_CONNECTION && strcmp(filter->path, "haStatus") == 0) {
		return same(ha_status(resource, row), filter->value);
	}
	if (kind == RESOURCE_VPN_TUNNEL && in_list("runningStatus,bgpState", filter->path)) {
		struct tunnel_view view;
		tunnel_view(resource, row, &view);
		return same(strcmp(filter->path, "bgpState") == 0 ? view.bgp : view.running, filter->value);
	}
	struct record *shown = resource_show(resource, row, false);
	bool is = row_is(shown, filter);
	record_free(&shown);
	return is;
}

// Stored fields first: they cost less.
static bool passes(const struct resource *resource, const struct list_query *query, const struct record *row)
{
	for (int runtime = 0; runtime < 2; runtime++) {
		for (size_t i = 0; i < query->filter_count; i++) {
			const struct list_filter *filter = &query->filters[i];
			bool shown = field_rule_find(query->kind, filter->path)->flags & FIELD_RUNTIME;
			if (shown == (runtime != 0) && !(shown ? shown_is(resource, row, filter) : row_is(row, filter))) {
				return false;
			}
		}
	}
	return true;
}

// ---- lists ----
// The narrowest set of rows that holds all that is asked for: by a filter, else the tenant's, else all of the kind.
static struct index_key key_of(const struct list_query *query)
{
	struct index_key key = {query->kind, "", ""};
	if (query->actor->tenant[0] && is_indexed(query->kind, "tenant")) {
		key.path = "tenant";
		key.text = query->actor->tenant;
	}
	for (size_t i = 0; i < query->filter_count; i++) {
		const char *path = query->filters[i].path;
		if (is_indexed(query->kind, path) && (strcmp(path, "tenant") != 0 || !*key.path)) {
			key.path = path;
			key.text = query->filters[i].value;
		}
	}
	return key;
}

bool resource_list(const struct resource *resource, const struct list_query *query, struct page *page, list_fn *visit,
                   void *context, struct problem *problem)
{
	invariant(page->limit > 0 && query->filter_count <= LIST_FILTERS);
	struct index_key key = key_of(query);
	struct index_cursor at = {0};
	page->next[0] = '\0';
	if (page->cursor && !read_place(resource, query->kind, page->cursor, &at, problem)) {
		return false;
	}
	const struct record *last = NULL;
	size_t shown = 0, examined = 0;
	while (index_next(resource->index, key, &at)) {
		if (shown == page->limit || examined == LIST_EXAMINED) {
			write_place(page->next, last);
			break;
		}
		last = at.row;
		examined++;
		if (resource_visible(query->actor, at.row) && passes(resource, query, at.row)) {
			visit(context, at.row);
			shown++;
		}
	}
	invariant(shown <= page->limit && examined <= LIST_EXAMINED);
	return true;
}
