"""Findings: what an audit found, as records and as a table for people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Literal

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.files import listed
from wavshap_lightning.errors import AuditError

Severity = Literal["error", "warning"]

TABLE_COLUMNS = 100
MOST_FINDINGS_IN_FULL = 3
MOST_NAMES = 6

REMEDIES = {
    "shared speaker": "choose a protocol that keeps every speaker in one part",
    "shared dialogue": "choose a protocol that keeps every dialogue in one part",
    "duplicate audio": "keep one of each group of clips, with the label that is right",
    "overlapping spans": "keep all spans of one file in one part, or those that overlap in none",
    "unreadable": "copy these files again, or leave the clips out",
    "empty": "leave these clips out: they hold no sound",
    "too short": "leave these clips out: they are shorter than one frame of the backbone",
    "silent": "leave these clips out: nothing can be heard in them",
    "clipped": "export these clips again at a lower level, if their originals can be had",
    "too long": "cut these clips, or raise the longest duration allowed",
    "unknown speaker": "name the speakers: without names nobody can tell whether the parts share any",
    "absent class": "choose a protocol whose parts hold every class, or leave the class out of the labels",
    "count": "check that the corpus was downloaded and unpacked completely",
}
CHECK_COLUMNS = max(map(len, REMEDIES))
NOUNS = {
    "shared speaker": "speakers",
    "shared dialogue": "dialogues",
    "duplicate audio": "recordings",
    "overlapping spans": "pairs",
    "absent class": "classes",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Args:
        severity: Whether a run must stop (`"error"`) or only be told (`"warning"`).
        check: The check that found it, one of `REMEDIES`.
        where: The clip, clips, speaker, dialogue or class it is about.
        detail: What is wrong.
        clips: The clip itself, or those that clash with one another; none where it is about no clips.
    """

    severity: Severity
    check: str
    where: str
    detail: str
    clips: tuple[Clip, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What the audit of one split found."""

    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings a run must not ignore."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings a run may live with."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    @property
    def bad_clips(self) -> tuple[Clip, ...]:
        """The clips with an error of their own, each once: a run may leave them out and go on."""
        own = (finding.clips[0] for finding in self.errors if len(finding.clips) == 1)
        return tuple(dict.fromkeys(own))

    def table(self) -> str:
        """The findings as plain text: errors first, many alike folded into one row.

        >>> finding = Finding("warning", "count", "all parts", "1439 clips, expected 1440")
        >>> print(AuditReport((finding,)).table())
        severity  check              finding
        warning   count              all parts: 1439 clips, expected 1440
        """
        if not self.findings:
            return "The audit found nothing wrong."
        alike: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        for finding in self.errors + self.warnings:
            alike[finding.severity, finding.check].append(finding)
        rows = [_row(severity, check, _folded(check, group)) for (severity, check), group in alike.items()]
        return "\n".join([_row("severity", "check", ["finding"]), *rows])

    def error_lines(self) -> list[str]:
        """Every error in a line of its own, none left out, with the whole path of every clip.

        >>> from pathlib import Path
        >>> silent = Clip(Path("talks/a.wav"), "sad", start_s=2.5)
        >>> finding = Finding("error", "silent", silent.name, "level -inf dBFS", (silent,))
        >>> AuditReport((finding,)).error_lines()
        ['silent: talks/a.wav from 2.500 s: level -inf dBFS']
        """
        return [f"{finding.check}: {_place(finding)}: {finding.detail}" for finding in self.errors]

    def raise_for_errors(self) -> None:
        """Do nothing if there is no error.

        Raises:
            AuditError: With the table, the remedy of each check that found an error, and every error.
        """
        if not self.errors:
            return
        checks = dict.fromkeys(finding.check for finding in self.errors)
        remedies = "\n".join(f"- {check}: {REMEDIES[check]}" for check in checks)
        everything = "\n".join(f"- {line}" for line in self.error_lines())
        raise AuditError(
            f"errors={len(self.errors)} found in the clips of this split, and there must be none\n\n"
            f"{self.table()}\n\nWhat to do\n{remedies}\n\nEvery error\n{everything}"
        )


def _place(finding: Finding) -> str:
    starts = ("" if clip.start_s is None else f" from {clip.start_s:.3f} s" for clip in finding.clips)
    paths = (clip.path for clip in finding.clips)
    return " and ".join(f"{path}{start}" for path, start in zip(paths, starts, strict=True)) or finding.where


def _row(severity: str, check: str, lines: Sequence[str]) -> str:
    indent = f"{severity:<8}  {check:<{CHECK_COLUMNS}}  "
    width = TABLE_COLUMNS - len(indent)
    wrapped = [
        part for line in lines for part in wrap(line, width, break_long_words=False, break_on_hyphens=False)
    ]
    return indent + ("\n" + " " * len(indent)).join(wrapped)


def _folded(check: str, group: Sequence[Finding]) -> list[str]:
    examples = [f"{finding.where}: {finding.detail}" for finding in group[:MOST_FINDINGS_IN_FULL]]
    if len(group) <= MOST_FINDINGS_IN_FULL:
        return examples
    names = listed((finding.where for finding in group), limit=MOST_NAMES)
    return [f"{len(group)} {NOUNS.get(check, 'clips')}: {names}", "For example", *examples]
