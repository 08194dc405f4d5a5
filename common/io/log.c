// The log of log.h. A write(2) is of whole lines, so that lines of several processes on one pipe do not mix (up to PIPE_BUF
// octets, beyond which a pipe may mix them anyway).
#include "common/io/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/io/config.h"

enum {
	LINE = 2048,    // a longer line is cut
	LOG_LIMIT = 10, // lines a second for one event name of log_limited
	NUMBERS = 8,
	HELD = 4096, // octets of lines that are written together: PIPE_BUF, so that a pipe takes them whole
};

struct rate {
	time_t second;
	unsigned written;
	uint64_t suppressed;
};

// The log is the process's, as standard error is.
static struct {
	char service[32];
	char node[64];
	enum log_level level;
	struct map *rates; // event name → struct rate
	bool hold;
	size_t held;
	char lines[HELD];
} sink = {.service = "-", .level = LOG_INFO};

static const char *const level_names[] = {"debug", "info", "warning", "error"};

void log_init(const char *service, const char *node)
{
	snprintf(sink.service, sizeof sink.service, "%s", service);
	snprintf(sink.node, sizeof sink.node, "%s", node ? node : "");
	const char *wanted = config_text("TWINSPAN_LOG_LEVEL", "info");
	for (size_t i = 0; i < sizeof level_names / sizeof level_names[0]; i++) {
		if (strcmp(wanted, level_names[i]) == 0) {
			sink.level = (enum log_level)i;
			return;
		}
	}
	fprintf(stderr, "TWINSPAN_LOG_LEVEL is \"%s\": must be debug, info, warning or error\n", wanted);
	exit(2);
}

struct line {
	size_t length;
	char text[LINE];
};

static void put(struct line *line, char c)
{
	if (line->length < sizeof line->text - 1) {
		line->text[line->length++] = c;
	}
}

static void put_text(struct line *line, const char *text)
{
	while (*text) {
		put(line, *text++);
	}
}

// Bare when it is one plain word; else in quotes, with what could forge a line or drive a terminal as \xHH.
static void put_value(struct line *line, const char *value)
{
	bool plain = value[0] != '\0';
	for (const char *c = value; *c; c++) {
		plain = plain && *c > ' ' && *c < 0x7f && *c != '"' && *c != '=' && *c != '\\';
	}
	if (plain) {
		put_text(line, value);
		return;
	}
	put(line, '"');
	for (const char *c = value; *c; c++) {
		unsigned char octet = (unsigned char)*c;
		if (octet == '"' || octet == '\\') {
			put(line, '\\');
			put(line, *c);
		} else if (octet < ' ' || octet == 0x7f) {
			char escape[5];
			snprintf(escape, sizeof escape, "\\x%02x", octet);
			put_text(line, escape);
		} else {
			put(line, *c);
		}
	}
	put(line, '"');
}

static void put_pair(struct line *line, const char *key, const char *value)
{
	if (line->length > 0) {
		put(line, ' ');
	}
	put_text(line, key);
	put(line, '=');
	if (value) {
		put_value(line, value);
	} else {
		put(line, '-');
	}
}

static void put_time(struct line *line)
{
	struct timespec at;
	struct tm parts;
	char text[40], fraction[8];
	clock_gettime(CLOCK_REALTIME, &at);
	gmtime_r(&at.tv_sec, &parts);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(fraction, sizeof fraction, ".%03uZ", (unsigned)(at.tv_nsec / 1000000) % 1000);
	put_text(line, "time=");
	put_text(line, text);
	put_text(line, fraction);
}

void log_flush(void)
{
	if (sink.held > 0) {
		ssize_t written = write(STDERR_FILENO, sink.lines, sink.held);
		(void)written; // there is nowhere to say that the log is gone
		sink.held = 0;
	}
}

void log_hold(bool hold)
{
	static bool registered;
	if (hold && !registered) {
		registered = true;
		atexit(log_flush);
	}
	sink.hold = hold;
	if (!hold) {
		log_flush();
	}
}

static void write_line(enum log_level level, const char *event, uint64_t suppressed, va_list pairs)
{
	struct line line = {0};
	put_time(&line);
	put_pair(&line, "level", level_names[level]);
	put_pair(&line, "service", sink.service);
	if (sink.node[0]) {
		put_pair(&line, "node", sink.node);
	}
	put_pair(&line, "event", event);
	for (const char *key = va_arg(pairs, const char *); key; key = va_arg(pairs, const char *)) {
		put_pair(&line, key, va_arg(pairs, const char *));
	}
	if (suppressed > 0) {
		put_pair(&line, "suppressed", log_number((int64_t)suppressed));
	}
	line.text[line.length++] = '\n';
	if (sink.held + line.length > sizeof sink.lines) {
		log_flush();
	}
	memcpy(sink.lines + sink.held, line.text, line.length);
	sink.held += line.length;
	if (!sink.hold || level >= LOG_ERROR) {
		log_flush();
	}
}

void log_event(enum log_level level, const char *event, ...)
{
	if (level < sink.level) {
		return;
	}
	va_list pairs;
	va_start(pairs, event);
	write_line(level, event, 0, pairs);
	va_end(pairs);
}

void log_limited(enum log_level level, const char *event, ...)
{
	if (level < sink.level) {
		return;
	}
	if (!sink.rates) {
		sink.rates = map_new(NULL);
	}
	struct rate *rate = map_find_text(sink.rates, event);
	if (!rate) {
		rate = allocate(sizeof *rate);
		map_insert_text(sink.rates, event, rate);
	}
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	if (at.tv_sec != rate->second) {
		rate->second = at.tv_sec;
		rate->written = 0;
	}
	if (rate->written >= LOG_LIMIT) {
		rate->suppressed++;
		return;
	}
	rate->written++;
	va_list pairs;
	va_start(pairs, event);
	write_line(level, event, rate->suppressed, pairs);
	va_end(pairs);
	rate->suppressed = 0;
}

const char *log_number(int64_t value)
{
	static char ring[NUMBERS][24];
	static unsigned next;
	char *text = ring[next++ % NUMBERS];
	snprintf(text, sizeof ring[0], "%lld", (long long)value);
	return text;
}
