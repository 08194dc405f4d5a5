// The forms that a field's text can have (enum field_format).
#ifndef TWINSPAN_RESOURCE_FORMAT_H
#define TWINSPAN_RESOURCE_FORMAT_H

#include "common/base/address.h"
#include "proto/resource_rules.h"

// NULL when `text` fits, else the rule that it breaks. References (FORMAT_ID) are not looked up here.
const char *format_check(const struct field_rule *rule, const char *text);
bool asn_allowed(uint64_t asn);
bool address_is_unicast(const struct address *address); // IPv4, and fit for an interface
bool inside_is_reserved(const struct prefix *inside);   // kept by clouds for themselves

#endif
