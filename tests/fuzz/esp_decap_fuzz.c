// Hostile ESP packets. The first octet chooses: the input as it is, as a run of segments, or as the plaintext of packets that
// authenticate (a hostile customer has keys), so that trailers and inner packets are reached too. Whatever comes out for vpn0
// must be well formed.
#include <stdlib.h>
#include <string.h>

#include "services/esp/crypto.h"
#include "services/esp/esp.h"
#include "services/esp/inner.h"

static struct esp *esp;
static struct esp_worker *worker;
static struct crypto_engine *engine;
static struct crypto *crypto;
static struct cipher *ciphers[2];
static uint64_t sequence[2] = {1, 1};
static int context;

static const uint8_t key[64] = {1, 2, 3, 4};

static void setup_sa(unsigned i, enum esp_encryption encryption, enum esp_integrity integrity)
{
	struct suite suite;
	suite_of(encryption, integrity, &suite);
	struct esp_sa_row row = {
	    .tunnel = "tun",
	    .inbound = {0x1000 + i, {key, suite.encryption_key}, {key, suite.integrity_key}},
	    .outbound = {0x2000 + i, {key + 1, suite.encryption_key}, {key, suite.integrity_key}},
	    .generation = 1,
	    .encryption = encryption,
	    .integrity = integrity,
	    .local = {4, {1, 1, 1, 1}},
	    .remote = {4, {2, 2, 2, 2}},
	    .replay_window = 64,
	};
	if (esp_sa_set(esp, &row)) {
		abort();
	}
	ciphers[i] = cipher_new(engine, &suite, &row.inbound, true, false);
}

static void setup(void)
{
	static const uint8_t seed[32] = {1};
	esp = esp_new(&(struct esp_config){.workers = 1, .outer_mtu = 1500});
	worker = esp_worker_new(esp, 0, seed);
	esp_worker_register(worker);
	engine = crypto_engine_new(false);
	crypto = crypto_new(engine, 0, seed);
	esp_gateway_set(esp, "bgw", true, &context);
	esp_tunnel_set(
	    esp, &(struct esp_tunnel_row){"tun", "bgw", "vpn", {4, {169, 254, 9, 1}}, {4, {169, 254, 9, 2}}, ESP_MSS_AUTO});
	const char *tunnel = "tun", *connection = "vpn";
	esp_group_set(esp, &(struct esp_group_row){"nhg", &tunnel, 1, &connection, 1});
	// Half of each family's addresses are the customer's, half the VPC's.
	for (unsigned i = 0; i < 2; i++) {
		struct prefix half = {.address.length = i ? 16 : 4, .length = 1};
		esp_route_set(esp, "bgw", &half, "nhg");
		half.address.octets[0] = 0x80;
		esp_route_set(esp, "bgw", &half, NULL);
	}
	setup_sa(0, ESP_AES_GCM16_128, ESP_INTEGRITY_NONE);
	setup_sa(1, ESP_AES_CBC_128, ESP_HMAC_SHA1_96);
}

static uint8_t *put_sealed(uint8_t *out, unsigned i, const uint8_t *text, size_t length)
{
	const struct suite *suite = cipher_suite(ciphers[i]);
	length -= length % suite->align;
	if (length == 0) {
		return out;
	}
	memcpy(out + 8 + suite->iv, text, length);
	crypto_seal(crypto, &(struct crypto_op){.cipher = ciphers[i],
	                                        .esp = out,
	                                        .plain = out + 8 + suite->iv,
	                                        .length = (uint32_t)length,
	                                        .sequence = sequence[i]++,
	                                        .spi = 0x1000 + i});
	crypto_finish(crypto);
	return out + 8 + suite->iv + length + suite->icv;
}

static void check_frames(void)
{
	size_t count;
	const struct esp_frame *frames = esp_worker_frames(worker, &count);
	static uint8_t whole[1 << 17];
	for (size_t i = 0; i < count; i++) {
		size_t length = 0;
		for (unsigned v = 1; v < frames[i].iov_count; v++) {
			memcpy(whole + length, frames[i].iov[v].iov_base, frames[i].iov[v].iov_len);
			length += frames[i].iov[v].iov_len;
		}
		struct inner inner;
		if (length != frames[i].length || !inner_parse(whole, length, &inner) || inner.length != length) {
			abort();
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t buffer[1 << 17];
	if (!esp) {
		setup();
	}
	if (size < 2 || size > 8192) {
		return 0;
	}
	unsigned mode = data[0];
	size_t step = (size_t)data[1] * 4;
	data += 2;
	size -= 2;
	struct esp_received received = {.data = buffer, .from = outer_ipv4(0x02020202, 4500), .tos = (uint8_t)(mode >> 4)};
	if (mode & 1) {
		uint8_t *at = buffer;
		uint8_t *first = NULL;
		for (size_t i = 0; i < size && at < buffer + 60000; i += step ? step : size) {
			size_t length = step && size - i > step ? step : size - i;
			at = put_sealed(at, mode >> 1 & 1, data + i, length);
			first = first ? first : at;
		}
		received.length = (size_t)(at - buffer);
		received.segment = step && first ? (size_t)(first - buffer) : 0;
	} else {
		memcpy(buffer, data, size);
		received.length = size;
		received.segment = step;
	}
	esp_worker_begin(worker, SECONDS(1));
	esp_decap(worker, &received);
	esp_worker_end(worker);
	check_frames();
	esp_worker_quiescent(worker);
	return 0;
}
