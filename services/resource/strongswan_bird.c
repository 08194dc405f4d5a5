// The customer's device as strongSwan 5.9 with kernel-libipsec (ESP in user space, always in UDP; runs on any Linux with TUN)
// and BIRD 2. Four files: strongswan.conf, swanctl.conf, setup.sh (to be run when charon has made ipsec0), bird.conf. What the
// customer adds is their own prefixes.
#include <stdio.h>
#include <string.h>

#include "services/resource/configuration.h"

// ---- proposals in strongSwan's words ----
static const struct {
	const char *ours, *theirs;
	bool aead;
} ciphers[] = {
    {"AES128", "aes128", false},           {"AES192", "aes192", false},           {"AES256", "aes256", false},
    {"AES128_GCM16", "aes128gcm16", true}, {"AES256_GCM16", "aes256gcm16", true},
};
static const struct {
	const char *ours, *theirs, *prf;
} hashes[] = {
    {"SHA1", "sha1", "prfsha1"},
    {"SHA2_256", "sha256", "prfsha256"},
    {"SHA2_384", "sha384", "prfsha384"},
    {"SHA2_512", "sha512", "prfsha512"},
};
static const struct {
	uint64_t number;
	const char *name;
} groups[] = {
    {0, "modpnone"},  {2, "modp1024"},  {5, "modp1536"}, {14, "modp2048"}, {15, "modp3072"}, {16, "modp4096"},
    {17, "modp6144"}, {18, "modp8192"}, {19, "ecp256"},  {20, "ecp384"},   {21, "ecp521"},   {31, "curve25519"},
};

static bool is_aead(const char *cipher)
{
	for (size_t i = 0; i < sizeof ciphers / sizeof ciphers[0]; i++) {
		if (strcmp(ciphers[i].ours, cipher) == 0) {
			return ciphers[i].aead;
		}
	}
	return false;
}

static void add_ciphers(struct text *out, const struct record *tunnel, const char *path, bool aead)
{
	bool first = true;
	for (size_t i = 0; i < record_count(tunnel, path); i++) {
		for (size_t j = 0; j < sizeof ciphers / sizeof ciphers[0]; j++) {
			if (ciphers[j].aead == aead && strcmp(ciphers[j].ours, record_text_at(tunnel, path, i)) == 0) {
				text_add(out, "%s%s", first ? "" : "-", ciphers[j].theirs);
				first = false;
			}
		}
	}
}

static void add_hashes(struct text *out, const struct record *tunnel, const char *path, bool prf)
{
	for (size_t i = 0; i < record_count(tunnel, path); i++) {
		for (size_t j = 0; j < sizeof hashes / sizeof hashes[0]; j++) {
			if (strcmp(hashes[j].ours, record_text_at(tunnel, path, i)) == 0) {
				text_add(out, "-%s", prf ? hashes[j].prf : hashes[j].theirs);
			}
		}
	}
}

static void add_groups(struct text *out, const struct record *tunnel, const char *path)
{
	size_t count = record_count(tunnel, path);
	for (size_t i = 0; i < count; i++) {
		uint64_t number = record_number_at(tunnel, path, i);
		for (size_t j = 0; j < sizeof groups / sizeof groups[0]; j++) {
			if (groups[j].number == number && (number != 0 || count > 1)) {
				text_add(out, "-%s", groups[j].name);
			}
		}
	}
}

// Combined-mode ciphers and others are different proposals (RFC 7296 §3.3); the kind of the first choice comes first.
static void add_proposals(struct text *out, const struct record *tunnel, bool ike)
{
	const char *encryption = ike ? "ike.encryption" : "ipsec.encryption",
	           *integrity = ike ? "ike.integrity" : "ipsec.integrity";
	bool first_aead = is_aead(record_text_at(tunnel, encryption, 0)), any = false;
	for (unsigned turn = 0; turn < 2; turn++) {
		bool aead = turn == 0 ? first_aead : !first_aead, there = false;
		for (size_t i = 0; i < record_count(tunnel, encryption); i++) {
			there = there || is_aead(record_text_at(tunnel, encryption, i)) == aead;
		}
		if (!there) {
			continue;
		}
		text_add(out, "%s", any ? "," : "");
		any = true;
		add_ciphers(out, tunnel, encryption, aead);
		if (ike || !aead) {
			add_hashes(out, tunnel, integrity, ike && aead);
		}
		add_groups(out, tunnel, ike ? "ike.dhGroups" : "ipsec.pfsGroups");
	}
}

// ---- files ----
static unsigned long long number_of(const struct record *tunnel, const char *path)
{
	return (unsigned long long)record_number(tunnel, path);
}

