// The socket side of esp without its dataplane, for tests/e2e/test_sockets.py: opens the node's sockets and, when asked, a
// border gateway, hands sockets over, and prints a line for each thing it hears: "<socket> <hex>", with <socket> one of udp500,
// udp4500, worker<n>, raw<n>, vpn0.
//   esp_sockets <workers> <socket path> <ike uid> <bgp uid> [<prefix> <node> <bgw id>]
// Commands on standard input, each answered by "done" or "error <text>": "address <address> <length>", "attachment <id> <vni>
// <local> <member>…", "route <prefix> <attachment> <vtep>", "unroute <prefix>", "sweep", "close", "list", "again <from> <port>
// <to> <hex>".
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/hex.h"
#include "common/io/health.h"
#include "common/io/log.h"
#include "common/io/loop.h"
#include "services/esp/net_gateway.h"
#include "services/esp/net_handover.h"
#include "services/esp/net_sockets.h"

struct tool {
	struct loop *loop;
	struct node_sockets sockets;
	struct gateway *gateway;
	const char *prefix, *node;
};

struct source {
	char name[16];
	int fd;
};

static void heard(void *context)
{
	const struct source *source = context;
	static uint8_t octets[65536];
	static char text[2 * sizeof octets + 1];
	ssize_t length = read(source->fd, octets, sizeof octets);
	if (length >= 0) {
		printf("%s %s\n", source->name, hex_format((struct bytes){octets, (size_t)length}, text));
	}
}

static void watch(struct tool *tool, const char *name, int number, int fd)
{
	struct source *source = calloc(1, sizeof *source);
	snprintf(source->name, sizeof source->name, number < 0 ? "%s" : "%s%d", name, number);
	source->fd = fd;
	loop_read(tool->loop, fd, heard, source);
}

static bool address_next(char **rest, struct address *out)
{
	const char *text = strtok_r(NULL, " \n", rest);
	return text && address_parse(text, out);
}

static int attachment(struct tool *tool, char **rest)
{
	struct gateway_attachment wanted = {.id = strtok_r(NULL, " \n", rest), .mtu = 1450};
	const char *vni = strtok_r(NULL, " \n", rest);
	struct address members[16];
	if (!vni || !address_next(rest, &wanted.local)) {
		return -EINVAL;
	}
	wanted.vni = (uint32_t)strtoul(vni, NULL, 10);
	wanted.members = members;
	while (wanted.member_count < 16 && address_next(rest, &members[wanted.member_count])) {
		wanted.member_count++;
	}
	return gateway_attachment_set(tool->gateway, &wanted);
}

static int again(struct tool *tool, char **rest)
{
	struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons(4500)};
	uint8_t payload[2048];
	inet_pton(AF_INET, strtok_r(NULL, " \n", rest), &from.sin_addr);
	from.sin_port = htons((uint16_t)atoi(strtok_r(NULL, " \n", rest)));
	inet_pton(AF_INET, strtok_r(NULL, " \n", rest), &to.sin_addr);
	ptrdiff_t length = hex_parse(strtok_r(NULL, " \n", rest), payload, sizeof payload);
	return node_sockets_again(&tool->sockets, &from, &to, (struct bytes){payload, (size_t)length}) ? 0 : -errno;
}

static void print_found(void *context, const char *bgw_id)
{
	(void)context;
	printf("found %s\n", bgw_id);
}

static int obey(struct tool *tool, const char *verb, char **rest)
{
	struct address address;
	struct prefix prefix;
	if (strcmp(verb, "address") == 0 && address_next(rest, &address)) {
		return gateway_address_set(tool->gateway, &address, (uint8_t)atoi(strtok_r(NULL, " \n", rest)));
	}
	if (strcmp(verb, "attachment") == 0) {
		return attachment(tool, rest);
	}
	if (strcmp(verb, "route") == 0 && prefix_parse(strtok_r(NULL, " \n", rest), &prefix)) {
		const char *id = strtok_r(NULL, " \n", rest);
		return address_next(rest, &address) ? gateway_route_set(tool->gateway, &prefix, id, &address) : -EINVAL;
	}
	if (strcmp(verb, "unroute") == 0 && prefix_parse(strtok_r(NULL, " \n", rest), &prefix)) {
		return gateway_route_remove(tool->gateway, &prefix);
	}
	if (strcmp(verb, "sweep") == 0) {
		gateway_sweep(tool->gateway);
		return 0;
	}
	if (strcmp(verb, "close") == 0) {
		gateway_close(&tool->gateway);
		return 0;
	}
	if (strcmp(verb, "list") == 0) {
		gateway_list(tool->prefix, tool->node, print_found, NULL);
		return 0;
	}
	return strcmp(verb, "again") == 0 ? again(tool, rest) : -EINVAL;
}

static void command(void *context)
{
	struct tool *tool = context;
	char line[2048];
	ssize_t length = read(STDIN_FILENO, line, sizeof line - 1); // the test writes one line at a time
	if (length <= 0) {
		loop_stop(tool->loop);
		return;
	}
	line[length] = '\0';
	char *rest;
	const char *verb = strtok_r(line, " \n", &rest);
	int error = verb ? obey(tool, verb, &rest) : -EINVAL;
	if (error == 0) {
		puts("done");
	} else {
		printf("error %s\n", strerror(-error));
	}
}

static struct gateway *find_gateway(void *context, const char *bgw_id)
{
	struct tool *tool = context;
	return tool->gateway && strcmp(gateway_id(tool->gateway), bgw_id) == 0 ? tool->gateway : NULL;
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	log_init("esp-sockets", "test");
	struct tool tool = {.loop = loop_new()};
	int error = node_sockets_open(&tool.sockets, (unsigned)atoi(argv[1]));
	if (error != 0) {
		printf("error sockets: %s\n", strerror(-error));
		return 1;
	}
	if (argc == 8) {
		tool.prefix = argv[5];
		tool.node = argv[6];
		tool.gateway = gateway_open(argv[5], argv[6], argv[7]);
		int queue = tool.gateway ? gateway_queue(tool.gateway) : -1;
		if (queue < 0) {
			printf("error gateway: %s\n", strerror(errno));
			return 1;
		}
		watch(&tool, "vpn0", -1, queue);
	}
	// IKE's sockets are not read here: they are whoever's asked for them.
	for (int i = 0; i < (int)tool.sockets.workers; i++) {
		watch(&tool, "worker", i, tool.sockets.udp4500_esp[i]);
		watch(&tool, "raw", i, tool.sockets.raw_esp[i]);
	}
	struct handover_settings settings = {
	    .path = argv[2], .ike_uid = (uid_t)strtoul(argv[3], NULL, 10), .bgp_uid = (uid_t)strtoul(argv[4], NULL, 10)};
	if (!handover_server_new(tool.loop, &settings, &tool.sockets, find_gateway, &tool)) {
		printf("error handover: %s\n", strerror(errno));
		return 1;
	}
	loop_read(tool.loop, STDIN_FILENO, command, &tool);
	puts("ready");
	return loop_run(tool.loop);
}
