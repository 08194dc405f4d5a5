// The dataplane in memory, one core, no sockets: how fast bursts are encapsulated and decapsulated, beside libipsec-mb doing
// nothing but the cipher over the same octets. One JSON object a line, as tests/perf writes them. Argument: seconds for each
// measurement (default 1).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <intel-ipsec-mb.h>

#include "services/esp/esp.h"

enum { BURST = 64, SPI = 0x1000 };

static double seconds = 1;
static uint8_t key[64] = {7};

static double clock_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct end {
	struct esp *esp;
	struct esp_worker *worker;
	struct esp_gateway *gateway;
	int context;
};

static void end_init(struct end *end, bool cloud, bool cbc, unsigned prefixes)
{
	static const uint8_t seed[32] = {1};
	end->esp = esp_new(&(struct esp_config){.workers = 1, .outer_mtu = 1500, .hash_seed = 5});
	end->worker = esp_worker_new(end->esp, 0, seed);
	end->gateway = esp_gateway_set(end->esp, "bgw", false, &end->context);
	esp_tunnel_set(end->esp, &(struct esp_tunnel_row){
	                             "tun", "bgw", "vpn", {4, {169, 254, 9, 1}}, {4, {169, 254, 9, 2}}, ESP_MSS_AUTO});
	const char *tunnel = "tun", *connection = "vpn";
	esp_group_set(end->esp, &(struct esp_group_row){"nhg", &tunnel, 1, &connection, 1});
	struct prefix vpc = {{4, {10}}, 8}, idc = {{4, {192}}, 8};
	esp_route_set(end->esp, "bgw", cloud ? &vpc : &idc, NULL);
	esp_route_set(end->esp, "bgw", cloud ? &idc : &vpc, "nhg");
	for (unsigned i = 0; i < prefixes; i++) {
		struct prefix more = {
		    {4, {(uint8_t)(i & 1 ? 192 : 20 + i % 100), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}}, 32};
		esp_route_set(end->esp, "bgw", &more, "nhg");
	}
	uint8_t length = cbc ? 16 : 20;
	const char *why = esp_sa_set(end->esp, &(struct esp_sa_row){
	                                           .tunnel = "tun",
	                                           .inbound = {cloud ? SPI : SPI + 1, {key, length}, {key, cbc ? 32 : 0}},
	                                           .outbound = {cloud ? SPI + 1 : SPI, {key, length}, {key, cbc ? 32 : 0}},
	                                           .outbound_in_use = true,
	                                           .generation = 1,
	                                           .encryption = cbc ? ESP_AES_CBC_128 : ESP_AES_GCM16_128,
	                                           .integrity = cbc ? ESP_HMAC_SHA2_256_128 : ESP_INTEGRITY_NONE,
	                                           .udp = true,
	                                           .local = {4, {1, 1, 1, 1}},
	                                           .remote = {4, {2, 2, 2, 2}},
	                                           .replay_window = 1024,
	                                       });
	if (why) {
		fprintf(stderr, "%s\n", why);
		exit(1);
	}
}

static void end_fini(struct end *end)
{
	esp_worker_free(&end->worker);
	esp_free(&end->esp);
}

// A UDP packet of `length` octets as vpn0 gives it, or a TCP super-frame.
static size_t make_frame(uint8_t *frame, size_t length, unsigned flow, size_t segment)
{
	memset(frame, 0, ESP_VNET_HEADER + length);
	uint8_t *ip = frame + ESP_VNET_HEADER;
	ip[0] = 0x45;
	ip[2] = (uint8_t)(length >> 8);
	ip[3] = (uint8_t)length;
	ip[6] = 0x40;
	ip[8] = 64;
	ip[9] = segment ? 6 : 17;
	memcpy(ip + 12, (uint8_t[]){10, 0, 0, 5, 192, 168, 3, 4}, 8);
	ip[20] = 9;
	ip[21] = (uint8_t)flow;
	if (segment) {
		ip[32] = 0x50;
		ip[33] = 0x10;
		frame[0] = 1;
		frame[1] = 1;
		frame[4] = (uint8_t)segment;
		frame[5] = (uint8_t)(segment >> 8);
		frame[6] = 20;
		frame[8] = 16;
	} else {
		ip[24] = (uint8_t)((length - 20) >> 8);
		ip[25] = (uint8_t)(length - 20);
	}
	return ESP_VNET_HEADER + length;
}

