// Whose word on a row counts. A table of tunnels or of nodes (tables.h) is believed from the services of that node only: what
// another node's service says of it is refused here, once, where rows enter, and seen by nobody. What it says of a tunnel that
// is not known yet waits in the replica until the tunnel is. No sockets, no clock.
#ifndef TWINSPAN_BUS_ADMISSION_H
#define TWINSPAN_BUS_ADMISSION_H

#include "common/base/bytes.h"
#include "common/bus/tables.h"

enum row_verdict { ROW_SHOWN, ROW_WAITING, ROW_REFUSED };

struct bus_admission;
struct bus_admission *bus_admission_new(void);
void bus_admission_free(struct bus_admission **admission);
// A tunnel is on `node`; NULL: it is no more. true when that is news that can change a verdict: `moved` then says whether it
// was on another node before.
bool bus_admission_place(struct bus_admission *admission, struct bytes tunnel, const char *node, bool *moved);
// The verdict on a row of `owner` (an identity) for `reader`. A service of the owner's own node believes it of every tunnel: it
// sees those of its node only, and what it does with another's ends on its node.
enum row_verdict bus_admission_judge(const struct bus_admission *admission, const struct table_rule *rule, const char *owner,
                                     const char *reader, struct bytes key);
// The id with which a key begins.
struct bytes bus_admission_id(struct bytes key);

#endif
