// See algorithm.h. RFC 8247 names the algorithms, RFC 4868 the HMAC-SHA2 lengths, RFC 2404 HMAC-SHA1-96, RFC 5282 AES-GCM in
// IKEv2, RFC 3602 AES-CBC. Left out: ChaCha20-Poly1305, AES-CTR, AES-CCM, AES-XCBC and 3DES, which the product does not offer.
#include "services/ike/wire/algorithm.h"

#include "services/ike/wire/ikev2.h"
#include <stdio.h>

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
