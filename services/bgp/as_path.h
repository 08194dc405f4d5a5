// AS_PATH (RFC 4271 §4.3 b, §5.1.2, §9.1.2.2 a) and its two encodings (RFC 6793). Inside, a path is always segments with four
// octets an AS.
#ifndef TWINSPAN_BGP_AS_PATH_H
#define TWINSPAN_BGP_AS_PATH_H

#include "services/bgp/bgp.h"

enum { AS_SET = 1, AS_SEQUENCE, AS_CONFED_SEQUENCE, AS_CONFED_SET };
enum { AS_TRANS = 23456 }; // RFC 6793 §9

// Reads a path whose ASes have `width` octets (2 or 4) and writes it with four. false when it is malformed in the sense of RFC
// 7606 §7.2: a segment of no known type, of length 0 or beyond the end, an odd octet at the end; or with AS 0 (RFC 7607) or a
// confederation segment, which no neighbour outside ours may send (RFC 5065 §5).
bool as_path_read(struct bytes wire, unsigned width, struct writer *out);
// The same for an AS4_PATH, in which confederation segments are left out instead (RFC 6793 §6: an old speaker carries them on
// unseen).
bool as4_path_read(struct bytes wire, struct writer *out);
size_t as_path_length(struct bytes path);
bool as_path_contains(struct bytes path, uint32_t as);
uint32_t as_path_first(struct bytes path); // the neighbour's: the first of a leading sequence, otherwise 0
bool as_path_fits_two_octets(struct bytes path);
// RFC 6793 §4.2.3: the path of an old speaker and its AS4_PATH together.
void as_path_merge(struct bytes path, struct bytes as4_path, struct writer *out);
// `own` before `path`, with `width` octets an AS; where two do not hold an AS it is AS_TRANS.
void as_path_write(struct writer *w, uint32_t own, struct bytes path, unsigned width);
// Segments for a list of ASes.
void as_path_from_list(const uint32_t *list, size_t count, struct writer *out);

#endif
