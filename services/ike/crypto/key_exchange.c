// See key_exchange.h. MODP groups: RFC 2409 §6.2, RFC 3526. ECP: RFC 5903 (Key Exchange Data is X | Y, the secret is X).
// Curve25519: RFC 8031. The tests of a peer's public value: RFC 6989 §2.1 and §2.3, RFC 8031 §3.1 (all-zero result).
#include "services/ike/crypto/key_exchange.h"

#include "services/ike/wire/ikev2.h"
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <stdlib.h>
#include <string.h>

enum group_kind { KIND_MODP, KIND_ECP, KIND_X25519 };

struct group_rule {
	uint8_t group;
	uint8_t kind;
	uint16_t public_length;
	uint8_t private_length; // MODP: twice the strength and more (RFC 3526 §8)
	int curve;
	BIGNUM *(*prime)(BIGNUM *);
};

static const struct group_rule groups[] = {
    {GROUP_CURVE25519, KIND_X25519, 32, 32, 0, NULL},
    {GROUP_ECP_256, KIND_ECP, 64, 32, NID_X9_62_prime256v1, NULL},
    {GROUP_ECP_384, KIND_ECP, 96, 48, NID_secp384r1, NULL},
    {GROUP_ECP_521, KIND_ECP, 132, 66, NID_secp521r1, NULL},
    {GROUP_MODP_2048, KIND_MODP, 256, 40, 0, BN_get_rfc3526_prime_2048},
    {GROUP_MODP_3072, KIND_MODP, 384, 48, 0, BN_get_rfc3526_prime_3072},
    {GROUP_MODP_4096, KIND_MODP, 512, 48, 0, BN_get_rfc3526_prime_4096},
    {GROUP_MODP_6144, KIND_MODP, 768, 56, 0, BN_get_rfc3526_prime_6144},
    {GROUP_MODP_8192, KIND_MODP, 1024, 64, 0, BN_get_rfc3526_prime_8192},
    {GROUP_MODP_1536, KIND_MODP, 192, 32, 0, BN_get_rfc3526_prime_1536},
    {GROUP_MODP_1024, KIND_MODP, 128, 32, 0, BN_get_rfc2409_prime_1024},
};

static const struct group_rule *rule_of(unsigned group)
{
	for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
		if (groups[i].group == group) {
			return &groups[i];
		}
	}
	return NULL;
}

bool group_known(unsigned group)
{
	return rule_of(group) != NULL;
}

size_t group_public_length(unsigned group)
{
	const struct group_rule *rule = rule_of(group);
	return rule ? rule->public_length : 0;
}

static void *present(void *allocated)
{
	if (!allocated) {
		abort(); // out of memory, as in alloc.h
	}
	return allocated;
}

void key_exchange_init(struct key_exchange *exchange, unsigned group, struct random *random)
{
	const struct group_rule *rule = rule_of(group);
	exchange->group = (uint8_t)group;
	exchange->private_value.length = rule->private_length;
	uint8_t *octets = exchange->private_value.octets;
	random_fill(random, octets, rule->private_length);
	if (rule->kind == KIND_MODP) {
		octets[0] |= 0x80; // never small
		return;
	}
	if (rule->kind == KIND_X25519) {
		return; // clamped where it is used, RFC 7748 §5
	}
	// A scalar in 1 … n-1, by trying again (FIPS 186-5 A.2.2): out of range is rare, for P-521 with the seven top bits cut.
	EC_GROUP *curve = present(EC_GROUP_new_by_curve_name(rule->curve));
	for (;;) {
		if (rule->group == GROUP_ECP_521) {
			octets[0] &= 0x01;
		}
		BIGNUM *scalar = present(BN_bin2bn(octets, rule->private_length, NULL));
		bool good = !BN_is_zero(scalar) && BN_cmp(scalar, EC_GROUP_get0_order(curve)) < 0;
		BN_clear_free(scalar);
		if (good) {
			break;
		}
		random_fill(random, octets, rule->private_length);
	}
	EC_GROUP_free(curve);
}

void key_exchange_wipe(struct key_exchange *exchange)
{
	secret_wipe(&exchange->private_value);
	exchange->group = GROUP_NONE;
}

struct bytes shared_secret_bytes(const struct shared_secret *shared)
{
	return (struct bytes){shared->octets, shared->length};
}

