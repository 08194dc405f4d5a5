// Super-frames: splitting them against a naive splitter, and putting packets together again so that splitting gives them back.
#include "tests/unit/esp_pair.h"

#include "common/base/random.h"

static uint8_t frame[ESP_FRAME_MAX];
static struct packet packets[PACKETS_MAX];

struct naive {
	uint8_t octets[2048];
	size_t length;
};

// What a host without offload would have sent for this super-frame: one packet at a time, every field by its definition.
static size_t split(const uint8_t *packet, size_t length, size_t size, struct naive *out)
{
	bool four = packet[0] >> 4 == 4;
	size_t header = four ? 20 : 40;
	bool tcp = (four ? packet[9] : packet[6]) == 6;
	size_t headers = header + (tcp ? (size_t)(packet[header + 12] >> 4) * 4 : 8);
	size_t payload = length - headers, count = 0;
	uint32_t sequence = (uint32_t)packet[header + 4] << 24 | (uint32_t)packet[header + 5] << 16 |
	                    (uint32_t)packet[header + 6] << 8 | packet[header + 7];
	unsigned id = (unsigned)(packet[4] << 8 | packet[5]);
	for (size_t at = 0; at < payload; at += size, count++) {
		size_t n = payload - at < size ? payload - at : size;
		uint8_t *to = out[count].octets;
		out[count].length = headers + n;
		memcpy(to, packet, headers);
		memcpy(to + headers, packet + headers + at, n);
		if (four) {
			put16(to + 2, (unsigned)(headers + n));
			put16(to + 4, (id + (unsigned)count) & 0xffff);
		} else {
			put16(to + 4, (unsigned)(headers + n - 40));
		}
		if (tcp) {
			put32(to + header + 4, sequence + (uint32_t)at);
			if (at + n < payload) {
				to[header + 13] &= (uint8_t)~0x09;
			}
			if (at > 0) {
				to[header + 13] &= 0x7f;
			}
		} else {
			put16(to + header + 4, (unsigned)(8 + n));
		}
		seal_checksums(to, headers + n);
	}
	return count;
}

static void put_offload(uint8_t *f, bool ipv6, bool tcp, size_t segment, size_t length)
{
	size_t header = ipv6 ? 40 : 20;
	f[0] = 1;
	f[1] = tcp ? ipv6 ? 4 : 1 : 5;
	f[2] = 0;
	f[3] = 0;
	f[4] = (uint8_t)segment;
	f[5] = (uint8_t)(segment >> 8);
	f[6] = (uint8_t)header;
	f[7] = 0;
	f[8] = tcp ? 16 : 6;
	f[9] = 0;
	// The kernel leaves the pseudo-header's sum in the field.
	put16(f + ESP_VNET_HEADER + header + (tcp ? 16 : 6), pseudo(f + ESP_VNET_HEADER, length - header));
}

static struct build random_super(struct random *random, bool ipv6, bool tcp)
{
	static const unsigned flags[] = {0x10, 0x18, 0x11, 0x19, 0x90, 0xd8};
	return (struct build){
	    .ipv6 = ipv6,
	    .protocol = tcp ? 6 : 17,
	    .tos = random_below(random, 256) & 0xfe,
	    .source = ipv6 ? "fd00::5" : "10.0.1.5",
	    .destination = ipv6 ? "fd01::7" : "192.168.3.4",
	    .source_port = random_below(random, 65536),
	    .destination_port = random_below(random, 65536),
	    .flags = flags[random_below(random, 6)],
	    .options = tcp ? 4 * random_below(random, 11) : 0,
	    .sequence = random_u32(random),
	    .id = random_below(random, 65536),
	    .fragment = random_below(random, 2) ? 0x4000 : 0,
	};
}

