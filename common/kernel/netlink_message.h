// How one rtnetlink request is built and answered: shared by netlink.c and its neighbours netlink_link.c and netlink_route.c.
#ifndef TWINSPAN_IO_NETLINK_MESSAGE_H
#define TWINSPAN_IO_NETLINK_MESSAGE_H

#include "common/kernel/netlink.h"
#include <libmnl/libmnl.h>

enum { MESSAGE_CAPACITY = 8192 };

struct message {
	struct nlmsghdr *header;
	_Alignas(struct nlmsghdr) char octets[MESSAGE_CAPACITY];
};

// Begins a request; returns its zeroed `size` octets of fixed part. Flags without NLM_F_REQUEST and NLM_F_ACK, which are always
// there.
void *message_begin(struct message *message, uint16_t type, uint16_t flags, size_t size);
void message_put(struct message *message, uint16_t type, const void *data, size_t length);
void message_put_u8(struct message *message, uint16_t type, uint8_t value);
void message_put_u16(struct message *message, uint16_t type, uint16_t value);
void message_put_u32(struct message *message, uint16_t type, uint32_t value);
void message_put_text(struct message *message, uint16_t type, const char *text);
void message_put_address(struct message *message, uint16_t type, const struct address *address);
struct nlattr *message_nest(struct message *message, uint16_t type);
void message_nest_end(struct message *message, struct nlattr *nest);
// Sends it and waits for the answer. When the answer is an object, `one` gets it. 0 or a negative errno.
typedef void message_fn(void *context, const struct nlmsghdr *header);
int message_ask(struct netlink *netlink, struct message *message, message_fn *one, void *context);
// The same for a change that may be one of a batch; `tolerated`: the refusal that is none (-ESRCH), or 0.
int message_change(struct netlink *netlink, struct message *message, int tolerated);
// Asks for all objects of that type.
int message_dump(struct netlink *netlink, uint16_t type, size_t size, uint8_t family, message_fn *each, void *context);

// The attributes of an answer by type; those beyond `maximum` are left out.
void message_attributes(const struct nlmsghdr *header, size_t fixed, const struct nlattr **attributes, uint16_t maximum);
void nested_attributes(const struct nlattr *nest, const struct nlattr **attributes, uint16_t maximum);
struct address attribute_address(const struct nlattr *attribute); // none when absent or of a strange length
uint32_t attribute_u32(const struct nlattr *attribute);           // 0 when absent or short
static inline uint8_t family_of(const struct address *address)
{
	return address->length == 16 ? 10 /* AF_INET6 */ : 2 /* AF_INET */;
}

#endif