static size_t gather(struct esp_worker *worker, uint8_t *out, struct esp_received *received)
{
	size_t count, at = 0;
	const struct esp_datagram *datagrams = esp_worker_datagrams(worker, &count);
	for (size_t i = 0; i < count; i++) {
		received[i] =
		    (struct esp_received){.data = out + at, .length = datagrams[i].length, .segment = datagrams[i].segment};
		for (unsigned v = 0; v < datagrams[i].iov_count; v++) {
			memcpy(out + at, datagrams[i].iov[v].iov_base, datagrams[i].iov[v].iov_len);
			at += datagrams[i].iov[v].iov_len;
		}
		at = (at + ESP_TAILROOM + 63) & ~(size_t)63;
	}
	return count;
}

// The cipher alone, over as many buffers as a burst.
struct raw {
	IMB_MGR *manager;
	struct gcm_key_data gcm __attribute__((aligned(64)));
	struct gcm_context_data context __attribute__((aligned(64)));
	uint8_t encrypt[16 * 15] __attribute__((aligned(16)));
	uint8_t decrypt[16 * 15] __attribute__((aligned(16)));
	uint8_t inner[32], outer[32];
	uint8_t from[BURST][2048], to[BURST][2048], tags[BURST][16], iv[16], aad[8];
	size_t length;
	bool cbc;
};

static void raw_init(struct raw *raw, bool cbc, size_t length)
{
	uint8_t block[64];
	memset(raw, 0, sizeof *raw);
	raw->cbc = cbc;
	raw->length = length;
	raw->manager = alloc_mb_mgr(0);
	init_mb_mgr_auto(raw->manager, NULL);
	IMB_AES128_GCM_PRE(raw->manager, key, &raw->gcm);
	IMB_AES_KEYEXP_128(raw->manager, key, raw->encrypt, raw->decrypt);
	memset(block, 0x36, sizeof block);
	IMB_SHA256_ONE_BLOCK(raw->manager, block, raw->inner);
	memset(block, 0x5c, sizeof block);
	IMB_SHA256_ONE_BLOCK(raw->manager, block, raw->outer);
}

static void raw_gcm(struct raw *raw, bool decrypt)
{
	for (int i = 0; i < BURST; i++) {
		if (decrypt) {
			IMB_AES128_GCM_DEC(raw->manager, &raw->gcm, &raw->context, raw->to[i], raw->to[i], raw->length, raw->iv,
			                   raw->aad, 8, raw->tags[i], 16);
		} else {
			IMB_AES128_GCM_ENC(raw->manager, &raw->gcm, &raw->context, raw->to[i], raw->from[i], raw->length,
			                   raw->iv, raw->aad, 8, raw->tags[i], 16);
		}
	}
}

