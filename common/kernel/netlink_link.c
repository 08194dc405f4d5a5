// See netlink.h: links and addresses.
#include "common/kernel/netlink_message.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

static void read_vxlan(const struct nlattr *data, struct netlink_link *link)
{
	const struct nlattr *field[IFLA_VXLAN_LOCAL6 + 1];
	nested_attributes(data, field, IFLA_VXLAN_LOCAL6);
	link->vni = attribute_u32(field[IFLA_VXLAN_ID]);
	link->vxlan_local = attribute_address(field[field[IFLA_VXLAN_LOCAL] ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6]);
	if (field[IFLA_VXLAN_PORT] && mnl_attr_get_payload_len(field[IFLA_VXLAN_PORT]) == 2) {
		link->vxlan_port = ntohs(mnl_attr_get_u16(field[IFLA_VXLAN_PORT]));
	}
}

static void read_text(const struct nlattr *attribute, char *out, size_t capacity)
{
	size_t length = attribute ? strnlen(mnl_attr_get_payload(attribute), mnl_attr_get_payload_len(attribute)) : 0;
	length = length < capacity ? length : capacity - 1;
	memcpy(out, attribute ? mnl_attr_get_payload(attribute) : "", length);
	out[length] = '\0';
}

static bool read_link(const struct nlmsghdr *header, struct netlink_link *link)
{
	memset(link, 0, sizeof *link);
	if (header->nlmsg_type != RTM_NEWLINK || mnl_nlmsg_get_payload_len(header) < sizeof(struct ifinfomsg)) {
		return false;
	}
	const struct ifinfomsg *fixed = mnl_nlmsg_get_payload(header);
	const struct nlattr *attribute[IFLA_AF_SPEC + 1];
	message_attributes(header, sizeof *fixed, attribute, IFLA_AF_SPEC);
	link->index = fixed->ifi_index;
	link->up = fixed->ifi_flags & IFF_UP;
	link->running = fixed->ifi_flags & IFF_RUNNING;
	link->mtu = attribute_u32(attribute[IFLA_MTU]);
	link->master = (int)attribute_u32(attribute[IFLA_MASTER]);
	read_text(attribute[IFLA_IFNAME], link->name, sizeof link->name);
	if (attribute[IFLA_ADDRESS] && mnl_attr_get_payload_len(attribute[IFLA_ADDRESS]) == sizeof link->mac) {
		memcpy(link->mac, mnl_attr_get_payload(attribute[IFLA_ADDRESS]), sizeof link->mac);
	}
	if (attribute[IFLA_STATS64]) {
		struct rtnl_link_stats64 counted = {0};
		size_t length = mnl_attr_get_payload_len(attribute[IFLA_STATS64]); // newer kernels count more, older ones less
		memcpy(&counted, mnl_attr_get_payload(attribute[IFLA_STATS64]), length < sizeof counted ? length : sizeof counted);
		link->send_drops = counted.tx_dropped;
	}
	if (attribute[IFLA_LINKINFO]) {
		const struct nlattr *info[IFLA_INFO_DATA + 1];
		nested_attributes(attribute[IFLA_LINKINFO], info, IFLA_INFO_DATA);
		read_text(info[IFLA_INFO_KIND], link->kind, sizeof link->kind);
		if (strcmp(link->kind, "vxlan") == 0 && info[IFLA_INFO_DATA]) {
			read_vxlan(info[IFLA_INFO_DATA], link);
		}
	}
	return true;
}

static void take_link(void *context, const struct nlmsghdr *header)
{
	read_link(header, context);
}

