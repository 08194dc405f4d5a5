// See api.h. HTTP by libcurl; a Unix socket when TWINSPAN_API says "unix:/path".
#include "services/ctl/api.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/secret.h"

enum { TOKEN_MAX = 512, ANSWER_MAX = 64 << 20, TIMEOUT_SECONDS = 30 };

struct api {
	CURL *curl;
	char *base;   // "http://127.0.0.1:8080"
	char *socket; // of "unix:/path", or NULL
	char token[TOKEN_MAX];
	char *no_token; // why there is none: said only when the API wants one
};

static const char *setting(const char *name, const char *fallback)
{
	const char *value = getenv(name);
	return value && *value ? value : fallback;
}

static void read_token(struct api *api)
{
	char *fallback = format_text("%s/admin.token", setting("TWINSPAN_RUN", "/run/twinspan"));
	const char *path = setting("TWINSPAN_TOKEN_FILE", fallback);
	FILE *file = fopen(path, "re");
	size_t length = file ? fread(api->token, 1, sizeof api->token - 1, file) : 0;
	int error = file && !ferror(file) ? 0 : errno;
	api->token[length] = '\0';
	api->token[strcspn(api->token, "\r\n")] = '\0';
	if (error != 0 || api->token[0] == '\0') {
		api->no_token = format_text("the token file %s %s%s; TWINSPAN_TOKEN_FILE names another", path,
		                            error ? "cannot be read: " : "is empty", error ? strerror(error) : "");
	}
	if (file) {
		fclose(file);
	}
	free(fallback);
}

struct api *api_new(void)
{
	struct api *api = allocate(sizeof *api);
	const char *where = setting("TWINSPAN_API", "http://127.0.0.1:8080");
	if (strncmp(where, "unix:", 5) == 0) {
		api->socket = duplicate_text(where + 5);
		api->base = duplicate_text("http://localhost");
	} else {
		api->base = duplicate_text(where);
	}
	read_token(api);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	api->curl = curl_easy_init();
	return api;
}

void api_free(struct api **api)
{
	if (!*api) {
		return;
	}
	curl_easy_cleanup((*api)->curl);
	curl_global_cleanup();
	wipe((*api)->token, sizeof(*api)->token);
	free((*api)->base);
	free((*api)->socket);
	free((*api)->no_token);
	free(*api);
	*api = NULL;
}

struct body {
	char *text;
	size_t length;
};

static size_t collect(char *data, size_t size, size_t count, void *context)
{
	struct body *body = context;
	size_t length = size * count;
	if (body->length + length > ANSWER_MAX) {
		return 0;
	}
	body->text = reallocate(body->text, body->length + length + 1, 1);
	memcpy(body->text + body->length, data, length);
	body->length += length;
	body->text[body->length] = '\0';
	return length;
}

// "ike.dhGroups: 7 — one of 2,5,14 …": what was refused, and the rule.
static void print_problem(const struct answer *answer)
{
	const char *title = NULL, *detail = NULL, *field = NULL, *rule = NULL;
	json_t *value = answer->json ? json_object_get(answer->json, "value") : NULL;
	if (!answer->json ||
	    json_unpack(answer->json, "{s?s s?s s?s s?s}", "title", &title, "detail", &detail, "field", &field, "rule",
	                &rule) != 0 ||
	    !title) {
		fprintf(stderr, "twinspan: the API answered %ld\n", answer->status);
		return;
	}
	fprintf(stderr, "twinspan: %s", title);
	if (field && *field) {
		fprintf(stderr, ": %s", field);
	}
	if (value && !json_is_null(value)) {
		char *shown = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
		fprintf(stderr, " %s", shown);
		free(shown);
	}
	if (rule && *rule) {
		fprintf(stderr, ": %s", rule);
	} else if (detail && *detail) {
		fprintf(stderr, ": %s", detail);
	}
	fprintf(stderr, "\n");
}

struct answer api_call(struct api *api, const char *method, const char *path, json_t *body, json_int_t revision)
{
	struct answer answer = {.exit_code = EXIT_OK};
	struct body received = {NULL, 0};
	char *url = format_text("%s%s", api->base, path);
	char *sent = body ? json_dumps(body, JSON_COMPACT) : NULL;
	char *authorization = format_text("Authorization: Bearer %s", api->token);
	char *match = format_text("If-Match: \"%" JSON_INTEGER_FORMAT "\"", revision);
	struct curl_slist *fields = curl_slist_append(NULL, "Content-Type: application/json");
	fields = curl_slist_append(fields, "Expect:");
	if (api->token[0]) {
		fields = curl_slist_append(fields, authorization);
	}
	if (revision) {
		fields = curl_slist_append(fields, match);
	}
	curl_easy_reset(api->curl);
	curl_easy_setopt(api->curl, CURLOPT_URL, url);
	curl_easy_setopt(api->curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(api->curl, CURLOPT_HTTPHEADER, fields);
	curl_easy_setopt(api->curl, CURLOPT_TIMEOUT, (long)TIMEOUT_SECONDS);
	curl_easy_setopt(api->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(api->curl, CURLOPT_WRITEFUNCTION, collect);
	curl_easy_setopt(api->curl, CURLOPT_WRITEDATA, &received);
	if (api->socket) {
		curl_easy_setopt(api->curl, CURLOPT_UNIX_SOCKET_PATH, api->socket);
	}
	if (sent) {
		curl_easy_setopt(api->curl, CURLOPT_POSTFIELDS, sent);
	}
	CURLcode result = curl_easy_perform(api->curl);
	if (result != CURLE_OK) {
		fprintf(stderr, "twinspan: no answer from %s: %s\n", api->socket ? api->socket : api->base,
		        curl_easy_strerror(result));
		answer.exit_code = EXIT_UNREACHABLE;
	} else {
		curl_easy_getinfo(api->curl, CURLINFO_RESPONSE_CODE, &answer.status);
		answer.text = received.text ? received.text : duplicate_text("");
		received.text = NULL;
		answer.json = json_loads(answer.text, JSON_DECODE_ANY, NULL);
		if (answer.status == 401 && api->no_token) {
			fprintf(stderr, "twinspan: %s\n", api->no_token);
			answer.exit_code = EXIT_REFUSED;
		} else if (answer.status >= 400) {
			print_problem(&answer);
			answer.exit_code = EXIT_REFUSED;
		}
	}
	free(received.text);
	curl_slist_free_all(fields);
	wipe(authorization, strlen(authorization));
	free(authorization);
	free(match);
	if (sent) {
		wipe(sent, strlen(sent));
	}
	free(sent);
	free(url);
	return answer;
}

void answer_free(struct answer *answer)
{
	json_decref(answer->json);
	if (answer->text) {
		wipe(answer->text, strlen(answer->text));
	}
	free(answer->text);
	*answer = (struct answer){.exit_code = answer->exit_code};
}

char *api_escape(struct api *api, const char *text)
{
	char *escaped = text ? curl_easy_escape(api->curl, text, 0) : NULL;
	char *out = duplicate_text(escaped);
	curl_free(escaped);
	return out;
}
