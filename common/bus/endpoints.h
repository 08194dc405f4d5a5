// The file of TWINSPAN_BUS: which owner is where.
#ifndef TWINSPAN_BUS_ENDPOINTS_H
#define TWINSPAN_BUS_ENDPOINTS_H

struct bus_endpoints;
struct bus_endpoints *bus_endpoints_new(const char *path);
void bus_endpoints_free(struct bus_endpoints **endpoints);
// NULL when the file has no line for it. The file is read again when it has changed; a text that was given out stays valid.
const char *bus_endpoints_find(struct bus_endpoints *endpoints, const char *identity);
// Reads the file again in any case.
void bus_endpoints_refresh(struct bus_endpoints *endpoints);

#endif
