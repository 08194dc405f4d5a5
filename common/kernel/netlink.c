// See netlink.h: the socket, requests and answers. The kernel answers each request in order before the next is sent, so an
// answer with another sequence number is one that an interrupted call left behind, and is skipped. A dump that the kernel calls
// inconsistent (NLM_F_DUMP_INTR) ends with -EAGAIN: its caller forgets what it heard and asks again.
#include "common/base/alloc.h"
#include "common/kernel/namespace.h"
#include "common/kernel/netlink_message.h"
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// The answers of one batch fit into the socket's receive buffer whatever its default is (an answer counts for less than 1 KiB
// there).
enum { ANSWER_CAPACITY = 65536, BATCH_MESSAGES = 100, BATCH_OCTETS = BATCH_MESSAGES * 128 };

struct batch { // requests that are not sent yet
	bool open;
	size_t count, length;
	int error; // the first refusal since netlink_batch_begin
	int tolerated[BATCH_MESSAGES];
	_Alignas(struct nlmsghdr) char octets[BATCH_OCTETS];
};

struct netlink {
	int fd;
	uint32_t sequence;
	struct batch batch;
	_Alignas(struct nlmsghdr) char answer[ANSWER_CAPACITY];
};

struct netlink *netlink_new(int namespace)
{
	int fd = namespace_socket(namespace, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	if (fd < 0) {
		return NULL;
	}
	int on = 1;
	setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
	setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
	struct netlink *netlink = allocate(sizeof *netlink);
	netlink->fd = fd;
	return netlink;
}

void netlink_free(struct netlink **netlink)
{
	if (*netlink) {
		close((*netlink)->fd);
		free(*netlink);
		*netlink = NULL;
	}
}

void *message_begin(struct message *message, uint16_t type, uint16_t flags, size_t size)
{
	message->header = mnl_nlmsg_put_header(message->octets);
	message->header->nlmsg_type = type;
	message->header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	return mnl_nlmsg_put_extra_header(message->header, size);
}

// libmnl's checked forms tell when there is no room. The largest request here is a group of NETLINK_GROUP_MAX members, an
// eighth of the capacity.
void message_put(struct message *message, uint16_t type, const void *data, size_t length)
{
	if (!mnl_attr_put_check(message->header, sizeof message->octets, type, length, data)) {
		abort();
	}
}

void message_put_u8(struct message *message, uint16_t type, uint8_t value)
{
	message_put(message, type, &value, sizeof value);
}

void message_put_u16(struct message *message, uint16_t type, uint16_t value)
{
	message_put(message, type, &value, sizeof value);
}

void message_put_u32(struct message *message, uint16_t type, uint32_t value)
{
	message_put(message, type, &value, sizeof value);
}

void message_put_text(struct message *message, uint16_t type, const char *text)
{
	message_put(message, type, text, strlen(text) + 1);
}

void message_put_address(struct message *message, uint16_t type, const struct address *address)
{
	message_put(message, type, address->octets, address->length);
}

struct nlattr *message_nest(struct message *message, uint16_t type)
{
	struct nlattr *nest = mnl_attr_nest_start_check(message->header, sizeof message->octets, type);
	if (!nest) {
		abort();
	}
	return nest;
}

void message_nest_end(struct message *message, struct nlattr *nest)
{
	mnl_attr_nest_end(message->header, nest);
}

static int error_of(const struct nlmsghdr *header)
{
	if (mnl_nlmsg_get_payload_len(header) < sizeof(struct nlmsgerr)) {
		return -EBADMSG;
	}
	const struct nlmsgerr *error = mnl_nlmsg_get_payload(header);
	return error->error;
}

// Reads until the request with that sequence number is answered.
static int collect(struct netlink *netlink, uint32_t sequence, message_fn *each, void *context)
{
	bool interrupted = false;
	for (;;) {
		ssize_t length = recv(netlink->fd, netlink->answer, sizeof netlink->answer, 0);
		if (length < 0 && errno == EINTR) {
			continue;
		}
		if (length < 0) {
			return -errno;
		}
		int left = (int)length;
		for (const struct nlmsghdr *header = (const struct nlmsghdr *)netlink->answer; mnl_nlmsg_ok(header, left);
		     header = mnl_nlmsg_next(header, &left)) {
			if (header->nlmsg_seq != sequence) {
				continue;
			}
			interrupted = interrupted || (header->nlmsg_flags & NLM_F_DUMP_INTR);
			if (header->nlmsg_type == NLMSG_ERROR) {
				return error_of(header);
			}
			if (header->nlmsg_type == NLMSG_DONE) {
				return interrupted ? -EAGAIN : 0;
			}
			if (header->nlmsg_type >= NLMSG_MIN_TYPE && each) {
				each(context, header);
			}
		}
	}
}

// ---- batches ----

static void note(struct batch *batch, int error)
{
	batch->error = batch->error != 0 ? batch->error : error;
}

static void flush(struct netlink *netlink)
{
	struct batch *batch = &netlink->batch;
	uint32_t first = netlink->sequence - (uint32_t)batch->count + 1;
	size_t count = batch->count;
	batch->count = 0;
	if (count > 0 && send(netlink->fd, batch->octets, batch->length, 0) < 0) {
		note(batch, -errno);
		count = 0;
	}
	batch->length = 0;
	// The kernel answers in the order of the requests.
	for (size_t answered = 0; answered < count;) {
		ssize_t length = recv(netlink->fd, netlink->answer, sizeof netlink->answer, 0);
		if (length < 0 && errno == EINTR) {
			continue;
		}
		if (length < 0) {
			note(batch, -errno);
			return;
		}
		int left = (int)length;
		for (const struct nlmsghdr *header = (const struct nlmsghdr *)netlink->answer; mnl_nlmsg_ok(header, left);
		     header = mnl_nlmsg_next(header, &left)) {
			uint32_t position = header->nlmsg_seq - first;
			if (position < count && header->nlmsg_type == NLMSG_ERROR) {
				int error = error_of(header);
				note(batch, error == batch->tolerated[position] ? 0 : error);
				answered++;
			}
		}
	}
}

void netlink_batch_begin(struct netlink *netlink)
{
	netlink->batch.open = true;
}

int netlink_batch_end(struct netlink *netlink)
{
	flush(netlink);
	int error = netlink->batch.error;
	netlink->batch.open = false;
	netlink->batch.error = 0;
	return error;
}

int message_change(struct netlink *netlink, struct message *message, int tolerated)
{
	struct batch *batch = &netlink->batch;
	size_t length = NLMSG_ALIGN(message->header->nlmsg_len);
	if (!batch->open || length > BATCH_OCTETS) {
		int error = message_ask(netlink, message, NULL, NULL);
		return error == tolerated ? 0 : error;
	}
	if (batch->count == BATCH_MESSAGES || batch->length + length > BATCH_OCTETS) {
		flush(netlink);
	}
	message->header->nlmsg_seq = ++netlink->sequence;
	memset(batch->octets + batch->length, 0, length);
	memcpy(batch->octets + batch->length, message->header, message->header->nlmsg_len);
	batch->length += length;
	batch->tolerated[batch->count++] = tolerated;
	return 0;
}

static int ask(struct netlink *netlink, struct nlmsghdr *header, message_fn *each, void *context)
{
	flush(netlink);
	header->nlmsg_seq = ++netlink->sequence;
	if (send(netlink->fd, header, header->nlmsg_len, 0) < 0) {
		return -errno;
	}
	return collect(netlink, header->nlmsg_seq, each, context);
}

int message_ask(struct netlink *netlink, struct message *message, message_fn *one, void *context)
{
	return ask(netlink, message->header, one, context);
}

int message_dump(struct netlink *netlink, uint16_t type, size_t size, uint8_t family, message_fn *each, void *context)
{
	struct message message;
	uint8_t *fixed = message_begin(&message, type, NLM_F_DUMP, size);
	fixed[0] = family; // the first octet of every rtnetlink header
	message.header->nlmsg_flags &= (uint16_t)~NLM_F_ACK;
	return ask(netlink, message.header, each, context);
}

struct found_attributes {
	const struct nlattr **at;
	uint16_t maximum;
};

static int keep_attribute(const struct nlattr *attribute, void *context)
{
	const struct found_attributes *found = context;
	if (mnl_attr_get_type(attribute) <= found->maximum) {
		found->at[mnl_attr_get_type(attribute)] = attribute;
	}
	return MNL_CB_OK;
}

void message_attributes(const struct nlmsghdr *header, size_t fixed, const struct nlattr **attributes, uint16_t maximum)
{
	memset(attributes, 0, sizeof *attributes * ((size_t)maximum + 1));
	struct found_attributes found = {attributes, maximum};
	if (mnl_nlmsg_get_payload_len(header) >= fixed) {
		mnl_attr_parse(header, (unsigned)fixed, keep_attribute, &found);
	}
}

void nested_attributes(const struct nlattr *nest, const struct nlattr **attributes, uint16_t maximum)
{
	memset(attributes, 0, sizeof *attributes * ((size_t)maximum + 1));
	struct found_attributes found = {attributes, maximum};
	mnl_attr_parse_nested(nest, keep_attribute, &found);
}

struct address attribute_address(const struct nlattr *attribute)
{
	struct address address = {0};
	size_t length = attribute ? mnl_attr_get_payload_len(attribute) : 0;
	if (length == 4 || length == 16) {
		address.length = (uint8_t)length;
		memcpy(address.octets, mnl_attr_get_payload(attribute), length);
	}
	return address;
}

uint32_t attribute_u32(const struct nlattr *attribute)
{
	uint32_t value = 0;
	if (attribute && mnl_attr_get_payload_len(attribute) >= sizeof value) {
		memcpy(&value, mnl_attr_get_payload(attribute), sizeof value);
	}
	return value;
}
