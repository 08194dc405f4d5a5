// What health.c needs of metric.c beyond health.h.
#ifndef TWINSPAN_IO_METRIC_H
#define TWINSPAN_IO_METRIC_H

#include <stddef.h>

// All metrics in the Prometheus text format 0.0.4. The caller frees it.
char *metrics_text(size_t *length);

#endif
