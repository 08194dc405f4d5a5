# A customer device for tests that have no region: the simulated internet, a device, and the configuration files that
# `twinspan vpn-tunnel configuration` would print for it.
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy", "local"))

import namespaces as ns  # noqa: E402
from customer import CUSTOMER_ASN, Device, Idc, Router  # noqa: E402,F401


def write_configuration(directory, *, cloud_address, customer_address, pre_shared_key, cloud_inside, customer_inside,
                        cloud_asn=65000, customer_asn=CUSTOMER_ASN, ike="aes256gcm16-prfsha256-x25519", esp="aes256gcm16-x25519",
                        hold=6, keepalive=2, dpd=2, ike_rekey="8h", child_rekey="1h", start=False):
    """Writes strongswan.conf, swanctl.conf, bird.conf and setup.sh into `directory`. Times in seconds unless text."""
    os.makedirs(directory, exist_ok=True)

    def write(name, text):
        with open(os.path.join(directory, name), "w", encoding="ascii") as out:
            out.write(text)

    write("strongswan.conf", """charon {
	load = random nonce openssl aes sha1 sha2 hmac gcm kdf curve25519 kernel-libipsec kernel-netlink socket-default vici updown
	install_routes = no
	threads = 32
	retransmit_timeout = 1.0
	retransmit_base = 1.4
	filelog {
		stderr {
			default = 1
		}
	}
}
""")
    write("swanctl.conf", f"""connections {{
	cloud {{
		version = 2
		local_addrs = {customer_address}
		remote_addrs = {cloud_address}
		proposals = {ike}
		mobike = no
		keyingtries = 0
		dpd_delay = {dpd}s
		rekey_time = {ike_rekey}
		local {{
			auth = psk
			id = {customer_address}
		}}
		remote {{
			auth = psk
			id = {cloud_address}
		}}
		children {{
			tunnel {{
				local_ts = 0.0.0.0/0
				remote_ts = 0.0.0.0/0
				esp_proposals = {esp}
				rekey_time = {child_rekey}
				dpd_action = clear
				start_action = {"start" if start else "none"}
			}}
		}}
	}}
}}
secrets {{
	ike-cloud {{
		id-1 = {customer_address}
		id-2 = {cloud_address}
		secret = "{pre_shared_key}"
	}}
}}
""")
    write("bird.conf", f"""router id {customer_address};
protocol device {{ scan time 1; }}
protocol kernel {{
	ipv4 {{ export where source ~ [ RTS_STATIC, RTS_BGP ]; }};
}}
protocol bgp cloud {{
	local {customer_inside} as {customer_asn};
	neighbor {cloud_inside} as {cloud_asn};
	hold time {hold};
	keepalive time {keepalive};
	connect retry time 1;
	connect delay time 1;
	error wait time 1, 2;
	ipv4 {{
		import all;
		export where source = RTS_STATIC;
		next hop self;
	}};
}}
include "idc.conf";
""")
    write("setup.sh", f"""#!/bin/sh
# The inner address goes onto charon's TUN device; BIRD runs over it.
set -eu
ip addr replace {customer_inside}/30 dev ipsec0
ip rule del table 220 2>/dev/null || true
""")
    return directory
