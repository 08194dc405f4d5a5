// Names where ids are wanted.
#ifndef TWINSPAN_CTL_NAMES_H
#define TWINSPAN_CTL_NAMES_H

#include "proto/resource_rules.h"
#include "services/ctl/api.h"

// The id that `text` stands for: itself when it is one, or that of the only resource of the kind with this name. NULL, with a
// message, when there is none or more than one, or when the API did not answer. To be freed. `result`: what the process should end
// with then.
char *name_to_id(struct api *api, enum resource_kind kind, const char *text, int *result);
// The same for every field of a request's body that holds an id. EXIT_OK, or with a message what the process should end with.
int names_resolve(struct api *api, enum resource_kind kind, json_t *body);

#endif
