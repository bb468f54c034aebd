"""Addresses of clients, as limits count them."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address


def network_of(client: str) -> str:
    """A client's address; of IPv6 the network of 64 bits, for one client has all of its addresses.

    :param client: ``host:port``
    """
    host = client.rpartition(":")[0] or client
    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return host
