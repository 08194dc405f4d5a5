// The REST API as the command line sees it: one call, its answer as JSON or text.
#ifndef TWINSPAN_CTL_API_H
#define TWINSPAN_CTL_API_H

#include <jansson.h>
#include <stdbool.h>

enum exit_code { EXIT_OK = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_NOT_YET = 3, EXIT_UNREACHABLE = 4 };

struct api;
// TWINSPAN_API and TWINSPAN_TOKEN_FILE, or their defaults.
struct api *api_new(void);
void api_free(struct api **api);

struct answer {
	int exit_code; // EXIT_OK, or what the process should end with: the reason has been printed
	long status;
	json_t *json; // NULL when the answer has none
	char *text;   // the body as it came
};
// `body` may be NULL. `revision`: sent as If-Match when not 0. A problem document is printed as a sentence on standard error.
struct answer api_call(struct api *api, const char *method, const char *path, json_t *body, json_int_t revision);
void answer_free(struct answer *answer);
// As a part of a query; NULL stays NULL. To be freed.
char *api_escape(struct api *api, const char *text);

#endif
