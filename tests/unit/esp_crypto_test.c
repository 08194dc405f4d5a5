// Ciphers: published vectors, a second implementation (OpenSSL) over every suite, and what must not authenticate.
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/hex.h"
#include "common/base/random.h"
#include "services/esp/crypto.h"

static const uint8_t seed[32] = {3};

struct engine {
	struct crypto_engine *engine;
	struct crypto *crypto;
};

static struct engine engine_new(bool openssl)
{
	struct engine e = {.engine = crypto_engine_new(openssl)};
	e.crypto = crypto_new(e.engine, 0, seed);
	return e;
}

static void engine_free(struct engine *e)
{
	crypto_free(&e->crypto);
	crypto_engine_free(&e->engine);
}

static size_t unhex(const char *text, uint8_t *out, size_t capacity)
{
	ptrdiff_t length = hex_parse(text, out, capacity);
	assert_true(length >= 0);
	return (size_t)length;
}

static struct cipher *gcm(const struct engine *e, const uint8_t *key, size_t length, bool seals, bool extended)
{
	struct suite suite;
	assert_true(suite_of(length == 20 ? ESP_AES_GCM16_128 : ESP_AES_GCM16_256, ESP_INTEGRITY_NONE, &suite));
	struct cipher *cipher =
	    cipher_new(e->engine, &suite, &(struct esp_sa_keys){.encryption = {key, length}}, seals, extended);
	assert_non_null(cipher);
	return cipher;
}

// draft-mcgrew-gcm-test-01, its first ESP packet. Its IV is no counter, so it is opened, not sealed.
static void gcm_test_draft(void **state)
{
	static const struct {
		const char *key, *salt, *packet, *plain;
	} cases[] = {
	    {"4c80cdefbb5d10da906ac73c3613a634", "2e443b68",
	     "000043218765432100000000"
	     "4956ed7e3b244cfe"
	     "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff624"
	     "7aeabb7"
	     "86b93bce61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
	     "45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f756470037369700963796265726"
	     "3697479"
	     "02646b000021000101020201"},
	};
	(void)state;
	for (int openssl = 0; openssl < 2; openssl++) {
		struct engine e = engine_new(openssl);
		for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
			uint8_t key[36], packet[256], plain[256];
			size_t key_length = unhex(cases[i].key, key, sizeof key);
			key_length += unhex(cases[i].salt, key + key_length, 4);
			// The vector writes the whole 64-bit number; on the wire only its low half follows the SPI.
			uint8_t whole[256];
			size_t length = unhex(cases[i].packet, whole, sizeof whole);
			size_t plain_length = unhex(cases[i].plain, plain, sizeof plain);
			memcpy(packet, whole, 4);
			memcpy(packet + 4, whole + 8, 4);
			memcpy(packet + 8, whole + 12, length - 12);
			struct cipher *cipher = gcm(&e, key, key_length, false, true);
			struct crypto_op op = {
			    .cipher = cipher, .esp = packet, .length = (uint32_t)plain_length, .sequence = 0x8765432100000000};
			crypto_open(e.crypto, &op);
			crypto_finish(e.crypto);
			assert_true(op.ok);
			assert_memory_equal(packet + 16, plain, plain_length);
			cipher_free(&cipher);
		}
		engine_free(&e);
	}
}

// ---- CBC and HMAC against OpenSSL's one-shot calls ----

static const EVP_MD *digest_of(enum esp_integrity integrity)
{
	switch (integrity) {
	case ESP_HMAC_SHA1_96:
		return EVP_sha1();
	case ESP_HMAC_SHA2_256_128:
		return EVP_sha256();
	case ESP_HMAC_SHA2_384_192:
		return EVP_sha384();
	default:
		return EVP_sha512();
	}
}

static const EVP_CIPHER *cipher_of(enum esp_encryption encryption)
{
	return encryption == ESP_AES_CBC_128   ? EVP_aes_128_cbc()
	       : encryption == ESP_AES_CBC_192 ? EVP_aes_192_cbc()
	                                       : EVP_aes_256_cbc();
}

