// The path attributes of an UPDATE, one descriptor each (path_attribute.c).
#ifndef TWINSPAN_BGP_PATH_ATTRIBUTE_H
#define TWINSPAN_BGP_PATH_ATTRIBUTE_H

#include "services/bgp/update.h"

enum attribute_flag { FLAG_OPTIONAL = 0x80, FLAG_TRANSITIVE = 0x40, FLAG_PARTIAL = 0x20, FLAG_EXTENDED_LENGTH = 0x10 };
enum attribute_type {
	ATTRIBUTE_ORIGIN = 1,
	ATTRIBUTE_AS_PATH,
	ATTRIBUTE_NEXT_HOP,
	ATTRIBUTE_MULTI_EXIT_DISC,
	ATTRIBUTE_LOCAL_PREF,
	ATTRIBUTE_ATOMIC_AGGREGATE,
	ATTRIBUTE_AGGREGATOR,
	ATTRIBUTE_COMMUNITIES,
	ATTRIBUTE_ORIGINATOR_ID,
	ATTRIBUTE_CLUSTER_LIST,
	ATTRIBUTE_MP_REACH_NLRI = 14,
	ATTRIBUTE_MP_UNREACH_NLRI,
	ATTRIBUTE_EXTENDED_COMMUNITIES,
	ATTRIBUTE_AS4_PATH,
	ATTRIBUTE_AS4_AGGREGATOR,
	ATTRIBUTE_IPV6_EXTENDED_COMMUNITIES = 25,
	ATTRIBUTE_LARGE_COMMUNITIES = 32,
};

// Fills the draft and the runs of MP_REACH_NLRI and MP_UNREACH_NLRI of `out`, and its verdict as far as attributes decide it.
void path_attributes_read(struct bytes attributes, const struct update_context *context, struct update *out);
void update_blame(struct update *update, enum update_verdict verdict, uint8_t subcode, struct bytes data,
                  const char *attribute);
void path_attribute_header_write(struct writer *w, uint8_t flags, uint8_t type, size_t length);

#endif
