"""Finding out quickly whether a service can be used."""

from __future__ import annotations

import netrc
import os
import socket
from contextlib import suppress
from threading import Event, Thread
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

CONNECT_TIMEOUT_S = 3.0
PORTS = {"http": 80, "https": 443}


def has_credentials(url: str) -> bool:
    """Whether `~/.netrc` (or `$NETRC`) knows the host."""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(_address(url)[0]) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def is_reachable(url: str) -> bool:
    """Whether the host, or the proxy on the way to it, accepts a connection within a few seconds.

    Asking for the address of a host has no time limit of its own, so it is done aside.
    """
    host, port = _address(_proxy(url) or url)
    answered = Event()

    def knock() -> None:
        with suppress(OSError), socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S):
            answered.set()

    thread = Thread(target=knock, daemon=True)
    thread.start()
    thread.join(CONNECT_TIMEOUT_S)
    return answered.is_set()


def _proxy(url: str) -> str | None:
    return None if proxy_bypass(_address(url)[0]) else getproxies().get(urlsplit(url).scheme)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url if "//" in url else f"//{url}")
    return parts.hostname or "", parts.port or PORTS.get(parts.scheme, 443)
