// From a request to a plan: who may, what row, the body's fields, the rules, and what follows from the change.
#include <stdio.h>
#include <string.h>

#include "common/base/invariant.h"
#include "services/resource/allocate.h"
#include "services/resource/check.h"
#include "services/resource/kind.h"
#include "services/resource/store.h"

static const struct kind_hooks *const hooks[RESOURCE_KINDS] = {
    [RESOURCE_NODE] = &node_hooks,
    [RESOURCE_VPC_HOST] = &vpc_host_hooks,
    [RESOURCE_VPC] = &vpc_hooks,
    [RESOURCE_SUBNET] = &subnet_hooks,
    [RESOURCE_VPC_ROUTE_TABLE] = &vpc_route_table_hooks,
    [RESOURCE_BORDER_GATEWAY] = &border_gateway_hooks,
    [RESOURCE_VPC_ATTACHMENT] = &vpc_attachment_hooks,
    [RESOURCE_CUSTOMER_GATEWAY] = &customer_gateway_hooks,
    [RESOURCE_VPN_CONNECTION] = &vpn_connection_hooks,
    [RESOURCE_VPN_TUNNEL] = &vpn_tunnel_hooks,
    [RESOURCE_BORDER_GATEWAY_ROUTE] = &border_gateway_route_hooks,
    [RESOURCE_TOKEN] = &token_hooks,
    [RESOURCE_QUOTA] = &(const struct kind_hooks){0},
};

// ---- who may ----
struct actor actor_of_token(const struct record *token)
{
	struct actor actor = {.role = ROLE_VIEWER};
	snprintf(actor.token, sizeof actor.token, "%s", record_text(token, "id"));
	snprintf(actor.tenant, sizeof actor.tenant, "%s", record_text(token, "tenant"));
	if (record_is(token, "role", "ADMIN")) {
		actor.role = ROLE_ADMIN;
	} else if (record_is(token, "role", "OPERATOR")) {
		actor.role = ROLE_OPERATOR;
	}
	return actor;
}

bool resource_may_read(const struct actor *actor, enum resource_kind kind, struct problem *problem)
{
	if (kind_rules[kind].region_only && actor->tenant[0] && kind != RESOURCE_QUOTA) {
		return problem_set(problem, 403, "forbidden", NULL, NULL, "a %s belongs to the region, not to a tenant",
		                   kind_rules[kind].singular);
	}
	if (kind == RESOURCE_TOKEN && actor->role != ROLE_ADMIN) {
		return problem_set(problem, 403, "forbidden", NULL, NULL, "tokens are for the role ADMIN");
	}
	return true;
}

bool resource_visible(const struct actor *actor, const struct record *row)
{
	if (actor->tenant[0] && record_kind(row) == RESOURCE_QUOTA) {
		return record_is(row, "id", actor->tenant); // its own
	}
	bool region_only = kind_rules[record_kind(row)].region_only;
	return !actor->tenant[0] || (!region_only && record_is(row, "tenant", actor->tenant));
}

static bool may_write(const struct actor *actor, enum resource_kind kind, struct problem *problem)
{
	if (!resource_may_read(actor, kind, problem)) {
		return false;
	}
	if (kind_rules[kind].region_only && actor->tenant[0]) {
		return problem_set(problem, 403, "forbidden", NULL, NULL,
		                   "a %s is changed by the region's administrators alone", kind_rules[kind].singular);
	}
	enum role least = kind_rules[kind].admin_only ? ROLE_ADMIN : ROLE_OPERATOR;
	if (actor->role < least) {
		return problem_set(problem, 403, "forbidden", NULL, NULL, "the token's role may not change a %s (%s may)",
		                   kind_rules[kind].singular, least == ROLE_ADMIN ? "ADMIN" : "OPERATOR and ADMIN");
	}
	return true;
}

// ---- common answers ----
uint64_t quota_of(const struct draft *draft, const char *tenant, const char *field)
{
	const struct record *quota = draft_find(draft, RESOURCE_QUOTA, tenant);
	if (quota) {
		return record_number(quota, field);
	}
	struct record *defaults = quota_defaults();
	uint64_t limit = record_number(defaults, field);
	record_free(&defaults);
	return limit;
}

struct record *quota_defaults(void)
{
	struct record *row = record_new(RESOURCE_QUOTA);
	fill_missing(row);
	return row;
}

bool refuse_quota(struct draft *draft, const char *what, uint64_t limit)
{
	return refuse(
	    draft, 409, "quota", NULL, NULL,
	    "the quota of %s is %llu; delete one that is not used, or have the region's administrator raise the quota", what,
	    (unsigned long long)limit);
}