// base^private mod p into `length` octets. `peer` empty: the generator 2.
static bool modp(const struct group_rule *rule, const struct secret *private_value, struct bytes peer, uint8_t *out)
{
	BN_CTX *context = present(BN_CTX_new());
	BIGNUM *p = present(rule->prime(NULL));
	BIGNUM *limit = present(BN_dup(p));
	BIGNUM *base = present(BN_new());
	BIGNUM *result = present(BN_new());
	BIGNUM *exponent = present(BN_bin2bn(private_value->octets, private_value->length, NULL));
	BN_set_flags(exponent, BN_FLG_CONSTTIME);
	bool good = BN_sub_word(limit, 1) == 1;
	if (peer.length > 0) {
		good = good && BN_bin2bn(peer.data, (int)peer.length, base) != NULL;
	} else {
		good = good && BN_set_word(base, 2) == 1;
	}
	// 1 < y < p-1
	good = good && BN_cmp(base, BN_value_one()) > 0 && BN_cmp(base, limit) < 0 &&
	       BN_mod_exp(result, base, exponent, p, context) == 1 && BN_cmp(result, BN_value_one()) > 0 &&
	       BN_bn2binpad(result, out, rule->public_length) == rule->public_length;
	BN_clear_free(exponent);
	BN_clear_free(result);
	BN_free(base);
	BN_free(limit);
	BN_free(p);
	BN_CTX_free(context);
	return good;
}

// private × (peer, or the generator when it is empty) as X | Y.
static bool ecp(const struct group_rule *rule, const struct secret *private_value, struct bytes peer, uint8_t *out)
{
	BN_CTX *context = present(BN_CTX_new());
	EC_GROUP *curve = present(EC_GROUP_new_by_curve_name(rule->curve));
	EC_POINT *point = present(EC_POINT_new(curve));
	EC_POINT *result = present(EC_POINT_new(curve));
	BIGNUM *scalar = present(BN_bin2bn(private_value->octets, private_value->length, NULL));
	uint8_t octets[1 + 132];
	size_t length = 1u + rule->public_length;
	bool good = true;
	if (peer.length > 0) {
		octets[0] = POINT_CONVERSION_UNCOMPRESSED;
		memcpy(octets + 1, peer.data, peer.length);
		// Says no to coordinates beyond the field and to points off the curve; the cofactor is 1.
		good = EC_POINT_oct2point(curve, point, octets, length, context) == 1 &&
		       EC_POINT_mul(curve, result, NULL, point, scalar, context) == 1;
	} else {
		good = EC_POINT_mul(curve, result, scalar, NULL, NULL, context) == 1;
	}
	good = good && !EC_POINT_is_at_infinity(curve, result) &&
	       EC_POINT_point2oct(curve, result, POINT_CONVERSION_UNCOMPRESSED, octets, length, context) == length;
	if (good) {
		memcpy(out, octets + 1, rule->public_length);
	}
	wipe(octets, sizeof octets);
	BN_clear_free(scalar);
	EC_POINT_clear_free(result);
	EC_POINT_free(point);
	EC_GROUP_free(curve);
	BN_CTX_free(context);
	return good;
}

static bool x25519(const struct secret *private_value, struct bytes peer, uint8_t *out)
{
	size_t length = 32;
	EVP_PKEY *ours = present(EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private_value->octets, 32));
	bool good;
	if (peer.length == 0) {
		good = EVP_PKEY_get_raw_public_key(ours, out, &length) == 1;
	} else {
		EVP_PKEY *theirs = present(EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, peer.data, peer.length));
		EVP_PKEY_CTX *context = present(EVP_PKEY_CTX_new(ours, NULL));
		// libcrypto refuses the all-zero result.
		good = EVP_PKEY_derive_init(context) == 1 && EVP_PKEY_derive_set_peer(context, theirs) == 1 &&
		       EVP_PKEY_derive(context, out, &length) == 1;
		EVP_PKEY_CTX_free(context);
		EVP_PKEY_free(theirs);
	}
	EVP_PKEY_free(ours);
	return good && length == 32;
}

static bool compute(const struct key_exchange *exchange, const struct group_rule *rule, struct bytes peer, uint8_t *out)
{
	switch (rule->kind) {
	case KIND_MODP:
		return modp(rule, &exchange->private_value, peer, out);
	case KIND_ECP:
		return ecp(rule, &exchange->private_value, peer, out);
	default:
		return x25519(&exchange->private_value, peer, out);
	}
}

size_t key_exchange_public(const struct key_exchange *exchange, uint8_t out[static PUBLIC_VALUE_MAX])
{
	const struct group_rule *rule = rule_of(exchange->group);
	return rule && compute(exchange, rule, (struct bytes){0}, out) ? rule->public_length : 0;
}

bool key_exchange_shared(const struct key_exchange *exchange, struct bytes peer, struct shared_secret *out)
{
	const struct group_rule *rule = rule_of(exchange->group);
	out->length = 0;
	if (!rule || peer.length != rule->public_length || !compute(exchange, rule, peer, out->octets)) {
		return false;
	}
	out->length = rule->kind == KIND_ECP ? rule->public_length / 2u : rule->public_length;
	return true;
}
