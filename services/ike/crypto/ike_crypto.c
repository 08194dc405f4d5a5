// See ike_crypto.h. RFC 4868 HMAC-SHA2, RFC 2404 HMAC-SHA1-96, RFC 5282 AES-GCM in IKEv2, RFC 3602 AES-CBC.
#include "services/ike/crypto/ike_crypto.h"

#include "common/base/invariant.h"
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>
#include <string.h>

// libcrypto is asked for an algorithm once in the life of a thread: a lookup by name costs more than what is computed with it.
// No key stays in these: each computation has a context of its own, which is wiped with it.
enum { HASHES = INTEGRITY_SHA2_512 + 1 };

static void *present(void *found)
{
	if (!found) {
		abort(); // out of memory, as in alloc.h, or a libcrypto without what RFC 8247 asks for
	}
	return found;
}

static void must(int result)
{
	if (result != 1) {
		abort();
	}
}

static EVP_MAC_CTX *hmac_template(unsigned hash)
{
	static _Thread_local EVP_MAC_CTX *templates[HASHES];
	static const char *const digests[HASHES] = {[INTEGRITY_SHA1] = "SHA1",
	                                            [INTEGRITY_SHA2_256] = "SHA256",
	                                            [INTEGRITY_SHA2_384] = "SHA384",
	                                            [INTEGRITY_SHA2_512] = "SHA512"};
	invariant(hash < HASHES && digests[hash] != NULL);
	if (!templates[hash]) {
		EVP_MAC *mac = present(EVP_MAC_fetch(NULL, "HMAC", NULL));
		templates[hash] = present(EVP_MAC_CTX_new(mac));
		EVP_MAC_free(mac);
		OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string("digest", (char *)(uintptr_t)digests[hash], 0),
		                           OSSL_PARAM_construct_end()};
		must(EVP_MAC_CTX_set_params(templates[hash], parameters));
	}
	return templates[hash];
}

// A key that is used for several texts.
static EVP_MAC_CTX *hmac_begin(unsigned hash, struct bytes key)
{
	EVP_MAC_CTX *context = present(EVP_MAC_CTX_dup(hmac_template(hash)));
	static const uint8_t none;
	must(EVP_MAC_init(context, key.length > 0 ? key.data : &none, key.length,
	                  NULL)); // NULL would mean "the key of the last time"
	return context;
}

void hmac(unsigned hash, struct bytes key, struct bytes data, uint8_t out[static HASH_MAX])
{
	EVP_MAC_CTX *context = hmac_begin(hash, key);
	size_t length;
	must(EVP_MAC_update(context, data.data, data.length));
	must(EVP_MAC_final(context, out, &length, HASH_MAX));
	EVP_MAC_CTX_free(context);
}

void sha1(struct bytes data, uint8_t out[static 20])
{
	static _Thread_local EVP_MD *digest;
	static _Thread_local EVP_MD_CTX *context;
	if (!digest) {
		digest = present(EVP_MD_fetch(NULL, "SHA1", NULL));
		context = present(EVP_MD_CTX_new());
	}
	must(EVP_DigestInit_ex2(context, digest, NULL));
	must(EVP_DigestUpdate(context, data.data, data.length));
	must(EVP_DigestFinal_ex(context, out, NULL));
}

void prf_plus(unsigned hash, struct bytes key, struct bytes seed, uint8_t *out, size_t length)
{
	size_t block = hash_algorithm(hash)->length, ignored;
	uint8_t value[HASH_MAX]; // T(n) = prf(key, T(n-1) | seed | n)
	EVP_MAC_CTX *context = hmac_begin(hash, key);
	size_t done = 0;
	for (uint8_t n = 1; done < length && n != 0; n++) {
		if (n > 1) {
			must(EVP_MAC_init(context, NULL, 0, NULL)); // the same key again
			must(EVP_MAC_update(context, value, block));
		}
		must(EVP_MAC_update(context, seed.data, seed.length));
		must(EVP_MAC_update(context, &n, 1));
		must(EVP_MAC_final(context, value, &ignored, sizeof value));
		size_t take = length - done < block ? length - done : block;
		memcpy(out + done, value, take);
		done += take;
	}
	EVP_MAC_CTX_free(context);
	wipe(value, sizeof value);
}

