// Security association pairs: their life, the table of inbound SPIs, and which one of a tunnel sends (RFC 7296 §2.8: the newest
// that the peer is known to have).
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/base/secret.h"
#include "services/esp/octets.h"
#include "services/esp/table.h"

// ---- the table of SPIs ----

static size_t home_of(const struct spi_table *table, uint32_t spi)
{
	return (spi * 0x9e3779b1u ^ spi >> 15) & table->mask;
}

struct sa *sa_find(const struct esp *esp, uint32_t spi)
{
	const struct spi_table *table = load(esp->spis);
	for (size_t i = home_of(table, spi);; i = (i + 1) & table->mask) {
		struct sa *sa = load(table->at[i]);
		if (!sa || (sa != esp->tombstone && sa->inbound_spi == spi)) {
			return sa;
		}
	}
}

static void put(struct spi_table *table, struct sa *sa)
{
	size_t i = home_of(table, sa->inbound_spi);
	while (load(table->at[i])) {
		i = (i + 1) & table->mask;
	}
	publish(table->at[i], sa);
}

static void spi_insert(struct esp *esp, struct sa *sa)
{
	struct spi_table *table = load(esp->spis);
	if (2 * (esp->spi_used + esp->spi_removed + 1) > table->mask + 1) {
		size_t size = table->mask + 1;
		while (size < 4 * (esp->spi_used + 1)) {
			size *= 2;
		}
		struct spi_table *next = allocate(sizeof *next + size * sizeof next->at[0]);
		next->mask = size - 1;
		for (size_t i = 0; i <= table->mask; i++) {
			struct sa *held = load(table->at[i]);
			if (held && held != esp->tombstone) {
				put(next, held);
			}
		}
		publish(esp->spis, next);
		retire(table, free);
		esp->spi_removed = 0;
		table = next;
	}
	put(table, sa);
	esp->spi_used++;
	invariant(2 * (esp->spi_used + esp->spi_removed) <= table->mask + 1);
}

static void spi_remove(struct esp *esp, const struct sa *sa)
{
	struct spi_table *table = load(esp->spis);
	for (size_t i = home_of(table, sa->inbound_spi); load(table->at[i]); i = (i + 1) & table->mask) {
		if (load(table->at[i]) == sa) {
			publish(table->at[i], esp->tombstone);
			invariant(esp->spi_used > 0);
			esp->spi_used--;
			esp->spi_removed++;
			return;
		}
	}
}

// ---- one pair ----

static void sa_free(void *object)
{
	struct sa *sa = object;
	cipher_free(&sa->open);
	cipher_free(&sa->seal);
	free(load(sa->path));
	free(load(sa->selectors));
	free(sa->out);
	wipe(sa, sizeof *sa);
	free(sa);
}

// What makes it another SA when it changes, as one digest; and the outbound key alone, which names its sequence numbers.
static void fingerprints(const struct esp_sa_row *row, uint8_t whole[static 32], uint8_t record[static 16])
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	uint32_t head[] = {row->inbound.spi, row->outbound.spi, row->encryption, row->integrity, row->extended};
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	EVP_DigestInit_ex(context, EVP_sha256(), NULL);
	EVP_DigestUpdate(context, &row->outbound.spi, sizeof row->outbound.spi);
	EVP_DigestUpdate(context, row->outbound.encryption.data, row->outbound.encryption.length);
	EVP_DigestFinal_ex(context, digest, NULL);
	memcpy(record, digest, 16);
	EVP_DigestInit_ex(context, EVP_sha256(), NULL);
	EVP_DigestUpdate(context, head, sizeof head);
	const struct bytes keys[] = {row->inbound.encryption, row->inbound.integrity, row->outbound.encryption,
	                             row->outbound.integrity};
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
		EVP_DigestUpdate(context, keys[i].data, keys[i].length);
	}
	EVP_DigestFinal_ex(context, digest, NULL);
	memcpy(whole, digest, 32);
	EVP_MD_CTX_free(context);
	wipe(digest, sizeof digest);
}

// RFC 4301 §8.1, RFC 3948 §2.1: what is left of the outer MTU for an inner packet.
static uint16_t inner_mtu(unsigned outer, const struct suite *suite, bool udp)
{
	unsigned around = 20u + (udp ? 8u : 0u) + ESP_HEADER + suite->iv + suite->icv;
	if (outer <= around + suite->align) {
		return 0;
	}
	return (uint16_t)((outer - around) / suite->align * suite->align - 2);
}