bool refuse_in_use(struct draft *draft, const char *user, const char *id)
{
	return refuse(draft, 409, "in-use", NULL, NULL, "%s %s uses it", user, id);
}

bool used_by(struct draft *draft, enum resource_kind kind, const char *path, const char *id)
{
	const struct record *user = draft_other(draft, (struct index_key){kind, path, id}, "");
	return user && !refuse_in_use(draft, kind_rules[kind].singular, record_text(user, "id"));
}

static void note_deletion_field(struct draft *draft)
{
	// A deletion has no body: the problem is about the resource.
	draft->plan->problem.field[0] = '\0';
	draft->plan->problem.value[0] = '\0';
}

// ---- making ----
static void take_secret(struct record *row, struct secret *secret)
{
	if (record_kind(row) != RESOURCE_VPN_TUNNEL || !record_has(row, "ike.preSharedKey")) {
		return;
	}
	const char *key = record_text(row, "ike.preSharedKey");
	size_t length = strlen(key);
	secret_set(secret, (struct bytes){(const uint8_t *)key, length});
	wipe((char *)(uintptr_t)key, length);
	record_clear(row, "ike.preSharedKey");
}

static bool name_row(struct draft *draft, struct record *row)
{
	enum resource_kind kind = record_kind(row);
	if (record_has(row, "id")) {
		return true; // chosen by the maker
	}
	if (kind_rules[kind].id_prefix) {
		char id[32];
		record_set_text(row, "id", allocate_id(draft, kind, id));
		return true;
	}
	const char *name = record_text(row, "name");
	if (draft_find(draft, kind, name)) {
		return refuse(draft, 409, "duplicate", "name", name, "there is a %s of this name", kind_rules[kind].singular);
	}
	record_set_text(row, "id", name);
	return true;
}

static bool complete(struct draft *draft, const struct record *before, struct record *row)
{
	const struct kind_hooks *own = hooks[record_kind(row)];
	return fill_defaults(draft, row) && check_values(draft, row) && (before || name_row(draft, row)) &&
	       (!own->check || own->check(draft, before, row));
}

bool plan_new(struct draft *draft, struct record *row, bool answer)
{
	char now[TIME_TEXT];
	record_set_text(row, "region", draft->store->region);
	record_set_text(row, "createdAt", time_format(draft->request->now, now));
	record_set_text(row, "updatedAt", now);
	record_set_number(row, "revision", 1);
	if (!complete(draft, NULL, row)) {
		record_free(&row);
		return false;
	}
	struct secret secret = {0};
	take_secret(row, &secret);
	struct change *change = draft_insert(draft, row);
	change->answer = answer;
	change->secret = secret;
	secret_wipe(&secret);
	const struct kind_hooks *own = hooks[record_kind(row)];
	return !own->made || own->made(draft, row);
}

// The tenant of a new row: the token's; or what was named; or that of the first row it refers to; or "default".
static void set_tenant(struct draft *draft, struct record *row)
{
	const char *actor = draft->request->actor.tenant;
	enum resource_kind kind = record_kind(row);
	if (kind_rules[kind].region_only || record_has(row, "tenant")) {
		return;
	}
	if (actor[0]) {
		record_set_text(row, "tenant", actor);
		return;
	}
	if (kind == RESOURCE_TOKEN) {
		return; // without a tenant: the whole region's
	}
	size_t count;
	const struct field_rule *rules = field_rules_of(kind, &count);
	for (size_t i = 0; i < count; i++) {
		bool refers =
		    rules[i].format == FORMAT_ID && rules[i].flags & FIELD_IMMUTABLE && record_has(row, rules[i].path);
		const struct record *other =
		    refers ? draft_find(draft, rules[i].reference, record_text(row, rules[i].path)) : NULL;
		if (other) {
			record_set_text(row, "tenant", record_text(other, "tenant"));
			return;
		}
	}
	record_set_text(row, "tenant", "default");
}

static bool plan_create(struct draft *draft)
{
	const struct request *request = draft->request;
	if (!check_given(draft, request->body, NULL)) {
		return false;
	}
	struct record *row = record_copy(request->body);
	set_tenant(draft, row);
	if (!apply_cleared(draft, request->cleared, row)) {
		record_free(&row);
		return false;
	}
	return plan_new(draft, row, true);
}

