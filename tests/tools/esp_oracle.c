// The dataplane's core on standard input and output, for tests that hold it against somebody else's ESP. It has one tunnel
// between 10.0.0.0/16 (ours) and 192.168.0.0/16 (theirs). One command a line, octets in hexadecimal:
//   sa <gcm128|gcm256|cbc128|cbc192|cbc256> <none|sha1|sha256|sha384|sha512> <udp|plain> <inbound SPI> <key> <mac key>
//   <outbound SPI> <key> <mac key>
//     (keys of GCM with their salt; "-" for none)                          -> ok, or error <why>
//   encap <IP packet>                                                      -> out <ESP packet> ..., or drop <reason>
//   decap <ESP packet>                                                     -> out <IP packet>, or drop <reason>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hex.h"
#include "services/esp/esp.h"

enum { LINE = 1 << 18 };

static struct esp *esp;
static struct esp_worker *worker;
static struct esp_gateway *gateway;
static int context;

static int index_of(const char *text, const char *const names[], int count)
{
	for (int i = 0; i < count; i++) {
		if (strcmp(text, names[i]) == 0) {
			return i;
		}
	}
	return -1;
}

static struct esp_sa_keys keys_of(const char *spi, const char *key, const char *mac, uint8_t octets[static 128])
{
	ptrdiff_t length = strcmp(key, "-") ? hex_parse(key, octets, 64) : 0;
	ptrdiff_t mac_length = strcmp(mac, "-") ? hex_parse(mac, octets + 64, 64) : 0;
	return (struct esp_sa_keys){(uint32_t)strtoul(spi, NULL, 0),
	                            {octets, (size_t)(length < 0 ? 0 : length)},
	                            {octets + 64, (size_t)(mac_length < 0 ? 0 : mac_length)}};
}

static void set_sa(char *words[], int count)
{
	static const char *const encryption[] = {"cbc128", "cbc192", "cbc256", "gcm128", "gcm256"};
	static const char *const integrity[] = {"none", "sha1", "sha256", "sha384", "sha512"};
	static uint64_t generation;
	uint8_t inbound[128], outbound[128];
	if (count != 10) {
		printf("error words\n");
		return;
	}
	struct esp_sa_row row = {
	    .tunnel = "tun",
	    .inbound = keys_of(words[4], words[5], words[6], inbound),
	    .outbound = keys_of(words[7], words[8], words[9], outbound),
	    .outbound_in_use = true,
	    .generation = ++generation,
	    .encryption = (enum esp_encryption)index_of(words[1], encryption, 5),
	    .integrity = (enum esp_integrity)index_of(words[2], integrity, 5),
	    .udp = strcmp(words[3], "udp") == 0,
	    .local = {4, {198, 51, 100, 17}},
	    .remote = {4, {203, 0, 113, 1}},
	    .local_port = 4500,
	    .remote_port = 4500,
	    .replay_window = 64,
	};
	const char *why = esp_sa_set(esp, &row);
	printf(why ? "error %s\n" : "ok\n", why);
}

static void print_octets(const uint8_t *octets, size_t length)
{
	static char text[LINE];
	printf(" %s", (hex_format((struct bytes){octets, length}, text), text));
}

static void print_dropped(const uint64_t before[ESP_DROPS])
{
	for (int i = 0; i < ESP_DROPS; i++) {
		if (esp_drops(esp, (enum esp_drop)i) != before[i]) {
			printf("drop %s\n", esp_drop_labels[i]);
			return;
		}
	}
	printf("drop nothing-counted\n");
}

static void pass(const char *text, bool encap)
{
	static uint8_t octets[ESP_FRAME_MAX + ESP_TAILROOM], whole[ESP_FRAME_MAX];
	uint64_t before[ESP_DROPS];
	for (int i = 0; i < ESP_DROPS; i++) {
		before[i] = esp_drops(esp, (enum esp_drop)i);
	}
	memset(octets, 0, ESP_VNET_HEADER);
	ptrdiff_t length = hex_parse(text, octets + ESP_VNET_HEADER, 65535);
	if (length < 0) {
		printf("error octets\n");
		return;
	}
	esp_worker_begin(worker, SECONDS(1));
	if (encap) {
		esp_encap(worker, gateway, octets, ESP_VNET_HEADER + (size_t)length);
	} else {
		esp_decap(worker, &(struct esp_received){
		                      .data = octets + ESP_VNET_HEADER, .length = (size_t)length, .from = outer_ipv4(0, 4500)});
	}
	esp_worker_end(worker);
	size_t datagrams, frames;
	const struct esp_datagram *sent = esp_worker_datagrams(worker, &datagrams);
	const struct esp_frame *written = esp_worker_frames(worker, &frames);
	if (encap ? datagrams == 0 : frames == 0) {
		print_dropped(before);
		return;
	}
	printf("out");
	for (size_t i = 0; encap && i < datagrams; i++) {
		for (unsigned v = 0; v < sent[i].iov_count; v++) {
			const uint8_t *at = sent[i].iov[v].iov_base;
			for (size_t left = sent[i].iov[v].iov_len; left > 0;) {
				size_t n = left < sent[i].segment ? left : sent[i].segment;
				print_octets(at, n);
				at += n;
				left -= n;
			}
		}
	}
	if (!encap) {
		size_t held = 0;
		for (unsigned v = 1; v < written->iov_count; v++) {
			memcpy(whole + held, written->iov[v].iov_base, written->iov[v].iov_len);
			held += written->iov[v].iov_len;
		}
		print_octets(whole, held);
	}
	printf("\n");
}

int main(int argc, char **argv)
{
	static const uint8_t seed[32] = {1};
	static char line[LINE];
	esp = esp_new(
	    &(struct esp_config){.workers = 1, .outer_mtu = 1500, .openssl = argc > 1 && strcmp(argv[1], "openssl") == 0});
	worker = esp_worker_new(esp, 0, seed);
	gateway = esp_gateway_set(esp, "bgw", false, &context);
	esp_tunnel_set(
	    esp, &(struct esp_tunnel_row){"tun", "bgw", "vpn", {4, {169, 254, 10, 1}}, {4, {169, 254, 10, 2}}, ESP_MSS_OFF});
	const char *tunnel = "tun", *connection = "vpn";
	esp_group_set(esp, &(struct esp_group_row){"nhg", &tunnel, 1, &connection, 1});
	esp_route_set(esp, "bgw", &(struct prefix){{4, {10}}, 16}, NULL);
	esp_route_set(esp, "bgw", &(struct prefix){{4, {192, 168}}, 16}, "nhg");
	while (fgets(line, sizeof line, stdin)) {
		char *words[10];
		int count = 0;
		for (char *word = strtok(line, " \n"); word && count < 10; word = strtok(NULL, " \n")) {
			words[count++] = word;
		}
		if (count > 0 && strcmp(words[0], "sa") == 0) {
			set_sa(words, count);
		} else if (count == 2 && (strcmp(words[0], "encap") == 0 || strcmp(words[0], "decap") == 0)) {
			pass(words[1], words[0][0] == 'e');
		} else {
			printf("error command\n");
		}
		fflush(stdout);
	}
	return 0;
}
