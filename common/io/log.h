// Structured logs: one line per message on standard error, key=value, time and level and service first, then the event's name, then the object's id.
//   log_event(LOG_INFO, "tunnel-up", "tunnel", id, "peer", address_text, NULL);
// Values are quoted where they need it, control characters are escaped. There is no call that takes a struct secret.
#ifndef TWINSPAN_IO_LOG_H
#define TWINSPAN_IO_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

void log_init(const char *service, const char *node); // TWINSPAN_LOG_LEVEL decides what is written
// Key, value pairs of text, ended by NULL. A NULL value is written as "-".
void log_event(enum log_level level, const char *event, ...) __attribute__((sentinel));
// The same for what a peer can cause at will: at most `LOG_LIMIT` lines a second for one event name; the next line that passes says
// how many did not.
void log_limited(enum log_level level, const char *event, ...) __attribute__((sentinel));
// While lines are held they are written together: the loop asks for it, and flushes at the end of each of its batches. An error is written at once,
// with what was held before it; so is what is left when the process exits.
void log_hold(bool hold);
void log_flush(void);
// A number as text in a small ring of static buffers, for log calls (single-threaded services; esp's workers do not log).
const char *log_number(int64_t value);

#endif