// ---- changing ----
static bool check_revision(struct draft *draft, const struct record *before, bool required)
{
	const struct request *request = draft->request;
	bool in_body = request->body && request->action == ACTION_UPDATE && record_has(request->body, "revision");
	uint64_t current = record_number(before, "revision");
	if (!request->has_revision && !in_body) {
		return !required || refuse(draft, 428, "revision-required", "revision", NULL,
		                           "an update names the revision it saw, in If-Match or in the body (now %llu)",
		                           (unsigned long long)current);
	}
	if ((request->has_revision && request->revision != current) ||
	    (in_body && record_number(request->body, "revision") != current)) {
		char value[24];
		snprintf(
		    value, sizeof value, "%llu",
		    (unsigned long long)(request->has_revision ? request->revision : record_number(request->body, "revision")));
		return refuse(draft, 412, "stale-revision", "revision", value,
		              "the %s was changed meanwhile: its revision is %llu", kind_rules[request->kind].singular,
		              (unsigned long long)current);
	}
	return true;
}

static bool plan_update(struct draft *draft, const struct record *before)
{
	const struct request *request = draft->request;
	if (!check_revision(draft, before, true) || !check_given(draft, request->body, before)) {
		return false;
	}
	struct record *row = draft_edit(draft, request->kind, request->id);
	record_merge(row, request->body);
	record_set_number(row, "revision", record_number(before, "revision"));
	if (!apply_cleared(draft, request->cleared, row) || !complete(draft, before, row)) {
		return false;
	}
	struct change *change = draft_change(draft, request->kind, request->id);
	change->answer = true;
	take_secret(row, &change->secret);
	return true;
}

static bool plan_delete(struct draft *draft, const struct record *row)
{
	const struct kind_hooks *own = hooks[record_kind(row)];
	if (!check_revision(draft, row, false)) {
		return false;
	}
	if (own->remove && !own->remove(draft, row)) {
		note_deletion_field(draft);
		return false;
	}
	draft_remove(draft, record_kind(row), record_text(row, "id"));
	return true;
}

// An action on a tunnel is a counter in its row: its ike does what it has not done yet, also when it was away.
static bool plan_count(struct draft *draft, const char *counter)
{
	struct record *row = draft_edit(draft, RESOURCE_VPN_TUNNEL, draft->request->id);
	if (!record_is(row, "adminState", "UP")) {
		return refuse(draft, 409, "not-up", NULL, NULL, "the tunnel's adminState is DOWN");
	}
	record_set_number(row, counter, record_number(row, counter) + 1);
	draft_change(draft, RESOURCE_VPN_TUNNEL, draft->request->id)->answer = true;
	return true;
}

// What has changed gets the next revision.
static void date_changes(struct draft *draft)
{
	char now[TIME_TEXT];
	time_format(draft->request->now, now);
	for (size_t i = 0; i < draft->plan->count; i++) {
		struct change *change = &draft->plan->changes[i];
		invariant(change->after || !change->answer); // what is answered with is there
		if (change->before && change->after &&
		    (change->secret.length || !record_equal(change->before, change->after))) {
			record_set_number(change->after, "revision", record_number(change->before, "revision") + 1);
			record_set_text(change->after, "updatedAt", now);
			invariant(record_number(change->after, "revision") > record_number(change->before, "revision"));
		}
	}
}

static bool plan_template(struct draft *draft, const struct record *connection)
{
	const struct request *request = draft->request;
	struct record *given = record_copy(request->body);
	bool done = check_given(draft, given, NULL) && apply_cleared(draft, request->cleared, given) &&
	            plan_add_tunnels(draft, connection, given);
	record_free(&given);
	return done;
}

static bool plan_action(struct draft *draft)
{
	const struct request *request = draft->request;
	if (request->action == ACTION_CREATE) {
		return plan_create(draft);
	}
	const struct record *row = resource_find(draft->store, request->kind, request->id);
	if (!row || !resource_visible(&request->actor, row)) {
		return refuse(draft, 404, "not-found", "id", request->id, "there is no such %s",
		              kind_rules[request->kind].singular);
	}
	switch (request->action) {
	case ACTION_UPDATE:
		return plan_update(draft, row);
	case ACTION_DELETE:
		return plan_delete(draft, row);
	case ACTION_ADD_TUNNELS:
		return check_revision(draft, row, false) && plan_template(draft, row);
	case ACTION_REKEY_CHILD:
		return check_revision(draft, row, false) && plan_count(draft, "rekeyChildRequests");
	case ACTION_REKEY_IKE:
		return check_revision(draft, row, false) && plan_count(draft, "rekeyIkeRequests");
	default:
		return check_revision(draft, row, false) && plan_count(draft, "restartRequests");
	}
}

bool resource_plan(const struct resource *resource, const struct request *request, struct plan *plan)
{
	*plan = (struct plan){0};
	struct draft draft = {resource, request, plan};
	if (!may_write(&request->actor, request->kind, &plan->problem) || !plan_action(&draft)) {
		return false;
	}
	date_changes(&draft);
	return true;
}
