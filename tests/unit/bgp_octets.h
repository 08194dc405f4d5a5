// Octets as hexadecimal text with spaces between the parts of a message, for tables of test cases.
#ifndef TWINSPAN_TESTS_BGP_OCTETS_H
#define TWINSPAN_TESTS_BGP_OCTETS_H

#include <stdio.h>
#include <string.h>

#include "common/base/hex.h"

static inline size_t octets_of(const char *text, uint8_t *out, size_t capacity)
{
	char packed[2 * 4096 + 1];
	size_t count = 0;
	for (; *text; text++) {
		if (*text != ' ') {
			packed[count++] = *text;
			assert_true(count < sizeof packed);
		}
	}
	packed[count] = '\0';
	ptrdiff_t length = hex_parse(packed, out, capacity);
	assert_true(length >= 0);
	return (size_t)length;
}

#endif
