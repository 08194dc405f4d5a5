// libipsec-mb: GCM by its direct calls, CBC with HMAC by its job queue, which works on many packets at a time.
#include <string.h>

#include "common/base/secret.h"
#include "services/esp/crypto_cipher.h"

// The two HMAC states that depend on the key only (RFC 2104 §4). Keys are never longer than a block here.
static void prepare_hmac(IMB_MGR *manager, struct cipher *cipher, struct bytes key)
{
	uint8_t block[128];
	size_t size = cipher->suite.integrity >= ESP_HMAC_SHA2_384_192 ? 128 : 64;
	for (int outer = 0; outer < 2; outer++) {
		memset(block, outer ? 0x5c : 0x36, sizeof block);
		for (size_t i = 0; i < key.length && i < size; i++) {
			block[i] ^= key.data[i];
		}
		uint8_t *state = outer ? cipher->u.cbc.outer : cipher->u.cbc.inner;
		switch (cipher->suite.integrity) {
		case ESP_HMAC_SHA1_96:
			IMB_SHA1_ONE_BLOCK(manager, block, state);
			break;
		case ESP_HMAC_SHA2_256_128:
			IMB_SHA256_ONE_BLOCK(manager, block, state);
			break;
		case ESP_HMAC_SHA2_384_192:
			IMB_SHA384_ONE_BLOCK(manager, block, state);
			break;
		case ESP_HMAC_SHA2_512_256:
			IMB_SHA512_ONE_BLOCK(manager, block, state);
			break;
		case ESP_INTEGRITY_NONE:
			break;
		}
	}
	wipe(block, sizeof block);
}

void crypto_mb_prepare(const struct crypto_engine *engine, struct cipher *cipher, const struct esp_sa_keys *keys)
{
	IMB_MGR *manager = engine->manager;
	const uint8_t *key = keys->encryption.data;
	switch (cipher->suite.encryption) {
	case ESP_AES_GCM16_128:
		IMB_AES128_GCM_PRE(manager, key, &cipher->u.gcm);
		return;
	case ESP_AES_GCM16_256:
		IMB_AES256_GCM_PRE(manager, key, &cipher->u.gcm);
		return;
	case ESP_AES_CBC_128:
		IMB_AES_KEYEXP_128(manager, key, cipher->u.cbc.encrypt, cipher->u.cbc.decrypt);
		break;
	case ESP_AES_CBC_192:
		IMB_AES_KEYEXP_192(manager, key, cipher->u.cbc.encrypt, cipher->u.cbc.decrypt);
		break;
	case ESP_AES_CBC_256:
		IMB_AES_KEYEXP_256(manager, key, cipher->u.cbc.encrypt, cipher->u.cbc.decrypt);
		break;
	}
	prepare_hmac(manager, cipher, keys->integrity);
}

static void finish_job(struct crypto *crypto, const IMB_JOB *job)
{
	crypto->pending--;
	struct crypto_op *op = job->user_data;
	if (op) {
		op->ok = job->status == IMB_STATUS_COMPLETED &&
		         icv_equal(op->tags, op->tags + CRYPTO_ICV_MAX, op->cipher->suite.icv);
	}
}

static void submit(struct crypto *crypto, const struct crypto_op *op, uint8_t *icv, unsigned extra, struct crypto_op *opened)
{
	static const IMB_HASH_ALG hashes[] = {
	    [ESP_HMAC_SHA1_96] = IMB_AUTH_HMAC_SHA_1,
	    [ESP_HMAC_SHA2_256_128] = IMB_AUTH_HMAC_SHA_256,
	    [ESP_HMAC_SHA2_384_192] = IMB_AUTH_HMAC_SHA_384,
	    [ESP_HMAC_SHA2_512_256] = IMB_AUTH_HMAC_SHA_512,
	};
	const struct cipher *cipher = op->cipher;
	IMB_JOB *job = IMB_GET_NEXT_JOB(crypto->manager);
	job->enc_keys = cipher->u.cbc.encrypt;
	job->dec_keys = cipher->u.cbc.decrypt;
	job->key_len_in_bytes = cipher->suite.encryption_key;
	job->src = op->esp;
	job->dst = op->esp + ESP_HEADER + cipher->suite.iv;
	job->cipher_start_src_offset_in_bytes = ESP_HEADER + cipher->suite.iv;
	job->msg_len_to_cipher_in_bytes = op->length;
	job->hash_start_src_offset_in_bytes = 0;
	job->msg_len_to_hash_in_bytes = ESP_HEADER + cipher->suite.iv + op->length + extra;
	job->iv = op->esp + ESP_HEADER;
	job->iv_len_in_bytes = cipher->suite.iv;
	job->auth_tag_output = icv;
	job->auth_tag_output_len_in_bytes = cipher->suite.icv;
	job->u.HMAC._hashed_auth_key_xor_ipad = cipher->u.cbc.inner;
	job->u.HMAC._hashed_auth_key_xor_opad = cipher->u.cbc.outer;
	job->cipher_mode = IMB_CIPHER_CBC;
	job->cipher_direction = opened ? IMB_DIR_DECRYPT : IMB_DIR_ENCRYPT;
	job->chain_order = opened ? IMB_ORDER_HASH_CIPHER : IMB_ORDER_CIPHER_HASH;
	job->hash_alg = hashes[cipher->suite.integrity];
	job->user_data = opened;
	crypto->pending++;
	job = IMB_SUBMIT_JOB(crypto->manager);
	while (job) {
		finish_job(crypto, job);
		job = IMB_GET_COMPLETED_JOB(crypto->manager);
	}
}

