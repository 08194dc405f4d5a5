// See problem.h.
#include "proto/problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void copy_shortened(char *out, size_t capacity, const char *text)
{
	size_t length = text ? strlen(text) : 0;
	if (length < capacity) {
		memcpy(out, text ? text : "", length + 1);
		return;
	}
	// Cut before a UTF-8 character, not inside it.
	size_t cut = capacity - 4;
	while (cut > 0 && ((unsigned char)text[cut] & 0xc0) == 0x80) {
		cut--;
	}
	memcpy(out, text, cut);
	memcpy(out + cut, "...", 4);
}

bool problem_set(struct problem *problem, int status, const char *type, const char *field, const char *value, const char *rule,
                 ...)
{
	problem->status = status;
	problem->type = type;
	copy_shortened(problem->field, sizeof problem->field, field);
	copy_shortened(problem->value, sizeof problem->value, value);
	va_list arguments;
	va_start(arguments, rule);
	vsnprintf(problem->rule, sizeof problem->rule, rule, arguments);
	va_end(arguments);
	return false;
}

const char *problem_title(int status)
{
	switch (status) {
	case 400:
		return "Bad Request";
	case 401:
		return "Unauthorized";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 408:
		return "Request Timeout";
	case 409:
		return "Conflict";
	case 412:
		return "Precondition Failed";
	case 413:
		return "Content Too Large";
	case 415:
		return "Unsupported Media Type";
	case 422:
		return "Unprocessable Content";
	case 428:
		return "Precondition Required";
	case 500:
		return "Internal Server Error";
	case 503:
		return "Service Unavailable";
	default:
		return "Error";
	}
}
