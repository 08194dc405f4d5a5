// Changes, one after the other: core → database → core → bus → answer. The database answers later; until then the request is
// held, requests that read go on being answered from memory, and those that write wait for their turn, since a plan is made of
// the rows as they are. While the rows are being read again they wait too; without a database they are refused at once.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/io/log.h"
#include "services/resource/shell.h"

struct pending {
	struct pending *next;
	struct api_call call; // its texts are ours
	struct wanted_change wanted;
	struct plan plan;
};

struct changes {
	struct service *service;
	struct pending *first, **last; // the first may be under way
	bool under_way;                // its plan is the database's
};

// ---- afterwards ----
static json_t *change_json(const struct service *service, enum resource_kind kind, const char *id,
                           const struct secret *generated)
{
	json_t *json = shown_json(service, resource_find(service->resource, kind, id), true);
	if (generated->length) {
		json_t *text = json_stringn((const char *)generated->octets, generated->length);
		json_t *holder = kind == RESOURCE_VPN_TUNNEL ? json_object_get(json, "ike") : json;
		json_object_set_new(holder, kind == RESOURCE_VPN_TUNNEL ? "preSharedKey" : "token", text);
	}
	return json;
}

static void publish(struct service *service, const struct actor *actor, const struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct change *change = &plan->changes[i];
		const struct record *row = resource_find(service->resource, change->kind, change->id);
		resource_bus_row(service->bus, change->kind, change->id, row);
		if (change->secret.length && change->kind == RESOURCE_VPN_TUNNEL && row) {
			resource_bus_secret(service->bus, change->id, record_text(row, "nodeId"),
			                    secret_bytes(&change->secret));
		}
		if (change->kind == RESOURCE_TOKEN && change->secret.length) {
			char hash[SHA256_TEXT];
			sha256_text(secret_bytes(&change->secret), hash);
			free(map_insert_text(service->token_ids, hash, duplicate_text(change->id)));
		}
		// The hash of a token that is gone stays in the map until the next reading: it leads to no row.
		log_event(LOG_INFO, row ? "resource-written" : "resource-deleted", kind_rules[change->kind].singular,
		          change->id, "revision", row ? log_number((int64_t)record_number(row, "revision")) : NULL, "by",
		          actor->token, "tenant", actor->tenant, "removed", *change->note ? change->note : NULL, NULL);
	}
	resource_bus_commit(service->bus, false);
}

// 204, or 200 with what went along and does not come back by itself.
static void answer_deletion(const struct api_call *call, const struct plan *plan)
{
	json_t *removed = json_array();
	for (size_t i = 0; i < plan->count; i++) {
		const struct change *change = &plan->changes[i];
		if (*change->note) {
			json_array_append_new(removed, json_pack("{s:s, s:s, s:s}", "kind", kind_rules[change->kind].singular,
			                                         "id", change->id, "what", change->note));
		}
	}
	if (json_array_size(removed) > 0) {
		answer_json(call, 200, json_pack("{s:s, s:o}", "id", call->id, "removed", removed), NULL, 0);
		return;
	}
	json_decref(removed);
	const struct http_field fields[] = {{"Cache-Control", "no-store"}};
	api_respond(call->request, 204, NULL, NULL, fields, 1);
}

static void answer_change(const struct api_call *call, enum action action, const struct plan *plan)
{
	if (action == ACTION_DELETE) {
		answer_deletion(call, plan);
		return;
	}
	json_t *items = json_array();
	const struct change *last = NULL;
	for (size_t i = 0; i < plan->count; i++) {
		const struct change *change = &plan->changes[i];
		if (change->answer) {
			static const struct secret none;
			json_array_append_new(items, change_json(call->service, change->kind, change->id,
			                                         change->generated ? &change->secret : &none));
			last = change;
		}
	}
	if (action == ACTION_ADD_TUNNELS) {
		answer_json(call, 201, json_pack("{s:o}", "items", items), NULL, 0);
		return;
	}
	json_t *item = json_incref(json_array_get(items, 0));
	json_decref(items);
	char location[128];
	snprintf(location, sizeof location, "/v1/%s/%s", kind_rules[last->kind].plural, last->id);
	const struct record *row = resource_find(call->service->resource, last->kind, last->id);
	bool made = action == ACTION_CREATE;
	answer_json(call, made ? 201 : 200, item, made ? location : NULL, record_number(row, "revision"));
}

