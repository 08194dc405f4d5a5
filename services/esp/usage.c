// What the workers counted, added up for the control thread.
#include "services/esp/octets.h"
#include "services/esp/table.h"

enum {
	SILENT_LOOKS = 2,   // without an answer; or
	SILENT_PACKETS = 4, // so many: an acknowledgement may come a little late, but not of all of them
	MANY_PACKETS = 1000,
	MANY_LOOKS = 2,
	STILL_LOOKS = 7, // at rest: longer than BGP's keepalives are apart
	LATEST_LOOKS = 20,
};

// What is equal here is equal to whoever is told; a number can be taken without a packet, and says nothing then.
static bool same_sa_usage(const struct esp_sa_usage *a, const struct esp_sa_usage *b)
{
	return a->tunnel == b->tunnel && a->packets_in == b->packets_in && a->packets_out == b->packets_out &&
	       a->last_in == b->last_in && outer_equal(&a->seen, &b->seen) && a->resting == b->resting;
}

// What this look found, beside the one before.
static void look(struct sa_report *report, const struct esp_sa_usage *usage)
{
	bool heard = usage->packets_in != report->packets_in, sent = usage->packets_out != report->packets_out;
	if (heard) {
		report->answered = usage->packets_out;
		report->silent = 0;
	} else if (usage->packets_out > report->answered && report->silent < SILENT_LOOKS) {
		report->silent++;
	}
	report->still = heard || sent ? 0 : report->still < STILL_LOOKS ? report->still + 1 : STILL_LOOKS;
	report->packets_in = usage->packets_in;
	report->packets_out = usage->packets_out;
}

// Packets went out and the peer, which may have answered, has not.
static bool is_silent(const struct sa_report *report, const struct esp_sa_usage *usage)
{
	return report->silent >= SILENT_LOOKS || (report->silent > 0 && usage->packets_out - report->answered >= SILENT_PACKETS);
}

// Whether there is something to tell, and it is to be told now. What decides about the peer is told at once: a new SA, the
// peer's first packet on it, another port, its silence and the end of that, rest and the end of that. The rest can wait until
// there is a lot of it or the last time is long ago, so that a keepalive of BGP does not cost a row.
static bool is_due(const struct sa_report *report, const struct esp_sa_usage *usage, bool silent)
{
	const struct esp_sa_usage *told = &report->told;
	uint64_t packets = usage->packets_in - told->packets_in + usage->packets_out - told->packets_out;
	bool news = told->tunnel != usage->tunnel || (told->packets_in == 0 && usage->packets_in > 0) ||
	            !outer_equal(&told->seen, &usage->seen) || silent != report->told_silent ||
	            usage->resting != told->resting;
	unsigned patience = packets >= MANY_PACKETS || silent ? MANY_LOOKS : LATEST_LOOKS;
	return news || report->waited >= patience;
}

static bool same_tunnel_usage(const struct esp_tunnel_usage *a, const struct esp_tunnel_usage *b)
{
	return a->id == b->id && a->packets_in == b->packets_in && a->packets_out == b->packets_out && a->drops == b->drops;
}

static struct outer seen_at(const struct sa *sa)
{
	uint64_t words[3];
	uint32_t version;
	do {
		version = atomic_load_explicit(&sa->seen.version, memory_order_acquire);
		for (unsigned i = 0; i < 3; i++) {
			words[i] = atomic_load_explicit(&sa->seen.words[i], memory_order_relaxed);
		}
		atomic_thread_fence(memory_order_acquire);
	} while (version % 2 != 0 || version != atomic_load_explicit(&sa->seen.version, memory_order_relaxed));
	struct outer seen;
	memcpy(&seen, words, sizeof seen);
	const struct path *path = load(sa->path);
	bool own = memcmp(seen.octets, path->remote.octets, sizeof seen.octets) == 0 &&
	           (path->remote.port == 0 || path->remote.port == seen.port);
	return own ? (struct outer){0} : seen;
}

static struct esp_sa_usage usage_of(const struct esp *esp, const struct sa *sa)
{
	struct esp_sa_usage usage = {
	    .tunnel = sa->tunnel->id,
	    .inbound_spi = sa->inbound_spi,
	    .bytes_in = counted(&sa->bytes_in),
	    .packets_in = counted(&sa->packets_in),
	    .last_in = atomic_load_explicit(&sa->last_in, memory_order_relaxed),
	    .sequence_out = atomic_load_explicit(&sa->sequence.next, memory_order_relaxed) - 1,
	    .seen = seen_at(sa),
	};
	for (unsigned w = 0; w < esp->config.workers; w++) {
		usage.packets_out += counted(&sa->out[w].packets);
		usage.bytes_out += counted(&sa->out[w].bytes);
	}
	return usage;
}

static struct sa *next_sa(const struct esp *esp, size_t *slot)
{
	const struct spi_table *table = load(esp->spis);
	while (*slot <= table->mask) {
		struct sa *sa = load(table->at[(*slot)++]);
		if (sa && sa != esp->tombstone) {
			return sa;
		}
	}
	return NULL;
}

void esp_each_sa(struct esp *esp, void (*each)(void *context, const struct esp_sa_usage *usage), void *context)
{
	size_t slot = 0;
	for (struct sa *sa; (sa = next_sa(esp, &slot));) {
		struct esp_sa_usage usage = usage_of(esp, sa);
		each(context, &usage);
	}
}

size_t esp_look(struct esp *esp, void (*tell)(void *context, const struct esp_sa_usage *usage), void *context)
{
	size_t slot = 0, open = 0;
	for (struct sa *sa; (sa = next_sa(esp, &slot));) {
		struct sa_report *report = &sa->report;
		struct esp_sa_usage usage = usage_of(esp, sa);
		look(report, &usage);
		usage.resting = report->still == STILL_LOOKS || !report->told.tunnel;
		bool same = same_sa_usage(&report->told, &usage), silent = is_silent(report, &usage);
		report->waited = same ? 0 : report->waited + 1;
		if (!same && is_due(report, &usage, silent)) {
			report->told = usage;
			report->told_silent = silent;
			report->waited = 0;
			same = true;
			tell(context, &usage);
		}
		open += !same || !usage.resting; // that it rests is to be told yet
	}
	return open;
}

void esp_each_tunnel(struct esp *esp, bool changed, void (*each)(void *context, const struct esp_tunnel_usage *usage),
                     void *context)
{
	struct map_cursor cursor = {0};
	while (map_next(esp->tunnels, &cursor)) {
		struct esp_tunnel *tunnel = cursor.value;
		if (!load(tunnel->config)) {
			continue;
		}
		struct esp_tunnel_usage usage = {.id = tunnel->id};
		for (unsigned w = 0; w < esp->config.workers; w++) {
			const struct tunnel_counters *counters = &tunnel->counters[w];
			usage.packets_in += counted(&counters->packets_in);
			usage.bytes_in += counted(&counters->bytes_in);
			usage.packets_out += counted(&counters->packets_out);
			usage.bytes_out += counted(&counters->bytes_out);
			usage.drops += counted(&counters->drops);
		}
		if (changed && same_tunnel_usage(&tunnel->told, &usage)) {
			continue;
		}
		if (changed) {
			tunnel->told = usage;
		}
		each(context, &usage);
	}
}

uint64_t esp_drops(const struct esp *esp, enum esp_drop reason)
{
	uint64_t sum = 0;
	for (unsigned w = 0; w < esp->config.workers; w++) {
		sum += counted(&esp->counters[w].drops[reason]);
	}
	return sum;
}