static void raw_cbc(struct raw *raw, bool decrypt)
{
	for (int i = 0; i < BURST; i++) {
		IMB_JOB *job = IMB_GET_NEXT_JOB(raw->manager);
		job->enc_keys = raw->encrypt;
		job->dec_keys = raw->decrypt;
		job->key_len_in_bytes = 16;
		job->src = raw->to[i];
		job->dst = raw->to[i] + 24;
		job->cipher_start_src_offset_in_bytes = 24;
		job->msg_len_to_cipher_in_bytes = raw->length;
		job->hash_start_src_offset_in_bytes = 0;
		job->msg_len_to_hash_in_bytes = 24 + raw->length;
		job->iv = raw->iv;
		job->iv_len_in_bytes = 16;
		job->auth_tag_output = raw->tags[i];
		job->auth_tag_output_len_in_bytes = 16;
		job->u.HMAC._hashed_auth_key_xor_ipad = raw->inner;
		job->u.HMAC._hashed_auth_key_xor_opad = raw->outer;
		job->cipher_mode = IMB_CIPHER_CBC;
		job->cipher_direction = decrypt ? IMB_DIR_DECRYPT : IMB_DIR_ENCRYPT;
		job->chain_order = decrypt ? IMB_ORDER_HASH_CIPHER : IMB_ORDER_CIPHER_HASH;
		job->hash_alg = IMB_AUTH_HMAC_SHA_256;
		IMB_SUBMIT_JOB(raw->manager);
		while (IMB_GET_COMPLETED_JOB(raw->manager)) {
		}
	}
	while (IMB_FLUSH_JOB(raw->manager)) {
	}
}

// Another destination in each packet, of those that the million prefixes hold: each walks a path of its own through the table.
static void vary_destinations(uint8_t frames[][2048], unsigned count)
{
	static uint32_t state = 1;
	for (unsigned i = 0; i < count; i++) {
		state = state * 1664525u + 1013904223u;
		uint32_t at = (state >> 8) % 1000000u | 1;
		memcpy(frames[i] + ESP_VNET_HEADER + 17, (uint8_t[]){(uint8_t)(at >> 16), (uint8_t)(at >> 8), (uint8_t)at}, 3);
	}
}

struct figure {
	double encap, decap, raw_encrypt, raw_decrypt; // packets a second
};

// A machine that others use too changes its speed while we measure: short slices of ours and of the bare cipher take turns.
static struct figure measure(struct end *near_end, struct end *far_end, size_t length, size_t segment, struct raw *raw,
                             bool vary)
{
	enum { ROOM = ESP_FRAME_MAX + ESP_TAILROOM + 64, SLICE = 40 };
	static uint8_t frames[BURST][2048], super[2][ROOM], work[ROOM], wire[1 << 20];
	static struct esp_received received[512];
	size_t sizes[BURST], super_size = 0;
	unsigned count = segment ? 2 : BURST;
	for (unsigned i = 0; i < count; i++) {
		if (segment) {
			super_size = make_frame(super[i], length, i, segment);
		} else {
			sizes[i] = make_frame(frames[i], length, i / 8, 0);
		}
	}
	double spent[4] = {0};
	uint64_t packets = 0, arrived = 0, raw_packets = 0;
	while (spent[0] + spent[1] + spent[2] + spent[3] < 2 * seconds) {
		for (int slice = 0; slice < SLICE; slice++) {
			if (vary) {
				vary_destinations(frames, count);
			}
			double start = clock_now();
			esp_worker_begin(near_end->worker, SECONDS(1));
			for (unsigned i = 0; i < count; i++) {
				if (segment) {
					memcpy(work, super[i], super_size); // what read() would do: not free, and counted
					esp_encap(near_end->worker, near_end->gateway, work, super_size);
				} else {
					esp_encap(near_end->worker, near_end->gateway, frames[i], sizes[i]);
				}
			}
			esp_worker_end(near_end->worker);
			spent[0] += clock_now() - start;
			size_t datagrams = gather(near_end->worker, wire, received);
			for (size_t i = 0; i < datagrams; i++) {
				packets += (received[i].length + received[i].segment - 1) / received[i].segment;
			}
			start = clock_now();
			esp_worker_begin(far_end->worker, SECONDS(1));
			for (size_t i = 0; i < datagrams; i++) {
				esp_decap(far_end->worker, &received[i]);
			}
			esp_worker_end(far_end->worker);
			spent[1] += clock_now() - start;
			size_t written;
			const struct esp_frame *out = esp_worker_frames(far_end->worker, &written);
			for (size_t i = 0; i < written; i++) {
				arrived += out[i].packets;
			}
		}
		for (int direction = 0; raw && direction < 2; direction++) {
			double start = clock_now();
			for (int slice = 0; slice < SLICE; slice++) {
				(raw->cbc ? raw_cbc : raw_gcm)(raw, direction);
			}
			spent[2 + direction] += clock_now() - start;
		}
		raw_packets += SLICE * BURST;
	}
	if (arrived != packets) {
		fprintf(stderr, "lost packets: %llu of %llu\n", (unsigned long long)(packets - arrived),
		        (unsigned long long)packets);
		exit(1);
	}
	return (struct figure){(double)packets / spent[0], (double)packets / spent[1], (double)raw_packets / spent[2],
	                       (double)raw_packets / spent[3]};
}

