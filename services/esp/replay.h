// The anti-replay window of one inbound SA (RFC 4303 §3.4.3) as a ring of 64-bit words (RFC 6479): sliding clears whole words
// and never shifts. Extended sequence numbers are inferred from the window (RFC 4303 appendix A2.2). One writer, no locks.
#ifndef TWINSPAN_ESP_REPLAY_H
#define TWINSPAN_ESP_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

enum { REPLAY_WORDS_MAX = 128, REPLAY_WINDOW_MAX = 4096 };

struct replay {
	uint64_t highest; // the highest number that authenticated
	uint32_t window;  // packets; 0: off
	uint32_t mask;    // words of the ring - 1
	uint64_t ring[REPLAY_WORDS_MAX];
};

// `window` is cut to REPLAY_WINDOW_MAX. `highest`: what an earlier window of this SA had reached; all below it counts as seen.
void replay_init(struct replay *replay, uint32_t window, uint64_t highest);
// The full number that the 32 bits in a packet stand for.
uint64_t replay_infer(const struct replay *replay, uint32_t low);
// May this number still come? Moves nothing.
bool replay_check(const struct replay *replay, uint64_t sequence);
// After authentication: false when it had come already (twice in one burst).
bool replay_accept(struct replay *replay, uint64_t sequence);

#endif
