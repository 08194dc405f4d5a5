// The OpenAPI 3.1 document of the REST API, from the descriptors and the rules.
#ifndef TWINSPAN_PROTO_OPENAPI_H
#define TWINSPAN_PROTO_OPENAPI_H

#include <jansson.h>

json_t *openapi_document(void);

#endif
