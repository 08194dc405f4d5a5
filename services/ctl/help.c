// See help.h.
#include "services/ctl/help.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "services/ctl/arguments.h"
#include "services/ctl/verbs.h"

enum { FLAG_TEXT = 96 };

void help_print(void)
{
	printf("twinspan: the command line of a border gateway region\n\n"
	       "  twinspan <kind> create [--flag value]…     twinspan <kind> list\n"
	       "  twinspan <kind> show <id or name>          twinspan <kind> update <id or name> [--flag value]…\n"
	       "  twinspan <kind> delete <id or name>        twinspan <kind> help\n\n");
	verbs_print(RESOURCE_KINDS);
	printf("\n  twinspan keys create --directory D <identity>…                      bus keys for an operator's services\n"
	       "  twinspan version\n\n"
	       "Everywhere: --output table|json, --help. Of tunnels and connections: --wait [seconds], until the tunnels are "
	       "UP.\n\nKinds:\n");
	for (size_t i = 0; i < RESOURCE_KINDS; i++) {
		printf("  %-22s %s\n", kind_rules[i].singular, kind_rules[i].help);
	}
	printf("\nSettings: TWINSPAN_API (default http://127.0.0.1:8080, or unix:/path), TWINSPAN_TOKEN_FILE (default\n"
	       "$TWINSPAN_RUN/admin.token). Exit status: 0 done, 1 refused, 2 wrong usage, 3 --wait ran out, 4 no answer.\n");
}

static void print_values(const struct field_rule *rule, const struct field_shape *shape)
{
	if (rule->values) {
		printf(" One of %s.", rule->values);
	} else if (shape->type == TYPE_ENUM) {
		const char *separator = " One of ";
		for (size_t i = 0; i < shape->value_count; i++) {
			if (!rule->unavailable || !in_list(rule->unavailable, shape->values[i])) {
				printf("%s%s", separator, shape->values[i]);
				separator = ",";
			}
		}
		printf(".");
	} else if (shape->type == TYPE_NUMBER && rule->maximum) {
		printf(" %" PRIu64 "–%" PRIu64 ".", rule->minimum, rule->maximum);
	}
	if (rule->fallback) {
		printf(" Default %s.", *rule->fallback ? rule->fallback : "none");
	}
	if (rule->weak && !(rule->unavailable && in_list(rule->unavailable, rule->weak))) {
		printf(" Weak: %s.", rule->weak);
	}
}

void help_print_kind(enum resource_kind kind)
{
	printf("%s: %s\n\n", kind_rules[kind].singular, kind_rules[kind].help);
	printf("  twinspan %1$s create|list [--flag value]…\n  twinspan %1$s show|delete <id or name>\n"
	       "  twinspan %1$s update <id or name> [--flag value]…\n",
	       kind_rules[kind].singular);
	verbs_print(kind);
	help_print_flags(kind);
}

void help_print_flags(enum resource_kind kind)
{
	printf("\nFlags (a list's may be repeated; of `list` every field is a filter; of `update`, --reset FIELD,… sets back "
	       "to the "
	       "default):\n");
	size_t count = 0;
	const struct field_rule *rules = field_rules_of(kind, &count);
	for (size_t i = 0; i < count; i++) {
		char name[FLAG_TEXT];
		if (!field_has_flag(&rules[i]) || !flag_name(rules[i].path, name, sizeof name)) {
			continue;
		}
		struct field_shape shape = field_shape_of(kind, rules[i].path);
		printf("  --%s%s\n      %s.", name,
		       rules[i].flags & FIELD_SECRET ? " TEXT, or --…-file FILE"
		       : shape.list                  ? " A,B,…"
		                                     : "",
		       rules[i].help);
		print_values(&rules[i], &shape);
		printf("%s%s\n", rules[i].flags & FIELD_REQUIRED ? " Required." : "",
		       rules[i].flags & FIELD_IMMUTABLE ? " Cannot be changed later." : "");
	}
}