static void independent(const struct suite *suite, const struct esp_sa_keys *keys, uint8_t *packet, const uint8_t *plain,
                        int length, bool extended, uint64_t sequence)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int n;
	uint8_t *payload = packet + 8 + 16;
	assert_int_equal(EVP_EncryptInit_ex(context, cipher_of(suite->encryption), NULL, keys->encryption.data, packet + 8), 1);
	EVP_CIPHER_CTX_set_padding(context, 0);
	assert_int_equal(EVP_EncryptUpdate(context, payload, &n, plain, length), 1);
	EVP_CIPHER_CTX_free(context);
	uint8_t covered[4096], mac[64];
	size_t total = 24 + (size_t)length;
	memcpy(covered, packet, total);
	for (int i = 0; extended && i < 4; i++) {
		covered[total++] = (uint8_t)(sequence >> (56 - 8 * i));
	}
	HMAC(digest_of(suite->integrity), keys->integrity.data, (int)keys->integrity.length, covered, total, mac, NULL);
	memcpy(payload + length, mac, suite->icv);
}

static void cbc_against_openssl(void **state)
{
	(void)state;
	struct random random;
	random_init_number(&random, 2);
	for (int openssl = 0; openssl < 2; openssl++) {
		struct engine e = engine_new(openssl);
		for (int encryption = ESP_AES_CBC_128; encryption <= ESP_AES_CBC_256; encryption++) {
			for (int integrity = ESP_HMAC_SHA1_96; integrity <= ESP_HMAC_SHA2_512_256; integrity++) {
				for (int extended = 0; extended < 2; extended++) {
					struct suite suite;
					uint8_t key[32], mac_key[64], plain[64][1504], packet[64][2048], wanted[2048];
					struct crypto_op ops[64];
					uint8_t tags[64][2 * CRYPTO_ICV_MAX];
					assert_true(suite_of(encryption, integrity, &suite));
					random_fill(&random, key, sizeof key);
					random_fill(&random, mac_key, sizeof mac_key);
					struct esp_sa_keys keys = {.encryption = {key, suite.encryption_key},
					                           .integrity = {mac_key, suite.integrity_key}};
					struct cipher *seal = cipher_new(e.engine, &suite, &keys, true, extended);
					struct cipher *open = cipher_new(e.engine, &suite, &keys, false, extended);
					assert_non_null(seal);
					for (int i = 0; i < 64; i++) {
						uint32_t length = 16 * (1 + random_below(&random, 90));
						random_fill(&random, plain[i], length);
						ops[i] = (struct crypto_op){.cipher = seal,
						                            .esp = packet[i],
						                            .plain = packet[i] + 24,
						                            .length = length,
						                            .sequence = random_u64(&random)};
						memcpy(packet[i] + 24, plain[i], length);
						crypto_seal(e.crypto, &ops[i]);
					}
					crypto_finish(e.crypto);
					for (int i = 0; i < 64; i++) {
						size_t size = 24 + ops[i].length + suite.icv;
						memcpy(wanted, packet[i], 24);
						independent(&suite, &keys, wanted, plain[i], (int)ops[i].length, extended,
						            ops[i].sequence);
						assert_memory_equal(wanted, packet[i], size);
						packet[i][random_below(&random, (uint32_t)size)] ^= i % 4 == 0 ? 0x20 : 0;
						ops[i].cipher = open;
						ops[i].tags = tags[i];
						crypto_open(e.crypto, &ops[i]);
					}
					crypto_finish(e.crypto);
					for (int i = 0; i < 64; i++) {
						assert_int_equal(ops[i].ok, i % 4 != 0);
						if (ops[i].ok) {
							assert_memory_equal(packet[i] + 24, plain[i], ops[i].length);
						}
					}
					cipher_free(&seal);
					cipher_free(&open);
				}
			}
		}
		engine_free(&e);
	}
}

