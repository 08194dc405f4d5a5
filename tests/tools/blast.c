// A UDP generator and counter for the benchmarks and end-to-end tests: small packets at a given rate, numbered, many flows, counted where they arrive.
// The same program loads both sides of a comparison.
//   blast send ADDRESS PORT SIZE RATE SECONDS FLOWS      SIZE: octets of UDP payload (≥ 16); RATE: packets a second
//   blast receive PORT SECONDS-OF-SILENCE                ends that long after the last packet; prints {"received":…,"octets":…,"seconds":…}
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BURST = 32, FLOWS_MAX = 64, SIZE_MAX_OCTETS = 1472, BUFFER = 32 << 20 };

static double seconds_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "blast: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int udp_socket(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	int size = BUFFER;
	if (fd < 0) {
		fail("socket");
	}
	// Forced where we may, so that neither end loses packets for want of a buffer.
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	return fd;
}

static int send_packets(const char *address, uint16_t port, size_t size, double rate, double seconds, unsigned flows)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	if (inet_pton(AF_INET, address, &to.sin_addr) != 1 || size < 16 || size > SIZE_MAX_OCTETS || flows == 0 || flows > FLOWS_MAX) {
		errno = EINVAL;
		fail("arguments");
	}
	int sockets[FLOWS_MAX];
	for (unsigned i = 0; i < flows; i++) {
		sockets[i] = udp_socket();
		if (connect(sockets[i], (struct sockaddr *)&to, sizeof to) < 0) {
			fail("connect");
		}
	}
	static uint8_t payload[BURST][SIZE_MAX_OCTETS];
	struct iovec parts[BURST];
	struct mmsghdr messages[BURST];
	memset(messages, 0, sizeof messages);
	for (int i = 0; i < BURST; i++) {
		parts[i] = (struct iovec){.iov_base = payload[i], .iov_len = size};
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	double start = seconds_now();
	uint64_t sent = 0, refused = 0;
	for (unsigned flow = 0; seconds_now() - start < seconds; flow = (flow + 1) % flows) {
		uint64_t due = (uint64_t)((seconds_now() - start) * rate);
		if (due < sent + BURST && rate > 1000) {
			struct timespec nap = {.tv_nsec = 50000};
			nanosleep(&nap, NULL);
			continue;
		}
		if (due <= sent) {
			struct timespec nap = {.tv_nsec = 500000};
			nanosleep(&nap, NULL);
			continue;
		}
		unsigned count = due - sent < BURST ? (unsigned)(due - sent) : BURST;
		for (unsigned i = 0; i < count; i++) {
			uint64_t number = sent + i;
			memcpy(payload[i], &number, sizeof number);
		}
		int done = sendmmsg(sockets[flow], messages, count, 0);
		if (done < 0) {
			if (errno != ENOBUFS && errno != EAGAIN && errno != ECONNREFUSED) {
				fail("sendmmsg");
			}
			refused++;
			continue;
		}
		sent += (unsigned)done;
	}
	printf("{\"sent\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"seconds\":%.6f}\n", sent, refused, seconds_now() - start);
	return 0;
}

static int receive_packets(uint16_t port, double silence)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = udp_socket();
	if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0) {
		fail("bind");
	}
	static uint8_t payload[BURST][2048];
	struct iovec parts[BURST];
	struct mmsghdr messages[BURST];
	memset(messages, 0, sizeof messages);
	for (int i = 0; i < BURST; i++) {
		parts[i] = (struct iovec){.iov_base = payload[i], .iov_len = sizeof payload[i]};
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	printf("ready\n");
	fflush(stdout);
	uint64_t received = 0, octets = 0;
	double first = 0, last = 0;
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	// Until the first packet, wait ten times longer: the sender has to start.
	while (poll(&wait, 1, (int)(silence * 1000 * (received ? 1 : 10))) > 0) {
		int count = recvmmsg(fd, messages, BURST, MSG_DONTWAIT, NULL);
		if (count <= 0) {
			continue;
		}
		last = seconds_now();
		if (received == 0) {
			first = last;
		}
		for (int i = 0; i < count; i++) {
			octets += messages[i].msg_len;
		}
		received += (unsigned)count;
	}
	printf("{\"received\":%" PRIu64 ",\"octets\":%" PRIu64 ",\"seconds\":%.6f}\n", received, octets, last - first);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 8 && strcmp(argv[1], "send") == 0) {
		return send_packets(argv[2], (uint16_t)atoi(argv[3]), (size_t)atoi(argv[4]), atof(argv[5]), atof(argv[6]), (unsigned)atoi(argv[7]));
	}
	if (argc == 4 && strcmp(argv[1], "receive") == 0) {
		return receive_packets((uint16_t)atoi(argv[2]), atof(argv[3]));
	}
	fprintf(stderr, "usage: blast send ADDRESS PORT SIZE RATE SECONDS FLOWS | blast receive PORT SILENCE\n");
	return 2;
}
