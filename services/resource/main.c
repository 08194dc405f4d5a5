// resource: the resources of a region and their rules, the REST API, the allocation of cloud addresses. Reads its settings,
// makes the parts, and turns the loop.
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hex.h"
#include "common/base/invariant.h"
#include "common/io/config.h"
#include "common/io/entropy.h"
#include "common/io/log.h"
#include "common/io/process.h"
#include "services/resource/shell.h"

static void __attribute__((noreturn)) refuse_setting(const char *name, const char *why)
{
	log_event(LOG_ERROR, "bad-setting", "name", name, "why", why, NULL);
	exit(2);
}

// 32 octets as they are, or as 64 hexadecimal digits.
static void read_seal_key(struct seal_keys *keys, const char *name)
{
	uint8_t text[65] = {0};
	struct seal_key *key = &keys->keys[keys->count++];
	size_t length = config_secret_file(name, text, sizeof text - 1);
	bool fits = length == 64 ? hex_parse((const char *)text, key->octets, 32) == 32 : length == 32;
	if (fits && length == 32) {
		memcpy(key->octets, text, 32);
	}
	wipe(text, sizeof text);
	if (!fits) {
		refuse_setting(name, "must hold 32 octets, or 64 hexadecimal digits");
	}
	seal_key_name(key);
}

static void read_admin_token(char hash[static SHA256_TEXT])
{
	static const char name[] = "TWINSPAN_ADMIN_TOKEN_FILE";
	uint8_t token[256];
	size_t length = config_secret_file(name, token, sizeof token);
	if (length < 16) {
		refuse_setting(name, "must hold a token of 16 octets at least");
	}
	sha256_text((struct bytes){token, length}, hash);
	wipe(token, sizeof token);
}

// Bodies and answers pass through JSON, and may hold keys: what it was in is wiped when it is given back.
static void wipe_and_free(void *octets)
{
	if (octets) {
		wipe(octets, malloc_usable_size(octets));
		free(octets);
	}
}

static void wipe_seal_keys(void *keys)
{
	wipe(keys, sizeof(struct seal_keys));
}

int main(void)
{
	process_begin("resource", "");
	json_set_alloc_funcs(malloc, wipe_and_free);
	struct service service = {.loop = loop_new(), .token_ids = map_new(NULL), .measured = map_new(NULL)};
	service.resource = resource_new(config_text("TWINSPAN_REGION", "local"));
	invariant_wipe_at_end(wipe_seal_keys, &service.seal_keys);
	read_seal_key(&service.seal_keys, "TWINSPAN_SECRET_KEY_FILE");
	if (config_text("TWINSPAN_SECRET_KEY_OLD_FILE", "")[0]) {
		read_seal_key(&service.seal_keys, "TWINSPAN_SECRET_KEY_OLD_FILE");
	}
	read_admin_token(service.admin_hash);
	entropy_seed(&service.random);
	const char *where = config_text("TWINSPAN_HTTP", "127.0.0.1:8080");
	service.health = health_new(service.loop);
	health_before_metrics(service.health, metrics_gather, &service);
	struct bus *bus = bus_new(service.loop, service.health, "resource");
	service.bus = resource_bus_new(&service, bus);
	service.changes = changes_new(&service);
	service.store = store_new(&service);
	const struct http_limits limits = {.body = 1 << 20,
	                                   .timeout_seconds = 10,
	                                   .connections = 256,
	                                   .per_address = (unsigned)config_number("TWINSPAN_HTTP_PER_ADDRESS", 64, 0, 256),
	                                   .answer_seconds = 60};
	struct http_server *http;
	while (!(http = http_server_new(service.loop, where, api_handle, &service, &limits))) {
		if (!process_wait_for("TWINSPAN_HTTP", where, errno)) {
			refuse_setting("TWINSPAN_HTTP", strerror(errno));
		}
	}
	config_done();
	log_event(LOG_INFO, "started", "http", where, NULL);

	int result = loop_run(service.loop);

	http_server_free(&http);
	store_free(&service.store);
	changes_free(&service.changes);
	resource_bus_free(&service.bus);
	bus_free(&bus);
	resource_free(&service.resource);
	map_free(&service.token_ids, free);
	map_free(&service.measured, free);
	free(service.openapi);
	health_free(&service.health);
	loop_free(&service.loop);
	invariant_wipe_end(&service.seal_keys);
	wipe(&service.seal_keys, sizeof service.seal_keys);
	log_event(LOG_INFO, "ended", NULL);
	return result;
}
