"""Where this machine may be reached by others, and what its keeper says of it: two settings, checked."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network

import psutil

from trainhub.places import ConfigurationError
from workers.spec.placement import LABEL

INTERFACE = "TRAINHUB_INTERFACE"
LABELS = "TRAINHUB_LABELS"
MOST_LABELS = 64
LABEL_CHARACTERS = 63

Address = IPv4Address | IPv6Address
Interfaces = Mapping[str, Sequence[Address]]
"""Name of an interface → its addresses."""


def interfaces() -> Interfaces:
    """This machine's interfaces that are up, without link-local addresses, which need to know a link to be of use."""
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    found: dict[str, list[Address]] = {}
    for name, addresses in psutil.net_if_addrs().items():
        if name in up:
            each = [ip_address(a.address) for a in addresses if a.family in (socket.AF_INET, socket.AF_INET6)]
            found[name] = [a for a in each if not a.is_link_local]
    return found


def address(environ: Mapping[str, str], here: Interfaces | None = None) -> str:
    """The address at which members on other machines reach this one's. Empty: the setting is not given.

    It may name an address, an interface, or a network in CIDR form of which this machine has an address. Raises
    ConfigurationError, which says what there is to choose from.
    """
    given = environ.get(INTERFACE, "").strip()
    if not given:
        return ""
    here = interfaces() if here is None else here
    fitting = _fitting(given, here)
    if not fitting:
        raise ConfigurationError(f"{INTERFACE} is {given!r}, but {_what_it_names(given)}. {_choices(here)}")
    usable = [a for a in fitting if not a.is_loopback]
    if not usable:
        raise ConfigurationError(f"{INTERFACE} is {given!r}, which no other machine can reach. {_choices(here)}")
    return str(min(usable, key=lambda a: (a.version, int(a))))


def _fitting(given: str, here: Interfaces) -> list[Address]:
    if given in here:
        return list(here[given])
    everywhere = [each for addresses in here.values() for each in addresses]
    try:
        wanted = ip_network(given, strict=False)
    except ValueError:
        return []
    if "/" not in given:
        return [each for each in everywhere if each == ip_address(given)]
    return [each for each in everywhere if each.version == wanted.version and each in wanted]


def _what_it_names(given: str) -> str:
    try:
        ip_interface(given)
    except ValueError:
        return "this machine has no such interface, and it is no IP address or network"
    return "this machine has no address in that network" if "/" in given else "this machine has no such address"


def _choices(here: Interfaces) -> str:
    """The way out, in the words of this machine."""
    there = [
        f"{name} ({', '.join(map(str, addresses))})"
        for name, addresses in sorted(here.items())
        if any(not a.is_loopback for a in addresses)
    ]
    if not there:
        return "It has none that others could reach: leave the variable out, and this node takes whole runs only."
    return f"Name one of {', '.join(there)}, or leave it out, and this node takes whole runs only."


def labels(environ: Mapping[str, str]) -> dict[str, str]:
    """What the keeper of this machine says of it: `gpu=h200,rack=7`. Raises ConfigurationError."""
    found: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in environ.get(LABELS, "").split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise ConfigurationError(f"{LABELS} is key=value,key=value; {item!r} has no '='")
        for text in (key, value):
            if len(text) > LABEL_CHARACTERS or not re.match(LABEL, text):
                raise ConfigurationError(
                    f"{LABELS}: {text!r} in {item!r} must be 1 to {LABEL_CHARACTERS} letters, digits and . _ / - "
                    "that begin and end with a letter or digit"
                )
        if key in found:
            raise ConfigurationError(f"{LABELS} names {key} twice")
        found[key] = value
    if len(found) > MOST_LABELS:
        raise ConfigurationError(f"{LABELS} may name at most {MOST_LABELS} labels, got {len(found)}")
    return found
