// A flood of IKE_SA_INIT with another's address in it, for tests/perf/ike_flood.py.
//   ike_flood KIND SOURCE DESTINATION RATE SECONDS
// KIND: good, proposal (none that is accepted), x25519-0, p256-off, modp-0, modp-1, modp-last; SOURCE: an address, or "any".
// Every datagram has an SPI, a nonce and a port of its own. Prints how many were sent. Needs CAP_NET_RAW.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "common/base/hex.h"
#include "services/ike/v2/exchanges.h"

enum { BURST = 32, HEADERS = sizeof(struct iphdr) + sizeof(struct udphdr) };

static const char modp_2048_last[] = "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798"
                                     "e3404ddef9519b3cd3a431b302b0a6df25f1437"
                                     "4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7edee386bfb5a899fa5ae9f24117"
                                     "c4b1fe649286651ece45b3dc2007cb8a163bf05"
                                     "98da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4"
                                     "abc9804f1746c08ca18217c32905e462e36ce3b"
                                     "e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d226189"
                                     "8fa051015728e5a8aacaa68fffffffffffffffe";

struct model {
	uint8_t octets[2048];
	size_t length;
	size_t nonce_at;
};

static double seconds_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool make_model(const char *kind, struct random *random, struct model *out)
{
	struct algorithms offer = {.encryption = {ENCRYPTION_AES_GCM16_256},
	                           .integrity = {INTEGRITY_SHA2_256},
	                           .groups = {GROUP_CURVE25519},
	                           .encryption_count = 1,
	                           .integrity_count = 1,
	                           .group_count = 1};
	struct ke_value value = {.length = 32};
	struct key_exchange exchange;
	if (strcmp(kind, "good") == 0) {
		key_exchange_begin(&exchange, GROUP_CURVE25519, random, &value);
	} else if (strcmp(kind, "proposal") == 0) {
		key_exchange_begin(&exchange, GROUP_CURVE25519, random, &value);
		offer.encryption[0] = ENCRYPTION_AES_CBC_128;
	} else if (strcmp(kind, "p256-off") == 0) {
		offer.groups[0] = GROUP_ECP_256;
		value.length = 64;
		memset(value.octets, 0x11, value.length);
	} else if (strncmp(kind, "modp-", 5) == 0) {
		offer.groups[0] = GROUP_MODP_2048;
		value.length = 256;
		value.octets[255] = strcmp(kind, "modp-1") == 0;
		if (strcmp(kind, "modp-last") == 0) {
			hex_parse(modp_2048_last, value.octets, sizeof value.octets);
		}
	} else if (strcmp(kind, "x25519-0") != 0) {
		return false;
	}
	uint8_t nonce[NONCE_OURS] = {0};
	struct writer w = writer_of(out->octets, sizeof out->octets);
	struct chain chain = init_message_begin(&w, 1, 0, FLAG_INITIATOR);
	chain_open(&chain, PAYLOAD_SA);
	proposals_write(chain.w, PROTOCOL_IKE, (struct bytes){0}, &offer, GROUPS_COUNT);
	chain_close(&chain);
	chain_ke(&chain, offer.groups[0], ke_value_bytes(&value));
	chain_payload(&chain, PAYLOAD_NONCE, (struct bytes){nonce, sizeof nonce});
	out->nonce_at = writer_length(&w) - sizeof nonce;
	struct address any = {.length = 4};
	nat_detection_write(&chain, 1, 0, &any, IKE_PORT, &any, IKE_PORT, false);
	out->length = init_message_end(&w, &chain).length;
	return true;
}

int main(int argc, char **argv)
{
	struct random random;
	struct model model;
	struct in_addr source, destination;
	random_init_number(&random, (uint64_t)time(NULL));
	if (argc != 6 || inet_pton(AF_INET, argv[3], &destination) != 1 || !make_model(argv[1], &random, &model) ||
	    (strcmp(argv[2], "any") != 0 && inet_pton(AF_INET, argv[2], &source) != 1)) {
		fprintf(stderr, "ike_flood KIND SOURCE DESTINATION RATE SECONDS\n");
		return 2;
	}
	bool any = strcmp(argv[2], "any") == 0;
	double rate = atof(argv[4]), length = atof(argv[5]);
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
	if (fd < 0) {
		perror("ike_flood: socket");
		return 1;
	}
	static uint8_t packets[BURST][HEADERS + sizeof model.octets];
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = destination};
	struct iovec parts[BURST];
	struct mmsghdr messages[BURST];
	memset(messages, 0, sizeof messages);
	for (size_t i = 0; i < BURST; i++) {
		struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .daddr = destination.s_addr};
		memcpy(packets[i], &ip, sizeof ip);
		memcpy(packets[i] + HEADERS, model.octets, model.length);
		parts[i] = (struct iovec){packets[i], HEADERS + model.length};
		messages[i].msg_hdr =
		    (struct msghdr){.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &parts[i], .msg_iovlen = 1};
	}
	double begun = seconds_now();
	uint64_t sent = 0, counter = 0;
	for (double at = begun; at - begun < length; at = seconds_now()) {
		if ((double)sent > (at - begun) * rate) {
			nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
			continue;
		}
		for (size_t i = 0; i < BURST; i++) {
			struct iphdr *ip = (struct iphdr *)packets[i];
			ip->saddr = any ? htonl(0xc6120000u | (random_u32(&random) & 0xffff)) : source.s_addr; // 198.18.0.0/16
			struct udphdr udp = {.source = htons((uint16_t)(1024 + random_below(&random, 60000))),
			                     .dest = htons(IKE_PORT),
			                     .len = htons((uint16_t)(sizeof udp + model.length))};
			memcpy(packets[i] + sizeof *ip, &udp, sizeof udp);
			counter++;
			memcpy(packets[i] + HEADERS, &counter, sizeof counter);
			random_fill(&random, packets[i] + HEADERS + model.nonce_at, 16);
		}
		int count = sendmmsg(fd, messages, BURST, 0);
		sent += count > 0 ? (uint64_t)count : 0;
		if (count < 0 && errno != ENOBUFS && errno != EAGAIN) {
			perror("ike_flood: sendmmsg");
			return 1;
		}
	}
	printf("%llu\n", (unsigned long long)sent);
	return 0;
}