static void report(const char *name, double ours, double peer, double goal)
{
	printf("{\"name\":\"%s\",\"ours\":%.0f,\"peer\":%.0f,\"peer_name\":\"libipsec-mb "
	       "raw\",\"unit\":\"packets/s\",\"ratio\":%.3f,"
	       "\"goal\":%.2f,\"cpu_ns_per_packet\":%.1f}\n",
	       name, ours, peer, ours / peer, goal, 1e9 / ours);
	fflush(stdout);
}

static void measure_suite(bool cbc)
{
	static const struct {
		size_t length, segment;
		const char *name;
		double goal;
	} rows[] = {{1400, 0, "1400", 0.6}, {64, 0, "64", 0.4}, {65520, 1360, "super", 0.6}};
	struct end near_end, far_end;
	end_init(&near_end, true, cbc, 0);
	end_init(&far_end, false, cbc, 0);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char name[64];
		size_t align = cbc ? 16 : 4;
		size_t packet = rows[i].segment ? rows[i].segment + 40 : rows[i].length;
		static struct raw raw;
		raw_init(&raw, cbc, (packet + 2 + align - 1) / align * align);
		struct figure figure = measure(&near_end, &far_end, rows[i].length, rows[i].segment, &raw, false);
		free_mb_mgr(raw.manager);
		snprintf(name, sizeof name, "esp_encap_%s%s", rows[i].name, cbc ? "_cbc" : "");
		report(name, figure.encap, figure.raw_encrypt, rows[i].goal);
		snprintf(name, sizeof name, "esp_decap_%s%s", rows[i].name, cbc ? "_cbc" : "");
		report(name, figure.decap, figure.raw_decrypt, rows[i].goal);
	}
	end_fini(&near_end);
	end_fini(&far_end);
}

// `vary`: each packet walks a path of its own through the table, and most of its loads miss the caches; else all walk one path.
static void measure_fib(bool vary)
{
	struct end near_end[2], far_end[2];
	double rates[2] = {0};
	for (int million = 0; million < 2; million++) {
		end_init(&near_end[million], true, false, million ? 1000000 : 8);
		end_init(&far_end[million], false, false, 0);
	}
	enum { ROUNDS = 8 };
	double whole = seconds;
	seconds /= ROUNDS;
	for (int round = 0; round < 2 * ROUNDS; round++) {
		rates[round % 2] += measure(&near_end[round % 2], &far_end[round % 2], 64, 0, NULL, vary).encap / ROUNDS;
	}
	seconds = whole;
	for (int million = 0; million < 2; million++) {
		end_fini(&near_end[million]);
		end_fini(&far_end[million]);
	}
	printf("{\"name\":\"%s\",\"ours\":%.0f,\"peer\":%.0f,\"peer_name\":\"10 "
	       "prefixes\",\"unit\":\"packets/s\",\"ratio\":%.3f,"
	       "\"goal\":%.1f,\"cpu_ns_per_packet\":%.1f}\n",
	       vary ? "fib_million_spread" : "fib_million", rates[1], rates[0], rates[1] / rates[0], vary ? 0.5 : 0.9,
	       1e9 / rates[1]);
}

int main(int argc, char **argv)
{
	seconds = argc > 1 ? atof(argv[1]) : 1;
	measure_suite(false);
	measure_suite(true);
	measure_fib(false);
	measure_fib(true);
	return 0;
}
