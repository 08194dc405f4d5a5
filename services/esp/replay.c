// See replay.h.
#include "services/esp/replay.h"

#include <string.h>

#include "common/base/invariant.h"

void replay_init(struct replay *replay, uint32_t window, uint64_t highest)
{
	memset(replay, 0, sizeof *replay);
	replay->window = window > REPLAY_WINDOW_MAX ? REPLAY_WINDOW_MAX : window;
	// One word more than the window needs, so that the word being entered can be cleared while the oldest is still whole.
	uint32_t words = 1;
	while (words * 64 < replay->window + 64) {
		words *= 2;
	}
	replay->mask = words - 1;
	invariant(words <= REPLAY_WORDS_MAX && words * 64 >= replay->window + 64);
	replay->highest = highest;
	if (highest > 0) {
		memset(replay->ring, 0xff, sizeof replay->ring);
		// What is above the highest in its own word has not come yet; sliding clears whole words only.
		replay->ring[(highest >> 6) & replay->mask] = UINT64_MAX >> (63 - (highest & 63));
	}
}

uint64_t replay_infer(const struct replay *replay, uint32_t low)
{
	uint32_t top = (uint32_t)replay->highest;
	uint32_t high = (uint32_t)(replay->highest >> 32);
	uint32_t window = replay->window > 0 ? replay->window : REPLAY_WINDOW_MAX;
	uint32_t bottom = top - window + 1;
	if (top >= window - 1) {
		high += low < bottom; // below the window: it belongs to the next 2^32
	} else if (low >= bottom && high > 0) {
		high--; // the window reaches back over the wrap
	}
	return (uint64_t)high << 32 | low;
}

bool replay_check(const struct replay *replay, uint64_t sequence)
{
	if (sequence == 0) {
		return false; // RFC 4303 §3.3.3: the first packet has 1
	}
	if (replay->window == 0 || sequence > replay->highest) {
		return true;
	}
	if (replay->highest - sequence >= replay->window) {
		return false;
	}
	return (replay->ring[(sequence >> 6) & replay->mask] >> (sequence & 63) & 1) == 0;
}

bool replay_accept(struct replay *replay, uint64_t sequence)
{
	if (!replay_check(replay, sequence)) {
		return false;
	}
	if (replay->window == 0) {
		replay->highest = sequence > replay->highest ? sequence : replay->highest;
		return true;
	}
	if (sequence > replay->highest) {
		uint64_t from = replay->highest >> 6;
		uint64_t to = sequence >> 6;
		uint64_t steps = to - from > replay->mask ? (uint64_t)replay->mask + 1 : to - from;
		for (uint64_t i = 0; i < steps; i++) {
			replay->ring[(to - i) & replay->mask] = 0;
		}
		replay->highest = sequence;
	}
	replay->ring[(sequence >> 6) & replay->mask] |= (uint64_t)1 << (sequence & 63);
	return true;
}