// ---- ciphers ----
enum cipher_mode { MODE_GCM, MODE_CBC };

// NULL: no such key length.
static EVP_CIPHER *cipher_of(enum cipher_mode mode, size_t key_length)
{
	static _Thread_local EVP_CIPHER *ciphers[2][3];
	static const char *const names[2][3] = {{"AES-128-GCM", "AES-192-GCM", "AES-256-GCM"},
	                                        {"AES-128-CBC", "AES-192-CBC", "AES-256-CBC"}};
	if (key_length != 16 && key_length != 24 && key_length != 32) {
		return NULL;
	}
	size_t size = key_length / 8 - 2;
	if (!ciphers[mode][size]) {
		ciphers[mode][size] = present(EVP_CIPHER_fetch(NULL, names[mode][size], NULL));
	}
	return ciphers[mode][size];
}

// One context for all, emptied after each use: that wipes the key.
static EVP_CIPHER_CTX *cipher_context(void)
{
	static _Thread_local EVP_CIPHER_CTX *context;
	if (!context) {
		context = present(EVP_CIPHER_CTX_new());
	}
	return context;
}

static bool gcm(bool encrypt, struct bytes key, const uint8_t *iv, struct bytes associated, uint8_t *text, size_t length,
                uint8_t *tag)
{
	if (key.length != 16 + GCM_SALT && key.length != 32 + GCM_SALT) {
		return false;
	}
	size_t key_length = key.length - GCM_SALT;
	uint8_t nonce[GCM_SALT + GCM_IV];
	memcpy(nonce, key.data + key_length, GCM_SALT);
	memcpy(nonce + GCM_SALT, iv, GCM_IV);
	EVP_CIPHER_CTX *context = cipher_context();
	int n = 0;
	bool done = EVP_CipherInit_ex2(context, cipher_of(MODE_GCM, key_length), key.data, nonce, encrypt, NULL) == 1 &&
	            EVP_CipherUpdate(context, NULL, &n, associated.data, (int)associated.length) == 1 &&
	            EVP_CipherUpdate(context, text, &n, text, (int)length) == 1 &&
	            (encrypt || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, GCM_TAG, tag) == 1) &&
	            EVP_CipherFinal_ex(context, text + length, &n) == 1 &&
	            (!encrypt || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, GCM_TAG, tag) == 1);
	EVP_CIPHER_CTX_reset(context);
	return done;
}

bool gcm_encrypt(struct bytes key, const uint8_t iv[static GCM_IV], struct bytes associated, uint8_t *text, size_t length,
                 uint8_t tag[static GCM_TAG])
{
	return gcm(true, key, iv, associated, text, length, tag);
}

bool gcm_decrypt(struct bytes key, const uint8_t iv[static GCM_IV], struct bytes associated, uint8_t *text, size_t length,
                 const uint8_t tag[static GCM_TAG])
{
	uint8_t copy[GCM_TAG];
	memcpy(copy, tag, sizeof copy);
	return gcm(false, key, iv, associated, text, length, copy);
}

static bool cbc(bool encrypt, struct bytes key, const uint8_t *iv, uint8_t *text, size_t length)
{
	EVP_CIPHER *cipher = cipher_of(MODE_CBC, key.length);
	if (!cipher || length % CBC_BLOCK != 0) {
		return false;
	}
	EVP_CIPHER_CTX *context = cipher_context();
	int n = 0;
	bool done = EVP_CipherInit_ex2(context, cipher, key.data, iv, encrypt, NULL) == 1 &&
	            EVP_CIPHER_CTX_set_padding(context, 0) == 1 &&
	            EVP_CipherUpdate(context, text, &n, text, (int)length) == 1 && n == (int)length;
	EVP_CIPHER_CTX_reset(context);
	return done;
}

bool cbc_encrypt(struct bytes key, const uint8_t iv[static CBC_BLOCK], uint8_t *text, size_t length)
{
	return cbc(true, key, iv, text, length);
}

bool cbc_decrypt(struct bytes key, const uint8_t iv[static CBC_BLOCK], uint8_t *text, size_t length)
{
	return cbc(false, key, iv, text, length);
}
