"""The clips of a corpus on their way from files to records, a clip at a time, on any process."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from wavshap_lightning import __version__
from wavshap_lightning.attribution.record import tensor_sha256
from wavshap_lightning.audio.io import hash_audio_file
from wavshap_lightning.cli.explain_clip import Explained, Work, explain_item
from wavshap_lightning.cli.explain_files import Output, explained_row, failed_row, writing_to
from wavshap_lightning.cli.explain_items import Item
from wavshap_lightning.cli.explain_run import OUT_OF_REACH, reason_of
from wavshap_lightning.cli.explain_segments import alignment_of
from wavshap_lightning.cli.terminal import complain, shown
from wavshap_lightning.errors import AudioError
from wavshap_lightning.explainer.fingerprint import fingerprint
from wavshap_lightning.training.corpus_records import Record, Records, digest_of
from wavshap_lightning.viz.report.summary import shares_of


@dataclass(frozen=True)
class Done:
    """A clip that was explained or failed.

    Args:
        item: Which.
        found: What was found; None if it failed.
        reason: Why it failed.
    """

    item: Item
    found: Explained | None
    reason: str = ""


@dataclass(frozen=True)
class Job:
    """What is done to the clips of a corpus.

    Args:
        work: To each.
        items: The clips.
        output: Where files go.
        asked: What every result depends on besides its clip; see `describe_work`.
    """

    work: Work
    items: tuple[Item, ...]
    output: Output
    asked: Mapping[str, Any]

    @property
    def records(self) -> Records:
        """What is known of each clip."""
        return Records(self.output.folder)

    def find_pending(self) -> list[int]:
        """Positions of the clips that are not finished; whatever is left of them is removed.

        Raises:
            SettingError: If the disk refuses.
        """
        with writing_to(self.output.folder):
            self.records.sweep()
            pending = [place for place, item in enumerate(self.items) if not self._is_finished(item)]
            for place in pending:
                self.records.forget(self.items[place].stem)
        num_finished = len(self.items) - len(pending)
        if num_finished:
            sys.stdout.write(f"{num_finished} of {len(self.items)} clips are explained already\n")
            sys.stdout.flush()
        return pending

    def explain(self, position: int) -> Done:
        """Explain one clip, or say why that cannot be."""
        item = self.items[position]
        try:
            return Done(item, explain_item(self.work, item))
        except OUT_OF_REACH as error:
            reason = reason_of(error)
            complain(f"failed: {shown(item.path)}: {reason}")
            return Done(item, None, reason)

    def write(self, done: Done) -> None:
        """Write the files of a clip and then its record.

        Raises:
            SettingError: If the disk refuses.
        """
        record = self._failure(done) if done.found is None else self._success(done.item, done.found)
        with writing_to(self.output.folder):
            self.records.write(done.item.stem, record)

    def _success(self, item: Item, found: Explained) -> Record:
        files = self.records.digest_files(self.output.write_clip(found))
        return Record(
            key=self._key(item, found.explanation.clip_sha256),
            row={**explained_row(found), "seconds": ""},  # two runs that agree write the same
            duration_s=found.explanation.duration_s,
            shares=shares_of(found.saved),
            files=files,
        )

    def _failure(self, done: Done) -> Record:
        self.output.discard(done.item.stem)
        return Record(key="", row=failed_row(done.item, done.reason))

    def _is_finished(self, item: Item) -> bool:
        return self.records.is_finished(item.stem, lambda: self._key_of_file(item))

    def _key_of_file(self, item: Item) -> str:
        """What the key must be as the file is now; none fits a file that cannot be read."""
        try:
            return self._key(item, hash_audio_file(item.path))
        except AudioError:
            return "unreadable"

    def _key(self, item: Item, audio_sha256: str) -> str:
        words = None if self.work.segments is None else alignment_of(Path(self.work.segments), item)
        clip = {
            "audio": audio_sha256,
            "name": item.name,
            "span_s": item.span_s,
            "label": item.label,
            "evidence": [asdict(span) for span in item.evidence],
            "words": words and sha256(words.read_bytes()).hexdigest(),
        }
        return digest_of({"clip": clip, **self.asked})


def describe_work(work: Work, output: Output) -> dict[str, Any]:
    """What every result of a job depends on besides its clip, in plain JSON types."""
    return {
        "version": __version__,
        "model": fingerprint(work.explainer.classifier),
        "target": work.target,
        "settings": work.explainer.settings.to_dict(),
        "baselines": {str(path): tensor_sha256(sound) for path, sound in work.baselines.items()},
        "words": [work.segments, work.tier],
        "written": [output.figures, output.sounds, output.share, work.keep_waveform],
    }
