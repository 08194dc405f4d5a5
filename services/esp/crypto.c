// See crypto.h: suites, the life of ciphers, and the initialisation vectors.
#include "services/esp/crypto.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/secret.h"
#include "services/esp/crypto_cipher.h"
#include "services/esp/octets.h"

bool suite_of(enum esp_encryption encryption, enum esp_integrity integrity, struct suite *out)
{
	static const uint8_t icv[] = {0, 12, 16, 24, 32};
	static const uint8_t mac_key[] = {0, 20, 32, 48, 64};
	*out = (struct suite){.encryption = encryption, .integrity = integrity};
	switch (encryption) {
	case ESP_AES_CBC_128:
	case ESP_AES_CBC_192:
	case ESP_AES_CBC_256:
		if (integrity < ESP_HMAC_SHA1_96 || integrity > ESP_HMAC_SHA2_512_256) {
			return false; // no encryption without integrity (RFC 8221 §4)
		}
		out->iv = 16;
		out->align = 16;
		out->icv = icv[integrity];
		out->encryption_key = (uint8_t)(16 + 8 * (encryption - ESP_AES_CBC_128));
		out->integrity_key = mac_key[integrity];
		return true;
	case ESP_AES_GCM16_128:
	case ESP_AES_GCM16_256:
		out->gcm = true;
		out->iv = 8;
		out->icv = 16;
		out->align = 4; // RFC 4303 §2.4: the trailer ends on four octets
		out->encryption_key = (uint8_t)(4 + (encryption == ESP_AES_GCM16_128 ? 16 : 32));
		return integrity == ESP_INTEGRITY_NONE;
	}
	return false;
}

struct crypto_engine *crypto_engine_new(bool openssl)
{
	struct crypto_engine *engine = allocate(sizeof *engine);
	engine->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	engine->name = "openssl";
	if (openssl) {
		return engine;
	}
	engine->manager = alloc_mb_mgr(0);
	if (engine->manager) {
		IMB_ARCH arch;
		init_mb_mgr_auto(engine->manager, &arch);
		if (arch >= IMB_ARCH_AVX) {
			engine->name = arch == IMB_ARCH_AVX512 ? "ipsec-mb avx512"
			               : arch == IMB_ARCH_AVX2 ? "ipsec-mb avx2"
			                                       : "ipsec-mb avx";
			return engine;
		}
		free_mb_mgr(engine->manager);
		engine->manager = NULL;
	}
	return engine;
}

void crypto_engine_free(struct crypto_engine **engine)
{
	if (*engine) {
		if ((*engine)->manager) {
			free_mb_mgr((*engine)->manager);
		}
		EVP_MAC_free((*engine)->hmac);
		free(*engine);
		*engine = NULL;
	}
}

const char *crypto_engine_name(const struct crypto_engine *engine)
{
	return engine->name;
}

struct cipher *cipher_new(const struct crypto_engine *engine, const struct suite *suite, const struct esp_sa_keys *keys,
                          bool seals, bool extended)
{
	if (keys->encryption.length != suite->encryption_key || keys->integrity.length != suite->integrity_key) {
		return NULL;
	}
	struct cipher *cipher = aligned_alloc(64, (sizeof *cipher + 63) / 64 * 64);
	if (!cipher) {
		abort();
	}
	memset(cipher, 0, sizeof *cipher);
	cipher->suite = *suite;
	cipher->seals = seals;
	cipher->extended = extended;
	cipher->openssl = engine->manager == NULL;
	if (suite->gcm) {
		memcpy(&cipher->salt, keys->encryption.data + keys->encryption.length - 4, 4);
	}
	if (cipher->openssl) {
		crypto_openssl_prepare(cipher, keys);
	} else {
		crypto_mb_prepare(engine, cipher, keys);
	}
	return cipher;
}

void cipher_wipe(struct cipher *cipher)
{
	wipe(&cipher->u, sizeof cipher->u);
	wipe(&cipher->salt, sizeof cipher->salt);
}

void cipher_free(struct cipher **cipher)
{
	if (*cipher) {
		crypto_openssl_release(*cipher);
		wipe(*cipher, sizeof **cipher);
		free(*cipher);
		*cipher = NULL;
	}
}

const struct suite *cipher_suite(const struct cipher *cipher)
{
	return &cipher->suite;
}

bool cipher_is_deferred(const struct cipher *cipher)
{
	return !cipher->suite.gcm;
}

struct crypto *crypto_new(const struct crypto_engine *engine, unsigned worker, const uint8_t seed[static 32])
{
	struct crypto *crypto = aligned_alloc(64, (sizeof *crypto + 63) / 64 * 64);
	if (!crypto) {
		abort();
	}
	memset(crypto, 0, sizeof *crypto);
	crypto->engine = engine;
	crypto->worker = worker;
	crypto->ivs_used = CRYPTO_IVS;
	random_init(&crypto->random, seed);
	if (engine->manager) {
		IMB_ARCH arch;
		crypto->manager = alloc_mb_mgr(0);
		if (!crypto->manager) {
			abort();
		}
		init_mb_mgr_auto(crypto->manager, &arch);
		crypto_mb_iv_init(crypto);
	}
	return crypto;
}

void crypto_free(struct crypto **crypto)
{
	if (*crypto) {
		if ((*crypto)->manager) {
			free_mb_mgr((*crypto)->manager);
		}
		wipe(*crypto, sizeof **crypto);
		free(*crypto);
		*crypto = NULL;
	}
}

// CBC: unpredictable (RFC 3602 §3).
static void put_random_iv(struct crypto *crypto, uint8_t *at)
{
	if (crypto->manager) {
		crypto_mb_iv(crypto, at);
		return;
	}
	if (crypto->ivs_used == CRYPTO_IVS) {
		random_fill(&crypto->random, crypto->ivs, sizeof crypto->ivs);
		crypto->ivs_used = 0;
	}
	memcpy(at, crypto->ivs[crypto->ivs_used++], 16);
}

void crypto_seal(struct crypto *crypto, const struct crypto_op *op)
{
	store64(op->esp, (uint64_t)op->spi << 32 | (uint32_t)op->sequence);
	if (op->cipher->suite.gcm) {
		store64(op->esp + ESP_HEADER, op->sequence); // the IV: it never repeats under a key (RFC 4106 §3.1)
	} else {
		put_random_iv(crypto, op->esp + ESP_HEADER);
	}
	if (crypto->manager) {
		crypto_mb_seal(crypto, op);
	} else {
		crypto_openssl_seal(crypto, op);
	}
}

void crypto_open(struct crypto *crypto, struct crypto_op *op)
{
	op->ok = false;
	if (crypto->manager) {
		crypto_mb_open(crypto, op);
	} else {
		crypto_openssl_open(crypto, op);
	}
}

void crypto_finish(struct crypto *crypto)
{
	if (crypto->pending > 0) {
		crypto_mb_finish(crypto);
	}
}
