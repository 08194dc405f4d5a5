// See seal.h. NIST SP 800-38D §8.2.1: the nonce is a counter, the key one of this incarnation only.
#include "services/ike/crypto/seal.h"

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/base/secret.h"
#include "services/ike/crypto/ike_crypto.h"
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT = 2 };

struct sealer {
	EVP_CIPHER_CTX *context; // with the incarnation's key in it
	uint8_t incarnation[SEAL_INCARNATION];
	uint64_t count;
};

// libcrypto fails here only when it is out of memory or broken; either way there is no going on.
static void must(int result)
{
	if (result != 1) {
		abort();
	}
}

static EVP_CIPHER_CTX *context_of(const struct seal_key *key, const uint8_t incarnation[static SEAL_INCARNATION], bool encrypt)
{
	static const char label[] = "twinspan ike state";
	uint8_t input[sizeof label + SEAL_INCARNATION], derived[HASH_MAX];
	memcpy(input, label, sizeof label);
	memcpy(input + sizeof label, incarnation, SEAL_INCARNATION);
	hmac(INTEGRITY_SHA2_256, (struct bytes){key->octets, sizeof key->octets}, (struct bytes){input, sizeof input}, derived);
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	must(context != NULL && EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, derived, NULL, encrypt) == 1);
	wipe(derived, sizeof derived);
	return context;
}

struct sealer *sealer_new(const struct seal_key *key, const uint8_t incarnation[static SEAL_INCARNATION])
{
	struct sealer *sealer = allocate(sizeof *sealer);
	sealer->context = context_of(key, incarnation, true);
	memcpy(sealer->incarnation, incarnation, SEAL_INCARNATION);
	return sealer;
}

void sealer_free(struct sealer **sealer)
{
	if (*sealer) {
		EVP_CIPHER_CTX_free((*sealer)->context);
		free(*sealer);
		*sealer = NULL;
	}
}

void seal(struct sealer *sealer, struct bytes name, struct bytes plain, uint8_t *out)
{
	EVP_CIPHER_CTX *context = sealer->context;
	invariant(sealer->count < UINT64_MAX);
	struct writer w = writer_of(out, plain.length + SEAL_OVERHEAD);
	write_u8(&w, FORMAT);
	write_bytes(&w, (struct bytes){sealer->incarnation, SEAL_INCARNATION});
	uint8_t *nonce = w.at;
	write_u32(&w, 0);
	write_u64(&w, ++sealer->count);
	int length = 0;
	must(EVP_EncryptInit_ex(context, NULL, NULL, NULL, nonce));
	must(EVP_EncryptUpdate(context, NULL, &length, name.data, (int)name.length));
	must(EVP_EncryptUpdate(context, w.at, &length, plain.data, (int)plain.length));
	must(EVP_EncryptFinal_ex(context, w.at + plain.length, &length));
	must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, SEAL_TAG, w.at + plain.length));
}

bool unseal(const struct seal_key *key, struct bytes name, struct bytes sealed, uint8_t *out)
{
	struct reader r = reader_of(sealed);
	if (sealed.length < SEAL_OVERHEAD || read_u8(&r) != FORMAT) {
		return false;
	}
	struct bytes incarnation = read_bytes(&r, SEAL_INCARNATION), nonce = read_bytes(&r, SEAL_NONCE);
	size_t plain_length = sealed.length - SEAL_OVERHEAD;
	struct bytes text = read_bytes(&r, plain_length);
	uint8_t tag[SEAL_TAG];
	memcpy(tag, r.at, SEAL_TAG);
	EVP_CIPHER_CTX *context = context_of(key, incarnation.data, false);
	int length = 0;
	must(EVP_DecryptInit_ex(context, NULL, NULL, NULL, nonce.data));
	must(EVP_DecryptUpdate(context, NULL, &length, name.data, (int)name.length));
	must(EVP_DecryptUpdate(context, out, &length, text.data, (int)plain_length));
	must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, SEAL_TAG, tag));
	bool authentic = EVP_DecryptFinal_ex(context, out + plain_length, &length) == 1;
	EVP_CIPHER_CTX_free(context);
	if (!authentic) {
		wipe(out, plain_length);
	}
	return authentic;
}
