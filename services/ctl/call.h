// One verb being carried out: what verbs.c and lists.c share.
#ifndef TWINSPAN_CTL_CALL_H
#define TWINSPAN_CTL_CALL_H

#include "services/ctl/api.h"
#include "services/ctl/arguments.h"

struct call {
	struct api *api;
	enum resource_kind kind;
	struct arguments *arguments;
	char *id;   // of the resource that the verb is about; NULL for create and list
	char *path; // "/v1/vpcs" or "/v1/vpcs/vpc-…"
};

// Prints the answer's items as a list of the kind, or the answer itself with --output json.
void print_items(const struct call *call, enum resource_kind kind, const json_t *answer);
// The verbs that read lists, whole: page after page. They answer with the exit status.
int list(struct call *call);
int events(struct call *call);
int routes(struct call *call);

#endif
