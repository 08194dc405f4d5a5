// What each verb does.
#ifndef TWINSPAN_CTL_VERBS_H
#define TWINSPAN_CTL_VERBS_H

#include "services/ctl/api.h"
#include "services/ctl/arguments.h"

// The exit status of the process.
int verb_run(struct api *api, enum resource_kind kind, struct arguments *arguments);

// The verbs that belong to this kind alone (RESOURCE_KINDS: to any one), with what they do.
void verbs_print(enum resource_kind kind);

// configuration.c: fills the pre-shared key in, and prints the document or writes its files into a directory.
int configuration_write(const char *document, const char *key_file, const char *directory);

#endif
