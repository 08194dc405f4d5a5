// The metrics of a process (health.h): families by name, their members by labels, in the order they were first asked for.
#include "common/io/metric.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/io/health.h"

struct metric {
	enum metric_kind kind;
	const char *labels; // or NULL
	uint64_t count;     // of a counter
	double value;       // of a gauge
};

struct family {
	enum metric_kind kind;
	const char *help;
	struct map *members; // labels → struct metric
};

static struct map *families; // name → struct family; the registry is the process's

struct metric *metric(enum metric_kind kind, const char *name, const char *labels, const char *help)
{
	if (!families) {
		families = map_new(NULL);
	}
	struct family *family = map_find_text(families, name);
	if (!family) {
		family = allocate(sizeof *family);
		*family = (struct family){kind, duplicate_text(help), map_new(NULL)};
		map_insert_text(families, name, family);
	}
	struct metric *member = map_find_text(family->members, labels ? labels : "");
	if (!member) {
		member = allocate(sizeof *member);
		*member = (struct metric){.kind = family->kind, .labels = duplicate_text(labels)};
		map_insert_text(family->members, labels ? labels : "", member);
	}
	return member;
}

void metric_add(struct metric *member, uint64_t n)
{
	member->count += n;
}

void metric_set(struct metric *member, double value)
{
	member->value = value;
	member->count = value > 0 && value < (double)UINT64_MAX ? (uint64_t)value : 0;
}

uint64_t metric_value(const struct metric *member)
{
	return member->count;
}

void metric_remove(const char *name, const char *labels)
{
	struct family *family = families ? map_find_text(families, name) : NULL;
	struct metric *member = family ? map_remove_text(family->members, labels ? labels : "") : NULL;
	if (member) {
		free((char *)(uintptr_t)member->labels);
		free(member);
	}
}

static void write_member(FILE *out, const char *name, int name_length, const struct metric *member)
{
	const char *labels = member->labels ? member->labels : "";
	fprintf(out, member->labels ? "%.*s{%s} " : "%.*s%s ", name_length, name, labels);
	if (member->kind == METRIC_COUNTER) {
		fprintf(out, "%" PRIu64 "\n", member->count);
	} else {
		fprintf(out, "%.17g\n", member->value);
	}
}

char *metrics_text(size_t *length)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, length);
	if (!out) {
		abort();
	}
	for (struct map_cursor at = {0}; families && map_next(families, &at);) {
		const struct family *family = at.value;
		const char *name = (const char *)at.key.data;
		int name_length = (int)at.key.length;
		fprintf(out, "# HELP %.*s %s\n# TYPE %.*s %s\n", name_length, name, family->help ? family->help : "",
		        name_length, name, family->kind == METRIC_COUNTER ? "counter" : "gauge");
		for (struct map_cursor member = {0}; map_next(family->members, &member);) {
			write_member(out, name, name_length, member.value);
		}
	}
	if (fclose(out) != 0) {
		abort();
	}
	return text;
}