void crypto_mb_seal(struct crypto *crypto, const struct crypto_op *op)
{
	struct cipher *cipher = op->cipher;
	uint8_t *payload = op->esp + ESP_HEADER + cipher->suite.iv;
	uint8_t *icv = payload + op->length;
	if (!cipher->suite.gcm) {
		submit(crypto, op, icv, crypto_put_high(op, icv), NULL);
		return;
	}
	struct gcm_input input;
	gcm_input_set(&input, cipher, __builtin_bswap32(op->spi), __builtin_bswap32((uint32_t)op->sequence), op->sequence,
	              __builtin_bswap32((uint32_t)(op->sequence >> 32)), __builtin_bswap32((uint32_t)op->sequence));
	const uint8_t *nonce = (const uint8_t *)&input.nonce, *aad = (const uint8_t *)&input.aad;
	if (cipher->suite.encryption == ESP_AES_GCM16_128) {
		IMB_AES128_GCM_ENC(crypto->manager, &cipher->u.gcm, &crypto->gcm, payload, op->plain, op->length, nonce, aad,
		                   input.aad_length, icv, 16);
	} else {
		IMB_AES256_GCM_ENC(crypto->manager, &cipher->u.gcm, &crypto->gcm, payload, op->plain, op->length, nonce, aad,
		                   input.aad_length, icv, 16);
	}
}

void crypto_mb_open(struct crypto *crypto, struct crypto_op *op)
{
	struct cipher *cipher = op->cipher;
	uint8_t *payload = op->esp + ESP_HEADER + cipher->suite.iv;
	uint8_t *icv = payload + op->length;
	if (!cipher->suite.gcm) {
		memcpy(op->tags, icv, cipher->suite.icv);
		submit(crypto, op, op->tags + CRYPTO_ICV_MAX, crypto_put_high(op, icv), op);
		return;
	}
	uint8_t computed[16];
	struct gcm_input input;
	gcm_input_set(&input, cipher, word_at(op->esp), word_at(op->esp + 4), op->sequence, word_at(op->esp + 8),
	              word_at(op->esp + 12));
	const uint8_t *nonce = (const uint8_t *)&input.nonce, *aad = (const uint8_t *)&input.aad;
	if (cipher->suite.encryption == ESP_AES_GCM16_128) {
		IMB_AES128_GCM_DEC(crypto->manager, &cipher->u.gcm, &crypto->gcm, payload, payload, op->length, nonce, aad,
		                   input.aad_length, computed, 16);
	} else {
		IMB_AES256_GCM_DEC(crypto->manager, &cipher->u.gcm, &crypto->gcm, payload, payload, op->length, nonce, aad,
		                   input.aad_length, computed, 16);
	}
	op->ok = icv_equal(icv, computed, 16);
}

void crypto_mb_finish(struct crypto *crypto)
{
	IMB_JOB *job;
	while ((job = IMB_FLUSH_JOB(crypto->manager)) != NULL) {
		finish_job(crypto, job);
	}
}

void crypto_mb_iv_init(struct crypto *crypto)
{
	uint8_t key[16], unused[15 * 16] __attribute__((aligned(16)));
	random_fill(&crypto->random, key, sizeof key);
	random_fill(&crypto->random, crypto->iv_counter, sizeof crypto->iv_counter);
	IMB_AES_KEYEXP_128(crypto->manager, key, crypto->iv_key, unused);
	wipe(key, sizeof key);
	wipe(unused, sizeof unused);
}

void crypto_mb_iv(struct crypto *crypto, uint8_t *out)
{
	static const uint8_t zero[16];
	crypto->iv_counter[0]++;
	// One block of CFB over zeros is the block cipher itself.
	IMB_AES128_CFB_ONE(crypto->manager, out, zero, crypto->iv_counter, crypto->iv_key, 16);
}
