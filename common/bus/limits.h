// How much the bus takes, in one place. What a limit turns away is refused or dropped with a reason and counted, never
// silently.
#ifndef TWINSPAN_BUS_LIMITS_H
#define TWINSPAN_BUS_LIMITS_H

#include <assert.h>
#include <stddef.h>

enum {
	// Frames.
	BUS_BATCH = 64 * 1024,                  // a batch's rows beyond this many octets go into the next frame
	BUS_ROW = 1024 * 1024,                  // the largest key and value of one row together
	BUS_FRAME = BUS_BATCH + BUS_ROW + 4096, // the largest frame that is read

	// An owner.
	MOST_PEERS = 4096,                 // connections, all of them with keys that were admitted
	MOST_STREAMS = 64,                 // of one connection
	STREAM_NAME = 64,                  // a filter, with a final zero
	STREAM_WINDOW = 64,                // batches sent and not applied
	STREAM_WINDOW_OCTETS = 256 * 1024, // of their rows; a single batch may be larger
	SNAPSHOT_WINDOW = 16,              // frames of one snapshot that were sent and have not arrived

	// A replica. A lazy batch is answered after so many ticks, octets or batches, whichever is first.
	BUS_LAZY_TICKS = 30,
	BUS_LAZY_OCTETS = 64 * 1024,
	BUS_LAZY_BATCHES = 16,
	REFUSED_TICKS = 10,             // until a stream that the owner refused is tried again
	TOO_LARGE_TICKS = 30,           // until a table that was too large is tried again: doubled each time,
	TOO_LARGE_MOST_TICKS = 30 << 6, // up to this
};
static_assert(BUS_LAZY_BATCHES < STREAM_WINDOW && BUS_LAZY_OCTETS < STREAM_WINDOW_OCTETS,
              "lazy batches are answered well within the owner's window");

// The largest change, as it stands in a replica's memory: more than any table of a region that its machine could hold, so that
// it ends what an owner sends without end and nothing else.
#define ASSEMBLY_OCTETS ((size_t)4 * 1024 * 1024 * 1024)

#endif
