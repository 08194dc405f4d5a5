// Lists: filters, pages, and what hangs below a resource.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "services/ctl/call.h"
#include "services/ctl/names.h"
#include "services/ctl/nearest.h"
#include "services/ctl/print.h"

void print_items(const struct call *call, enum resource_kind kind, const json_t *answer)
{
	if (call->arguments->json) {
		print_json(answer);
	} else {
		print_list(kind, json_object_get(answer, "items"));
	}
}

// The field that a filter of a list names: any that is not a list or a message, outputs too.
static const struct field_rule *filter_rule(enum resource_kind kind, const char *flag)
{
	size_t count = 0;
	struct nearest nearest = {.given = flag};
	const struct field_rule *rules = field_rules_of(kind, &count);
	for (size_t i = 0; i < count; i++) {
		char name[NEAREST_TEXT];
		struct field_shape shape = field_shape_of(kind, rules[i].path);
		if (shape.list || shape.type == TYPE_MESSAGE || (rules[i].flags & FIELD_SECRET) ||
		    !flag_name(rules[i].path, name, sizeof name)) {
			continue;
		}
		if (strcmp(name, flag) == 0) {
			return &rules[i];
		}
		nearest_offer(&nearest, name);
	}
	fprintf(stderr, "twinspan: a list of %s has no filter --%s%s\n", kind_rules[kind].plural, flag, nearest_hint(&nearest));
	return NULL;
}

// The path of a list with the flags as its filters: only rows whose field is this. NULL with a message, and `result`.
static char *with_filters(struct call *call, int *result)
{
	char *path = duplicate_text(call->path);
	for (size_t i = 0; i < call->arguments->flag_count; i++) {
		const struct flag *flag = &call->arguments->flags[i];
		const struct field_rule *rule = filter_rule(call->kind, flag->name);
		*result = EXIT_USAGE;
		char *value = !rule                       ? NULL
		              : rule->format == FORMAT_ID ? name_to_id(call->api, rule->reference, flag->value, result)
		                                          : duplicate_text(flag->value);
		char *escaped = api_escape(call->api, value);
		char *longer = escaped ? format_text("%s%s%s=%s", path, i ? "&" : "?", rule->path, escaped) : NULL;
		free(escaped);
		free(value);
		free(path);
		path = longer;
		if (!path) {
			return NULL;
		}
	}
	return path;
}

// All pages of a list as one answer: its items are those of every page.
static struct answer get_pages(struct api *api, const char *path)
{
	struct answer all = {.exit_code = EXIT_OK};
	char *next = format_text("%s%climit=%d", path, strchr(path, '?') ? '&' : '?', PAGE_MAXIMUM);
	while (next) {
		struct answer page = api_call(api, "GET", next, NULL, 0);
		free(next);
		const char *cursor = json_string_value(json_object_get(page.json, "nextCursor"));
		next = cursor ? format_text("%s%climit=%d&cursor=%s", path, strchr(path, '?') ? '&' : '?', PAGE_MAXIMUM, cursor)
		              : NULL;
		if (!all.json || page.exit_code != EXIT_OK) {
			json_object_del(page.json, "nextCursor");
			answer_free(&all);
			all = page;
			continue;
		}
		json_array_extend(json_object_get(all.json, "items"), json_object_get(page.json, "items"));
		answer_free(&page);
	}
	return all;
}

int list(struct call *call)
{
	struct answer answer = {.exit_code = EXIT_USAGE};
	char *path = with_filters(call, &answer.exit_code);
	if (path) {
		answer = get_pages(call->api, path);
	}
	free(path);
	if (answer.exit_code == EXIT_OK) {
		print_items(call, call->kind, answer.json);
	}
	answer_free(&answer);
	return answer.exit_code;
}

static int print_pages(struct call *call, const char *path, const char *const *columns, size_t count)
{
	struct answer answer = get_pages(call->api, path);
	if (answer.exit_code == EXIT_OK && call->arguments->json) {
		print_json(answer.json);
	} else if (answer.exit_code == EXIT_OK) {
		print_table(json_object_get(answer.json, "items"), columns, count);
	}
	answer_free(&answer);
	return answer.exit_code;
}

int events(struct call *call)
{
	static const char *const columns[] = {"time", "service", "event", "detail"};
	char *path = format_text("%s/events", call->path);
	struct answer answer = api_call(call->api, "GET", path, NULL, 0);
	if (answer.exit_code == EXIT_OK && call->arguments->json) {
		print_json(answer.json);
	} else if (answer.exit_code == EXIT_OK) {
		print_table(json_object_get(answer.json, "items"), columns, sizeof columns / sizeof *columns);
	}
	answer_free(&answer);
	free(path);
	return answer.exit_code;
}

int routes(struct call *call)
{
	static const char *const columns[] = {"destination", "nextHopType", "nextHopId", "type",  "metric", "asPath", "origin",
	                                      "med",         "communities", "tunnelIds", "state", "reason", "since"};
	const char *parameters[][2] = {{"table", arguments_take(call->arguments, "table")},
	                               {"destination", arguments_take(call->arguments, "destination")}};
	char *path = format_text("%s/routes", call->path);
	for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++) {
		char *escaped = parameters[i][1] ? api_escape(call->api, parameters[i][1]) : NULL;
		if (escaped) {
			char *longer = format_text("%s%c%s=%s", path, strchr(path, '?') ? '&' : '?', parameters[i][0], escaped);
			free(path);
			path = longer;
		}
		free(escaped);
	}
	int result = print_pages(call, path, columns, sizeof columns / sizeof *columns);
	free(path);
	return result;
}
