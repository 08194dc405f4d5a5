// /healthz (the process turns its loop), /readyz (200, or 503 with the names of what it waits for) and /metrics (Prometheus text
// format) of a service, on TWINSPAN_HEALTH: "address:port" or "unix:/path". Also the handle to mount a service's own HTTP API.
#ifndef TWINSPAN_IO_HEALTH_H
#define TWINSPAN_IO_HEALTH_H

#include "common/io/loop.h"

struct health;

struct health *health_new(struct loop *loop); // starts listening; waits for its address, exits with 2 when it never can
void health_free(struct health **health);
bool health_ready(const struct health *health); // it waits for nothing
// States that the service waits for `what` ("table node from resource", "database"), or no longer does.
void health_wait(struct health *health, const char *what, bool waiting);

// Metrics: `labels` is text like `reason="replay"` or NULL. The counter lives as long as the process. The same name and labels give the same one.
enum metric_kind { METRIC_COUNTER, METRIC_GAUGE };
struct metric;
struct metric *metric(enum metric_kind kind, const char *name, const char *labels, const char *help);
void metric_add(struct metric *metric, uint64_t n);
void metric_set(struct metric *metric, double value);
uint64_t metric_value(const struct metric *metric);
// What it measured is gone (a deleted tunnel): it is shown no more, and pointers to it are dead.
void metric_remove(const char *name, const char *labels);
// Called before each scrape, for services that gather (esp's workers).
void health_before_metrics(struct health *health, loop_fn *gather, void *context);

// Listens at "address:port" or "unix:/path" (mode 0666, an old socket file removed); returns a descriptor or -1 with errno.
int listen_at(const char *where);

#endif
