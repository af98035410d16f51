"""What each class is heard from, as a table."""

from __future__ import annotations

from collections.abc import Iterable

from wavshap_lightning.viz.report.summary import HeardFrom, Shares

COLUMNS = ("target", "clips", "kind", "part", "share", "low", "high", "n")
"""The class, how many clips were explained for it, what is compared, which of it, its mean share of the
magnitude of attributions with its 95 % interval over clips, and over how many clips."""


def emotion_rows(heard: Iterable[HeardFrom]) -> list[tuple[str, ...]]:
    """A row a part of every kind; without an interval where there are too few clips."""
    return [
        (
            found.target,
            str(found.num_clips),
            shares.kind,
            name,
            *_numbers(shares, part),
            str(shares.num_clips),
        )
        for found in heard
        for shares in found.shares.values()
        for part, name in enumerate(shares.names)
    ]


def _numbers(shares: Shares, part: int) -> tuple[str, str, str]:
    if shares.low is None or shares.high is None:
        return f"{shares.mean[part]:.6g}", "", ""
    return f"{shares.mean[part]:.6g}", f"{shares.low[part]:.6g}", f"{shares.high[part]:.6g}"
