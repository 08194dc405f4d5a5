// See seal.h. NIST SP 800-38D with a random 96-bit nonce: a node seals far fewer than 2^32 states under one key.
#include "services/ike/crypto/seal.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/secret.h"

// libcrypto fails here only when it is out of memory or broken; either way there is no going on.
static void must(int result)
{
	if (result != 1) {
		abort();
	}
}

void seal(const struct seal_key *key, const uint8_t nonce[static SEAL_NONCE], struct bytes name, struct bytes plain,
          uint8_t *out)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int length = 0;
	memcpy(out, nonce, SEAL_NONCE);
	must(context != NULL && EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key->octets, nonce));
	must(EVP_EncryptUpdate(context, NULL, &length, name.data, (int)name.length));
	must(EVP_EncryptUpdate(context, out + SEAL_NONCE, &length, plain.data, (int)plain.length));
	must(EVP_EncryptFinal_ex(context, out + SEAL_NONCE + plain.length, &length));
	must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, SEAL_TAG, out + SEAL_NONCE + plain.length));
	EVP_CIPHER_CTX_free(context);
}

bool unseal(const struct seal_key *key, struct bytes name, struct bytes sealed, uint8_t *out)
{
	if (sealed.length < SEAL_OVERHEAD) {
		return false;
	}
	size_t plain_length = sealed.length - SEAL_OVERHEAD;
	uint8_t tag[SEAL_TAG];
	memcpy(tag, sealed.data + SEAL_NONCE + plain_length, SEAL_TAG);
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int length = 0;
	must(context != NULL && EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key->octets, sealed.data));
	must(EVP_DecryptUpdate(context, NULL, &length, name.data, (int)name.length));
	must(EVP_DecryptUpdate(context, out, &length, sealed.data + SEAL_NONCE, (int)plain_length));
	must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, SEAL_TAG, tag));
	bool authentic = EVP_DecryptFinal_ex(context, out + plain_length, &length) == 1;
	EVP_CIPHER_CTX_free(context);
	if (!authentic) {
		wipe(out, plain_length);
	}
	return authentic;
}
