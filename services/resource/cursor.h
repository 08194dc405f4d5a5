// The text of a cursor: octets in hexadecimal, so that nobody is tempted to make one.
#ifndef TWINSPAN_RESOURCE_CURSOR_H
#define TWINSPAN_RESOURCE_CURSOR_H

#include "common/base/bytes.h"
#include "services/resource/resource.h"

enum { CURSOR_OCTETS = (CURSOR_TEXT - 1) / 2 };
void cursor_write(char out[static CURSOR_TEXT], struct bytes octets); // CURSOR_OCTETS at most
// False, and a 400 problem, when the text is none of ours.
bool cursor_read(const char *text, uint8_t out[static CURSOR_OCTETS], size_t *length, struct problem *problem);

#endif
