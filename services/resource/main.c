// resource: the resources of a region and their rules, the REST API, the allocation of cloud addresses. Reads its settings,
// makes the parts, and turns the loop.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/hex.h"
#include "common/io/config.h"
#include "common/io/entropy.h"
#include "common/io/log.h"
#include "shell.h"

static void __attribute__((noreturn)) refuse_setting(const char *name, const char *why)
{
	log_event(LOG_ERROR, "bad-setting", "name", name, "why", why, NULL);
	exit(2);
}

// 32 octets as they are, or as 64 hexadecimal digits.
static void read_secret_key(uint8_t key[static 32])
{
	static const char name[] = "TWINSPAN_SECRET_KEY_FILE";
	uint8_t text[65] = {0};
	size_t length = config_secret_file(name, text, sizeof text - 1);
	bool fits = length == 64 ? hex_parse((const char *)text, key, 32) == 32 : length == 32;
	if (fits && length == 32) {
		memcpy(key, text, 32);
	}
	wipe(text, sizeof text);
	if (!fits) {
		refuse_setting(name, "must hold 32 octets, or 64 hexadecimal digits");
	}
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

static void gather_metrics(void *context)
{
	const struct service *service = context;
	for (size_t kind = 0; kind < RESOURCE_KINDS; kind++) {
		size_t count = 0;
		for (struct row_cursor c = {0}; resource_next(service->resource, (enum resource_kind)kind, &c);) {
			count++;
		}
		char label[64];
		snprintf(label, sizeof label, "kind=\"%s\"", kind_rules[kind].singular);
		metric_set(metric(METRIC_GAUGE, "twinspan_resources", label, "Resources by kind"), (double)count);
	}
	for (struct row_cursor c = {0}; resource_next(service->resource, RESOURCE_VPN_TUNNEL, &c);) {
		const char *id = record_text(c.row, "id");
		struct tunnel_figures figures = resource_figures(service->resource, id);
		const struct {
			const char *name, *direction, *help;
			uint64_t value;
		} rows[] = {
		    {"twinspan_tunnel_up", NULL, "1 while the tunnel is UP", figures.up},
		    {"twinspan_tunnel_bytes", "in", "Plain octets carried", figures.counters.bytes_in},
		    {"twinspan_tunnel_bytes", "out", "Plain octets carried", figures.counters.bytes_out},
		    {"twinspan_tunnel_packets", "in", "Packets carried", figures.counters.packets_in},
		    {"twinspan_tunnel_packets", "out", "Packets carried", figures.counters.packets_out},
		    {"twinspan_tunnel_drops", NULL, "Packets dropped", figures.counters.drops},
		};
		for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
			char label[160];
			const char *direction = rows[i].direction;
			snprintf(label, sizeof label, "tunnel=\"%s\",connection=\"%s\"%s%s%s", id,
			         record_text(c.row, "vpnConnectionId"), direction ? ",direction=\"" : "",
			         direction ? direction : "", direction ? "\"" : "");
			metric_set(metric(METRIC_GAUGE, rows[i].name, label, rows[i].help), (double)rows[i].value);
		}
	}
}

int main(void)
{
	log_init("resource", "");
	struct service service = {.loop = loop_new(), .token_ids = map_new(NULL)};
	service.resource = resource_new(config_text("TWINSPAN_REGION", "local"));
	read_secret_key(service.secret_key);
	read_admin_token(service.admin_hash);
	entropy_seed(&service.random);
	const char *where = config_text("TWINSPAN_HTTP", "127.0.0.1:8080");
	service.health = health_new(service.loop);
	health_before_metrics(service.health, gather_metrics, &service);
	struct bus *bus = bus_new(service.loop, service.health, "resource");
	service.bus = resource_bus_new(&service, bus);
	service.store = store_new(&service);
	const struct http_limits limits = {.body = 1 << 20, .timeout_seconds = 10, .connections = 256};
	struct http_server *http = http_server_new(service.loop, where, api_handle, &service, &limits);
	if (!http) {
		refuse_setting("TWINSPAN_HTTP", strerror(errno));
	}
	config_done();
	log_event(LOG_INFO, "started", "http", where, NULL);

	int result = loop_run(service.loop);

	http_server_free(&http);
	store_free(&service.store);
	resource_bus_free(&service.bus);
	bus_free(&bus);
	resource_free(&service.resource);
	map_free(&service.token_ids, free);
	health_free(&service.health);
	loop_free(&service.loop);
	wipe(service.secret_key, sizeof service.secret_key);
	log_event(LOG_INFO, "ended", NULL);
	return result;
}
