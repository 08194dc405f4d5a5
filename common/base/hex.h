// Octets as lower-case hexadecimal text and back.
#ifndef TWINSPAN_BASE_HEX_H
#define TWINSPAN_BASE_HEX_H

#include "common/base/bytes.h"

// `out` holds 2 × length + 1 characters.
char *hex_format(struct bytes octets, char *out);
// Returns the number of octets, or -1 when the text is not hexadecimal, of odd length or longer than `capacity` octets.
ptrdiff_t hex_parse(const char *text, uint8_t *out, size_t capacity);

#endif
