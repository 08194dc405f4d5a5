// See key_exchange.h. MODP groups: RFC 2409 §6.2, RFC 3526. ECP: RFC 5903 (Key Exchange Data is X | Y, the secret is X).
// Curve25519: RFC 8031. The tests of a peer's public value: RFC 6989 §2.1 and §2.3, RFC 8031 §3.1 (all-zero result).
//
// What libcrypto makes once and only reads afterwards (curves, primes with their Montgomery form) is kept for the life of the
// thread: it is no state of the protocol, and building it costs more than an exchange on P-256.
#include "services/ike/crypto/key_exchange.h"

#include "common/base/invariant.h"
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

// ---- what is made once for each thread ----
struct constants {
	EC_GROUP *curve;
	BIGNUM *prime, *last; // p and p-1
	BN_MONT_CTX *montgomery;
	BN_CTX *scratch;
};

static const struct constants *constants_of(const struct group_rule *rule)
{
	static _Thread_local struct constants all[sizeof groups / sizeof groups[0]];
	struct constants *c = &all[rule - groups];
	if (!c->scratch) {
		c->scratch = present(BN_CTX_secure_new());
		if (rule->kind == KIND_ECP) {
			c->curve = present(EC_GROUP_new_by_curve_name(rule->curve));
		} else if (rule->kind == KIND_MODP) {
			c->prime = present(rule->prime(NULL));
			c->last = present(BN_dup(c->prime));
			c->montgomery = present(BN_MONT_CTX_new());
			if (BN_sub_word(c->last, 1) != 1 || BN_MONT_CTX_set(c->montgomery, c->prime, c->scratch) != 1) {
				abort();
			}
		}
	}
	return c;
}

// ---- MODP ----
// 1 < y < p-1
static bool modp_acceptable(const struct constants *c, const BIGNUM *y)
{
	return BN_cmp(y, BN_value_one()) > 0 && BN_cmp(y, c->last) < 0;
}

// base^private mod p into `length` octets. `peer` empty: the generator 2.
static bool modp(const struct group_rule *rule, const struct secret *private_value, struct bytes peer, uint8_t *out)
{
	const struct constants *c = constants_of(rule);
	BIGNUM *base = present(BN_new());
	BIGNUM *result = present(BN_new());
	BIGNUM *exponent = present(BN_bin2bn(private_value->octets, private_value->length, NULL));
	BN_set_flags(exponent, BN_FLG_CONSTTIME);
	bool good = peer.length > 0 ? BN_bin2bn(peer.data, (int)peer.length, base) != NULL : BN_set_word(base, 2) == 1;
	good = good && modp_acceptable(c, base) &&
	       BN_mod_exp_mont_consttime(result, base, exponent, c->prime, c->scratch, c->montgomery) == 1 &&
	       BN_cmp(result, BN_value_one()) > 0 && BN_bn2binpad(result, out, rule->public_length) == rule->public_length;
	BN_clear_free(exponent);
	BN_clear_free(result);
	BN_free(base);
	return good;
}

// ---- ECP ----
// Says no to coordinates beyond the field and to points off the curve; the cofactor is 1.
static bool point_read(const struct group_rule *rule, const struct constants *c, struct bytes value, EC_POINT *out)
{
	uint8_t octets[1 + 132] = {POINT_CONVERSION_UNCOMPRESSED};
	memcpy(octets + 1, value.data, value.length);
	return EC_POINT_oct2point(c->curve, out, octets, 1u + rule->public_length, c->scratch) == 1;
}

// private × (peer, or the generator when it is empty) as X | Y.
static bool ecp(const struct group_rule *rule, const struct secret *private_value, struct bytes peer, uint8_t *out)
{
	const struct constants *c = constants_of(rule);
	EC_POINT *point = present(EC_POINT_new(c->curve));
	EC_POINT *result = present(EC_POINT_new(c->curve));
	BIGNUM *scalar = present(BN_bin2bn(private_value->octets, private_value->length, NULL));
	uint8_t octets[1 + 132];
	size_t length = 1u + rule->public_length;
	bool good = peer.length > 0 ? point_read(rule, c, peer, point) &&
	                                  EC_POINT_mul(c->curve, result, NULL, point, scalar, c->scratch) == 1
	                            : EC_POINT_mul(c->curve, result, scalar, NULL, NULL, c->scratch) == 1;
	good = good && !EC_POINT_is_at_infinity(c->curve, result) &&
	       EC_POINT_point2oct(c->curve, result, POINT_CONVERSION_UNCOMPRESSED, octets, length, c->scratch) == length;
	if (good) {
		memcpy(out, octets + 1, rule->public_length);
	}
	wipe(octets, sizeof octets);
	BN_clear_free(scalar);
	EC_POINT_clear_free(result);
	EC_POINT_free(point);
	return good;
}

// ---- Curve25519 ----
// The points of small order, whose secret is all zero whatever the private value (RFC 7748 §6.1), below and above p,
// little-endian. The highest bit is not looked at (§5).
static bool x25519_acceptable(struct bytes value)
{
	static const uint8_t small[][32] = {
	    {0},
	    {1},
	    {0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
	     0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00},
	    {0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
	     0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57},
	};
	uint8_t masked[32], near_p[32];
	memcpy(masked, value.data, sizeof masked);
	masked[31] &= 0x7f;
	for (size_t i = 0; i < sizeof small / sizeof small[0]; i++) {
		if (memcmp(masked, small[i], sizeof masked) == 0) {
			return false;
		}
	}
	// p-1, p and p+1, p = 2^255 - 19
	memset(near_p, 0xff, sizeof near_p);
	near_p[31] = 0x7f;
	near_p[0] = masked[0];
	return !(masked[0] >= 0xec && masked[0] <= 0xee && memcmp(masked, near_p, sizeof masked) == 0);
}

