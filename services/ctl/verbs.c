// The verbs that every kind has, and the few that belong to one.
#include "services/ctl/verbs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "services/ctl/call.h"
#include "services/ctl/help.h"
#include "services/ctl/names.h"
#include "services/ctl/nearest.h"
#include "services/ctl/print.h"

static void print_one(const struct call *call, const json_t *resource)
{
	if (call->arguments->json) {
		print_json(resource);
	} else {
		print_resource(call->kind, resource);
	}
}

// A request with what the flags say as its body. `now`: the resource that is updated, or NULL.
static struct answer send_flags(struct call *call, const char *method, const char *path, enum resource_kind kind,
                                const json_t *now)
{
	struct answer answer = {.exit_code = EXIT_USAGE};
	const char *reset = now ? arguments_take(call->arguments, "reset") : NULL;
	json_t *body = arguments_body(call->arguments, kind, now);
	if (body && (!reset || arguments_reset(body, kind, reset))) {
		answer.exit_code = names_resolve(call->api, kind, body);
	}
	if (answer.exit_code == EXIT_OK) {
		answer = api_call(call->api, method, path, body, json_integer_value(json_object_get(now, "revision")));
	}
	json_decref(body);
	return answer;
}

static int create(struct call *call)
{
	struct answer answer = send_flags(call, "POST", call->path, call->kind, NULL);
	if (answer.exit_code == EXIT_OK) {
		print_one(call, answer.json);
	}
	answer_free(&answer);
	return answer.exit_code;
}

// Asks again every half second until each of the tunnels is UP, at most `seconds`.
static int wait_until_up(struct call *call, const json_t *tunnels, int seconds)
{
	struct timespec start, at;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (;;) {
		size_t index, down = 0;
		json_t *tunnel;
		json_array_foreach((json_t *)(uintptr_t)tunnels, index, tunnel)
		{
			char *path = format_text("/v1/vpn-tunnels/%s", json_string_value(json_object_get(tunnel, "id")));
			struct answer answer = api_call(call->api, "GET", path, NULL, 0);
			const char *status = json_string_value(json_object_get(answer.json, "runningStatus"));
			down += !status || strcmp(status, "UP") != 0;
			int failed = answer.exit_code;
			answer_free(&answer);
			free(path);
			if (failed != EXIT_OK) {
				return failed;
			}
		}
		clock_gettime(CLOCK_MONOTONIC, &at);
		if (down == 0) {
			return EXIT_OK;
		}
		if (at.tv_sec - start.tv_sec >= seconds) {
			fprintf(stderr, "twinspan: %zu of %zu tunnels not UP after %d s; `twinspan vpn-tunnel list` says why\n",
			        down, json_array_size(tunnels), seconds);
			return EXIT_NOT_YET;
		}
		usleep(500000);
	}
}

// What --wait waits for: the tunnel itself, or all of a connection.
static int wait_if_asked(struct call *call)
{
	if (!call->arguments->wait_seconds) {
		return EXIT_OK;
	}
	if (call->kind == RESOURCE_VPN_TUNNEL) {
		json_t *one = json_pack("[{s:s}]", "id", call->id);
		int result = wait_until_up(call, one, call->arguments->wait_seconds);
		json_decref(one);
		return result;
	}
	char *path = format_text("/v1/vpn-tunnels?vpnConnectionId=%s", call->id);
	struct answer answer = api_call(call->api, "GET", path, NULL, 0);
	int result = answer.exit_code;
	if (result == EXIT_OK) {
		result = wait_until_up(call, json_object_get(answer.json, "items"), call->arguments->wait_seconds);
	}
	answer_free(&answer);
	free(path);
	return result;
}

static int show(struct call *call)
{
	int waited = wait_if_asked(call);
	struct answer answer = api_call(call->api, "GET", call->path, NULL, 0);
	if (answer.exit_code == EXIT_OK) {
		print_one(call, answer.json);
	}
	answer_free(&answer);
	return answer.exit_code ? answer.exit_code : waited;
}

static int update(struct call *call)
{
	struct answer before = api_call(call->api, "GET", call->path, NULL, 0);
	if (before.exit_code != EXIT_OK) {
		answer_free(&before);
		return before.exit_code;
	}
	struct answer answer = send_flags(call, "PATCH", call->path, call->kind, before.json);
	answer_free(&before);
	if (answer.exit_code == EXIT_OK) {
		print_one(call, answer.json);
	}
	answer_free(&answer);
	return answer.exit_code ? answer.exit_code : wait_if_asked(call);
}

static int delete_one(struct call *call)
{
	struct answer answer = api_call(call->api, "DELETE", call->path, NULL, 0);
	if (answer.exit_code == EXIT_OK && call->arguments->json && answer.json) {
		print_json(answer.json);
	} else if (answer.exit_code == EXIT_OK && !call->arguments->json) {
		size_t index;
		json_t *item;
		printf("deleted %s\n", call->id);
		json_array_foreach(json_object_get(answer.json, "removed"), index, item)
		{
			printf("removed with it, from %s %s: %s\n", json_string_value(json_object_get(item, "kind")),
			       json_string_value(json_object_get(item, "id")),
			       json_string_value(json_object_get(item, "what")));
		}
	}
	answer_free(&answer);
	return answer.exit_code;
}

