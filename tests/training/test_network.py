"""Whether a service can be used is found out without waiting for it."""

from __future__ import annotations

import socket
import time
from contextlib import nullcontext
from threading import Event

import pytest

from wavshap_lightning.training import loggers as network
from wavshap_lightning.training.loggers import has_credentials, is_reachable

URL = "https://api.example.org"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def knocks(monkeypatch):
    """Where connections are asked for; all are granted."""
    found = []

    def connect(address, timeout):
        found.append(address)
        return nullcontext()

    monkeypatch.setattr(socket, "create_connection", connect)
    return found


@pytest.mark.parametrize(
    ("url", "address"),
    [
        (URL, ("api.example.org", 443)),
        ("http://localhost:8080/path", ("localhost", 8080)),
        ("http://localhost", ("localhost", 80)),
    ],
)
def test_a_host_that_answers_is_reachable(knocks, url, address):
    assert is_reachable(url)
    assert knocks == [address]


def test_a_host_that_refuses_is_not(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert not is_reachable(URL)


def test_a_host_without_an_answer_is_not_waited_for(monkeypatch):
    patience = Event()

    def hang(*_, **__):
        patience.wait()
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", hang)
    monkeypatch.setattr(network, "CONNECT_TIMEOUT_S", 0.05)
    before = time.monotonic()
    assert not is_reachable(URL)
    patience.set()
    assert time.monotonic() - before < 5.0


def test_behind_a_proxy_the_proxy_must_answer(knocks, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.example.org:3128")
    assert is_reachable(URL)
    monkeypatch.setenv("no_proxy", "example.org")
    assert is_reachable(URL)
    assert knocks == [("proxy.example.org", 3128), ("api.example.org", 443)]


@pytest.mark.parametrize(
    ("content", "known"),
    [
        ("machine api.example.org login user password secret\n", True),
        ("machine elsewhere.org login user password secret\n", False),
        ("not a netrc file", False),
        (None, False),
    ],
)
def test_credentials_are_looked_for_by_host(tmp_path, monkeypatch, content, known):
    path = tmp_path / "netrc"
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    assert has_credentials(URL) == known
