"""Link-local addresses, at which clouds give out credentials. No scene and no vector file leads there."""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from urllib.parse import unquote, urlsplit

_NETWORKS = tuple(
    map(
        ipaddress.ip_network, ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "100.100.100.200/32", "168.63.129.16/32")
    )
)
"""Link-local addresses, and the others at which clouds give out the credentials of a machine."""
_NAMES = re.compile(r"(?:^|\.)(?:metadata|instance-data|metadata\.google\.internal|metadata\.goog)\.?$")
_IP_4_IN_6 = ipaddress.IPv6Network("::/96"), ipaddress.IPv6Network("64:ff9b::/96")


def split_host(url: str) -> tuple[str, str, int | None]:
    """Split a URL into scheme, host and port. The host is empty where clients could read the URL in different ways."""
    scheme = url.partition("://")[0].casefold()
    if re.search(r"[\\\s\x00-\x1f]", url.partition("?")[0]):
        return scheme, "", None
    try:
        parts = urlsplit(url)
        return scheme, (parts.hostname or "").casefold(), parts.port
    except ValueError:
        return scheme, "", None


def is_link_local(host: str, *, ask_dns: bool) -> bool:
    """Test if a host is link-local or gives out credentials of a machine, however its address is written.

    Args:
        host: A name or an address; the empty text counts as link-local.
        ask_dns: Whether to look a name up. A look-up tells the owner of the name about this machine.
    """
    host = unicodedata.normalize("NFKC", unquote(host)).casefold().strip("[]").partition("%")[0]
    if not host or _NAMES.search(host):
        return True
    return any(map(_is_forbidden, _find_addresses(host, ask_dns=ask_dns)))


def _find_addresses(host: str, *, ask_dns: bool) -> list[str]:
    try:
        # Takes 2852039166, 0xa9fea9fe and 0251.254.43518 too, as clients do.
        return [socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))]
    except (OSError, UnicodeError):
        pass
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    if not ask_dns:
        return []
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, None)]
    except (OSError, UnicodeError):
        return []


def _is_forbidden(text: str) -> bool:
    address = _unwrap(ipaddress.ip_address(text.partition("%")[0]))
    return any(address.version == network.version and address in network for network in _NETWORKS)


def _unwrap(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address of version 4 that one of version 6 stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    low = int(address) & 0xFFFFFFFF
    if any(address in network for network in _IP_4_IN_6) and low > 1:
        return ipaddress.IPv4Address(low)
    return address.ipv4_mapped or address.sixtofour or address
