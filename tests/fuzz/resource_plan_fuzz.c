// Requests of users against a small region: lines of "<action><kind><which row><JSON>", the action's octet saying who asks too:
// the region's administrator, or one of two tenants. Whatever comes, the core neither crashes nor breaks what must hold of its
// rows: addresses, inner prefixes and ends are unique, references lead somewhere and to the same tenant, no key is in a row, no
// quota is passed, and nobody changes, or is shown, or is told of, another tenant's rows.
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
	struct actor actor;
};

static const struct actor actors[] = {
    {.role = ROLE_ADMIN}, {.tenant = "acme", .role = ROLE_ADMIN}, {.tenant = "other", .role = ROLE_OPERATOR}};
enum { ACTORS = sizeof actors / sizeof actors[0] };

static bool is_foreign(const struct world *world, const struct record *row)
{
	enum resource_kind kind = record_kind(row);
	if (kind == RESOURCE_QUOTA) {
		return world->actor.tenant[0] && !record_is(row, "id", world->actor.tenant);
	}
	return world->actor.tenant[0] && (kind_rules[kind].region_only || !record_is(row, "tenant", world->actor.tenant));
}

// Whether the text names a row that the actor must not know of. What is another tenant's in the request itself is no secret.
static bool tells_of_others(const struct world *world, const struct request *request, const char *text)
{
	for (size_t kind = 0; kind < RESOURCE_KINDS; kind++) {
		if (kind_rules[kind].region_only) {
			continue; // a node's name is a word like any other
		}
		for (struct row_cursor c = {0}; resource_next(world->resource, (enum resource_kind)kind, &c);) {
			const char *id = record_text(c.row, "id");
			bool own_word = request->id && strcmp(request->id, id) == 0;
			if (is_foreign(world, c.row) && strstr(text, id) && !own_word) {
				return true;
			}
		}
	}
	return false;
}

// A plan of a tenant makes, changes and removes that tenant's rows.
static void check_plan(const struct world *world, const struct request *request, const struct plan *plan)
{
	for (size_t i = 0; i < plan->count && plan->problem.status == 0; i++) {
		const struct change *change = &plan->changes[i];
		if ((change->before && is_foreign(world, change->before)) ||
		    (change->after && is_foreign(world, change->after)) ||
		    (*change->note && tells_of_others(world, request, change->note))) {
			abort();
		}
	}
	if (plan->problem.status && (tells_of_others(world, request, plan->problem.rule))) {
		abort();
	}
}

static void carry_out(struct world *world, struct request *request)
{
	struct plan plan;
	request->now = world->now += 1000;
	request->random = &world->random;
	bool done = resource_plan(world->resource, request, &plan);
	if (done != (plan.problem.status == 0) || (!done && !plan.problem.rule[0])) {
		abort();
	}
	check_plan(world, request, &plan);
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
	    .actor = world->actor, .action = action, .kind = kind, .id = id, .body = body, .cleared = &cleared};
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
	world->actor = actors[(unsigned char)text[0] / 16 % ACTORS];
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
		struct request request = {.actor = world->actor, .action = action, .kind = kind, .id = id};
		carry_out(world, &request);
	}
}

// What a row refers to is there, and belongs to the same tenant.
static void check_references(const struct world *world, const struct record *row)
{
	size_t count;
	const struct field_rule *rules = field_rules_of(record_kind(row), &count);
	for (size_t i = 0; i < count; i++) {
		if (rules[i].format != FORMAT_ID || strchr(rules[i].path, '.') || !record_has(row, rules[i].path)) {
			continue;
		}
		for (size_t item = 0; item < record_count(row, rules[i].path); item++) {
			const struct record *other =
			    resource_find(world->resource, rules[i].reference, record_text_at(row, rules[i].path, item));
			if (!other || !record_is(other, "tenant", record_text(row, "tenant"))) {
				abort();
			}
		}
	}
}

struct seen {
	const struct world *world;
	size_t count;
};

static void see(void *context, const struct record *row)
{
	struct seen *seen = context;
	seen->count++;
	if (is_foreign(seen->world, row)) {
		abort();
	}
}

// A tenant's list has the tenant's rows, all of them and no other.
static void check_lists(struct world *world)
{
	for (size_t who = 0; who < ACTORS; who++) {
		world->actor = actors[who];
		for (size_t kind = 0; kind < RESOURCE_KINDS; kind++) {
			struct problem problem;
			struct seen seen = {.world = world};
			struct page page = {.limit = 1000};
			struct list_query query = {.actor = &world->actor, .kind = (enum resource_kind)kind};
			size_t own = 0;
			for (struct row_cursor c = {0}; resource_next(world->resource, (enum resource_kind)kind, &c);) {
				own += !is_foreign(world, c.row);
			}
			if (!resource_may_read(&world->actor, (enum resource_kind)kind, &problem)) {
				continue;
			}
			if (!resource_list(world->resource, &query, &page, see, &seen, &problem) || seen.count != own) {
				abort();
			}
		}
	}
}

static void check(struct world *world)
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
			check_references(world, c.row);
			struct record *shown = resource_show(world->resource, c.row, true);
			record_free(&shown);
		}
	}
	check_lists(world);
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
