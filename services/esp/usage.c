// What the workers counted, added up for the control thread.
#include "services/esp/octets.h"
#include "services/esp/table.h"

// What is equal here is equal to whoever is told; a number can be taken without a packet, and says nothing then.
static bool same_sa_usage(const struct esp_sa_usage *a, const struct esp_sa_usage *b)
{
	return a->tunnel == b->tunnel && a->packets_in == b->packets_in && a->packets_out == b->packets_out &&
	       a->last_in == b->last_in && outer_equal(&a->seen, &b->seen);
}

// Since it was told, packets went out and none came in.
static bool is_silent(const struct esp_sa_usage *told, const struct esp_sa_usage *usage)
{
	return usage->packets_out > told->packets_out && usage->packets_in == told->packets_in;
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

void esp_each_sa(struct esp *esp, enum esp_sas which, void (*each)(void *context, const struct esp_sa_usage *usage),
                 void *context)
{
	const struct spi_table *table = load(esp->spis);
	for (size_t i = 0; i <= table->mask; i++) {
		struct sa *sa = load(table->at[i]);
		if (!sa || sa == esp->tombstone) {
			continue;
		}
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
		if ((which == ESP_SAS_CHANGED && same_sa_usage(&sa->told, &usage)) ||
		    (which == ESP_SAS_SILENT && !is_silent(&sa->told, &usage))) {
			continue;
		}
		if (which != ESP_SAS_ALL) {
			sa->told = usage;
		}
		each(context, &usage);
	}
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