// Generated keys are in this answer and never again, so a table must not swallow them.
static void print_generated_keys(const json_t *tunnels)
{
	size_t index;
	json_t *tunnel;
	json_array_foreach((json_t *)(uintptr_t)tunnels, index, tunnel)
	{
		const char *key = json_string_value(json_object_get(json_object_get(tunnel, "ike"), "preSharedKey"));
		if (key) {
			printf("%s%s  pre-shared key, shown only now: %s\n", index ? "" : "\n",
			       json_string_value(json_object_get(tunnel, "id")), key);
		}
	}
}

static int add_tunnels(struct call *call)
{
	char *path = format_text("%s/tunnels", call->path);
	struct answer answer = send_flags(call, "POST", path, RESOURCE_VPN_TUNNEL, NULL);
	int result = answer.exit_code;
	if (result == EXIT_OK) {
		print_items(call, RESOURCE_VPN_TUNNEL, answer.json);
		if (!call->arguments->json) {
			print_generated_keys(json_object_get(answer.json, "items"));
		}
		if (call->arguments->wait_seconds) {
			result = wait_until_up(call, json_object_get(answer.json, "items"), call->arguments->wait_seconds);
		}
	}
	answer_free(&answer);
	free(path);
	return result;
}

static int act(struct call *call, const char *action, json_t *body)
{
	char *path = format_text("%s/%s", call->path, action);
	struct answer answer = api_call(call->api, "POST", path, body, 0);
	if (answer.exit_code == EXIT_OK) {
		if (call->arguments->json && answer.json) {
			print_json(answer.json);
		} else if (!call->arguments->json) {
			printf("%s asked for\n", action);
		}
	}
	answer_free(&answer);
	free(path);
	json_decref(body);
	return answer.exit_code;
}

static int rekey(struct call *call)
{
	const char *sa = arguments_take(call->arguments, "sa");
	return act(call, "rekey", json_pack("{s:s}", "sa", sa ? sa : "CHILD"));
}

static int restart(struct call *call)
{
	int result = act(call, "restart", json_object());
	return result ? result : wait_if_asked(call);
}