// RFC 3602 section 4, cases 1 to 4, each put into a packet with an HMAC of OpenSSL's around it.
static void rfc3602(void **state)
{
	(void)state;
	static const char *const cases[][4] = {
	    {"06a9214036b8a15b512e03d534120006", "3dafba429d9eb430b422da802c9fac41", "53696e676c6520626c6f636b206d7367",
	     "e353779c1079aeb82708942dbe77181a"},
	    {"c286696d887c9aa0611bbb3e2025a45a", "562e17996d093d28ddb3ba695a2e6f58",
	     "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
	     "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1"},
	    {"6c3ea0477630ce21a2ce334aa746c2cd", "c782dc4c098c66cbd9cd27d825682c81",
	     "5468697320697320612034382d62797465206d657373616765202865786163746c7920332041455320626c6f636b7329",
	     "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5021c19216bad525c8579695d83ba2684"},
	    {"56e47a38c5598974bc46903dba290349", "8ce82eefbea0da3c44699ed7db51b7d9",
	     "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d"
	     "8d9dadbdcdddedf",
	     "c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d4"
	     "9a53e87f4c3da55"},
	};
	for (int openssl = 0; openssl < 2; openssl++) {
		struct engine e = engine_new(openssl);
		struct suite suite;
		suite_of(ESP_AES_CBC_128, ESP_HMAC_SHA2_256_128, &suite);
		for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
			uint8_t key[16], mac_key[32] = {9}, packet[256] = {0, 0, 16, 1, 0, 0, 0, 1}, plain[128], mac[64];
			unhex(cases[i][0], key, 16);
			unhex(cases[i][1], packet + 8, 16);
			size_t length = unhex(cases[i][2], plain, sizeof plain);
			unhex(cases[i][3], packet + 24, sizeof plain);
			HMAC(EVP_sha256(), mac_key, 32, packet, 24 + length, mac, NULL);
			memcpy(packet + 24 + length, mac, 16);
			struct esp_sa_keys keys = {.encryption = {key, 16}, .integrity = {mac_key, 32}};
			struct cipher *cipher = cipher_new(e.engine, &suite, &keys, false, false);
			struct crypto_op op = {.cipher = cipher,
			                       .esp = packet,
			                       .length = (uint32_t)length,
			                       .sequence = 1,
			                       .tags = (uint8_t[2 * CRYPTO_ICV_MAX]){0}};
			crypto_open(e.crypto, &op);
			crypto_finish(e.crypto);
			assert_true(op.ok);
			assert_memory_equal(packet + 24, plain, length);
			cipher_free(&cipher);
		}
		engine_free(&e);
	}
}

