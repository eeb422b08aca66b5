"""Where a webhook may go: an account names the address, and must not reach the deployment's own
network with it (SSRF).

An address is looked at twice: as text when it is set, and when it is connected to, after names were
resolved, so that a name which later points inwards is refused as well. Redirects are not followed.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

from services.common.errors import InvalidArgument

URL_LENGTH_MAX = 2_000
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class PrivateAddress(OSError):
    """The name points to an address that is not on the public internet."""


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, also where it is one of IPv4 in IPv6."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo or (None,))[0]
        if parsed in _NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
    return parsed.is_global and not parsed.is_multicast


def checked_url(url: str, *, private_allowed: bool) -> str:
    """The URL. Raises InvalidArgument where no webhook may go there."""
    if len(url) > URL_LENGTH_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidArgument.of("url", "is not a URL of printable ASCII")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidArgument.of("url", "is not a URL") from None
    if not host:
        raise InvalidArgument.of("url", "names no host")
    if parts.username or parts.password:
        raise InvalidArgument.of("url", "carries a user or a password")
    if parts.fragment:
        raise InvalidArgument.of("url", "has a fragment")
    if parts.scheme != "https" and not (private_allowed and parts.scheme == "http"):
        raise InvalidArgument.of("url", "is not https")
    if not private_allowed and not _may_be_public(host):
        raise InvalidArgument.of("url", "is not an address of the public internet")
    return url


def _may_be_public(host: str) -> bool:
    """False for addresses that are not public, however they are written, and local names."""
    try:
        # As the resolver of the system reads it: 127.1, 0x7f000001, 2130706433.
        return is_public(socket.inet_ntoa(socket.inet_aton(host)))
    except OSError:
        pass
    if ":" in host:
        return is_public(host)
    name = host.rstrip(".").lower()
    local = (".localhost", ".local", ".internal", ".home.arpa", ".lan")
    return "." in name and not name.endswith(local)


class GuardedResolver(AbstractResolver):
    """Resolves names to public addresses alone. Raises PrivateAddress where there is any other."""

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if not found or not all(is_public(one["host"]) for one in found):
            raise PrivateAddress(f"{host} is not on the public internet")
        return found

    async def close(self) -> None:
        await self._inner.close()
