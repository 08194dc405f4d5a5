// What was wrong with a request, as a value: it becomes an RFC 9457 problem document (message_json.h), or a line of the command
// line.
#ifndef TWINSPAN_PROTO_PROBLEM_H
#define TWINSPAN_PROTO_PROBLEM_H

#include <stdbool.h>

enum { PROBLEM_FIELD = 128, PROBLEM_VALUE = 128, PROBLEM_RULE = 256 };

struct problem {
	int status;                // of HTTP; 0: there is no problem
	const char *type;          // a static word of lower-case letters and hyphens: "out-of-range"
	char field[PROBLEM_FIELD]; // JSON path, "ike.dhGroups[1]"; empty: the request as a whole
	char value[PROBLEM_VALUE]; // what was given, shortened; never a secret
	char rule[PROBLEM_RULE];   // what would have been right, for a person
};

// Fills `problem` in; returns false, so that a check can return it. `value` and `field` may be NULL. The rule is formatted.
bool problem_set(struct problem *problem, int status, const char *type, const char *field, const char *value, const char *rule,
                 ...) __attribute__((format(printf, 6, 7)));
const char *problem_title(int status); // "Unprocessable Content"

#endif
