// The directory of keys and the file of endpoints, watched: a change is seen at once where the file system tells of it
// (inotify), and within seconds where it does not. Either may be replaced as a whole: a link that leads elsewhere, a directory
// or a file renamed into its place.
#ifndef TWINSPAN_BUS_LOOKOUT_H
#define TWINSPAN_BUS_LOOKOUT_H

#include <stdint.h>

#include "common/bus/change.h"
#include "common/io/loop.h"

struct lookout_place {
	char *path;
	char *name; // the one entry that counts, of a directory; NULL: its keys
	uint32_t events;
	int watch; // inotify's number; -1: none
};

struct bus_lookout {
	struct loop *loop;
	int fd; // inotify's; -1: there is none
	// The directory of keys and the file, each after the directory that it is an entry of.
	struct lookout_place places[4];
	struct bus_change keys, endpoints;
	bool told; // of a change, since it was last looked
	struct deadline look;
	instant looked;
	loop_fn *changed;
	void *context;
};

// `changed` is called from the loop whenever either may be other than before; what is read after this call is not missed.
void bus_lookout_begin(struct bus_lookout *lookout, struct loop *loop, const char *keys_directory, const char *endpoints_file,
                       loop_fn *changed, void *context);
void bus_lookout_end(struct bus_lookout *lookout);

#endif