static void split_and_back(enum esp_encryption encryption, enum esp_integrity integrity, bool openssl)
{
	static struct naive wanted[PACKETS_MAX];
	static uint8_t plain[4096];
	struct options options = {
	    .encryption = encryption, .integrity = integrity, .openssl = openssl, .udp = true, .window = 4096};
	struct pair pair;
	struct random random;
	random_init_number(&random, 11);
	pair_init(&pair, &options);
	for (int round = 0; round < 150; round++) {
		bool ipv6 = round % 3 == 0, tcp = round % 2 == 0;
		struct build build = random_super(&random, ipv6, tcp);
		size_t segment = 1 + random_below(&random, round % 5 == 0 ? 60 : 1300);
		size_t most = segment * (tcp ? 400 : 128) < 65000 ? segment * (tcp ? 400 : 128) : 65000;
		build.payload = 1 + random_below(&random, (uint32_t)most);
		size_t length = build_packet(&build, frame + ESP_VNET_HEADER);
		// The widest header leaves less room: TCP is then cut smaller, as it may be.
		size_t headers = length - build.payload;
		size_t mtu = esp_tunnel_mtu(pair.a.esp, "tun");
		size_t size = segment + headers > mtu ? mtu - headers : segment;
		size_t count = split(frame + ESP_VNET_HEADER, length, size, wanted);
		put_offload(frame, ipv6, tcp, segment, length);
		size_t sent = encap(&pair.a, frame, ESP_VNET_HEADER + length, packets, PACKETS_MAX);
		assert_int_equal(sent, count);
		for (size_t i = 0; i < count; i++) {
			assert_int_equal(packets[i].tos, build.tos);
			assert_int_equal(decap(&pair.b, &packets[i], plain), wanted[i].length);
			assert_memory_equal(plain, wanted[i].octets, wanted[i].length);
		}
	}
	for (int i = 0; i < ESP_DROPS; i++) {
		assert_int_equal(esp_drops(pair.a.esp, i) + esp_drops(pair.b.esp, i), 0);
	}
	pair_fini(&pair);
}

static void splits_like_a_host_gcm(void **state)
{
	(void)state;
	split_and_back(ESP_AES_GCM16_128, ESP_INTEGRITY_NONE, false);
	split_and_back(ESP_AES_GCM16_256, ESP_INTEGRITY_NONE, true);
}

static void splits_like_a_host_cbc(void **state)
{
	(void)state;
	split_and_back(ESP_AES_CBC_256, ESP_HMAC_SHA2_256_128, false);
	split_and_back(ESP_AES_CBC_128, ESP_HMAC_SHA1_96, true);
}

// Everything one burst decapsulates, split again by the naive splitter, in the order of the frames.
static size_t split_frames(struct esp_worker *worker, struct naive *out, size_t *frames_out)
{
	static uint8_t whole[ESP_FRAME_MAX];
	size_t count, total = 0;
	const struct esp_frame *frames = esp_worker_frames(worker, &count);
	for (size_t i = 0; i < count; i++) {
		const struct esp_frame *f = &frames[i];
		size_t length = 0;
		for (unsigned v = 1; v < f->iov_count; v++) {
			memcpy(whole + length, f->iov[v].iov_base, f->iov[v].iov_len);
			length += f->iov[v].iov_len;
		}
		assert_int_equal(length, f->length);
		if (f->packets == 1) {
			assert_int_equal(f->header[0] | f->header[1], 0);
			memcpy(out[total].octets, whole, length);
			out[total++].length = length;
			continue;
		}
		size_t header = whole[0] >> 4 == 4 ? 20 : 40;
		bool tcp = f->header[1] != 5;
		// The kernel starts from the pseudo-header's sum.
		size_t field = header + (tcp ? 16 : 6);
		assert_int_equal((unsigned)(whole[field] << 8 | whole[field + 1]), pseudo(whole, length - header));
		size_t segment = f->header[4] | (size_t)f->header[5] << 8;
		size_t made = split(whole, length, segment, out + total);
		assert_int_equal(made, f->packets);
		total += made;
	}
	*frames_out = count;
	return total;
}

static int by_octets(const void *a, const void *b)
{
	const struct naive *x = a, *y = b;
	return x->length != y->length ? (x->length < y->length ? -1 : 1) : memcmp(x->octets, y->octets, x->length);
}

