// twinspan: the command line, a client of the REST API. What kinds, verbs and flags there are follows from the definition of
// the resources (proto/resource.proto and its rules).
#include <stdio.h>
#include <string.h>

#include "common/bus/keys.h"
#include "services/ctl/help.h"
#include "services/ctl/nearest.h"
#include "services/ctl/verbs.h"

#define TWINSPAN_VERSION "0.1.0"

// twinspan keys create --directory D <identity>…
static int make_keys(struct arguments *arguments)
{
	const char *directory = arguments_take(arguments, "directory");
	if (!directory || arguments->word_count < 3 || strcmp(arguments->words[1], "create") != 0 ||
	    arguments->flag_count != 0) {
		fprintf(stderr, "twinspan: usage: twinspan keys create --directory D <identity>…\n");
		return EXIT_USAGE;
	}
	for (size_t i = 2; i < arguments->word_count; i++) {
		if (!bus_keys_write(directory, arguments->words[i])) {
			fprintf(stderr, "twinspan: cannot write the keys of %s into %s\n", arguments->words[i], directory);
			return EXIT_REFUSED;
		}
	}
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	struct arguments arguments;
	if (!arguments_read(argc, argv, &arguments)) {
		return EXIT_USAGE;
	}
	const char *kind_name = arguments.word_count > 0 ? arguments.words[0] : "help";
	if (strcmp(kind_name, "help") == 0 && !arguments.version) {
		help_print();
		return EXIT_OK;
	}
	if (strcmp(kind_name, "version") == 0 || arguments.version) {
		printf("twinspan %s\n", TWINSPAN_VERSION);
		return EXIT_OK;
	}
	if (strcmp(kind_name, "keys") == 0) {
		return make_keys(&arguments);
	}
	enum resource_kind kind = kind_by_singular(kind_name);
	if (kind == RESOURCE_KINDS) {
		struct nearest nearest = {.given = kind_name};
		for (size_t i = 0; i < RESOURCE_KINDS; i++) {
			nearest_offer(&nearest, kind_rules[i].singular);
		}
		fprintf(stderr, "twinspan: no kind %s%s; `twinspan help` lists them\n", kind_name, nearest_hint(&nearest));
		return EXIT_USAGE;
	}
	struct api *api = api_new();
	int result = verb_run(api, kind, &arguments);
	api_free(&api);
	return result;
}
