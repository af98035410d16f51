"""Damaged folders of recordings: the same corpus, or a refusal; never another one without a word."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from unicodedata import normalize

import pytest

SPEAKER = "/(?P<speaker>[^/_]+)_[^/]*$"
SPLITS = ("train", "Test", "val", "dev", "evaluation")


def clips_of(root):
    files = (path for path in root.rglob("*") if path.suffix.lower() == ".wav" and path.is_file())
    return sorted(path for path in files if not path.name.startswith("."))


def below(path):
    """The path below its first folder."""
    return path.relative_to(path.parts[0])


def copied(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        os.link(source, target)


def moved(root, paths, place):
    """Move files to another place, which is their path below the root with its first parts changed."""
    for path in paths:
        target = root / place(path.relative_to(root))
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    for folder in sorted((one for one in root.iterdir() if one.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def some_moved(place):
    """A few files at another place."""
    return lambda root, draw: moved(root, draw.sample(clips_of(root), min(5, len(clips_of(root)))), place)


def written(name, content=b"text"):
    def write(root, draw):
        path = draw.choice(clips_of(root)).parent / name
        path.write_bytes(content)

    return write


def linked(root, draw):
    (draw.choice(clips_of(root)).parent / "loop").symlink_to(root, target_is_directory=True)


def resource_forks(root, draw):
    for path in clips_of(root):
        fork = root / "__MACOSX" / path.relative_to(root).with_name(f"._{path.name}")
        fork.parent.mkdir(parents=True, exist_ok=True)
        fork.write_bytes(b"\0\5\x16\7")


def not_utf8(root, draw):
    path = os.fsencode(draw.choice(clips_of(root)))
    os.rename(path, path[:-4] + b"_\xfc.wav")  # noqa: PTH104 - a path is text, and this is none


# What computers leave among recordings, and what their owners do to them, without a change of the corpus.
HARMLESS = {
    "hidden file": written(".DS_Store", bytes(99)),
    "resource fork": written("._ann_angry_0.wav", b"\0\5\x16\7"),
    "archive of a Mac": resource_forks,
    "notes": written("notes.txt"),
    "thumbnails": written("Thumbs.db", bytes(99)),
    "link to the root": linked,
    "deeper": some_moved(lambda path: path.parent / "a" / "b" / path.name),
    "name that is no text": not_utf8,
    "name in capitals": some_moved(lambda path: path.with_suffix(".WAV")),
}

# What may make another corpus of it.
HARMFUL = {
    "empty class": lambda root, draw: (root / "bored").mkdir(exist_ok=True),
    "class without sound": lambda root, draw: [
        (root / "video").mkdir(exist_ok=True),
        (root / "video" / "a.mp4").write_bytes(b"x"),
    ],
    "beside the classes": some_moved(lambda path: path.name),
    "class in capitals": some_moved(lambda path: path.parts[0].upper() / below(path)),
    "class decomposed": some_moved(lambda path: normalize("NFD", path.parts[0]) / below(path)),
    "class with a space": some_moved(lambda path: (path.parts[0] + " ") / below(path)),
    "speaker in capitals": some_moved(lambda path: path.with_name(path.name[:3].upper() + path.name[3:])),
    "speaker decomposed": some_moved(lambda path: path.with_name(normalize("NFD", path.name))),
    "splits above": lambda root, draw: moved(root, clips_of(root), lambda path: draw.choice(SPLITS) / path),
    "splits below": lambda root, draw: moved(
        root, clips_of(root), lambda path: path.parent / draw.choice(SPLITS) / path.name
    ),
    "splits alone": lambda root, draw: moved(
        root, clips_of(root), lambda path: draw.choice(SPLITS) / Path(path.name)
    ),
    "one folder above": lambda root, draw: moved(root, clips_of(root), lambda path: "corpus" / path),
    "copy inside": lambda root, draw: [
        copied(path, root / "copy" / path.relative_to(root)) for path in clips_of(root)
    ],
    "copy of a class": lambda root, draw: [
        copied(path, root / f"{path.relative_to(root).parts[0]} (1)" / path.name)
        for path in clips_of(root)[:8]
    ],
    "clip twice": lambda root, draw: copied(
        clips_of(root)[0], clips_of(root)[0].with_name("ann_angry_0 (1).wav")
    ),
    "clip in two classes": lambda root, draw: copied(
        clips_of(root)[0], clips_of(root)[-1].parent / "ann_new.wav"
    ),
    "clip lost": lambda root, draw: draw.choice(clips_of(root)).unlink(),
    "clip emptied": lambda root, draw: [
        path := draw.choice(clips_of(root)),
        path.unlink(),
        path.write_bytes(b""),
    ],
    "no speaker": some_moved(lambda path: path.with_name(path.name.replace("_", "-"))),
    "broken link": lambda root, draw: (draw.choice(clips_of(root)).parent / "ann_x.wav").symlink_to(
        "gone.wav"
    ),
    "folder named like a clip": lambda root, draw: (draw.choice(clips_of(root)).parent / "ann_y.wav").mkdir(
        exist_ok=True
    ),
    "pipe": lambda root, draw: os.mkfifo(draw.choice(clips_of(root)).parent / f"ann_{draw.random()}.wav"),
}


@pytest.fixture
def read(audit, corpus, tmp_path, damaged):
    """`(chosen) -> Outcome, clips` of the audit of class folders, and the files that remain."""
    numbers = count()

    def read(chosen):
        root = tmp_path / f"root-{next(numbers)}"
        for clip in corpus:
            copied(clip.path, root / clip.label / clip.path.name)
        for change in chosen:
            damaged(root, {**HARMLESS, **HARMFUL}, [change])
        return audit("folders", root, speaker_pattern=SPEAKER), clips_of(root)

    return read


def test_what_computers_leave_behind_is_no_part_of_the_corpus(search, read, damages):
    def law(changes):
        outcome, _ = read(changes)
        assert (outcome.status, outcome.counts) == (0, (24, 3, 4)), outcome.said

    search(law, 100, changes=damages(HARMLESS))


def test_other_folders_are_read_as_they_stand_or_refused_by_name(search, read, damages):
    def law(changes):
        outcome, clips = read(changes)
        if outcome.counts is None:
            assert "root-" in outcome.said or "_pattern=" in outcome.said, outcome
        elif outcome.status == 0:
            num_clips, num_labels, num_speakers = outcome.counts
            assert num_clips == len(clips) or "left out" in outcome.said, outcome
            assert num_labels == 3 or "class" in outcome.said, outcome
            assert num_speakers == 4 or "speaker" in outcome.said, outcome

    search(law, 250, changes=damages([*HARMLESS, *HARMFUL]))
