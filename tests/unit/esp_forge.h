// For the tests of the packet path: packets from a customer made by hand, with any plaintext and any trailer; counters; usage.
#ifndef TWINSPAN_TEST_ESP_FORGE_H
#define TWINSPAN_TEST_ESP_FORGE_H

#include "tests/unit/esp_pair.h"

#include "services/esp/crypto.h"

static uint8_t frame[ESP_FRAME_MAX], plain[ESP_FRAME_MAX];
static struct packet packets[PACKETS_MAX];

static inline uint64_t all_drops(const struct side *side)
{
	uint64_t sum = 0;
	for (int i = 0; i < ESP_DROPS; i++) {
		sum += esp_drops(side->esp, i);
	}
	return sum;
}

static struct esp_sa_usage found_usage;
static inline void keep_usage(void *context, const struct esp_sa_usage *usage)
{
	(void)context;
	found_usage = *usage;
}

static inline struct esp_sa_usage usage_of(const struct side *side)
{
	memset(&found_usage, 0, sizeof found_usage);
	esp_each_sa(side->esp, keep_usage, NULL);
	return found_usage;
}

// A packet from the customer, made by hand: any plaintext, any trailer.
struct forge {
	struct pair *pair;
	struct crypto_engine *engine;
	struct crypto *crypto;
	struct cipher *cipher;
	uint64_t sequence;
};

static inline struct forge forge_new(struct pair *pair)
{
	static const uint8_t seed[32] = {5};
	struct forge forge = {.pair = pair, .engine = crypto_engine_new(false), .sequence = 1};
	struct suite suite;
	assert_true(suite_of(pair->row_a.encryption, pair->row_a.integrity, &suite));
	forge.crypto = crypto_new(forge.engine, 0, seed);
	forge.cipher = cipher_new(forge.engine, &suite, &pair->row_a.inbound, true, false);
	return forge;
}

static inline void forge_free(struct forge *forge)
{
	cipher_free(&forge->cipher);
	crypto_free(&forge->crypto);
	crypto_engine_free(&forge->engine);
}

// `text` with its trailer as it is, padded by the caller. Through side a.
static inline size_t send_forged(struct forge *forge, const uint8_t *text, size_t length, uint8_t tos)
{
	static struct packet packet;
	crypto_seal(forge->crypto, &(struct crypto_op){.cipher = forge->cipher,
	                                               .esp = packet.octets,
	                                               .plain = text,
	                                               .length = (uint32_t)length,
	                                               .sequence = forge->sequence,
	                                               .spi = forge->pair->row_a.inbound.spi});
	forge->sequence++;
	packet.length = 16 + length + 16;
	packet.tos = tos;
	return decap(&forge->pair->a, &packet, plain);
}

static inline size_t with_trailer(uint8_t *text, size_t length, uint8_t next_header)
{
	size_t padding = (4 - (length + 2) % 4) % 4;
	for (size_t i = 0; i < padding; i++) {
		text[length + i] = (uint8_t)(i + 1);
	}
	text[length + padding] = (uint8_t)padding;
	text[length + padding + 1] = next_header;
	return length + padding + 2;
}

static const struct build from_idc = {.protocol = 17,
                                      .source = "192.168.3.4",
                                      .destination = "10.0.1.5",
                                      .source_port = 2000,
                                      .destination_port = 1000,
                                      .payload = 64};

static inline size_t send_build(struct forge *forge, const struct build *build, uint8_t tos)
{
	static uint8_t text[4096];
	size_t length = build_packet(build, text);
	return send_forged(forge, text, with_trailer(text, length, build->ipv6 ? 41 : 4), tos);
}

#define assert_drop(side, reason, call) assert_drops(side, reason, 1, call)
#define assert_drops(side, reason, count, call)                                                                                \
	do {                                                                                                                   \
		uint64_t before_ = esp_drops((side)->esp, reason), all_ = all_drops(side);                                     \
		call;                                                                                                          \
		assert_int_equal(esp_drops((side)->esp, reason), before_ + (count));                                           \
		assert_int_equal(all_drops(side), all_ + (count));                                                             \
	} while (0)

#endif
