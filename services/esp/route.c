// Routes: what the FIB of a border gateway holds, and which routes to tunnels lie beneath a route to an attachment
// (esp_on_beneath).
#include "common/base/invariant.h"
#include "services/esp/table.h"

static void target_release(struct esp *esp, uint32_t number)
{
	if (number >= TARGET_FIRST) {
		struct esp_group *group = load(load(esp->targets)->at[number]);
		invariant(group && group->number == number);
		group_release(esp, group);
	}
}

static uint32_t *attachments_of(struct esp_gateway *gateway, const struct prefix *prefix)
{
	return gateway->attachments[prefix->address.length == 16];
}

// Does a route to an attachment cover this prefix, and is shorter? `but` does not count.
static bool is_beneath(struct esp_gateway *gateway, const struct prefix *prefix, const struct prefix *but)
{
	const uint32_t *held = attachments_of(gateway, prefix);
	for (unsigned length = 0; length < prefix->length; length++) {
		if (held[length] > 0) {
			struct prefix cover = prefix_of(&prefix->address, (uint8_t)length);
			if (fib_find(gateway->fib, &cover) == TARGET_ATTACHMENT && !(but && prefix_equal(&cover, but))) {
				return true;
			}
		}
	}
	return false;
}

static void tell(const struct esp *esp, const struct esp_gateway *gateway, const struct prefix *prefix, bool wanted)
{
	if (esp->beneath) {
		esp->beneath(esp->beneath_context, gateway->id, prefix, wanted);
	}
}

struct attachment_change {
	const struct esp *esp;
	struct esp_gateway *gateway;
	const struct prefix *prefix;
	bool added;
};

static void route_inside(void *context, const struct prefix *prefix, uint32_t value)
{
	const struct attachment_change *change = context;
	if (value >= TARGET_FIRST && !is_beneath(change->gateway, prefix, change->prefix)) {
		tell(change->esp, change->gateway, prefix, change->added);
	}
}

static void attachment_changed(const struct esp *esp, struct esp_gateway *gateway, const struct prefix *prefix, bool added)
{
	uint32_t *held = &attachments_of(gateway, prefix)[prefix->length];
	invariant(added || *held > 0);
	*held = added ? *held + 1 : *held - 1;
	struct attachment_change change = {esp, gateway, prefix, added};
	fib_each_inside(gateway->fib, prefix, route_inside, &change);
}

// What the kernel must know of `prefix`, whose value changed.
static void retell(const struct esp *esp, struct esp_gateway *gateway, const struct prefix *prefix, uint32_t before,
                   uint32_t after)
{
	bool was_tunnel = before >= TARGET_FIRST, is_tunnel = after >= TARGET_FIRST;
	if (was_tunnel != is_tunnel && is_beneath(gateway, prefix, NULL)) {
		tell(esp, gateway, prefix, is_tunnel);
	}
	if ((before == TARGET_ATTACHMENT) != (after == TARGET_ATTACHMENT)) {
		attachment_changed(esp, gateway, prefix, after == TARGET_ATTACHMENT);
	}
}

void esp_route_set(struct esp *esp, const char *gateway_id, const struct prefix *destination, const char *group)
{
	struct esp_gateway *gateway = gateway_hold(esp, gateway_id);
	uint32_t number = group ? group_hold(esp, group)->number : TARGET_ATTACHMENT;
	uint32_t before = fib_set(gateway->fib, destination, number);
	retell(esp, gateway, destination, before, number);
	if (before != TARGET_NONE) {
		target_release(esp, before);
		gateway_release(esp, gateway);
	} else {
		esp->routes++;
	}
}

void esp_route_remove(struct esp *esp, const char *gateway_id, const struct prefix *destination)
{
	struct esp_gateway *gateway = map_find_text(esp->gateways, gateway_id);
	uint32_t before = gateway ? fib_remove(gateway->fib, destination) : TARGET_NONE;
	if (before != TARGET_NONE) {
		invariant(esp->routes > 0);
		esp->routes--;
		retell(esp, gateway, destination, before, TARGET_NONE);
		target_release(esp, before);
		gateway_release(esp, gateway);
	}
}

void esp_on_beneath(struct esp *esp, esp_beneath_fn *beneath, void *context)
{
	esp->beneath = beneath;
	esp->beneath_context = context;
}

size_t esp_route_count(const struct esp *esp)
{
	return esp->routes;
}
