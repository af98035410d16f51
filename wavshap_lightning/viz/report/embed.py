"""Putting numbers and scripts into HTML so that nothing in them is taken for HTML."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

ASSETS = Path(__file__).parent / "assets"
HARMLESS = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def json_for_script(values: Any) -> Markup:  # noqa: ANN401 - anything that is JSON
    r"""JSON for a `<script>`: no tag in it begins or ends anything.

    >>> print(json_for_script({"label": "</script>"}))
    {"label":"\u003c/script\u003e"}
    """
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    for sign, spelled in HARMLESS.items():
        text = text.replace(sign, spelled)
    return Markup(text)  # noqa: S704 - the signs that HTML knows are spelled out


def compressed(values: Any) -> str:  # noqa: ANN401 - anything that is JSON
    """JSON for the page's script to unpack: a third smaller than as it is, and no sign in it means anything.

    >>> zlib.decompress(base64.b64decode(compressed({"label": "</script>"})))
    b'{"label":"</script>"}'
    """
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode())).decode()


@cache
def asset(name: str) -> Markup:
    """A file of ours for the page, as it is."""
    return Markup((ASSETS / name).read_text(encoding="utf-8"))  # noqa: S704 - ours


@cache
def plotly_script() -> Markup:
    """plotly.js, which the Python package brings."""
    return Markup(get_plotlyjs().replace("\r\n", "\n"))  # noqa: S704 - plotly's


def policy(*scripts: str) -> str:
    """A Content-Security-Policy: these scripts run and no others, and nothing is fetched from anywhere."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "media-src data: blob:; base-uri 'none'; form-action 'none'"
    )


@cache
def templates() -> Environment:
    """Ours, every value escaped unless it is marked as safe."""
    return Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
