// OpenSSL, where libipsec-mb has no vector unit to work with. One context per SA and worker, keyed once; per packet only the IV
// changes.
#include <openssl/core_names.h>
#include <openssl/params.h>
#include <string.h>

#include "common/base/secret.h"
#include "services/esp/crypto_cipher.h"

void crypto_openssl_prepare(struct cipher *cipher, const struct esp_sa_keys *keys)
{
	memcpy(cipher->u.key.encryption, keys->encryption.data, keys->encryption.length - (cipher->suite.gcm ? 4 : 0));
	if (keys->integrity.length > 0) {
		memcpy(cipher->u.key.integrity, keys->integrity.data, keys->integrity.length);
	}
}

void crypto_openssl_release(struct cipher *cipher)
{
	for (unsigned i = 0; i < ESP_WORKERS_MAX; i++) {
		EVP_CIPHER_CTX_free(cipher->contexts[i].cipher);
		EVP_MAC_CTX_free(cipher->contexts[i].mac);
	}
}

static const EVP_CIPHER *cipher_of(enum esp_encryption encryption)
{
	switch (encryption) {
	case ESP_AES_CBC_128:
		return EVP_aes_128_cbc();
	case ESP_AES_CBC_192:
		return EVP_aes_192_cbc();
	case ESP_AES_CBC_256:
		return EVP_aes_256_cbc();
	case ESP_AES_GCM16_128:
		return EVP_aes_128_gcm();
	case ESP_AES_GCM16_256:
		return EVP_aes_256_gcm();
	}
	return NULL;
}

// This worker's contexts; NULL when OpenSSL refuses.
static struct cipher_openssl *contexts_of(struct crypto *crypto, struct cipher *cipher)
{
	static const char *const digests[] = {"", "SHA1", "SHA2-256", "SHA2-384", "SHA2-512"};
	struct cipher_openssl *context = &cipher->contexts[crypto->worker];
	if (context->cipher) {
		return context;
	}
	EVP_CIPHER_CTX *made = EVP_CIPHER_CTX_new();
	if (!made ||
	    EVP_CipherInit_ex(made, cipher_of(cipher->suite.encryption), NULL, cipher->u.key.encryption, NULL, cipher->seals) !=
	        1 ||
	    EVP_CIPHER_CTX_set_padding(made, 0) != 1) {
		EVP_CIPHER_CTX_free(made);
		return NULL;
	}
	if (!cipher->suite.gcm) {
		char digest[16];
		strcpy(digest, digests[cipher->suite.integrity]);
		OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		                           OSSL_PARAM_construct_end()};
		context->mac = EVP_MAC_CTX_new(crypto->engine->hmac);
		if (!context->mac ||
		    EVP_MAC_init(context->mac, cipher->u.key.integrity, cipher->suite.integrity_key, parameters) != 1) {
			EVP_MAC_CTX_free(context->mac);
			context->mac = NULL;
			EVP_CIPHER_CTX_free(made);
			return NULL;
		}
	}
	context->cipher = made;
	return context;
}

static bool authenticate(struct cipher_openssl *context, const struct crypto_op *op, uint8_t *icv, uint8_t *out)
{
	uint8_t full[EVP_MAX_MD_SIZE];
	size_t length = 0;
	size_t covered = ESP_HEADER + op->cipher->suite.iv + op->length + crypto_put_high(op, icv);
	if (EVP_MAC_init(context->mac, NULL, 0, NULL) != 1 || EVP_MAC_update(context->mac, op->esp, covered) != 1 ||
	    EVP_MAC_final(context->mac, full, &length, sizeof full) != 1) {
		return false;
	}
	memcpy(out, full, op->cipher->suite.icv);
	return true;
}

void crypto_openssl_seal(struct crypto *crypto, const struct crypto_op *op)
{
	struct cipher *cipher = op->cipher;
	struct cipher_openssl *context = contexts_of(crypto, cipher);
	uint8_t *payload = op->esp + ESP_HEADER + cipher->suite.iv;
	uint8_t *icv = payload + op->length;
	int length = 0;
	bool ok = context != NULL;
	if (ok && cipher->suite.gcm) {
		struct gcm_input input;
		gcm_input_set(&input, cipher, __builtin_bswap32(op->spi), __builtin_bswap32((uint32_t)op->sequence),
		              op->sequence, __builtin_bswap32((uint32_t)(op->sequence >> 32)),
		              __builtin_bswap32((uint32_t)op->sequence));
		const uint8_t *nonce = (const uint8_t *)&input.nonce, *aad = (const uint8_t *)&input.aad;
		ok = EVP_EncryptInit_ex(context->cipher, NULL, NULL, NULL, nonce) == 1 &&
		     EVP_EncryptUpdate(context->cipher, NULL, &length, aad, (int)input.aad_length) == 1 &&
		     EVP_EncryptUpdate(context->cipher, payload, &length, op->plain, (int)op->length) == 1 &&
		     EVP_EncryptFinal_ex(context->cipher, payload + length, &length) == 1 &&
		     EVP_CIPHER_CTX_ctrl(context->cipher, EVP_CTRL_GCM_GET_TAG, 16, icv) == 1;
	} else if (ok) {
		ok = EVP_EncryptInit_ex(context->cipher, NULL, NULL, NULL, op->esp + ESP_HEADER) == 1 &&
		     EVP_EncryptUpdate(context->cipher, payload, &length, op->plain, (int)op->length) == 1 &&
		     authenticate(context, op, icv, icv);
	}
	if (!ok) {
		// Out of memory inside OpenSSL: nothing readable leaves, and the peer drops what does.
		memset(payload, 0, op->length);
		memset(icv, 0, cipher->suite.icv);
	}
}

void crypto_openssl_open(struct crypto *crypto, struct crypto_op *op)
{
	struct cipher *cipher = op->cipher;
	struct cipher_openssl *context = contexts_of(crypto, cipher);
	uint8_t *payload = op->esp + ESP_HEADER + cipher->suite.iv;
	uint8_t *icv = payload + op->length;
	int length = 0;
	if (!context) {
		return;
	}
	uint8_t expected[CRYPTO_ICV_MAX], computed[CRYPTO_ICV_MAX];
	memcpy(expected, icv, cipher->suite.icv);
	if (cipher->suite.gcm) {
		struct gcm_input input;
		gcm_input_set(&input, cipher, word_at(op->esp), word_at(op->esp + 4), op->sequence, word_at(op->esp + 8),
		              word_at(op->esp + 12));
		const uint8_t *nonce = (const uint8_t *)&input.nonce, *aad = (const uint8_t *)&input.aad;
		op->ok = EVP_DecryptInit_ex(context->cipher, NULL, NULL, NULL, nonce) == 1 &&
		         EVP_DecryptUpdate(context->cipher, NULL, &length, aad, (int)input.aad_length) == 1 &&
		         EVP_DecryptUpdate(context->cipher, payload, &length, payload, (int)op->length) == 1 &&
		         EVP_CIPHER_CTX_ctrl(context->cipher, EVP_CTRL_GCM_SET_TAG, 16, expected) == 1 &&
		         EVP_DecryptFinal_ex(context->cipher, payload + length, &length) == 1;
		return;
	}
	op->ok = authenticate(context, op, icv, computed) && icv_equal(expected, computed, cipher->suite.icv) &&
	         EVP_DecryptInit_ex(context->cipher, NULL, NULL, NULL, op->esp + ESP_HEADER) == 1 &&
	         EVP_DecryptUpdate(context->cipher, payload, &length, payload, (int)op->length) == 1;
}