static struct sa *sa_new(struct esp *esp, const struct esp_sa_row *row, const char **why)
{
	struct suite suite;
	if (!suite_of(row->encryption, row->integrity, &suite)) {
		*why = "encryption and integrity do not go together";
		return NULL;
	}
	if (row->inbound.spi < 256 || row->outbound.spi < 256) {
		*why = "reserved SPI";
		return NULL;
	}
	struct sa *sa = aligned_alloc(64, (sizeof *sa + 63) / 64 * 64);
	size_t size = esp->config.workers * sizeof *sa->out;
	struct sa_out *out = aligned_alloc(_Alignof(struct sa_out), size);
	if (!sa || !out) {
		abort();
	}
	memset(sa, 0, sizeof *sa);
	memset(out, 0, size);
	sa->out = out;
	sa->suite = suite;
	sa->inbound_spi = row->inbound.spi;
	sa->outbound_spi = row->outbound.spi;
	sa->extended = row->extended;
	sa->open = cipher_new(esp->engine, &suite, &row->inbound, false, row->extended);
	sa->seal = cipher_new(esp->engine, &suite, &row->outbound, true, row->extended);
	fingerprints(row, sa->fingerprint, sa->fingerprint_out);
	if (!sa->open || !sa->seal) {
		*why = "key length";
		sa_free(sa);
		return NULL;
	}
	if (sequence_must_wait(&esp->sequences, sa->fingerprint_out)) {
		esp_synchronize(esp);
		sequence_waited(&esp->sequences);
	}
	if (!sequence_init(&sa->sequence, &esp->sequences, sa->fingerprint_out, row->extended)) {
		*why = "no record for its sequence numbers";
		sa_free(sa);
		return NULL;
	}
	sa->record = sa->sequence.record;
	replay_init(&sa->replay, row->replay_window, sa->record ? sa->record->received : 0);
	return sa;
}

// ---- of a tunnel ----

static void choose_outbound(struct esp_tunnel *tunnel)
{
	struct sa *newest = tunnel->sas;
	while (newest && !load(newest->in_use)) {
		newest = load(newest->next);
	}
	if (load(tunnel->outbound) != newest) {
		publish(tunnel->outbound, newest);
	}
}

// Workers go along `next` from the one that sends: what is taken out goes on leading to what was behind it.
static void unlink_sa(struct esp_tunnel *tunnel, struct sa *sa)
{
	struct sa *before = NULL;
	for (struct sa *at = tunnel->sas; at != sa; at = load(at->next)) {
		invariant(at != NULL);
		before = at;
	}
	if (before) {
		publish(before->next, load(sa->next));
	} else {
		tunnel->sas = load(sa->next);
	}
}

static void link_sa(struct esp_tunnel *tunnel, struct sa *sa, uint64_t generation)
{
	struct sa *before = NULL, *after = tunnel->sas;
	while (after && after->generation > generation) {
		before = after;
		after = load(after->next);
	}
	sa->generation = generation;
	publish(sa->next, after);
	if (before) {
		publish(before->next, sa);
	} else {
		tunnel->sas = sa;
	}
	invariant(sa != after && (!before || before->generation > generation));
}

static void set_selectors(struct sa *sa, struct selectors *selectors)
{
	struct selectors *old = load(sa->selectors);
	if (selectors_equal(old, selectors)) {
		free(selectors);
		return;
	}
	publish(sa->selectors, selectors);
	publish(sa->any, selectors_any(selectors));
	retire(old, free);
}

static void set_path(const struct esp *esp, struct sa *sa, const struct esp_sa_row *row)
{
	uint16_t mtu = inner_mtu(esp->config.outer_mtu, &sa->suite, row->udp);
	atomic_store_explicit(&sa->mtu, mtu, memory_order_relaxed);
	struct path path = {
	    .local = outer_ipv4(raw32(row->local.octets), row->udp ? row->local_port : 0),
	    .remote = outer_ipv4(raw32(row->remote.octets), row->udp ? row->remote_port : 0),
	};
	struct path *old = load(sa->path);
	if (old && memcmp(old, &path, sizeof path) == 0) {
		return;
	}
	struct path *next = allocate(sizeof *next);
	*next = path;
	publish(sa->path, next);
	retire(old, free);
}