int netlink_link_find(struct netlink *netlink, const char *name, struct netlink_link *out)
{
	struct message message;
	memset(out, 0, sizeof *out);
	if (strlen(name) >= IF_NAMESIZE) {
		return -ENODEV;
	}
	message_begin(&message, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	message_put_text(&message, IFLA_IFNAME, name);
	int error = message_ask(netlink, &message, take_link, out);
	return error != 0 ? error : out->index == 0 ? -ENODEV : 0;
}

int netlink_link_add_bridge(struct netlink *netlink, const char *name, const uint8_t mac[6], uint32_t mtu)
{
	struct message message;
	message_begin(&message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	message_put_text(&message, IFLA_IFNAME, name);
	message_put(&message, IFLA_ADDRESS, mac, 6);
	message_put_u32(&message, IFLA_MTU, mtu);
	struct nlattr *info = message_nest(&message, IFLA_LINKINFO);
	message_put_text(&message, IFLA_INFO_KIND, "bridge");
	message_nest_end(&message, info);
	return message_ask(netlink, &message, NULL, NULL);
}

// RFC 7348 §5: the UDP checksum SHOULD be zero. Nothing is learned and nothing is flooded: every member is a static entry.
int netlink_link_add_vxlan(struct netlink *netlink, const struct netlink_vxlan *vxlan)
{
	struct message message;
	message_begin(&message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	message_put_text(&message, IFLA_IFNAME, vxlan->name);
	message_put(&message, IFLA_ADDRESS, vxlan->mac, sizeof vxlan->mac);
	message_put_u32(&message, IFLA_MTU, vxlan->mtu);
	if (vxlan->into >= 0) {
		message_put_u32(&message, IFLA_NET_NS_FD, (uint32_t)vxlan->into);
	}
	struct nlattr *info = message_nest(&message, IFLA_LINKINFO);
	message_put_text(&message, IFLA_INFO_KIND, "vxlan");
	struct nlattr *data = message_nest(&message, IFLA_INFO_DATA);
	message_put_u32(&message, IFLA_VXLAN_ID, vxlan->vni);
	message_put_address(&message, vxlan->local.length == 16 ? IFLA_VXLAN_LOCAL6 : IFLA_VXLAN_LOCAL, &vxlan->local);
	message_put_u16(&message, IFLA_VXLAN_PORT, htons(vxlan->port));
	message_put_u8(&message, IFLA_VXLAN_LEARNING, 0);
	message_put_u8(&message, IFLA_VXLAN_UDP_CSUM, 0);
	message_nest_end(&message, data);
	message_nest_end(&message, info);
	return message_ask(netlink, &message, NULL, NULL);
}

static struct ifinfomsg *begin_change(struct message *message, int index)
{
	struct ifinfomsg *fixed = message_begin(message, RTM_NEWLINK, 0, sizeof *fixed);
	fixed->ifi_index = index;
	return fixed;
}

int netlink_link_remove(struct netlink *netlink, int index)
{
	struct message message;
	struct ifinfomsg *fixed = message_begin(&message, RTM_DELLINK, 0, sizeof *fixed);
	fixed->ifi_index = index;
	int error = message_ask(netlink, &message, NULL, NULL);
	return error == -ENODEV ? 0 : error;
}

int netlink_link_set_up(struct netlink *netlink, int index, bool up)
{
	struct message message;
	struct ifinfomsg *fixed = begin_change(&message, index);
	fixed->ifi_change = IFF_UP;
	fixed->ifi_flags = up ? IFF_UP : 0;
	return message_ask(netlink, &message, NULL, NULL);
}

static int change_u32(struct netlink *netlink, int index, uint16_t type, uint32_t value)
{
	struct message message;
	begin_change(&message, index);
	message_put_u32(&message, type, value);
	return message_ask(netlink, &message, NULL, NULL);
}

int netlink_link_set_mtu(struct netlink *netlink, int index, uint32_t mtu)
{
	return change_u32(netlink, index, IFLA_MTU, mtu);
}

int netlink_link_set_queue_length(struct netlink *netlink, int index, uint32_t packets)
{
	return change_u32(netlink, index, IFLA_TXQLEN, packets);
}

int netlink_link_set_master(struct netlink *netlink, int index, int master)
{
	return change_u32(netlink, index, IFLA_MASTER, (uint32_t)master);
}

int netlink_link_set_mac(struct netlink *netlink, int index, const uint8_t mac[6])
{
	struct message message;
	begin_change(&message, index);
	message_put(&message, IFLA_ADDRESS, mac, 6);
	return message_ask(netlink, &message, NULL, NULL);
}

int netlink_link_rename(struct netlink *netlink, int index, const char *name)
{
	struct message message;
	begin_change(&message, index);
	message_put_text(&message, IFLA_IFNAME, name);
	return message_ask(netlink, &message, NULL, NULL);
}

int netlink_link_set_router(struct netlink *netlink, int index)
{
	struct message message;
	begin_change(&message, index);
	struct nlattr *families = message_nest(&message, IFLA_AF_SPEC);
	struct nlattr *family = message_nest(&message, AF_INET);
	struct nlattr *settings = message_nest(&message, IFLA_INET_CONF);
	message_put_u32(&message, IPV4_DEVCONF_FORWARDING, 1);
	message_put_u32(&message, IPV4_DEVCONF_ACCEPT_REDIRECTS, 0);
	message_put_u32(&message, IPV4_DEVCONF_SEND_REDIRECTS, 0);
	message_put_u32(&message, IPV4_DEVCONF_RP_FILTER, 0);
	message_nest_end(&message, settings);
	message_nest_end(&message, family);
	family = message_nest(&message, AF_INET6);
	message_put_u8(&message, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	message_nest_end(&message, family);
	message_nest_end(&message, families);
	return message_ask(netlink, &message, NULL, NULL);
}

struct listing {
	void (*link)(void *context, const struct netlink_link *link);
	void (*address)(void *context, const struct netlink_address *address);
	void *context;
};

static void list_link(void *context, const struct nlmsghdr *header)
{
	const struct listing *listing = context;
	struct netlink_link link;
	if (read_link(header, &link)) {
		listing->link(listing->context, &link);
	}
}

int netlink_links(struct netlink *netlink, void (*found)(void *context, const struct netlink_link *link), void *context)
{
	struct listing listing = {.link = found, .context = context};
	return message_dump(netlink, RTM_GETLINK, sizeof(struct ifinfomsg), AF_UNSPEC, list_link, &listing);
}

static int change_address(struct netlink *netlink, uint16_t type, uint16_t flags, const struct netlink_address *address)
{
	struct message message;
	struct ifaddrmsg *fixed = message_begin(&message, type, flags, sizeof *fixed);
	fixed->ifa_family = family_of(&address->address);
	fixed->ifa_prefixlen = address->length;
	fixed->ifa_index = (uint32_t)address->index;
	if (address->address.length == 16) {
		message_put_u32(&message, IFA_FLAGS, IFA_F_NODAD);
	}
	message_put_address(&message, IFA_LOCAL, &address->address);
	message_put_address(&message, IFA_ADDRESS, &address->address);
	return message_ask(netlink, &message, NULL, NULL);
}

int netlink_address_add(struct netlink *netlink, const struct netlink_address *address)
{
	int error = change_address(netlink, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, address);
	return error == -EEXIST ? 0 : error;
}

int netlink_address_remove(struct netlink *netlink, const struct netlink_address *address)
{
	int error = change_address(netlink, RTM_DELADDR, 0, address);
	return error == -EADDRNOTAVAIL || error == -ENODEV ? 0 : error;
}

static void list_address(void *context, const struct nlmsghdr *header)
{
	const struct listing *listing = context;
	if (header->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(header) < sizeof(struct ifaddrmsg)) {
		return;
	}
	const struct ifaddrmsg *fixed = mnl_nlmsg_get_payload(header);
	const struct nlattr *attribute[IFA_FLAGS + 1];
	message_attributes(header, sizeof *fixed, attribute, IFA_FLAGS);
	struct netlink_address address = {
	    .index = (int)fixed->ifa_index,
	    .length = fixed->ifa_prefixlen,
	    .address = attribute_address(attribute[attribute[IFA_LOCAL] ? IFA_LOCAL : IFA_ADDRESS]),
	};
	if (address.address.length != 0) {
		listing->address(listing->context, &address);
	}
}

int netlink_addresses(struct netlink *netlink, void (*found)(void *context, const struct netlink_address *address),
                      void *context)
{
	struct listing listing = {.address = found, .context = context};
	return message_dump(netlink, RTM_GETADDR, sizeof(struct ifaddrmsg), AF_UNSPEC, list_address, &listing);
}
