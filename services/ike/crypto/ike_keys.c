// See ike_keys.h. RFC 7296 §2.13 (prf+ itself is in ike_crypto.c), §2.14, §2.15, §2.17, §2.18.
#include "services/ike/crypto/ike_keys.h"

#include "common/base/alloc.h"
#include <stdlib.h>
#include <string.h>

bool nonce_set(struct nonce *nonce, struct bytes octets)
{
	if (octets.length < NONCE_MIN || octets.length > NONCE_MAX) {
		return false;
	}
	nonce->length = (uint16_t)octets.length;
	memcpy(nonce->octets, octets.data, octets.length);
	return true;
}

struct bytes nonce_bytes(const struct nonce *nonce)
{
	return (struct bytes){nonce->octets, nonce->length};
}

void ike_keys_wipe(struct ike_keys *keys)
{
	wipe(keys, sizeof *keys);
}

void skeyseed_initial(unsigned prf, const struct key_inputs *inputs, struct secret *out)
{
	uint8_t key[2 * NONCE_MAX];
	struct writer w = writer_of(key, sizeof key);
	write_bytes(&w, inputs->nonce_i);
	write_bytes(&w, inputs->nonce_r);
	out->length = hash_algorithm(prf)->length;
	hmac(prf, writer_bytes(&w), inputs->shared, out->octets);
}

void skeyseed_rekey(unsigned old_prf, const struct secret *old_d, const struct key_inputs *inputs, struct secret *out)
{
	uint8_t data[SHARED_SECRET_MAX + 2 * NONCE_MAX];
	struct writer w = writer_of(data, sizeof data);
	write_bytes(&w, inputs->shared);
	write_bytes(&w, inputs->nonce_i);
	write_bytes(&w, inputs->nonce_r);
	out->length = hash_algorithm(old_prf)->length;
	hmac(old_prf, secret_bytes(old_d), writer_bytes(&w), out->octets);
	wipe(data, sizeof data);
}

static void take(struct reader *keymat, struct secret *out, size_t length)
{
	secret_set(out, read_bytes(keymat, length));
}

void ike_keys_derive(const struct suite *suite, const struct secret *skeyseed, const struct key_inputs *inputs,
                     struct ike_keys *out)
{
	size_t prf_length = hash_algorithm(suite->prf)->length;
	size_t encryption = encryption_key_length(suite->encryption);
	size_t integrity = integrity_key_length(suite->integrity);
	uint8_t seed[2 * NONCE_MAX + 16];
	struct writer w = writer_of(seed, sizeof seed);
	write_bytes(&w, inputs->nonce_i);
	write_bytes(&w, inputs->nonce_r);
	write_u64(&w, inputs->spi_i);
	write_u64(&w, inputs->spi_r);
	uint8_t keymat[3 * HASH_MAX + 4 * SECRET_CAPACITY];
	size_t length = 3 * prf_length + 2 * encryption + 2 * integrity;
	prf_plus(suite->prf, secret_bytes(skeyseed), writer_bytes(&w), keymat, length);
	struct reader r = reader_of((struct bytes){keymat, length});
	take(&r, &out->d, prf_length);
	take(&r, &out->ai, integrity);
	take(&r, &out->ar, integrity);
	take(&r, &out->ei, encryption);
	take(&r, &out->er, encryption);
	take(&r, &out->pi, prf_length);
	take(&r, &out->pr, prf_length);
	wipe(keymat, sizeof keymat);
}

void child_keymat(unsigned prf, const struct secret *d, const struct key_inputs *inputs, uint8_t *out, size_t length)
{
	uint8_t seed[SHARED_SECRET_MAX + 2 * NONCE_MAX];
	struct writer w = writer_of(seed, sizeof seed);
	write_bytes(&w, inputs->shared);
	write_bytes(&w, inputs->nonce_i);
	write_bytes(&w, inputs->nonce_r);
	prf_plus(prf, secret_bytes(d), writer_bytes(&w), out, length);
	wipe(seed, sizeof seed);
}

void child_keys_derive(const struct suite *suite, unsigned prf, const struct secret *d, const struct key_inputs *inputs,
                       struct child_keys *out)
{
	size_t encryption = encryption_key_length(suite->encryption);
	size_t integrity = integrity_key_length(suite->integrity);
	uint8_t keymat[4 * SECRET_CAPACITY];
	size_t length = 2 * (encryption + integrity);
	child_keymat(prf, d, inputs, keymat, length);
	struct reader r = reader_of((struct bytes){keymat, length});
	take(&r, &out->encryption_i, encryption);
	take(&r, &out->integrity_i, integrity);
	take(&r, &out->encryption_r, encryption);
	take(&r, &out->integrity_r, integrity);
	wipe(keymat, sizeof keymat);
}

void shared_key_auth(unsigned prf, const struct secret *secret, struct bytes message, struct bytes nonce,
                     const struct secret *sk_p, struct bytes identity, uint8_t out[static HASH_MAX])
{
	static const char pad[] = "Key Pad for IKEv2"; // without the final zero
	size_t length = hash_algorithm(prf)->length;
	uint8_t key[HASH_MAX], hashed_identity[HASH_MAX];
	hmac(prf, secret_bytes(secret), (struct bytes){(const uint8_t *)pad, sizeof pad - 1}, key);
	hmac(prf, secret_bytes(sk_p), identity, hashed_identity);
	size_t total = message.length + nonce.length + length;
	uint8_t *octets = allocate(total);
	struct writer w = writer_of(octets, total);
	write_bytes(&w, message);
	write_bytes(&w, nonce);
	write_bytes(&w, (struct bytes){hashed_identity, length});
	hmac(prf, (struct bytes){key, length}, writer_bytes(&w), out);
	free(octets);
	wipe(key, sizeof key);
}