// strongSwan's IKEv2 knows no dpd_timeout: a peer is dead when the probe's retransmissions end. They are spread evenly over
// what is left of the tunnel's dead-peer timeout after the interval.
static void add_strongswan(struct text *out, const struct record *tunnel)
{
	enum { TRIES = 4 };
	unsigned long long interval = number_of(tunnel, "dpd.intervalSeconds"),
	                   timeout = number_of(tunnel, "dpd.timeoutSeconds");
	text_add(out,
	         "#### strongswan.conf\n"
	         "charon {\n"
	         "\tload = random nonce openssl aes sha1 sha2 hmac gcm kdf curve25519 pem pkcs1 x509 pubkey kernel-libipsec "
	         "kernel-netlink socket-default vici updown\n"
	         "\tinstall_routes = no\n"
	         "\tinstall_virtual_ip = no\n"
	         "\tthreads = 32\n");
	text_add(out, "\tretransmit_tries = %d\n\tretransmit_base = 1\n\tretransmit_timeout = %.1f\n", TRIES,
	         (double)(timeout - interval) / (TRIES + 1));
	text_add(out, "}\n");
}

// strongSwan takes a word without a dot for a domain name; to us it is a key id.
static const char *id_prefix(const char *id)
{
	return strpbrk(id, ".@") ? "" : "keyid:";
}

static void add_swanctl(struct text *out, const struct record *tunnel)
{
	const char *name = record_text(tunnel, "id");
	unsigned long long margin = number_of(tunnel, "rekeyMarginSeconds");
	text_add(out, "#### swanctl.conf\nconnections {\n\t%s {\n\t\tversion = 2\n", name);
	text_add(out, "\t\tlocal_addrs = %s\n\t\tremote_addrs = %s\n", record_text(tunnel, "customerAddress"),
	         record_text(tunnel, "cloudAddress"));
	text_add(out, "\t\tproposals = ");
	add_proposals(out, tunnel, true);
	// Both ends begin, and again after a loss: of two IKE SAs that come of it the newer one stays.
	text_add(out, "\n\t\tmobike = no\n\t\tkeyingtries = 0\n\t\tunique = replace\n");
	if (record_is(tunnel, "ipsec.encapsulation", "UDP")) {
		text_add(out, "\t\tencap = yes\n");
	}
	if (record_flag(tunnel, "dpd.enabled")) {
		text_add(out, "\t\tdpd_delay = %llus\n\t\tdpd_timeout = %llus\n", number_of(tunnel, "dpd.intervalSeconds"),
		         number_of(tunnel, "dpd.timeoutSeconds"));
	}
	text_add(out, "\t\trekey_time = %llus\n\t\tover_time = %llus\n", number_of(tunnel, "ike.lifetimeSeconds") - margin,
	         margin);
	const char *cloud = record_text(tunnel, "localId"), *customer = record_text(tunnel, "remoteId");
	text_add(out, "\t\tlocal {\n\t\t\tauth = psk\n\t\t\tid = %s%s\n\t\t}\n", id_prefix(customer), customer);
	text_add(out, "\t\tremote {\n\t\t\tauth = psk\n\t\t\tid = %s%s\n\t\t}\n", id_prefix(cloud), cloud);
	text_add(out, "\t\tchildren {\n\t\t\t%s {\n", name);
	text_add(out, "\t\t\t\tlocal_ts = 0.0.0.0/0\n\t\t\t\tremote_ts = 0.0.0.0/0\n\t\t\t\tesp_proposals = ");
	add_proposals(out, tunnel, false);
	text_add(out, "\n\t\t\t\trekey_time = %llus\n", number_of(tunnel, "ipsec.lifetimeSeconds") - margin);
	if (record_number(tunnel, "ipsec.lifetimeBytes")) {
		text_add(out, "\t\t\t\trekey_bytes = %llu\n", number_of(tunnel, "ipsec.lifetimeBytes") / 10 * 9);
	}
	if (record_number(tunnel, "ipsec.lifetimePackets")) {
		text_add(out, "\t\t\t\trekey_packets = %llu\n", number_of(tunnel, "ipsec.lifetimePackets") / 10 * 9);
	}
	// The kernel and libipsec keep windows up to 4096; 0 switches the check off on both sides.
	text_add(out, "\t\t\t\treplay_window = %llu\n", number_of(tunnel, "ipsec.replayWindow"));
	text_add(out, "\t\t\t\tstart_action = start\n\t\t\t\tclose_action = start\n\t\t\t\tdpd_action = restart\n");
	text_add(out, "\t\t\t}\n\t\t}\n\t}\n}\n");
	text_add(
	    out,
	    "secrets {\n\tike-%s {\n\t\tid-cloud = %s%s\n\t\tid-customer = %s%s\n\t\tsecret = \"@PRE_SHARED_KEY@\"\n\t}\n}\n",
	    name, id_prefix(cloud), cloud, id_prefix(customer), customer);
}

