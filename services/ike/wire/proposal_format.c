// Proposals as people read them: what a peer offers, what we accept, and why nothing fits.
#include "services/ike/wire/proposal.h"

#include <stdio.h>
#include <string.h>

static void append(char *out, size_t capacity, const char *text)
{
	size_t length = strlen(out);
	if (length < capacity) {
		snprintf(out + length, capacity - length, "%s", text);
	}
}

// Names of the IANA registry for what we do not speak, so that people recognise what their device offers.
static const char *foreign_name(uint8_t type, uint16_t id)
{
	static const struct {
		uint8_t type;
		uint16_t id;
		const char *name;
	} names[] = {
	    {TRANSFORM_ENCRYPTION, 2, "DES"},
	    {TRANSFORM_ENCRYPTION, 3, "3DES"},
	    {TRANSFORM_ENCRYPTION, 7, "BLOWFISH"},
	    {TRANSFORM_ENCRYPTION, 11, "NULL"},
	    {TRANSFORM_ENCRYPTION, ENCR_AES_CBC, "AES_CBC"},
	    {TRANSFORM_ENCRYPTION, 13, "AES_CTR"},
	    {TRANSFORM_ENCRYPTION, 14, "AES_CCM_8"},
	    {TRANSFORM_ENCRYPTION, 15, "AES_CCM_12"},
	    {TRANSFORM_ENCRYPTION, 16, "AES_CCM_16"},
	    {TRANSFORM_ENCRYPTION, 18, "AES_GCM_8"},
	    {TRANSFORM_ENCRYPTION, 19, "AES_GCM_12"},
	    {TRANSFORM_ENCRYPTION, ENCR_AES_GCM_16, "AES_GCM_16"},
	    {TRANSFORM_ENCRYPTION, 21, "NULL_AES_GMAC"},
	    {TRANSFORM_ENCRYPTION, 23, "CAMELLIA_CBC"},
	    {TRANSFORM_ENCRYPTION, 24, "CAMELLIA_CTR"},
	    {TRANSFORM_ENCRYPTION, 28, "CHACHA20_POLY1305"},
	    {TRANSFORM_PRF, 1, "MD5"},
	    {TRANSFORM_PRF, 4, "AES128_XCBC"},
	    {TRANSFORM_PRF, 8, "AES128_CMAC"},
	    {TRANSFORM_INTEGRITY, 1, "MD5_96"},
	    {TRANSFORM_INTEGRITY, 5, "AES_XCBC_96"},
	    {TRANSFORM_INTEGRITY, 8, "AES_CMAC_96"},
	    {TRANSFORM_GROUP, 1, "MODP_768"},
	    {TRANSFORM_GROUP, 22, "MODP_1024_160"},
	    {TRANSFORM_GROUP, 23, "MODP_2048_224"},
	    {TRANSFORM_GROUP, 24, "MODP_2048_256"},
	    {TRANSFORM_GROUP, 25, "ECP_192"},
	    {TRANSFORM_GROUP, 26, "ECP_224"},
	    {TRANSFORM_GROUP, 27, "BRAINPOOL_224"},
	    {TRANSFORM_GROUP, 28, "BRAINPOOL_256"},
	    {TRANSFORM_GROUP, 29, "BRAINPOOL_384"},
	    {TRANSFORM_GROUP, 30, "BRAINPOOL_512"},
	    {TRANSFORM_GROUP, 32, "CURVE_448"},
	    {TRANSFORM_GROUP, 35, "ML_KEM_512"},
	    {TRANSFORM_GROUP, 36, "ML_KEM_768"},
	    {TRANSFORM_GROUP, 37, "ML_KEM_1024"},
	};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (names[i].type == type && names[i].id == id) {
			return names[i].name;
		}
	}
	return NULL;
}

