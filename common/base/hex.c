// See hex.h.
#include "common/base/hex.h"

#include <string.h>

char *hex_format(struct bytes octets, char *out)
{
	static const char digits[] = "0123456789abcdef";
	char *at = out;
	for (size_t i = 0; i < octets.length; i++) {
		*at++ = digits[octets.data[i] >> 4];
		*at++ = digits[octets.data[i] & 15];
	}
	*at = '\0';
	return out;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	if (c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

ptrdiff_t hex_parse(const char *text, uint8_t *out, size_t capacity)
{
	size_t length = strlen(text);
	if (length % 2 || length / 2 > capacity) {
		return -1;
	}
	for (size_t i = 0; i < length / 2; i++) {
		int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
		if (high < 0 || low < 0) {
			return -1;
		}
		out[i] = (uint8_t)(high << 4 | low);
	}
	return (ptrdiff_t)(length / 2);
}
