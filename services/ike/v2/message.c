// The encrypted payload (RFC 7296 §3.14; RFC 5282 for AES-GCM): sealing a chain of payloads, and opening what came.
#include "services/ike/v2/exchanges.h"

#include "common/base/invariant.h"
#include <string.h>

static const struct secret *encryption_key(const struct ike_sa *sa, bool ours)
{
	return sa->initiator == ours ? &sa->keys.ei : &sa->keys.er;
}

static const struct secret *integrity_key(const struct ike_sa *sa, bool ours)
{
	return sa->initiator == ours ? &sa->keys.ai : &sa->keys.ar;
}

struct shape { // lengths around the ciphertext
	size_t iv, icv, block;
	bool aead;
};

static struct shape shape_of(const struct ike_sa *sa)
{
	bool aead = encryption_algorithm(sa->suite.encryption)->aead;
	return aead ? (struct shape){GCM_IV, GCM_TAG, 1, true}
	            : (struct shape){CBC_BLOCK, hash_algorithm(sa->suite.integrity)->icv, CBC_BLOCK, false};
}

size_t message_seal(struct ike *ike, struct ike_sa *sa, uint8_t exchange, bool response, uint32_t message_id,
                    const struct chain *chain, uint8_t out[static IKE_MESSAGE_MAX])
{
	struct shape shape = shape_of(sa);
	invariant(sa->keys.d.length > 0); // keyed
	struct bytes inner = writer_bytes(chain->w);
	size_t padding = shape.block - 1 - inner.length % shape.block;
	struct writer w = writer_of(out, IKE_MESSAGE_MAX);
	struct ike_header header = {
	    .spi_i = sa->spi_i,
	    .spi_r = sa->spi_r,
	    .first_payload = PAYLOAD_SK,
	    .version = IKE_VERSION_2,
	    .exchange = exchange,
	    .flags = (uint8_t)((sa->initiator ? FLAG_INITIATOR : 0) | (response ? FLAG_RESPONSE : 0)),
	    .message_id = message_id,
	};
	header_write(&w, &header);
	write_u8(&w, chain->first);
	write_u8(&w, 0);
	write_u16(&w, (uint16_t)(4 + shape.iv + inner.length + padding + 1 + shape.icv));
	struct bytes associated = writer_bytes(&w);
	uint8_t *iv = write_space(&w, shape.iv);
	uint8_t *text = w.at;
	write_bytes(&w, inner);
	uint8_t *pad = write_space(&w, padding + 1);
	size_t text_length = inner.length + padding + 1;
	size_t before_icv = writer_length(&w);
	uint8_t *icv = write_space(&w, shape.icv);
	header_finish(&w, 0);
	if (w.failed || chain->w->failed) {
		return 0;
	}
	memset(pad, 0, padding);
	pad[padding] = (uint8_t)padding;
	bool done;
	if (shape.aead) {
		// Never the same under one key: it counts, from a random start that a restored SA draws anew.
		struct writer counter = writer_of(iv, shape.iv);
		write_u64(&counter, sa->next_iv++);
		done = gcm_encrypt(secret_bytes(encryption_key(sa, true)), iv, associated, text, text_length, icv);
	} else {
		random_fill(&ike->random, iv, shape.iv);
		done = cbc_encrypt(secret_bytes(encryption_key(sa, true)), iv, text, text_length);
		uint8_t hash[HASH_MAX];
		hmac(sa->suite.integrity, secret_bytes(integrity_key(sa, true)), (struct bytes){out, before_icv}, hash);
		memcpy(icv, hash, shape.icv);
	}
	return done ? writer_length(&w) : 0;
}

enum notify message_open(const struct ike_sa *sa, struct bytes message, const struct ike_header *header,
                         uint8_t plain[static IKE_MESSAGE_MAX], struct payloads *out)
{
	struct shape shape = shape_of(sa);
	struct payloads outer;
	struct bytes chain = {message.data + IKE_HEADER_LENGTH, message.length - IKE_HEADER_LENGTH};
	if (message.length > IKE_MESSAGE_MAX || payloads_read(chain, header->first_payload, &outer) != NOTIFY_NONE) {
		return AUTHENTICATION_FAILED;
	}
	const struct payload *sk = payloads_find(&outer, PAYLOAD_SK);
	if (!sk || sk->body.length < shape.iv + 1 + shape.icv) {
		return AUTHENTICATION_FAILED;
	}
	size_t length = sk->body.length - shape.iv - shape.icv;
	const uint8_t *iv = sk->body.data, *icv = sk->body.data + shape.iv + length;
	memcpy(plain, sk->body.data + shape.iv, length);
	if (shape.aead) {
		struct bytes associated = {message.data, IKE_HEADER_LENGTH + sk->offset + 4};
		if (!gcm_decrypt(secret_bytes(encryption_key(sa, false)), iv, associated, plain, length, icv)) {
			return AUTHENTICATION_FAILED;
		}
	} else {
		uint8_t hash[HASH_MAX];
		hmac(sa->suite.integrity, secret_bytes(integrity_key(sa, false)),
		     (struct bytes){message.data, (size_t)(icv - message.data)}, hash);
		if (!constant_time_equal((struct bytes){hash, shape.icv}, (struct bytes){icv, shape.icv}) ||
		    !cbc_decrypt(secret_bytes(encryption_key(sa, false)), iv, plain, length)) {
			return AUTHENTICATION_FAILED;
		}
	}
	size_t padding = plain[length - 1];
	if (padding + 1 > length) {
		return INVALID_SYNTAX;
	}
	return payloads_read((struct bytes){plain, length - padding - 1}, sk->next, out);
}