enum { TRANSFORM_TEXT = 48 };
static const char *transform_name(const struct transform *t, char out[static TRANSFORM_TEXT])
{
	for (unsigned i = 0; t->type == TRANSFORM_ENCRYPTION && i <= ENCRYPTION_AES_GCM16_256; i++) {
		const struct encryption_algorithm *encryption = encryption_algorithm(i);
		if (encryption && encryption->transform == t->id && encryption->key_bits == t->key_bits) {
			return encryption->name;
		}
	}
	for (unsigned i = INTEGRITY_SHA1; i <= INTEGRITY_SHA2_512; i++) {
		const struct hash_algorithm *hash = hash_algorithm(i);
		if ((t->type == TRANSFORM_INTEGRITY && hash->integrity_transform == t->id) ||
		    (t->type == TRANSFORM_PRF && hash->prf_transform == t->id)) {
			return hash->name;
		}
	}
	if (t->type == TRANSFORM_GROUP && group_name(t->id)) {
		return group_name(t->id);
	}
	if (t->id == 0 && t->type != TRANSFORM_ENCRYPTION) {
		return t->type == TRANSFORM_ESN ? "NO" : "NONE";
	}
	const char *name = foreign_name(t->type, t->id);
	if (t->id == TRANSFORM_NOT_OURS) {
		snprintf(out, TRANSFORM_TEXT, "unknown");
	} else if (!name) {
		snprintf(out, TRANSFORM_TEXT, "%u", t->id);
	} else if (t->key_bits) {
		snprintf(out, TRANSFORM_TEXT, "%s_%u", name, t->key_bits);
	} else {
		snprintf(out, TRANSFORM_TEXT, "%s", name);
	}
	return out;
}

static void proposals_format(const struct proposals *proposals, uint8_t protocol, char *out, size_t capacity)
{
	static const char *const labels[TRANSFORM_TYPES] = {NULL, "encryption ", " prf ", " integrity ", " group ", " esn "};
	out[0] = '\0';
	for (size_t i = 0; i < proposals->count; i++) {
		const struct proposal *p = &proposals->items[i];
		if (p->protocol != protocol) {
			continue;
		}
		append(out, capacity, out[0] ? " or [" : "[");
		for (uint8_t type = TRANSFORM_ENCRYPTION; type < TRANSFORM_ESN; type++) {
			bool first = true;
			for (size_t k = 0; k < p->count; k++) {
				char number[TRANSFORM_TEXT];
				if (p->transforms[k].type == type) {
					append(out, capacity, first ? labels[type] : ",");
					append(out, capacity, transform_name(&p->transforms[k], number));
					first = false;
				}
			}
		}
		append(out, capacity, "]");
	}
}

void algorithms_format(const struct algorithms *ours, uint8_t protocol, enum proposal_groups groups, char *out, size_t capacity)
{
	uint8_t octets[2048];
	struct writer w = writer_of(octets, sizeof octets);
	proposals_write(&w, protocol, (struct bytes){0}, ours, groups);
	struct proposals proposals;
	out[0] = '\0';
	if (proposals_read(writer_bytes(&w), &proposals)) {
		proposals_format(&proposals, protocol, out, capacity);
	}
}

void proposals_mismatch(const struct proposals *offered, uint8_t protocol, const struct algorithms *ours,
                        enum proposal_groups groups, char out[static REASON_MAX])
{
	static const char *const nouns[TRANSFORM_TYPES] = {"proposal",
	                                                   "encryption algorithm",
	                                                   "pseudo-random function",
	                                                   "integrity algorithm",
	                                                   "Diffie-Hellman group",
	                                                   "sequence number size"};
	bool any = false, ah = false;
	for (size_t k = 0; k < offered->count; k++) {
		any = any || offered->items[k].protocol == protocol;
		ah = ah || offered->items[k].protocol == PROTOCOL_AH;
	}
	if (!any) {
		snprintf(out, REASON_MAX, "no common protocol: the peer offers %s; we accept %s",
		         ah ? "AH" : "neither AH nor ESP", protocol == PROTOCOL_ESP ? "ESP" : "IKE");
		return;
	}
	char theirs[REASON_MAX / 2 - 48], accepted[REASON_MAX / 2 - 48];
	proposals_format(offered, protocol, theirs, sizeof theirs);
	algorithms_format(ours, protocol, groups, accepted, sizeof accepted);
	snprintf(out, REASON_MAX, "no common %s: the peer offers %s; we accept %s",
	         nouns[proposals_obstacle(offered, protocol, ours, groups)], theirs, accepted);
}
