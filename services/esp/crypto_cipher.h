// Inside of a cipher: for crypto.c and its two engines.
#ifndef TWINSPAN_ESP_CRYPTO_CIPHER_H
#define TWINSPAN_ESP_CRYPTO_CIPHER_H

#include <intel-ipsec-mb.h>
#include <openssl/evp.h>

#include "../../common/base/random.h"
#include "crypto.h"

struct cipher_openssl {
	EVP_CIPHER_CTX *cipher;
	EVP_MAC_CTX *mac;
};
struct cipher {
	struct suite suite;
	bool seals, extended, openssl;
	uint8_t salt[4];
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

enum { CRYPTO_IVS = 64 };
struct crypto {
	const struct crypto_engine *engine;
	IMB_MGR *manager; // NULL: OpenSSL
	unsigned worker;
	unsigned pending; // jobs under way
	struct gcm_context_data gcm __attribute__((aligned(64)));
	struct random random;
	uint8_t ivs[CRYPTO_IVS][16]; // unpredictable, for CBC
	unsigned ivs_used;
};

// 8 octets of header, or 12 with an extended sequence number (RFC 4106 §5). Returns their number.
static inline unsigned crypto_aad(const struct crypto_op *op, uint8_t out[static 12])
{
	memcpy(out, op->esp, 8);
	if (!op->cipher->extended) {
		return 8;
	}
	memcpy(out + 8, out + 4, 4);
	uint32_t high = __builtin_bswap32((uint32_t)(op->sequence >> 32));
	memcpy(out + 4, &high, 4);
	return 12;
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
void crypto_openssl_prepare(struct cipher *cipher, const struct esp_sa_keys *keys);
void crypto_openssl_seal(struct crypto *crypto, const struct crypto_op *op);
void crypto_openssl_open(struct crypto *crypto, struct crypto_op *op);
void crypto_openssl_release(struct cipher *cipher);

#endif