// RFC 4868 section 2.7.2 holds the second implementation of cbc_against_openssl to account (its AUTH-1 cases, truncated).
static void rfc4868(void **state)
{
	(void)state;
	static const struct {
		enum esp_integrity integrity;
		size_t key;
		const char *mac;
	} cases[] = {
	    {ESP_HMAC_SHA2_256_128, 32, "198a607eb44bfbc69903a0f1cf2bbdc5"},
	    {ESP_HMAC_SHA2_384_192, 48, "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"},
	    {ESP_HMAC_SHA2_512_256, 64, "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		uint8_t key[64], mac[64], wanted[32];
		memset(key, 0x0b, sizeof key);
		size_t length = unhex(cases[i].mac, wanted, sizeof wanted);
		HMAC(digest_of(cases[i].integrity), key, (int)cases[i].key, (const uint8_t *)"Hi There", 8, mac, NULL);
		assert_memory_equal(mac, wanted, length);
		struct suite suite;
		assert_true(suite_of(ESP_AES_CBC_128, cases[i].integrity, &suite));
		assert_int_equal(suite.icv, length);
		assert_int_equal(suite.integrity_key, cases[i].key);
	}
}

static void gcm_both_engines_agree(void **state)
{
	(void)state;
	struct random random;
	random_init_number(&random, 5);
	struct engine mb = engine_new(false), ssl = engine_new(true);
	for (int i = 0; i < 2000; i++) {
		uint8_t key[36], plain[1600], a[2048], b[2048];
		size_t key_length = i % 2 ? 20 : 36;
		bool extended = i % 3 == 0;
		uint32_t length = 4 * (1 + random_below(&random, 390));
		random_fill(&random, key, sizeof key);
		random_fill(&random, plain, length);
		struct cipher *seal = gcm(&mb, key, key_length, true, extended),
		              *other = gcm(&ssl, key, key_length, true, extended);
		struct crypto_op op = {.cipher = seal,
		                       .esp = a,
		                       .plain = plain,
		                       .length = length,
		                       .sequence = random_u64(&random),
		                       .spi = random_u32(&random)};
		crypto_seal(mb.crypto, &op);
		op.cipher = other;
		op.esp = b;
		crypto_seal(ssl.crypto, &op);
		assert_memory_equal(a, b, 16 + length + 16);
		struct cipher *open = gcm(&mb, key, key_length, false, extended),
		              *check = gcm(&ssl, key, key_length, false, extended);
		bool spoil = i % 5 == 0;
		uint32_t at = random_below(&random, 16 + length + 16);
		if (spoil) {
			a[at] ^= 1;
			b[at] ^= 1;
		}
		op = (struct crypto_op){.cipher = open, .esp = a, .length = length, .sequence = op.sequence};
		crypto_open(mb.crypto, &op);
		assert_int_equal(op.ok, !spoil);
		op.cipher = check;
		op.esp = b;
		crypto_open(ssl.crypto, &op);
		assert_int_equal(op.ok, !spoil);
		if (!spoil) {
			assert_memory_equal(a + 16, plain, length);
			assert_memory_equal(b + 16, plain, length);
		}
		cipher_free(&seal);
		cipher_free(&other);
		cipher_free(&open);
		cipher_free(&check);
	}
	engine_free(&mb);
	engine_free(&ssl);
}

// ---- Wycheproof ----

static bool field(const char *at, const char *end, const char *name, char *out, size_t capacity)
{
	char quoted[32];
	snprintf(quoted, sizeof quoted, "\"%s\"", name);
	const char *found = strstr(at, quoted);
	if (!found || found > end) {
		return false;
	}
	found = strchr(found + strlen(quoted), '"') + 1;
	size_t length = (size_t)(strchr(found, '"') - found);
	if (length >= capacity) {
		return false;
	}
	memcpy(out, found, length);
	out[length] = '\0';
	return true;
}

static int wycheproof_case(struct engine *e, const char *at, const char *end)
{
	char key[128], iv[128], aad[256], msg[1024], ct[1024], tag[64], result[32];
	if (!field(at, end, "key", key, sizeof key) || !field(at, end, "iv", iv, sizeof iv) ||
	    !field(at, end, "aad", aad, sizeof aad) || !field(at, end, "msg", msg, sizeof msg) ||
	    !field(at, end, "ct", ct, sizeof ct) || !field(at, end, "tag", tag, sizeof tag) ||
	    !field(at, end, "result", result, sizeof result)) {
		return 0;
	}
	// What ESP can express: 96-bit nonces, 8 octets of header (12 with extended numbers), a full tag, and a payload.
	if ((strlen(key) != 32 && strlen(key) != 64) || strlen(iv) != 24 || (strlen(aad) != 16 && strlen(aad) != 24) ||
	    strlen(tag) != 32 || msg[0] == '\0') {
		return 0;
	}
	uint8_t keys[36], nonce[12], header[12], packet[1024], plain[512];
	size_t key_length = unhex(key, keys, 32);
	unhex(iv, nonce, 12);
	memcpy(keys + key_length, nonce, 4);
	bool extended = strlen(aad) == 24;
	unhex(aad, header, 12);
	memcpy(packet, header, 4);
	memcpy(packet + 4, header + (extended ? 8 : 4), 4);
	memcpy(packet + 8, nonce + 4, 8);
	size_t length = unhex(ct, packet + 16, 512);
	unhex(tag, packet + 16 + length, 16);
	unhex(msg, plain, sizeof plain);
	uint64_t high =
	    (uint64_t)header[4] << 56 | (uint64_t)header[5] << 48 | (uint64_t)header[6] << 40 | (uint64_t)header[7] << 32;
	struct cipher *cipher = gcm(e, keys, key_length + 4, false, extended);
	struct crypto_op op = {.cipher = cipher, .esp = packet, .length = (uint32_t)length, .sequence = high};
	crypto_open(e->crypto, &op);
	assert_int_equal(op.ok, strcmp(result, "valid") == 0);
	if (op.ok) {
		assert_memory_equal(packet + 16, plain, length);
	}
	cipher_free(&cipher);
	return 1;
}

static void wycheproof(const char *path, const char *where)
{
	FILE *file = fopen(path, "rb");
	if (!file && where) {
		print_message("skipped: %s is not there; %s\n", path, where);
		skip();
	}
	assert_non_null(file);
	char *text = calloc(1, 4 << 20);
	assert_non_null(text);
	size_t size = fread(text, 1, (4 << 20) - 1, file);
	fclose(file);
	assert_true(size > 1000);
	for (int openssl = 0; openssl < 2; openssl++) {
		struct engine e = engine_new(openssl);
		int ran = 0;
		for (const char *at = text; (at = strstr(at, "\"tcId\"")) != NULL;) {
			const char *end = strstr(at + 1, "\"tcId\"");
			ran += wycheproof_case(&e, at, end ? end : text + size);
			at++;
		}
		print_message("%s: %d cases that ESP can express\n", crypto_engine_name(e.engine), ran);
		assert_true(ran > 0);
		engine_free(&e);
	}
	free(text);
}

// A few of the published cases, kept in the project; run from its top.
static void wycheproof_kept(void **state)
{
	(void)state;
	wycheproof("tests/unit/data/wycheproof/aes_gcm_test.json", NULL);
}

static void wycheproof_published(void **state)
{
	(void)state;
	const char *folder = getenv("TWINSPAN_VECTORS");
	char path[512];
	snprintf(path, sizeof path, "%s/wycheproof/aes_gcm_test.json", folder ? folder : "../shared/vectors");
	wycheproof(path, "it is testvectors_v1 of https://github.com/C2SP/wycheproof");
}

static void suites(void **state)
{
	(void)state;
	struct suite suite;
	assert_false(suite_of(ESP_AES_CBC_128, ESP_INTEGRITY_NONE, &suite)); // RFC 8221 section 4
	assert_false(suite_of(ESP_AES_GCM16_128, ESP_HMAC_SHA1_96, &suite));
	assert_false(suite_of((enum esp_encryption)99, ESP_INTEGRITY_NONE, &suite));
	assert_true(suite_of(ESP_AES_GCM16_256, ESP_INTEGRITY_NONE, &suite));
	struct engine e = engine_new(false);
	uint8_t key[40] = {0};
	for (size_t length = 0; length < sizeof key; length++) {
		struct cipher *cipher =
		    cipher_new(e.engine, &suite, &(struct esp_sa_keys){.encryption = {key, length}}, true, false);
		assert_int_equal(cipher != NULL, length == 36);
		cipher_free(&cipher);
	}
	engine_free(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(suites),     cmocka_unit_test(gcm_test_draft), cmocka_unit_test(gcm_both_engines_agree),
	    cmocka_unit_test(rfc3602),    cmocka_unit_test(rfc4868),        cmocka_unit_test(cbc_against_openssl),
	    cmocka_unit_test(wycheproof_kept), cmocka_unit_test(wycheproof_published),
	};
	return cmocka_run_group_tests_name("esp_crypto", tests, NULL, NULL);
}
