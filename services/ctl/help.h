// Help, made from the rules: what kinds there are, and the flags of one with their ranges and defaults.
#ifndef TWINSPAN_CTL_HELP_H
#define TWINSPAN_CTL_HELP_H

#include "proto/resource_rules.h"

void help_print(void);
void help_print_kind(enum resource_kind kind);
// The flags of the kind, with what each may be.
void help_print_flags(enum resource_kind kind);

#endif