static struct sa *find_of_tunnel(const struct esp_tunnel *tunnel, uint32_t spi)
{
	for (struct sa *sa = tunnel ? tunnel->sas : NULL; sa; sa = load(sa->next)) {
		if (sa->inbound_spi == spi) {
			return sa;
		}
	}
	return NULL;
}

static void detach(struct esp *esp, struct sa *sa)
{
	struct esp_tunnel *tunnel = sa->tunnel;
	unlink_sa(tunnel, sa);
	spi_remove(esp, sa);
	choose_outbound(tunnel);
	invariant(load(tunnel->outbound) != sa && sa_find(esp, sa->inbound_spi) == NULL);
	sequence_fini(&sa->sequence, &esp->sequences);
	invariant(esp->sas > 0);
	esp->sas--;
	retire(sa, sa_free);
	tunnel_release(esp, tunnel);
}

const char *esp_sa_set(struct esp *esp, const struct esp_sa_row *row)
{
	const char *why = NULL;
	if (row->local.length != 4 || row->remote.length != 4) {
		return "outer addresses are not IPv4";
	}
	struct selectors *selectors = selectors_new(row, &why);
	if (why) {
		return why;
	}
	struct sa *sa = find_of_tunnel(map_find_text(esp->tunnels, row->tunnel), row->inbound.spi);
	uint8_t whole[32], record[16];
	fingerprints(row, whole, record);
	if (sa && memcmp(sa->fingerprint, whole, sizeof whole) != 0) {
		detach(esp, sa); // another key under the same SPI: nothing of the old one may stay
		sa = NULL;
	}
	if (!sa) {
		why = sa_find(esp, row->inbound.spi) ? "SPI belongs to another tunnel" : NULL;
		sa = why ? NULL : sa_new(esp, row, &why);
		if (!sa) {
			free(selectors);
			return why;
		}
		set_path(esp, sa, row);
		publish(sa->selectors, selectors);
		publish(sa->any, selectors_any(selectors));
		sa->tunnel = tunnel_hold(esp, row->tunnel);
		link_sa(sa->tunnel, sa, row->generation);
		spi_insert(esp, sa);
		esp->sas++;
	} else {
		set_path(esp, sa, row);
		set_selectors(sa, selectors);
		if (sa->generation != row->generation) {
			unlink_sa(sa->tunnel, sa);
			link_sa(sa->tunnel, sa, row->generation);
		}
	}
	publish(sa->in_use, row->outbound_in_use);
	choose_outbound(sa->tunnel);
	return NULL;
}

void esp_sa_remove(struct esp *esp, const char *tunnel, uint32_t inbound_spi)
{
	struct sa *sa = find_of_tunnel(map_find_text(esp->tunnels, tunnel), inbound_spi);
	if (sa) {
		detach(esp, sa);
	}
}

void esp_sa_complete(struct esp *esp)
{
	sequence_file_complete(&esp->sequences);
}

size_t esp_sa_count(const struct esp *esp)
{
	return esp->sas;
}

void sa_free_all(struct esp *esp)
{
	const struct spi_table *table = load(esp->spis);
	for (size_t i = 0; i <= table->mask; i++) {
		struct sa *sa = load(table->at[i]);
		if (sa && sa != esp->tombstone) {
			sa->sequence.record = NULL; // the process ends, the SA may live on: it keeps its record
			detach(esp, sa);
		}
	}
}

void esp_wipe(struct esp *esp)
{
	// What OpenSSL made of a key stays with it: its contexts belong to workers that may be using them.
	// A worker looks after its last use of a key, so what it sent before this was sealed with whole keys.
	atomic_store(&esp->wiped, true);
	const struct spi_table *table = load(esp->spis);
	for (size_t i = 0; i <= table->mask; i++) {
		struct sa *sa = load(table->at[i]);
		if (sa && sa != esp->tombstone) {
			cipher_wipe(sa->open);
			cipher_wipe(sa->seal);
		}
	}
}

unsigned esp_tunnel_mtu(const struct esp *esp, const char *id)
{
	const struct esp_tunnel *tunnel = map_find_text(esp->tunnels, id);
	const struct sa *sa = tunnel ? load(tunnel->outbound) : NULL;
	return sa ? sa->mtu : 0;
}
