// See ike_crypto.h. RFC 8247 names the algorithms, RFC 4868 the HMAC-SHA2 lengths, RFC 2404 HMAC-SHA1-96, RFC 5282 AES-GCM in
// IKEv2, RFC 3602 AES-CBC. Left out: ChaCha20-Poly1305, AES-CTR, AES-CCM, AES-XCBC and 3DES, which the product does not offer.
#include "services/ike/crypto/ike_crypto.h"

#include "common/base/alloc.h"
#include "services/ike/wire/ikev2.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct encryption_algorithm encryptions[] = {
    [ENCRYPTION_AES_CBC_128] = {"AES_CBC_128", ENCR_AES_CBC, 128, false},
    [ENCRYPTION_AES_CBC_192] = {"AES_CBC_192", ENCR_AES_CBC, 192, false},
    [ENCRYPTION_AES_CBC_256] = {"AES_CBC_256", ENCR_AES_CBC, 256, false},
    [ENCRYPTION_AES_GCM16_128] = {"AES_GCM_16_128", ENCR_AES_GCM_16, 128, true},
    [ENCRYPTION_AES_GCM16_256] = {"AES_GCM_16_256", ENCR_AES_GCM_16, 256, true},
};
static const struct hash_algorithm hashes[] = {
    [INTEGRITY_SHA1] = {"SHA1", AUTH_HMAC_SHA1_96, PRF_HMAC_SHA1, 20, 12},
    [INTEGRITY_SHA2_256] = {"SHA2_256", AUTH_HMAC_SHA2_256_128, PRF_HMAC_SHA2_256, 32, 16},
    [INTEGRITY_SHA2_384] = {"SHA2_384", AUTH_HMAC_SHA2_384_192, PRF_HMAC_SHA2_384, 48, 24},
    [INTEGRITY_SHA2_512] = {"SHA2_512", AUTH_HMAC_SHA2_512_256, PRF_HMAC_SHA2_512, 64, 32},
};

const struct encryption_algorithm *encryption_algorithm(unsigned encryption)
{
	bool known = encryption < sizeof encryptions / sizeof encryptions[0] && encryptions[encryption].name;
	return known ? &encryptions[encryption] : NULL;
}

const struct hash_algorithm *hash_algorithm(unsigned integrity)
{
	bool known = integrity < sizeof hashes / sizeof hashes[0] && hashes[integrity].name;
	return known ? &hashes[integrity] : NULL;
}

const char *group_name(unsigned group)
{
	switch (group) {
	case GROUP_MODP_1024:
		return "MODP_1024";
	case GROUP_MODP_1536:
		return "MODP_1536";
	case GROUP_MODP_2048:
		return "MODP_2048";
	case GROUP_MODP_3072:
		return "MODP_3072";
	case GROUP_MODP_4096:
		return "MODP_4096";
	case GROUP_MODP_6144:
		return "MODP_6144";
	case GROUP_MODP_8192:
		return "MODP_8192";
	case GROUP_ECP_256:
		return "ECP_256";
	case GROUP_ECP_384:
		return "ECP_384";
	case GROUP_ECP_521:
		return "ECP_521";
	case GROUP_CURVE25519:
		return "CURVE_25519";
	default:
		return NULL;
	}
}

size_t encryption_key_length(unsigned encryption)
{
	const struct encryption_algorithm *algorithm = encryption_algorithm(encryption);
	return algorithm ? algorithm->key_bits / 8u + (algorithm->aead ? GCM_SALT : 0u) : 0;
}

size_t integrity_key_length(unsigned integrity)
{
	const struct hash_algorithm *hash = hash_algorithm(integrity);
	return hash ? hash->length : 0;
}

bool suite_is_weak(const struct suite *suite)
{
	return suite->integrity == INTEGRITY_SHA1 || suite->prf == INTEGRITY_SHA1 || suite->group == GROUP_MODP_1024 ||
	       suite->group == GROUP_MODP_1536;
}

char *suite_format(const struct suite *suite, char out[static SUITE_TEXT_MAX])
{
	const struct encryption_algorithm *encryption = encryption_algorithm(suite->encryption);
	const struct hash_algorithm *integrity = hash_algorithm(suite->integrity);
	const struct hash_algorithm *prf = hash_algorithm(suite->prf);
	const char *group = group_name(suite->group);
	snprintf(out, SUITE_TEXT_MAX, "%s%s%s%s%s%s%s%s", encryption ? encryption->name : "NONE", integrity ? "/HMAC_" : "",
	         integrity ? integrity->name : "", prf ? "/PRF_HMAC_" : "", prf ? prf->name : "", group ? "/" : "",
	         group ? group : "", suite->esn ? "/ESN" : "");
	return out;
}

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
