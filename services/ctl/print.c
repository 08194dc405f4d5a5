// See print.h.
#include "services/ctl/print.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"

enum { COLUMNS_MAX = 16, GAP = 2 };

void print_json(const json_t *json)
{
	json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	printf("\n");
}

// Texts come from tenants: what would move a terminal's cursor is not printed. The C1 controls are two octets of UTF-8, C2 80
// to C2 9F.
static void remove_controls(char *text)
{
	for (unsigned char *at = (unsigned char *)text; *at; at++) {
		bool c1 = at[0] == 0xc2 && at[1] >= 0x80 && at[1] <= 0x9f;
		if (iscntrl(*at) || c1) {
			*at = '?';
			at[1] = c1 ? '?' : at[1];
		}
	}
}

// A value in one line: a list's items and an object's members side by side. To be freed.
static char *cell(const json_t *value)
{
	char *out = NULL;
	if (json_is_string(value)) {
		out = duplicate_text(json_string_value(value));
	} else if (json_is_array(value) || json_is_object(value)) {
		bool list = json_is_array(value);
		out = duplicate_text("");
		void *at = list ? NULL : json_object_iter((json_t *)(uintptr_t)value);
		for (size_t i = 0; list ? i < json_array_size(value) : at != NULL; i++) {
			char *item = cell(list ? json_array_get(value, i) : json_object_iter_value(at));
			char *longer = format_text("%s%s%s", out, i ? list ? ", " : " " : "", item);
			free(item);
			free(out);
			out = longer;
			at = list ? NULL : json_object_iter_next((json_t *)(uintptr_t)value, at);
		}
	} else {
		out = value && !json_is_null(value) ? json_dumps(value, JSON_ENCODE_ANY) : duplicate_text("");
	}
	remove_controls(out);
	return out;
}

// "vpcHostId" → "VPC HOST ID"
static char *heading(const char *name)
{
	char *out = allocate(2 * strlen(name) + 1);
	size_t length = 0;
	for (; *name; name++) {
		if (isupper((unsigned char)*name)) {
			out[length++] = ' ';
		}
		out[length++] = (char)toupper((unsigned char)*name);
	}
	return out;
}

// Characters on the screen, of UTF-8.
static size_t width_of(const char *text)
{
	size_t width = 0;
	for (; *text; text++) {
		width += ((unsigned char)*text & 0xc0) != 0x80;
	}
	return width;
}

static void print_row(char *const *cells, const size_t *widths, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		bool last = i + 1 == count;
		printf("%s%*s", cells[i], last ? 0 : (int)(widths[i] - width_of(cells[i]) + GAP), "");
	}
	printf("\n");
}

void print_table(const json_t *items, const char *const *columns, size_t column_count)
{
	size_t rows = json_array_size(items) + 1;
	char **cells = allocate_array(rows * column_count, sizeof *cells);
	size_t widths[COLUMNS_MAX] = {0};
	invariant(column_count <= COLUMNS_MAX);
	for (size_t row = 0; row < rows; row++) {
		for (size_t i = 0; i < column_count; i++) {
			char *text =
			    row == 0 ? heading(columns[i]) : cell(json_object_get(json_array_get(items, row - 1), columns[i]));
			cells[row * column_count + i] = text;
			widths[i] = width_of(text) > widths[i] ? width_of(text) : widths[i];
		}
	}
	for (size_t row = 0; row < rows; row++) {
		print_row(&cells[row * column_count], widths, column_count);
	}
	for (size_t i = 0; i < rows * column_count; i++) {
		free(cells[i]);
	}
	free(cells);
}

void print_list(enum resource_kind kind, const json_t *items)
{
	if (json_array_size(items) == 0) {
		printf("no %s\n", kind_rules[kind].plural);
		return;
	}
	char *columns = duplicate_text(kind_rules[kind].columns), *rest = columns;
	const char *names[COLUMNS_MAX];
	size_t count = 0;
	while (rest && count < COLUMNS_MAX) {
		names[count++] = strsep(&rest, ",");
	}
	print_table(items, names, count);
	free(columns);
}

// The members that any of the objects has and that are not empty, in the order of the first ones.
static size_t columns_of(const json_t *items, const char *columns[COLUMNS_MAX])
{
	size_t count = 0, index;
	json_t *item, *value;
	const char *name;
	json_array_foreach((json_t *)(uintptr_t)items, index, item)
	{
		json_object_foreach(item, name, value)
		{
			bool known = false;
			for (size_t i = 0; i < count && !known; i++) {
				known = strcmp(columns[i], name) == 0;
			}
			if (!known && count < COLUMNS_MAX) {
				columns[count++] = name;
			}
		}
	}
	return count;
}

// The value with "(weak)" after each choice that the rules call so. To be freed.
static char *marked(enum resource_kind kind, const char *path, const json_t *value)
{
	const struct field_rule *rule = field_rule_find(kind, path);
	if (!rule || !rule->weak) {
		return cell(value);
	}
	char *out = duplicate_text("");
	size_t count = json_is_array(value) ? json_array_size(value) : 1;
	for (size_t i = 0; i < count; i++) {
		char *item = cell(json_is_array(value) ? json_array_get(value, i) : value);
		char *longer = format_text("%s%s%s%s", out, i ? ", " : "", item, in_list(rule->weak, item) ? " (weak)" : "");
		free(item);
		free(out);
		out = longer;
	}
	return out;
}

static bool is_table(const json_t *value)
{
	return json_is_array(value) && json_is_object(json_array_get(value, 0));
}

// What fits a line each, or (`tables`) what does not.
static void print_members(enum resource_kind kind, const json_t *object, const char *prefix, bool tables)
{
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)object, name, value)
	{
		char *path = format_text("%s%s%s", prefix, *prefix ? "." : "", name);
		if (json_is_object(value)) {
			print_members(kind, value, path, tables);
		} else if (is_table(value) && tables) {
			const char *columns[COLUMNS_MAX];
			size_t count = columns_of(value, columns);
			printf("\n%s:\n", path);
			print_table(value, columns, count);
		} else if (!is_table(value) && !tables && !(json_is_array(value) && json_array_size(value) == 0)) {
			char *text = marked(kind, path, value);
			printf("%-28s %s\n", path, text);
			free(text);
		}
		free(path);
	}
}

void print_resource(enum resource_kind kind, const json_t *resource)
{
	print_members(kind, resource, "", false);
	print_members(kind, resource, "", true);
}
