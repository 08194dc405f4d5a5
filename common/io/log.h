// Structured logs: one line per message on standard error, key=value, time and level and service first, then the event's name, then the object's id.
//   log_event(LOG_INFO, "tunnel-up", "tunnel", id, "peer", address_text, NULL);
// Values are quoted where they need it, control characters are escaped. There is no call that takes a struct secret.
#ifndef TWINSPAN_IO_LOG_H
#define TWINSPAN_IO_LOG_H

#include <stdint.h>
// czmq.h brings syslog's macros of these names along: taken here first, so that they are gone whatever the order of includes.
#include <syslog.h>
#undef LOG_DEBUG
#undef LOG_INFO
#undef LOG_WARNING

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

void log_init(const char *service, const char *node); // TWINSPAN_LOG_LEVEL decides what is written
// Key, value pairs of text, ended by NULL. A NULL value is written as "-".
void log_event(enum log_level level, const char *event, ...) __attribute__((sentinel));
// The same for what a peer can cause at will: at most `LOG_LIMIT` lines a second for one event name; the next line that passes says
// how many did not.
void log_limited(enum log_level level, const char *event, ...) __attribute__((sentinel));
// A number as text in a small ring of static buffers, for log calls (single-threaded services; esp's workers do not log).
const char *log_number(int64_t value);

#endif
