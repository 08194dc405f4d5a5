// Inside of a cipher: for crypto.c and its two engines.
#ifndef TWINSPAN_ESP_CRYPTO_CIPHER_H
#define TWINSPAN_ESP_CRYPTO_CIPHER_H

#include <intel-ipsec-mb.h>
#include <openssl/evp.h>
#include <string.h>

#include "common/base/random.h"
#include "services/esp/crypto.h"

struct cipher_openssl {
	EVP_CIPHER_CTX *cipher;
	EVP_MAC_CTX *mac;
};
struct cipher {
	struct suite suite;
	bool seals, extended, openssl;
	uint32_t salt; // as its octets lie
	union {
		struct gcm_key_data gcm;
		struct {
			uint8_t encrypt[15 * 16], decrypt[15 * 16];
			uint8_t inner[64], outer[64]; // HMAC states after the padded key
		} cbc;
		struct {
			uint8_t encryption[32], integrity[64];
		} key;
	} u __attribute__((aligned(64)));
	struct cipher_openssl contexts[ESP_WORKERS_MAX]; // made by each worker when it first needs one
};

struct crypto_engine {
	IMB_MGR *manager; // NULL: OpenSSL
	EVP_MAC *hmac;
	const char *name;
};

enum { CRYPTO_IVS = 32 };
struct crypto {
	const struct crypto_engine *engine;
	IMB_MGR *manager; // NULL: OpenSSL
	unsigned worker;
	unsigned pending; // jobs under way
	struct gcm_context_data gcm __attribute__((aligned(64)));
	// Unpredictable IVs for CBC: a counter under a random key of this worker (NIST SP 800-38A appendix C), or from the
	// generator.
	uint8_t iv_key[15 * 16] __attribute__((aligned(16)));
	uint64_t iv_counter[2];
	struct random random;
	uint8_t ivs[CRYPTO_IVS][16];
	unsigned ivs_used;
};

// Equal in constant time. ICVs are 12, 16, 24 or 32 octets.
static inline bool icv_equal(const uint8_t *a, const uint8_t *b, unsigned length)
{
	uint32_t difference = 0;
	for (unsigned i = 0; i < length; i += 4) {
		uint32_t x, y;
		memcpy(&x, a + i, sizeof x);
		memcpy(&y, b + i, sizeof y);
		difference |= x ^ y;
	}
	return difference == 0;
}

// A nonce or additional data for GCM, as one piece: the cipher reads it at once, and octets that were written in several steps
// would make that read wait until they are in the cache.
typedef uint32_t gcm_words __attribute__((vector_size(16)));
struct gcm_input {
	gcm_words nonce, aad;
	unsigned aad_length;
};

static inline uint32_t word_at(const uint8_t *at)
{
	uint32_t word;
	memcpy(&word, at, sizeof word);
	return word;
}

// RFC 4106 §4: salt and IV; §5: 8 octets of header, or 12 with an extended sequence number. `iv` as its two words on the wire.
static inline void gcm_input_set(struct gcm_input *input, const struct cipher *cipher, uint32_t spi, uint32_t low,
                                 uint64_t sequence, uint32_t iv_first, uint32_t iv_second)
{
	input->nonce = (gcm_words){cipher->salt, iv_first, iv_second, 0};
	if (cipher->extended) {
		input->aad = (gcm_words){spi, __builtin_bswap32((uint32_t)(sequence >> 32)), low, 0};
		input->aad_length = 12;
	} else {
		input->aad = (gcm_words){spi, low, 0, 0};
		input->aad_length = 8;
	}
}

// The octets that HMAC covers behind the ciphertext (RFC 4303 §3.3.2.1): the high half of an extended sequence number, where
// the ICV is going to be.
static inline unsigned crypto_put_high(const struct crypto_op *op, uint8_t *icv)
{
	if (!op->cipher->extended) {
		return 0;
	}
	uint32_t high = __builtin_bswap32((uint32_t)(op->sequence >> 32));
	memcpy(icv, &high, 4);
	return 4;
}

void crypto_mb_prepare(const struct crypto_engine *engine, struct cipher *cipher, const struct esp_sa_keys *keys);
void crypto_mb_seal(struct crypto *crypto, const struct crypto_op *op);
void crypto_mb_open(struct crypto *crypto, struct crypto_op *op);
void crypto_mb_finish(struct crypto *crypto);
void crypto_mb_iv_init(struct crypto *crypto);
void crypto_mb_iv(struct crypto *crypto, uint8_t *out);
void crypto_openssl_prepare(struct cipher *cipher, const struct esp_sa_keys *keys);
void crypto_openssl_seal(struct crypto *crypto, const struct crypto_op *op);
void crypto_openssl_open(struct crypto *crypto, struct crypto_op *op);
void crypto_openssl_release(struct cipher *cipher);

#endif