// Ours to send, and the secret when there is a peer's value: the private value is imported once for both.
static bool x25519(const struct secret *private_value, uint8_t *ours, struct bytes peer, uint8_t *secret)
{
	size_t length = 32;
	EVP_PKEY *key = present(EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private_value->octets, 32));
	bool good = !ours || EVP_PKEY_get_raw_public_key(key, ours, &length) == 1;
	if (good && peer.length > 0) {
		EVP_PKEY *theirs = present(EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, peer.data, peer.length));
		EVP_PKEY_CTX *context = present(EVP_PKEY_CTX_new(key, NULL));
		// libcrypto refuses the all-zero result.
		good = EVP_PKEY_derive_init(context) == 1 && EVP_PKEY_derive_set_peer(context, theirs) == 1 &&
		       EVP_PKEY_derive(context, secret, &length) == 1;
		EVP_PKEY_CTX_free(context);
		EVP_PKEY_free(theirs);
	}
	EVP_PKEY_free(key);
	return good && length == 32;
}

// ---- all groups ----
bool key_exchange_acceptable(unsigned group, struct bytes value)
{
	const struct group_rule *rule = rule_of(group);
	if (!rule || value.length != rule->public_length) {
		return false;
	}
	if (rule->kind == KIND_X25519) {
		return x25519_acceptable(value);
	}
	const struct constants *c = constants_of(rule);
	bool good;
	if (rule->kind == KIND_MODP) {
		BIGNUM *y = present(BN_bin2bn(value.data, (int)value.length, NULL));
		good = modp_acceptable(c, y);
		BN_free(y);
	} else {
		EC_POINT *point = present(EC_POINT_new(c->curve));
		good = point_read(rule, c, value, point);
		EC_POINT_free(point);
	}
	return good;
}

// A fresh private value.
static void draw(struct key_exchange *exchange, const struct group_rule *rule, struct random *random)
{
	exchange->group = rule->group;
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
	for (;;) {
		if (rule->group == GROUP_ECP_521) {
			octets[0] &= 0x01;
		}
		BIGNUM *scalar = present(BN_bin2bn(octets, rule->private_length, NULL));
		bool good = !BN_is_zero(scalar) && BN_cmp(scalar, EC_GROUP_get0_order(constants_of(rule)->curve)) < 0;
		BN_clear_free(scalar);
		if (good) {
			break;
		}
		random_fill(random, octets, rule->private_length);
	}
}

static bool compute(const struct group_rule *rule, const struct secret *private_value, struct ke_value *ours, struct bytes peer,
                    struct shared_secret *out)
{
	bool good = true;
	if (rule->kind == KIND_X25519) {
		good = x25519(private_value, ours ? ours->octets : NULL, peer, out ? out->octets : NULL);
	} else {
		bool (*power)(const struct group_rule *, const struct secret *, struct bytes, uint8_t *) =
		    rule->kind == KIND_MODP ? modp : ecp;
		uint8_t point[SHARED_SECRET_MAX];
		good = !ours || power(rule, private_value, (struct bytes){0}, ours->octets);
		good = good && (!out || power(rule, private_value, peer, point));
		if (good && out) {
			memcpy(out->octets, point, rule->public_length);
		}
		if (out) {
			wipe(point, rule->public_length);
		}
	}
	if (ours) {
		ours->length = good ? rule->public_length : 0;
	}
	if (out) {
		size_t length = rule->kind == KIND_ECP ? rule->public_length / 2u : rule->public_length;
		out->length = good ? length : 0;
	}
	return good;
}

bool key_exchange_value(const struct key_exchange *exchange, struct ke_value *out)
{
	const struct group_rule *rule = rule_of(exchange->group);
	out->length = 0;
	return rule && compute(rule, &exchange->private_value, out, (struct bytes){0}, NULL);
}

void key_exchange_begin(struct key_exchange *exchange, unsigned group, struct random *random, struct ke_value *ours)
{
	const struct group_rule *rule = rule_of(group);
	invariant(rule != NULL);
	draw(exchange, rule, random);
	if (!compute(rule, &exchange->private_value, ours, (struct bytes){0}, NULL)) {
		abort(); // libcrypto is out of memory or broken
	}
}

bool key_exchange_respond(unsigned group, struct bytes peer, struct random *random, struct ke_value *ours,
                          struct shared_secret *out)
{
	ours->length = out->length = 0;
	if (!key_exchange_acceptable(group, peer)) {
		return false;
	}
	struct key_exchange exchange;
	const struct group_rule *rule = rule_of(group);
	draw(&exchange, rule, random);
	bool good = compute(rule, &exchange.private_value, ours, peer, out);
	key_exchange_wipe(&exchange);
	return good;
}

bool key_exchange_finish(const struct key_exchange *exchange, struct bytes peer, struct shared_secret *out)
{
	out->length = 0;
	return key_exchange_acceptable(exchange->group, peer) &&
	       compute(rule_of(exchange->group), &exchange->private_value, NULL, peer, out);
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

struct bytes ke_value_bytes(const struct ke_value *value)
{
	return (struct bytes){value->octets, value->length};
}
