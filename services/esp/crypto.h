// The ciphers of ESP: AES-GCM with a 16-octet ICV (RFC 4106), AES-CBC (RFC 3602) with HMAC (RFC 2404, 4868). libipsec-mb where
// the processor has AVX, OpenSSL where it has not (or is told to).
#ifndef TWINSPAN_ESP_CRYPTO_H
#define TWINSPAN_ESP_CRYPTO_H

#include "services/esp/esp.h"

enum { ESP_HEADER = 8, CRYPTO_ICV_MAX = 32 };

// What an algorithm pair needs around a payload.
struct suite {
	enum esp_encryption encryption;
	enum esp_integrity integrity;
	bool gcm;
	uint8_t iv, icv, align;                // octets; payload and trailer are a multiple of `align`
	uint8_t encryption_key, integrity_key; // octets that a row must have
};
bool suite_of(enum esp_encryption encryption, enum esp_integrity integrity, struct suite *out);

// One direction's keys, made ready. Workers only read them (OpenSSL's contexts aside: each worker has its own).
struct cipher;
// What keys are made ready with; one for the control thread.
struct crypto_engine;
struct crypto_engine *crypto_engine_new(bool openssl);
void crypto_engine_free(struct crypto_engine **engine);
const char *crypto_engine_name(const struct crypto_engine *engine);
struct cipher *cipher_new(const struct crypto_engine *engine, const struct suite *suite, const struct esp_sa_keys *keys,
                          bool seals, bool extended);
void cipher_free(struct cipher **cipher); // wipes the keys
void cipher_wipe(struct cipher *cipher);  // its keys, but what OpenSSL holds of them; the memory stays
const struct suite *cipher_suite(const struct cipher *cipher);
// Is what crypto_seal reads still wanted after it returns? Then only crypto_finish ends it.
bool cipher_is_deferred(const struct cipher *cipher);

// One packet. `esp` points to its ESP header; the IV, the payload with its trailer, and the ICV follow.
struct crypto_op {
	struct cipher *cipher;
	uint8_t *esp;
	const uint8_t *plain; // seal: the payload and trailer, wherever they are
	uint32_t length;      // octets of payload and trailer
	uint64_t sequence;
	uint32_t spi;  // seal
	bool ok;       // open: the ICV matched
	uint8_t *tags; // open, deferred ciphers: 2 * CRYPTO_ICV_MAX octets that live as long
};
// One worker's machinery.
struct crypto;
struct crypto *crypto_new(const struct crypto_engine *engine, unsigned worker, const uint8_t seed[static 32]);
void crypto_free(struct crypto **crypto);
// Writes header, IV, ciphertext and ICV. A deferred cipher wants `plain` to be in place already (esp + header + IV).
void crypto_seal(struct crypto *crypto, const struct crypto_op *op);
// Checks and decrypts in place. `op` must live until crypto_finish, after which op->ok is right.
void crypto_open(struct crypto *crypto, struct crypto_op *op);
void crypto_finish(struct crypto *crypto);

#endif
