// Pre-shared keys at rest, and the hashes of tokens. A sealed key is bound to its tunnel's id: moved to another row, it does
// not open.
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/hex.h"
#include "common/io/entropy.h"
#include "services/resource/shell.h"

enum { NONCE = 12, TAG = 16 };

void seal_key_name(struct seal_key *key)
{
	static const char label[] = "twinspan: the name of a key that seals"; // another digest than of the key alone
	uint8_t text[sizeof label + 32], digest[32];
	unsigned length = 0;
	memcpy(text, label, sizeof label);
	memcpy(text + sizeof label, key->octets, 32);
	if (EVP_Digest(text, sizeof text, digest, &length, EVP_sha256(), NULL) != 1) {
		abort();
	}
	wipe(text, sizeof text);
	hex_format((struct bytes){digest, (SEAL_KEY_ID - 1) / 2}, key->id);
}

char *seal(const struct seal_key *key, const char *name, struct bytes clear)
{
	uint8_t out[NONCE + SECRET_CAPACITY + TAG];
	int length = 0, last = 0;
	entropy_fill(out, NONCE);
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	bool done = context && clear.length <= SECRET_CAPACITY &&
	            EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key->octets, out) == 1 &&
	            EVP_EncryptUpdate(context, NULL, &length, (const uint8_t *)name, (int)strlen(name)) == 1 &&
	            EVP_EncryptUpdate(context, out + NONCE, &length, clear.data, (int)clear.length) == 1 &&
	            EVP_EncryptFinal_ex(context, out + NONCE + length, &last) == 1 &&
	            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG, out + NONCE + clear.length) == 1;
	EVP_CIPHER_CTX_free(context);
	if (!done) {
		abort(); // only for want of memory: the key and the lengths are ours
	}
	size_t total = NONCE + clear.length + TAG;
	char *text = allocate(2 * total + 1);
	return hex_format((struct bytes){out, total}, text);
}

static bool open_with(const struct seal_key *key, const char *name, const char *sealed, struct secret *out)
{
	uint8_t octets[NONCE + SECRET_CAPACITY + TAG];
	uint8_t clear[SECRET_CAPACITY];
	int length = 0, last = 0;
	ptrdiff_t total = hex_parse(sealed, octets, sizeof octets);
	if (total < NONCE + TAG) {
		return false;
	}
	int size = (int)total - NONCE - TAG;
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	bool done = context && EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key->octets, octets) == 1 &&
	            EVP_DecryptUpdate(context, NULL, &length, (const uint8_t *)name, (int)strlen(name)) == 1 &&
	            EVP_DecryptUpdate(context, clear, &length, octets + NONCE, size) == 1 &&
	            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG, octets + NONCE + size) == 1 &&
	            EVP_DecryptFinal_ex(context, clear + length, &last) == 1 &&
	            secret_set(out, (struct bytes){clear, (size_t)size});
	EVP_CIPHER_CTX_free(context);
	wipe(clear, sizeof clear);
	return done;
}

const struct seal_key *unseal(const struct seal_keys *keys, const char *key_id, const char *name, const char *sealed,
                              struct secret *out)
{
	// The id only says which to try first: an earlier release replaces what is sealed and not the id beside it.
	for (int named = 1; named >= 0; named--) {
		for (size_t i = 0; i < keys->count; i++) {
			const struct seal_key *key = &keys->keys[i];
			if ((strcmp(key->id, key_id) == 0) == named && open_with(key, name, sealed, out)) {
				return key;
			}
		}
	}
	return NULL;
}

char *sha256_text(struct bytes octets, char out[static SHA256_TEXT])
{
	uint8_t digest[32];
	unsigned length = 0;
	if (EVP_Digest(octets.data, octets.length, digest, &length, EVP_sha256(), NULL) != 1) {
		abort();
	}
	return hex_format((struct bytes){digest, sizeof digest}, out);
}
