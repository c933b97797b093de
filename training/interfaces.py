"""Which network interface gloo uses between machines. Left alone it takes the address of the host's name, which on
Debian and its children is 127.0.1.1: nobody else can reach that."""

import fcntl
import ipaddress
import os
import socket
import struct
from urllib.parse import urlsplit

from training.ranks import Ranks

ANYWHERE = "192.0.2.1"  # an address of no machine (RFC 5737): the way to it is the default route
SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface


def choose_interface(url: str, ranks: Ranks) -> None:
    """For a run on several machines, unless the user has chosen one: the interface on the way to the meeting place."""
    if ranks.world_size > ranks.local_world_size and "GLOO_SOCKET_IFNAME" not in os.environ:
        meeting_place = urlsplit(url).hostname or os.environ.get("MASTER_ADDR", ANYWHERE)
        for host in (meeting_place, ANYWHERE):  # its own machine may know it by a loopback address
            if name := interface_towards(host):
                os.environ["GLOO_SOCKET_IFNAME"] = name
                return


def interface_towards(host: str) -> str | None:
    """Name of the interface that packets to `host` leave by; None for a loopback address, and where there is no way.
    Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return None
        own = probe.getsockname()[0]
        if ipaddress.ip_address(own).is_loopback:
            return None
        return next((name for _, name in socket.if_nameindex() if address_of(name, probe) == own), None)


def address_of(interface: str, probe: socket.socket) -> str | None:
    """Its first IPv4 address."""
    try:
        answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        return socket.inet_ntoa(answer[20:24])
    except OSError:
        return None
