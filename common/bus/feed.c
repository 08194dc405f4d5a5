// See feed.h.
#include "common/bus/feed.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/bus/replica.h"
#include "common/io/log.h"

struct feed {
	const struct feed_kind *kind;
	char *owner;
	struct replica *replica;
	void *context;
	struct metric *unusable;
	bool taking; // a callback of it runs
	bool takes_empty_key;
};

static void complain(struct feed *feed, struct bytes octets, const char *why)
{
	char *key = format_text("%.*s", (int)(octets.length < 200 ? octets.length : 200), (const char *)octets.data);
	metric_add(feed->unusable, 1);
	log_limited(LOG_WARNING, "row-not-usable", "owner", feed->owner, "table", feed->kind->table, "key", key, "reason", why,
	            NULL);
	free(key);
}

static bool read_key(const struct feed *feed, struct bytes octets, struct row_key *out)
{
	if (octets.length == 0 && feed->takes_empty_key) {
		*out = (struct row_key){.rest = out->text};
		return true;
	}
	return row_key_read(octets, out);
}

static void take_row(struct feed *feed, const struct replica_row *row)
{
	const struct feed_kind *kind = feed->kind;
	struct row_key key;
	if (!read_key(feed, row->key, &key)) {
		complain(feed, row->key, "its key is not one of this table");
		return;
	}
	if (row->removed) {
		kind->take(feed->context, &key, NULL);
		return;
	}
	ProtobufCMessage *message = protobuf_c_message_unpack(kind->descriptor, NULL, row->value.length, row->value.data);
	const char *why = message ? kind->take(feed->context, &key, message) : "not a message of this table";
	if (why) {
		// As good as none: what an earlier row said is not so any more.
		kind->take(feed->context, &key, NULL);
		complain(feed, row->key, why);
	}
	if (message) {
		protobuf_c_message_free_unpacked(message, NULL);
	}
}

static void changed(void *context, const struct replica_row *rows, size_t count)
{
	struct feed *feed = context;
	invariant(!feed->taking);
	feed->taking = true;
	for (size_t i = 0; feed->kind->take && i < count; i++) {
		take_row(feed, &rows[i]);
	}
	if (feed->kind->settled) {
		feed->kind->settled(feed->context);
	}
	feed->taking = false;
}

struct feed *feed_new(struct bus *bus, const char *owner, const struct feed_kind *kind, const char *filter, void *context)
{
	struct feed *feed = allocate(sizeof *feed);
	*feed = (struct feed){.kind = kind, .owner = duplicate_text(owner), .context = context};
	char *label = format_text("table=\"%s\"", kind->table);
	feed->unusable =
	    metric(METRIC_COUNTER, "twinspan_bus_unusable_rows_total", label, "Rows of others that could not be used");
	free(label);
	feed->replica = replica_new(bus, owner, kind->table, filter, changed, feed);
	return feed;
}

void feed_take_empty_key(struct feed *feed)
{
	feed->takes_empty_key = true;
}

static void take_back(void *context, struct bytes key, struct bytes value)
{
	(void)value;
	struct feed *feed = context;
	struct row_key parsed;
	if (read_key(feed, key, &parsed)) {
		feed->kind->take(feed->context, &parsed, NULL);
	}
}

void feed_withdraw(struct feed **feed_at)
{
	struct feed *feed = *feed_at;
	if (feed && feed->kind->take) {
		feed->taking = true;
		replica_each(feed->replica, take_back, feed);
		feed->taking = false;
	}
	feed_free(feed_at);
}

void feed_free(struct feed **feed_at)
{
	struct feed *feed = *feed_at;
	if (!feed) {
		return;
	}
	invariant(!feed->taking);
	replica_free(&feed->replica);
	free(feed->owner);
	free(feed);
	*feed_at = NULL;
}

bool feed_has_snapshot(const struct feed *feed)
{
	return replica_has_snapshot(feed->replica);
}

bool feed_owner_alive(const struct feed *feed)
{
	return replica_owner_alive(feed->replica);
}

void feed_on_state(struct feed *feed, loop_fn *fn, void *context)
{
	replica_on_state(feed->replica, fn, context);
}

struct replica *feed_replica(struct feed *feed)
{
	return feed->replica;
}
