// Requests of a user against a small region: lines of "<action><kind><which row><JSON>". Whatever comes, the core neither
// crashes nor breaks what must hold of its rows: addresses, inner prefixes and ends are unique, references lead somewhere, no
// key is in a row.
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/message_json.h"
#include "services/resource/resource.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
	struct resource *resource;
	struct random random;
	uint64_t now;
};

static void carry_out(struct world *world, struct request *request)
{
	struct plan plan;
	request->now = world->now += 1000;
	request->random = &world->random;
	bool done = resource_plan(world->resource, request, &plan);
	if (done != (plan.problem.status == 0) || (!done && !plan.problem.rule[0])) {
		abort();
	}
	if (done) {
		resource_apply(world->resource, &plan);
	}
	plan_free(&plan);
}

static void send(struct world *world, enum action action, enum resource_kind kind, const char *id, const char *text,
                 size_t length)
{
	struct problem problem = {0};
	struct cleared cleared;
	json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
	struct record *body =
	    json ? record_from_json(action == ACTION_ADD_TUNNELS ? RESOURCE_VPN_TUNNEL : kind, json, &cleared, &problem) : NULL;
	json_decref(json);
	if (!body) {
		return;
	}
	const struct record *row = id ? resource_find(world->resource, kind, id) : NULL;
	struct request request = {
	    .actor = {.role = ROLE_ADMIN}, .action = action, .kind = kind, .id = id, .body = body, .cleared = &cleared};
	request.has_revision = row != NULL && !record_has(body, "revision");
	request.revision = row ? record_number(row, "revision") : 0;
	carry_out(world, &request);
	record_free(&body);
}

// "@k2" in a body stands for the id of the third row of kind k (a letter).
static size_t expand(struct world *world, const char *text, size_t length, char *out, size_t capacity)
{
	size_t n = 0;
	for (size_t i = 0; i < length && n + 64 < capacity; i++) {
		if (text[i] != '@' || i + 2 >= length) {
			out[n++] = text[i];
			continue;
		}
		unsigned kind = (unsigned)(text[i + 1] - 'a') % RESOURCE_KINDS, wanted = (unsigned)(text[i + 2] - '0') % 8;
		struct row_cursor c = {0};
		const char *id = "none";
		for (unsigned at = 0; resource_next(world->resource, (enum resource_kind)kind, &c); at++) {
			id = at == wanted ? record_text(c.row, "id") : id;
		}
		memcpy(out + n, id, strlen(id));
		n += strlen(id);
		i += 2;
	}
	return n;
}

static void line(struct world *world, const char *text, size_t length)
{
	static const enum action actions[] = {ACTION_CREATE,      ACTION_UPDATE,    ACTION_DELETE, ACTION_ADD_TUNNELS,
	                                      ACTION_REKEY_CHILD, ACTION_REKEY_IKE, ACTION_RESTART};
	if (length < 3) {
		return;
	}
	enum action action = actions[(unsigned char)text[0] % (sizeof actions / sizeof actions[0])];
	enum resource_kind kind = (enum resource_kind)((unsigned)(text[1] - 'a') % RESOURCE_KINDS);
	unsigned which = (unsigned)(text[2] - '0') % 8, at = 0;
	if (action == ACTION_ADD_TUNNELS) {
		kind = RESOURCE_VPN_CONNECTION;
	} else if (action >= ACTION_REKEY_CHILD) {
		kind = RESOURCE_VPN_TUNNEL;
	}
	char id[64] = "none", body[4096];
	for (struct row_cursor c = {0}; resource_next(world->resource, kind, &c); at++) {
		if (at == which) {
			strcpy(id, record_text(c.row, "id"));
		}
	}
	size_t n = expand(world, text + 3, length - 3, body, sizeof body);
	if (action == ACTION_CREATE || action == ACTION_UPDATE || action == ACTION_ADD_TUNNELS) {
		send(world, action, kind, action == ACTION_CREATE ? NULL : id, body, n);
	} else {
		struct request request = {.actor = {.role = ROLE_ADMIN}, .action = action, .kind = kind, .id = id};
		carry_out(world, &request);
	}
}

static void check(const struct world *world)
{
	for (struct row_cursor a = {0}; resource_next(world->resource, RESOURCE_VPN_TUNNEL, &a);) {
		const struct record *connection =
		    resource_find(world->resource, RESOURCE_VPN_CONNECTION, record_text(a.row, "vpnConnectionId"));
		if (!connection || record_has(a.row, "ike.preSharedKey") || !record_has(a.row, "nodeId") ||
		    !record_has(a.row, "insideCidr")) {
			abort();
		}
		for (struct row_cursor b = a; resource_next(world->resource, RESOURCE_VPN_TUNNEL, &b);) {
			bool same_ends = record_is(a.row, "cloudAddress", record_text(b.row, "cloudAddress")) &&
			                 record_is(a.row, "customerAddress", record_text(b.row, "customerAddress"));
			bool same_inside = record_is(a.row, "borderGatewayId", record_text(b.row, "borderGatewayId")) &&
			                   record_is(a.row, "insideCidr", record_text(b.row, "insideCidr"));
			if (same_ends || same_inside) {
				abort();
			}
		}
	}
	for (struct row_cursor c = {0}; resource_next(world->resource, RESOURCE_VPN_CONNECTION, &c);) {
		const struct record *one = record_at(c.row, "cloudAddresses", 0), *two = record_at(c.row, "cloudAddresses", 1);
		if (!one || !two || record_is(one, "nodeId", record_text(two, "nodeId"))) {
			abort();
		}
	}
	for (struct row_cursor c = {0}; resource_next(world->resource, RESOURCE_SUBNET, &c);) {
		if (!resource_find(world->resource, RESOURCE_VPC_ROUTE_TABLE, record_text(c.row, "routeTableId"))) {
			abort();
		}
	}
	for (size_t kind = 0; kind < RESOURCE_KINDS; kind++) {
		for (struct row_cursor c = {0}; resource_next(world->resource, (enum resource_kind)kind, &c);) {
			struct record *shown = resource_show(world->resource, c.row, true);
			record_free(&shown);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const start[] = {
	    "\0a0{\"name\":\"node-a\",\"publicAddresses\":[\"198.51.100.17\",\"198.51.100.18\"],\"fabricAddress\":\"10.255.0."
	    "11\"}",
	    "\0a0{\"name\":\"node-b\",\"publicAddresses\":[\"198.51.100.33\",\"198.51.100.34\"],\"fabricAddress\":\"10.255.0."
	    "12\"}",
	    "\0c0{\"cidrBlocks\":[\"10.0.0.0/16\"]}",
	    "\0f0{}",
	    "\0h0{\"asn\":65010,\"publicAddresses\":[\"203.0.113.1\",\"203.0.113.2\"]}",
	    "\0i0{\"borderGatewayId\":\"@f0\",\"customerGatewayId\":\"@h0\"}",
	};
	struct world world = {.resource = resource_new("fuzz"), .now = 1700000000000};
	random_init_number(&world.random, 1);
	for (size_t i = 0; i < sizeof start / sizeof start[0]; i++) {
		line(&world, start[i], 3 + strlen(start[i] + 3));
	}
	const char *at = (const char *)data, *end = at + size;
	for (unsigned lines = 0; at < end && lines < 64; lines++) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		stop = stop ? stop : end;
		line(&world, at, (size_t)(stop - at));
		at = stop + 1;
	}
	check(&world);
	resource_free(&world.resource);
	return 0;
}