// ---- one change ----
static void wipe_key(struct record *body)
{
	if (record_kind(body) == RESOURCE_VPN_TUNNEL && record_has(body, "ike.preSharedKey")) {
		const char *key = record_text(body, "ike.preSharedKey");
		wipe((char *)(uintptr_t)key, strlen(key));
	}
}

static void pending_free(struct pending *pending)
{
	if (pending->wanted.body) {
		wipe_key(pending->wanted.body);
		record_free(&pending->wanted.body);
	}
	plan_free(&pending->plan);
	free((char *)(uintptr_t)pending->call.id);
	free(pending);
}

// The request has been answered.
static void finish(struct changes *changes)
{
	struct pending *pending = changes->first;
	changes->first = pending->next;
	if (!changes->first) {
		changes->last = &changes->first;
	}
	changes->under_way = false;
	pending_free(pending);
}

static void refuse(const struct pending *pending, int status, const char *type, const char *rule)
{
	struct problem problem = {0};
	problem_set(&problem, status, type, NULL, NULL, "%s", rule);
	answer_problem(pending->call.request, &problem);
}

static void written(void *context, enum store_result result)
{
	struct changes *changes = context;
	struct pending *pending = changes->first;
	struct service *service = changes->service;
	invariant(changes->under_way);
	switch (result) {
	case STORE_DONE:
		resource_apply(service->resource, &pending->plan);
		publish(service, &pending->call.actor, &pending->plan);
		answer_change(&pending->call, pending->wanted.action, &pending->plan);
		break;
	case STORE_RACED:
		refuse(pending, 503, "try-again",
		       "the database holds something else than this was planned with; nothing was written, the rows are read "
		       "again");
		break;
	case STORE_UNKNOWN:
		refuse(pending, 503, "outcome-unknown",
		       "the database did not say whether this was written: it may have been, or still be. Read it back before "
		       "trying "
		       "again: nothing is written before this is decided");
		break;
	case STORE_AWAY:
		refuse(pending, 503, "database-away", "the database does not answer; nothing was written, reads go on");
		break;
	}
	finish(changes);
	changes_advance(changes);
}

static bool is_unusable(const struct service *service, const struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		if (store_unusable(service->store, plan->changes[i].kind, plan->changes[i].id)) {
			return true;
		}
	}
	return false;
}

static void start(struct changes *changes)
{
	struct pending *pending = changes->first;
	struct service *service = changes->service;
	struct request request = {
	    .actor = pending->call.actor,
	    .action = pending->wanted.action,
	    .kind = pending->call.kind,
	    .id = pending->call.id,
	    .body = pending->wanted.body,
	    .cleared = pending->wanted.body ? &pending->wanted.cleared : NULL,
	    .has_revision = pending->wanted.has_revision,
	    .revision = pending->wanted.revision,
	    .now = wall_clock(),
	    .random = &service->random,
	};
	if (answer_unusable(&pending->call)) {
		finish(changes);
	} else if (!resource_plan(service->resource, &request, &pending->plan)) {
		answer_problem(pending->call.request, &pending->plan.problem);
		finish(changes);
	} else if (is_unusable(service, &pending->plan)) {
		refuse(pending, 500, "unusable-row",
		       "this would change a resource that this release cannot read in the database");
		finish(changes);
	} else {
		changes->under_way = true;
		store_write(service->store, &pending->plan, written, changes);
	}
}

// ---- the queue ----
void changes_advance(struct changes *changes)
{
	while (changes->first && !changes->under_way) {
		switch (store_state(changes->service->store)) {
		case STORE_READY:
			start(changes);
			break;
		case STORE_READING:
			return;
		case STORE_GONE:
			refuse(changes->first, 503, "database-away",
			       "the database does not answer; nothing was written, reads go on");
			finish(changes);
			break;
		}
	}
}

void change_begin(const struct api_call *call, const struct wanted_change *wanted)
{
	struct changes *changes = call->service->changes;
	struct pending *pending = allocate(sizeof *pending);
	pending->call = *call;
	pending->call.id = call->id ? duplicate_text(call->id) : NULL;
	pending->call.below = NULL;
	pending->wanted = *wanted;
	*changes->last = pending;
	changes->last = &pending->next;
	changes_advance(changes);
}

struct changes *changes_new(struct service *service)
{
	struct changes *changes = allocate(sizeof *changes);
	changes->service = service;
	changes->last = &changes->first;
	return changes;
}

void changes_free(struct changes **changes)
{
	while ((*changes)->first) {
		struct pending *pending = (*changes)->first;
		(*changes)->first = pending->next;
		pending_free(pending);
	}
	free(*changes);
	*changes = NULL;
}
