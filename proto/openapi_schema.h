// The schemas of the OpenAPI document (openapi.c): for each kind what is shown, what creates it and what updates it.
#ifndef TWINSPAN_PROTO_OPENAPI_SCHEMA_H
#define TWINSPAN_PROTO_OPENAPI_SCHEMA_H

#include <jansson.h>

#include "proto/resource_rules.h"

json_t *openapi_schemas(void);                              // components/schemas
json_t *schema_named(const char *prefix, const char *name); // a reference to one of them: "", "New" or "Changed" and a message
json_t *schema_of_filter(const struct field_rule *rule);    // of one value of the field
json_t *values_of_text(const char *values);                 // "A,B" as a list

#endif
