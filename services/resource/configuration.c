// The configuration of the customer's device. The pre-shared key is never in it: its place says @PRE_SHARED_KEY@. One text made
// of several files, each after a line "#### <name>".
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "services/resource/configuration.h"

void text_add(struct text *text, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	text->octets = reallocate(text->octets, text->length + (size_t)length + 1, 1);
	va_start(arguments, format);
	vsnprintf(text->octets + text->length, (size_t)length + 1, format, arguments);
	va_end(arguments);
	text->length += (size_t)length;
}

char *resource_configuration(const struct resource *resource, const struct record *tunnel, const char *vendor,
                             struct problem *problem)
{
	static const struct {
		const char *name;
		void (*write)(struct text *out, const struct ends *ends);
	} vendors[] = {{"strongswan-bird", strongswan_bird_write}};
	for (size_t i = 0; i < sizeof vendors / sizeof vendors[0]; i++) {
		if (strcmp(vendors[i].name, vendor) == 0) {
			const struct record *connection =
			    resource_find(resource, RESOURCE_VPN_CONNECTION, record_text(tunnel, "vpnConnectionId"));
			struct ends ends = {
			    .tunnel = tunnel,
			    .connection = connection,
			    .border_gateway =
			        resource_find(resource, RESOURCE_BORDER_GATEWAY, record_text(connection, "borderGatewayId")),
			    .customer_gateway = resource_find(resource, RESOURCE_CUSTOMER_GATEWAY,
			                                      record_text(connection, "customerGatewayId")),
			};
			struct text text = {0};
			vendors[i].write(&text, &ends);
			return text.octets;
		}
	}
	problem_set(problem, 422, "not-allowed", "vendor", vendor, "must be strongswan-bird");
	return NULL;
}
