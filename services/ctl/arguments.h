// The words of one call, taken apart: twinspan <kind> <verb> [id] [--flag value]…
#ifndef TWINSPAN_CTL_ARGUMENTS_H
#define TWINSPAN_CTL_ARGUMENTS_H

#include <jansson.h>
#include <stdbool.h>

#include "proto/resource_rules.h"

enum { FLAGS_MAX = 128, WORDS_MAX = 64 };

struct flag {
	const char *name; // without the dashes
	const char *value;
};
struct arguments {
	const char *words[WORDS_MAX]; // kind, verb, id, …
	size_t word_count;
	struct flag flags[FLAGS_MAX]; // but for those below
	size_t flag_count;
	bool json;        // --output json
	bool help;        // --help, -h
	bool version;     // --version
	int wait_seconds; // --wait [seconds]; 0: not asked for
};

// false, with a message, when they can't be read.
bool arguments_read(int count, char **values, struct arguments *out);
// The value of a flag, taken out of the list; NULL when it was not given.
const char *arguments_take(struct arguments *arguments, const char *name);
// Makes a request's body of the flags that are left, by the rules of the kind. NULL, with a message, when one is unknown or of
// the wrong type. `now`: the resource as it is, for an update, whose lists the flag of one item ("--propagation …") adds to; else NULL.
json_t *arguments_body(const struct arguments *arguments, enum resource_kind kind, const json_t *now);
// Sets the fields that `paths` names (JSON paths or flags, separated by commas) to null in a body: back to their defaults. false, with a
// message, when one is unknown.
bool arguments_reset(json_t *body, enum resource_kind kind, const char *paths);
// Is there a flag for this field: it can be given, and does not stand inside a list of messages (whose flag is the list's)?
bool field_has_flag(const struct field_rule *rule);

#endif