// Several flows, some packets lost, some reordered: what the kernel splits must be what came, and in order within each flow.
static void coalescing_is_undone_by_splitting(void **state)
{
	(void)state;
	static struct naive sent[512], got[512], flow_sent[512], flow_got[512];
	static uint8_t buffers[512][2048];
	struct pair pair;
	struct random random;
	random_init_number(&random, 21);
	pair_init(&pair, &(struct options){.encryption = ESP_AES_GCM16_128, .udp = true, .window = 4096});
	size_t joined = 0;
	for (int round = 0; round < 300; round++) {
		struct build flows[6];
		size_t segment[6], total = 0;
		for (int i = 0; i < 6; i++) {
			flows[i] = random_super(&random, i == 4, i % 2 == 0);
			flows[i].flags = 0x10;
			segment[i] = 1 + random_below(&random, 1200);
		}
		while (total < 200) {
			int i = (int)random_below(&random, round % 2 ? 6 : 1);
			struct build *f = &flows[i];
			for (unsigned run = 1 + random_below(&random, 40); run > 0 && total < 400; run--) {
				unsigned odd = random_below(&random, 40);
				f->payload = odd == 0 ? 1 + random_below(&random, 1200) : odd == 1 ? 0 : segment[i];
				f->flags = odd == 2 ? 0x18 : odd == 3 ? 0x11 : odd == 4 ? 0x50 : 0x10;
				sent[total].length = build_packet(f, sent[total].octets);
				if (odd == 5) {
					sent[total].octets[sent[total].length - 1] ^= 1; // a wrong checksum must stay wrong
				}
				total++;
				f->sequence += (uint32_t)f->payload + (odd == 6);
				f->id = (f->id + 1 + (odd == 7)) & 0xffff;
			}
		}
		// One burst for all of it, through the cipher.
		static struct packet sealed[512];
		for (size_t i = 0; i < total; i++) {
			memset(frame, 0, ESP_VNET_HEADER);
			memcpy(frame + ESP_VNET_HEADER, sent[i].octets, sent[i].length);
			assert_int_equal(encap(&pair.a, frame, ESP_VNET_HEADER + sent[i].length, &sealed[i], 1), 1);
		}
		esp_worker_begin(pair.b.worker, SECONDS(1));
		for (size_t i = 0; i < total; i++) {
			memcpy(buffers[i], sealed[i].octets, sealed[i].length);
			esp_decap(pair.b.worker,
			          &(struct esp_received){.data = buffers[i], .length = sealed[i].length, .tos = sealed[i].tos});
		}
		esp_worker_end(pair.b.worker);
		size_t frames, made = split_frames(pair.b.worker, got, &frames);
		assert_int_equal(made, total);
		joined += total - frames;
		// In order within each flow: by source port.
		for (int i = 0; i < 6; i++) {
			size_t a = 0, b = 0;
			size_t port = flows[i].ipv6 ? 40 : 20;
			uint8_t text[2];
			put16(text, flows[i].source_port);
			for (size_t k = 0; k < total; k++) {
				if (memcmp(sent[k].octets + port, text, 2) == 0) {
					flow_sent[a++] = sent[k];
				}
				if (memcmp(got[k].octets + port, text, 2) == 0) {
					flow_got[b++] = got[k];
				}
			}
			assert_int_equal(a, b);
			for (size_t k = 0; k < a; k++) {
				// Without DF the identification counts; with DF nothing reads it, and splitting counts it up.
				if (!flows[i].ipv6 && (flow_sent[k].octets[6] & 0x40)) {
					memset(flow_sent[k].octets + 4, 0, 2);
					memset(flow_got[k].octets + 4, 0, 2);
					memset(flow_sent[k].octets + 10, 0, 2);
					memset(flow_got[k].octets + 10, 0, 2);
				}
				assert_int_equal(by_octets(&flow_sent[k], &flow_got[k]), 0);
			}
		}
	}
	assert_true(joined > 10000); // it does join
	pair_fini(&pair);
}

