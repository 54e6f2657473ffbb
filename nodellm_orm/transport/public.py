"""Which addresses may be fetched from when somebody else wrote the URL: pure arithmetic on addresses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_NEVER_V4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this host, unspecified
            "169.254.0.0/16",  # link-local: clouds answer with a machine's credentials
            "100.100.100.200/32",  # the same at Alibaba
            "192.0.0.192/32",  # the same at Oracle
            "168.63.129.16/32",  # the same at Azure, in public space
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
_PRIVATE_V4: Final = tuple(
    map(
        IPv4Network,
        (
            "10.0.0.0/8",
            "100.64.0.0/10",  # carriers' NAT
            "127.0.0.0/8",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
        ),
    )
)
_NEVER_V6: Final = tuple(map(IPv6Network, ("::/128", "fe80::/10", "fec0::/10", "ff00::/8", "fd00:ec2::/32")))
_PUBLIC_V6: Final = IPv6Network("2000::/3")
_PRIVATE_V6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # Teredo, ORCHID, benchmarking
            "2001:db8::/32",
            "2002::/16",  # 6to4
            "3fff::/20",
        ),
    )
)
_CARRIES_V4: Final = tuple(map(IPv6Network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
"""Mapped, translated, and the NAT64 prefix: what is reached is the IPv4 address in the last four bytes."""
_COMPATIBLE: Final = IPv6Network("::/96")
_LOOPBACK: Final = IPv6Address("::1")
_LAST_FOUR: Final = 0xFFFFFFFF


def may_be_reached(text: str, *, private: bool) -> bool:
    """Whether an address may be connected to.

    Args:
        text: the address, as a resolver gives it.
        private: whether one of the own machine or networks may be.
    """
    try:
        address: Address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        return _v6(address, private=private)
    return _v4(address, private=private)


def _v4(address: IPv4Address, *, private: bool) -> bool:
    if any(address in network for network in _NEVER_V4):
        return False
    return private or not any(address in network for network in _PRIVATE_V4)


def _v6(address: IPv6Address, *, private: bool) -> bool:
    if any(address in network for network in _CARRIES_V4) or (address in _COMPATIBLE and address != _LOOPBACK):
        return _v4(IPv4Address(int(address) & _LAST_FOUR), private=private)
    if any(address in network for network in _NEVER_V6):
        return False
    if private:
        return True
    return address in _PUBLIC_V6 and not any(address in network for network in _PRIVATE_V6)


def is_odd(host: str) -> bool:
    """Whether a host is an IPv4 address in a disguise that some resolvers see through: ``2130706433``, ``0x7f.1``.

    Args:
        host: in lower case.
    """
    last = host.rstrip(".").rpartition(".")[2]
    if ":" in host or (not last.isdecimal() and not last.startswith("0x")):
        return False
    try:
        IPv4Address(host)
    except ValueError:
        return True
    return False
