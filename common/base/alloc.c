// See alloc.h.
#include "common/base/alloc.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/invariant.h"

static void *there(void *memory)
{
	if (!memory) {
		invariant_violated("there is memory", __FILE__, __LINE__);
	}
	return memory;
}

void *allocate(size_t size)
{
	return allocate_array(1, size);
}

void *allocate_array(size_t count, size_t size)
{
	// calloc checks the product; one octet at least, so that no platform's NULL for nothing looks like failure.
	return there(count && size ? calloc(count, size) : calloc(1, 1));
}

void *reallocate(void *memory, size_t count, size_t size)
{
	size_t total;
	if (__builtin_mul_overflow(count, size, &total)) {
		invariant_violated("count times size fits", __FILE__, __LINE__);
	}
	return there(realloc(memory, total ? total : 1));
}

char *duplicate_text(const char *text)
{
	return text ? there(strdup(text)) : NULL;
}

char *format_text(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	invariant(length >= 0);
	char *text = allocate((size_t)length + 1);
	va_start(arguments, format);
	vsnprintf(text, (size_t)length + 1, format, arguments);
	va_end(arguments);
	return text;
}