static void one_write_for_a_super_frame(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	for (int udp = 0; udp < 2; udp++) {
		struct build build = to_idc;
		build.protocol = udp ? 17 : 6;
		build.flags = 0x10;
		build.payload = udp ? 64 * 64 : 30 * 1300;
		size_t segment = udp ? 64 : 1300;
		size_t length = build_packet(&build, frame + ESP_VNET_HEADER);
		put_offload(frame, false, !udp, segment, length);
		static uint8_t burst[65536 + ESP_TAILROOM];
		esp_worker_begin(pair.a.worker, SECONDS(1));
		esp_encap(pair.a.worker, pair.a.gateway, frame, ESP_VNET_HEADER + length);
		esp_worker_end(pair.a.worker);
		size_t count, at = 0;
		const struct esp_datagram *datagrams = esp_worker_datagrams(pair.a.worker, &count);
		assert_int_equal(count, 1);
		assert_int_equal(datagrams->count, udp ? 64 : 30);
		for (unsigned v = 0; v < datagrams->iov_count; v++) {
			memcpy(burst + at, datagrams->iov[v].iov_base, datagrams->iov[v].iov_len);
			at += datagrams->iov[v].iov_len;
		}
		esp_worker_begin(pair.b.worker, SECONDS(1));
		esp_decap(pair.b.worker, &(struct esp_received){.data = burst, .length = at, .segment = datagrams->segment});
		esp_worker_end(pair.b.worker);
		const struct esp_frame *frames = esp_worker_frames(pair.b.worker, &count);
		assert_int_equal(count, 1);
		assert_int_equal(frames->packets, udp ? 64 : 30);
		assert_int_equal(frames->header[1], udp ? 5 : 1);
	}
	// A kernel that has no UDP super-frames gets them one by one.
	esp_join_udp(pair.b.esp, false);
	esp_worker_begin(pair.b.worker, SECONDS(1));
	static uint8_t pieces[8][512];
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets, 8), 1);
		memcpy(pieces[i], packets[0].octets, packets[0].length);
		esp_decap(pair.b.worker, &(struct esp_received){.data = pieces[i], .length = packets[0].length});
	}
	esp_worker_end(pair.b.worker);
	size_t single;
	esp_worker_frames(pair.b.worker, &single);
	assert_int_equal(single, 8);
	pair_fini(&pair);
}

// The bits beside TCP's data offset (AccECN's AE among them) would be given to every part when a joined frame is split.
static void segments_with_accurate_ecn_stay_alone(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	for (unsigned bits = 0; bits < 16; bits++) {
		static uint8_t pieces[8][512];
		size_t count;
		for (unsigned i = 0; i < 8; i++) {
			struct build build = to_idc;
			build.protocol = 6;
			build.flags = 0x10;
			build.sequence = 64 * i;
			build.fragment = 0x4000;
			size_t length = build_frame(&build, frame);
			frame[ESP_VNET_HEADER + 32] |= (uint8_t)(i % 2 ? bits : 0);
			seal_checksums(frame + ESP_VNET_HEADER, length - ESP_VNET_HEADER);
			assert_int_equal(encap(&pair.a, frame, length, packets, 8), 1);
			memcpy(pieces[i], packets[0].octets, packets[0].length);
		}
		esp_worker_begin(pair.b.worker, SECONDS(1));
		for (unsigned i = 0; i < 8; i++) {
			esp_decap(pair.b.worker, &(struct esp_received){.data = pieces[i], .length = packets[0].length});
		}
		esp_worker_end(pair.b.worker);
		esp_worker_frames(pair.b.worker, &count);
		assert_int_equal(count, bits ? 8 : 1);
	}
	pair_fini(&pair);
}

static void small_packets_of_a_tunnel_share_a_send(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	esp_worker_begin(pair.a.worker, SECONDS(1));
	for (unsigned i = 0; i < 100; i++) {
		struct build build = to_idc;
		build.source_port = i;
		size_t length = build_frame(&build, frame);
		esp_encap(pair.a.worker, pair.a.gateway, frame, length);
	}
	esp_worker_end(pair.a.worker);
	size_t count;
	const struct esp_datagram *datagrams = esp_worker_datagrams(pair.a.worker, &count);
	assert_int_equal(count, 2);
	assert_int_equal(datagrams[0].count, 64);
	assert_int_equal(datagrams[1].count, 36);
	assert_int_equal(datagrams[0].iov_count, 1);
	pair_fini(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(splits_like_a_host_gcm),
	    cmocka_unit_test(splits_like_a_host_cbc),
	    cmocka_unit_test(coalescing_is_undone_by_splitting),
	    cmocka_unit_test(one_write_for_a_super_frame),
	    cmocka_unit_test(segments_with_accurate_ecn_stay_alone),
	    cmocka_unit_test(small_packets_of_a_tunnel_share_a_send),
	};
	return cmocka_run_group_tests_name("esp_segment", tests, NULL, NULL);
}
