// What the writers of device configurations share.
#ifndef TWINSPAN_RESOURCE_CONFIGURATION_H
#define TWINSPAN_RESOURCE_CONFIGURATION_H

#include "services/resource/resource.h"

struct text {
	char *octets;
	size_t length;
};
void text_add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct ends {
	const struct record *tunnel, *connection, *border_gateway, *customer_gateway;
};
// strongSwan 5.9 (kernel-libipsec) and BIRD 2, on Linux.
void strongswan_bird_write(struct text *out, const struct ends *ends);

#endif