static int configuration(struct call *call)
{
	const char *vendor = arguments_take(call->arguments, "vendor");
	const char *key_file = arguments_take(call->arguments, "pre-shared-key-file");
	const char *directory = arguments_take(call->arguments, "directory");
	if (vendor && vendor[strspn(vendor, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0') {
		fprintf(stderr, "twinspan: --vendor %s: no such vendor\n", vendor);
		return EXIT_USAGE;
	}
	char *path = format_text("%s/configuration?vendor=%s", call->path, vendor ? vendor : "strongswan-bird");
	struct answer answer = api_call(call->api, "GET", path, NULL, 0);
	int result = answer.exit_code;
	if (result == EXIT_OK) {
		result = configuration_write(answer.text, key_file, directory);
	}
	answer_free(&answer);
	free(path);
	return result;
}

// Of every kind, and (from action_rules) of one.
struct verb {
	const char *name;
	int (*run)(struct call *call);
	bool about_one;
	enum resource_kind kind;   // RESOURCE_KINDS: every kind
	const char *flags;         // those it takes itself, separated by commas; NULL: the fields of `fields`
	enum resource_kind fields; // RESOURCE_KINDS: the kind's own
	bool waits;                // --wait: where the kind has tunnels to wait for
};
static const struct verb common_verbs[] = {
    {"create", create, false, RESOURCE_KINDS, NULL, RESOURCE_KINDS, false},
    {"list", list, false, RESOURCE_KINDS, NULL, RESOURCE_KINDS, false},
    {"show", show, true, RESOURCE_KINDS, "", RESOURCE_KINDS, true},
    {"update", update, true, RESOURCE_KINDS, NULL, RESOURCE_KINDS, true},
    {"delete", delete_one, true, RESOURCE_KINDS, "", RESOURCE_KINDS, false},
};
static const struct {
	int (*run)(struct call *call);
	const char *flags; // beside the action's parameters
	bool waits;
} action_verbs[ACTION_RULES] = {
    [ACTION_TUNNELS] = {add_tunnels, NULL, true},
    [ACTION_REKEY] = {rekey, NULL, false},
    [ACTION_RESTART_TUNNEL] = {restart, NULL, true},
    [ACTION_EVENTS] = {events, NULL, false},
    [ACTION_CONFIGURATION] = {configuration, "vendor,pre-shared-key-file,directory", false},
    [ACTION_GATEWAY_ROUTES] = {routes, NULL, false},
    [ACTION_TABLE_ROUTES] = {routes, NULL, false},
};
enum { COMMON_VERBS = sizeof common_verbs / sizeof common_verbs[0], VERBS = COMMON_VERBS + ACTION_RULES };

static struct verb verb_at(size_t i)
{
	if (i < COMMON_VERBS) {
		return common_verbs[i];
	}
	size_t action = i - COMMON_VERBS;
	const struct action_rule *rule = &action_rules[action];
	const char *flags = action_verbs[action].flags ? action_verbs[action].flags : rule->parameters ? rule->parameters : "";
	return (struct verb){.name = rule->verb,
	                     .run = action_verbs[action].run,
	                     .about_one = true,
	                     .kind = rule->kind,
	                     .flags = rule->body ? NULL : flags,
	                     .fields = rule->body ? RESOURCE_VPN_TUNNEL : RESOURCE_KINDS,
	                     .waits = action_verbs[action].waits};
}

static void print_flags(FILE *out, const struct verb *verb)
{
	for (const char *flag = verb->flags; flag && *flag; flag += strcspn(flag, ",") + (strchr(flag, ',') != NULL)) {
		fprintf(out, " [--%.*s …]", (int)strcspn(flag, ","), flag);
	}
	fprintf(out, "%s", verb->flags ? "" : " [--flag value]…");
}

void verbs_print(enum resource_kind kind)
{
	for (size_t i = COMMON_VERBS; i < VERBS; i++) {
		struct verb verb = verb_at(i);
		if (kind == RESOURCE_KINDS || verb.kind == kind) {
			printf("  twinspan %s %s <id or name>", kind_rules[verb.kind].singular, verb.name);
			print_flags(stdout, &verb);
			printf("\n      %s\n", action_rules[i - COMMON_VERBS].help);
		}
	}
}

// A flag that the verb does not know is refused before anything is asked of the API.
static bool flags_fit(const struct verb *verb, const struct arguments *arguments)
{
	for (size_t i = 0; verb->flags && i < arguments->flag_count; i++) {
		if (!in_list(verb->flags, arguments->flags[i].name)) {
			fprintf(stderr, "twinspan: %s has no flag --%s\n", verb->name, arguments->flags[i].name);
			return false;
		}
	}
	return true;
}

static bool has_tunnels(enum resource_kind kind)
{
	return kind == RESOURCE_VPN_TUNNEL || kind == RESOURCE_VPN_CONNECTION;
}

// The verb of that name; false with a message.
static bool verb_find(enum resource_kind kind, const char *name, struct verb *verb)
{
	struct nearest nearest = {.given = name};
	for (size_t i = 0; i < VERBS; i++) {
		*verb = verb_at(i);
		if (verb->kind != RESOURCE_KINDS && verb->kind != kind) {
			continue;
		}
		if (strcmp(verb->name, name) == 0) {
			return true;
		}
		nearest_offer(&nearest, verb->name);
	}
	fprintf(stderr, "twinspan: %1$s has no verb %2$s%3$s; `twinspan %1$s help` lists them\n", kind_rules[kind].singular,
	        name, nearest_hint(&nearest));
	return false;
}

static bool wait_fits(const struct verb *verb, enum resource_kind kind, const struct arguments *arguments)
{
	if (arguments->wait_seconds && !(verb->waits && has_tunnels(kind))) {
		fprintf(stderr, "twinspan: %s %s has nothing to --wait for: that is for tunnels to come UP\n",
		        kind_rules[kind].singular, verb->name);
		return false;
	}
	return true;
}

static void print_usage(FILE *out, enum resource_kind kind, const struct verb *verb)
{
	fprintf(out, "usage: twinspan %s %s%s", kind_rules[kind].singular, verb->name, verb->about_one ? " <id or name>" : "");
	print_flags(out, verb);
	fprintf(out, "%s\n", verb->waits && has_tunnels(kind) ? " [--wait [seconds]]" : "");
}

int verb_run(struct api *api, enum resource_kind kind, struct arguments *arguments)
{
	const char *name = arguments->word_count > 1 ? arguments->words[1] : "help";
	if (strcmp(name, "help") == 0) {
		help_print_kind(kind);
		return EXIT_OK;
	}
	struct verb found, *verb = &found;
	if (!verb_find(kind, name, verb)) {
		return EXIT_USAGE;
	}
	if (arguments->help) {
		print_usage(stdout, kind, verb);
		if (!verb->flags) {
			help_print_flags(verb->fields == RESOURCE_KINDS ? kind : verb->fields);
		}
		return EXIT_OK;
	}
	if (arguments->word_count != (verb->about_one ? 3u : 2u)) {
		fprintf(stderr, "twinspan: ");
		print_usage(stderr, kind, verb);
		return EXIT_USAGE;
	}
	if (!flags_fit(verb, arguments) || !wait_fits(verb, kind, arguments)) {
		return EXIT_USAGE;
	}
	struct call call = {.api = api, .kind = kind, .arguments = arguments};
	int result = EXIT_OK;
	if (verb->about_one) {
		call.id = name_to_id(api, kind, arguments->words[2], &result);
		if (!call.id) {
			return result;
		}
		call.path = format_text("/v1/%s/%s", kind_rules[kind].plural, call.id);
	} else {
		call.path = format_text("/v1/%s", kind_rules[kind].plural);
	}
	result = verb->run(&call);
	free(call.id);
	free(call.path);
	return result;
}
