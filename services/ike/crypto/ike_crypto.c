// See ike_crypto.h. RFC 4868 HMAC-SHA2, RFC 2404 HMAC-SHA1-96, RFC 5282 AES-GCM in IKEv2, RFC 3602 AES-CBC.
#include "services/ike/crypto/ike_crypto.h"

#include "common/base/alloc.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

static const EVP_MD *digest(unsigned hash)
{
	switch (hash) {
	case INTEGRITY_SHA1:
		return EVP_sha1();
	case INTEGRITY_SHA2_384:
		return EVP_sha384();
	case INTEGRITY_SHA2_512:
		return EVP_sha512();
	default:
		return EVP_sha256();
	}
}

void hmac(unsigned hash, struct bytes key, struct bytes data, uint8_t out[static HASH_MAX])
{
	// A NULL key would mean "the key of the last call" to libcrypto.
	const void *octets = key.length > 0 ? (const void *)key.data : "";
	if (!HMAC(digest(hash), octets, (int)key.length, data.data, data.length, out, NULL)) {
		abort(); // out of memory, as in alloc.h
	}
}

void sha1(struct bytes data, uint8_t out[static 20])
{
	if (!EVP_Digest(data.data, data.length, out, NULL, EVP_sha1(), NULL)) {
		abort();
	}
}

void prf_plus(unsigned hash, struct bytes key, struct bytes seed, uint8_t *out, size_t length)
{
	size_t block = hash_algorithm(hash)->length;
	size_t capacity = block + seed.length + 1;
	uint8_t *input = allocate(capacity); // T(n-1) | seed | n
	uint8_t value[HASH_MAX];
	size_t done = 0;
	for (uint8_t n = 1; done < length && n != 0; n++) {
		struct writer w = writer_of(input, capacity);
		if (n > 1) {
			write_bytes(&w, (struct bytes){value, block});
		}
		write_bytes(&w, seed);
		write_u8(&w, n);
		hmac(hash, key, writer_bytes(&w), value);
		size_t take = length - done < block ? length - done : block;
		memcpy(out + done, value, take);
		done += take;
	}
	wipe(input, capacity);
	wipe(value, sizeof value);
	free(input);
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
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int n = 0;
	bool done = context &&
	            EVP_CipherInit_ex(context, key_length == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm(), NULL, key.data, nonce,
	                              encrypt) == 1 &&
	            EVP_CipherUpdate(context, NULL, &n, associated.data, (int)associated.length) == 1 &&
	            EVP_CipherUpdate(context, text, &n, text, (int)length) == 1 &&
	            (encrypt || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, GCM_TAG, tag) == 1) &&
	            EVP_CipherFinal_ex(context, text + length, &n) == 1 &&
	            (!encrypt || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, GCM_TAG, tag) == 1);
	EVP_CIPHER_CTX_free(context);
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
	const EVP_CIPHER *cipher = key.length == 16   ? EVP_aes_128_cbc()
	                           : key.length == 24 ? EVP_aes_192_cbc()
	                           : key.length == 32 ? EVP_aes_256_cbc()
	                                              : NULL;
	if (!cipher || length % CBC_BLOCK != 0) {
		return false;
	}
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int n = 0;
	bool done = context && EVP_CipherInit_ex(context, cipher, NULL, key.data, iv, encrypt) == 1 &&
	            EVP_CIPHER_CTX_set_padding(context, 0) == 1 &&
	            EVP_CipherUpdate(context, text, &n, text, (int)length) == 1 && n == (int)length;
	EVP_CIPHER_CTX_free(context);
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
