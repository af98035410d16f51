"""Are words where aligned recordings have them, are acted clips aligned, and is a wrong text noticed?

Word boundaries (starts and ends) are compared with TextGrids of other programs and people. Words that the
dictionary lacks are written as others that sound alike, and marks in brackets are left out. Of RAVDESS, ten
clips of each of the 24 actors are drawn. Confidences are those of actors 13 to 24, with their text and with a
sentence of CREMA-D; the scale of the confidence was chosen on actors 1 to 12. Seconds are those of the
processor, on one core, without a cache.

    python benchmarks/alignment.py --aligned DIR --root DIR
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _common import SAMPLE_RATE, Measurement, read_arguments, report

from wavshap_lightning.audio.aligner import align, doubt
from wavshap_lightning.audio.alignments import Alignment, read_alignment
from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.audio.segments import LOW_CONFIDENCE
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.filename_schemes import CREMA_D, RAVDESS, spoken_text
from wavshap_lightning.errors import AudioError

CLIPS_EACH, QUICK_CLIPS_EACH = 10, 1
CHOSEN_ON = 12
"""Actors up to this one were used to choose the scale of the confidence."""

SOUNDS_LIKE = {"yknow": "you know", "aligner": "a liner"}
NO_WORD = re.compile(r"[\[<].*[\]>]")


def main() -> None:
    """Report on the aligned recordings and on RAVDESS."""
    arguments = read_arguments(__doc__, needs=["root", "aligned"])
    align(load_audio(recordings(arguments.aligned)[0][0]), SAMPLE_RATE, "the")  # loads the acoustic model
    report("alignment", [*on_boundaries(arguments), *on_ravdess(arguments)], arguments)


def recordings(folder: Path) -> list[tuple[Path, Path]]:
    """Recordings and their TextGrids of words."""
    sounds = sorted(path for path in folder.iterdir() if path.suffix in (".wav", ".flac"))
    grids = {path: [folder / f"{path.stem}{end}.TextGrid" for end in ("", "_words")] for path in sounds}
    return [(path, grid) for path in sounds for grid in grids[path] if grid.is_file()]


def on_boundaries(arguments: argparse.Namespace) -> Iterator[Measurement]:
    """Errors of word boundaries, of all words together and by recording."""
    errors: dict[str, list[float]] = {}
    for path, grid in recordings(arguments.aligned)[: 2 if arguments.quick else None]:
        words = [one for one in read_alignment(grid).words if not NO_WORD.fullmatch(one.text)]
        said = [SOUNDS_LIKE.get(one.text.lower(), one.text) for one in words]
        found = iter(align(load_audio(path), SAMPLE_RATE, " ".join(said)).words)
        errors[path.stem] = []
        for word, text in zip(words, said, strict=True):
            parts = [next(found) for _ in text.split()]
            errors[path.stem] += [parts[0].start_s - word.start_s, parts[-1].end_s - word.end_s]
    together = [error for one in errors.values() for error in one]
    for name, one, is_all in [
        ("all recordings", together, True),
        *((*item, False) for item in errors.items()),
    ]:
        size = np.abs(one)
        note = f"{len(one)} boundaries, bias {1000 * np.median(one):+.0f} ms"
        bars = ({"at_most": 30.0}, {"at_least": 0.95}) if is_all else ({}, {})
        yield Measurement(
            f"{name}: median error", float(1000 * np.median(size)), unit="ms", note=note, **bars[0]
        )
        yield Measurement(f"{name}: within 100 ms", float(np.mean(size <= 0.1)), **bars[1])


def on_ravdess(arguments: argparse.Namespace) -> Iterator[Measurement]:
    """Share of clips that are aligned, seconds a clip, and confidences with right and wrong texts."""
    clips, sentences = draw_clips(arguments), [*CREMA_D.texts.values()]
    found: dict[str, list[Alignment | None]] = {"right": [], "wrong": []}
    warned: dict[str, list[bool]] = {"right": [], "wrong": []}
    seconds, num_aligned = [], 0
    for place, clip in enumerate(clips):
        sound, began_s = load_audio(clip.path), time.process_time()
        aligned, _ = attempt(sound, spoken_text(clip))
        seconds.append(time.process_time() - began_s)
        num_aligned += aligned is not None
        if int(clip.speaker) > CHOSEN_ON:
            texts = {"right": spoken_text(clip), "wrong": sentences[place % len(sentences)]}
            for kind, text in texts.items():
                its, is_warned = attempt(sound, text)
                found[kind].append(its)
                warned[kind].append(is_warned)
    yield Measurement(
        "RAVDESS: clips aligned", num_aligned / len(clips), at_least=0.98, note=f"of {len(clips)}"
    )
    yield Measurement(
        "RAVDESS: a clip", statistics.mean(seconds), min(seconds), max(seconds), "s", at_most=0.5
    )
    for kind, its in found.items():
        words = [one for alignment in its if alignment for one in alignment.words]
        low = float(np.mean([one.confidence < LOW_CONFIDENCE for one in words]))
        told = f"{len(words)} words; {sum(one is None for one in its)} of {len(its)} clips refused"
        yield Measurement(f"{kind} text: words with low confidence", low, note=told)
        yield Measurement(f"{kind} text: clips refused or with a warning", float(np.mean(warned[kind])))


def attempt(sound: np.ndarray, text: str) -> tuple[Alignment | None, bool]:
    """The alignment, and true if it is refused or in doubt."""
    try:
        found = align(sound, SAMPLE_RATE, text)
    except AudioError:
        return None, True
    return found, bool(doubt(found))


def draw_clips(arguments: argparse.Namespace) -> list[Clip]:
    """As many clips of each actor, drawn by chance."""
    clips, generator = RAVDESS.load(arguments.root), np.random.default_rng(0)
    each = QUICK_CLIPS_EACH if arguments.quick else CLIPS_EACH
    drawn = []
    for speaker in sorted({clip.speaker for clip in clips}):
        own = [clip for clip in clips if clip.speaker == speaker]
        drawn += [own[place] for place in sorted(generator.permutation(len(own))[:each])]
    return drawn


if __name__ == "__main__":
    main()