static void add_setup(struct text *out, const struct ends *ends)
{
	const struct record *tunnel = ends->tunnel;
	text_add(out,
	         "#### setup.sh\n#!/bin/sh\n# Run as root when charon is up, before its connections are loaded: gives its "
	         "tunnel device the inner address "
	         "%s.\nset -eu\n",
	         record_text(tunnel, "customerInsideAddress"));
	text_add(out,
	         "tries=0\nuntil ip link show ipsec0 >/dev/null 2>&1; do\n\ttries=$((tries + 1))\n\tif [ \"$tries\" -gt 50 ]; "
	         "then\n\t\techo 'ipsec0 is not there: is charon running with kernel-libipsec?' >&2\n\t\texit 1\n\tfi\n\tsleep "
	         "0.2\ndone\n");
	text_add(out, "ip link set ipsec0 mtu 1400 up\nip address replace %s/30 dev ipsec0\n",
	         record_text(tunnel, "customerInsideAddress"));
	text_add(out,
	         "# kernel-libipsec fills table 220 with a default route into the tunnel, whatever install_routes says, and "
	         "again when it\n"
	         "# likes: it is not to be looked at. What goes into the tunnel is up to BIRD%s.\n"
	         "ip rule del table 220 2>/dev/null || true\n",
	         record_is(ends->connection, "routing", "BGP") ? "" : ", or the routes below");
	text_add(out,
	         "for setting in net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.ipsec0.rp_filter=0; do\n"
	         "\tsysctl -qw \"$setting\" 2>/dev/null || echo \"set $setting by hand\" >&2\ndone\n");
	if (!record_is(ends->connection, "routing", "BGP")) {
		text_add(out,
		         "# Static routing: one line for each prefix in the cloud.\n# ip route replace 10.0.0.0/16 via %s dev "
		         "ipsec0\n",
		         record_text(tunnel, "cloudInsideAddress"));
	}
}

// The tunnel's hold time is the most that the cloud accepts; the session goes by the smaller of both ends' (RFC 4271 §4.2). The
// device asks for a third of it, 3 s at least (ibid.), so that a tunnel that went silent is left as soon on this side as the
// cloud's liveness leaves it on the other: the keepalive of a third is sent and answered for whether there is traffic or not.
static void add_hold_time(struct text *out, const struct record *tunnel)
{
	enum { SMALLEST = 3 };
	unsigned long long most = number_of(tunnel, "bgp.holdTime"), keepalive = number_of(tunnel, "bgp.keepalive"),
	                   hold = most / 3 > SMALLEST ? most / 3 : SMALLEST;
	text_add(out,
	         "\t# After how many seconds of silence this device takes the tunnel for dead and its routes go to the other "
	         "one. The "
	         "smaller\n\t# value of both ends counts; the tunnel's own is %llu. On a line that drops out for seconds and "
	         "comes back, "
	         "raise it to at\n\t# most that, and the keepalive time to a third of it.\n",
	         most);
	text_add(out, "\thold time %llu;\n\tkeepalive time %llu;\n", hold, keepalive < hold / 3 ? keepalive : hold / 3);
}

static void add_bird(struct text *out, const struct ends *ends)
{
	const struct record *tunnel = ends->tunnel;
	// BIRD 2.0.12 carries out what a timer decided when its loop turns next, up to 3 s later when nothing wakes it.
	text_add(out,
	         "#### bird.conf\nrouter id %s;\n# The short scan time also keeps a hold time that ran out from being acted on "
	         "seconds late.\n"
	         "protocol device { scan time 1; }\n",
	         record_text(tunnel, "customerAddress"));
	if (!record_is(ends->connection, "routing", "BGP")) {
		text_add(out, "# The connection has static routing: there is no session with the cloud.\n");
		return;
	}
	char name[64];
	snprintf(name, sizeof name, "%s", record_text(tunnel, "id"));
	for (char *c = name; *c; c++) {
		*c = *c == '-' ? '_' : *c;
	}
	text_add(
	    out,
	    "protocol kernel {\n\tmerge paths on;\n\tipv4 {\n\t\timport none;\n\t\texport where source = RTS_BGP;\n\t};\n}\n");
	text_add(out, "# What the cloud is told of is every static route: put the prefixes of your data centre here.\n"
	              "# protocol static data_centre {\n#\tipv4;\n#\troute 192.168.0.0/16 via <your router>;\n# }\n");
	text_add(out, "protocol bgp %s {\n\tlocal %s as %llu;\n\tneighbor %s as %llu;\n", name,
	         record_text(tunnel, "customerInsideAddress"), number_of(ends->customer_gateway, "asn"),
	         record_text(tunnel, "cloudInsideAddress"), number_of(ends->border_gateway, "asn"));
	add_hold_time(out, tunnel);
	text_add(out, "\tconnect retry time 1;\n\tconnect delay time 1;\n\terror wait time 1, 5;\n\terror forget time 10;\n");
	text_add(out, "\tipv4 {\n\t\timport all;\n\t\texport where source = RTS_STATIC;\n\t\tnext hop self;\n\t};\n}\n");
}

void strongswan_bird_write(struct text *out, const struct ends *ends)
{
	add_strongswan(out, ends->tunnel);
	add_swanctl(out, ends->tunnel);
	add_setup(out, ends);
	add_bird(out, ends);
}
