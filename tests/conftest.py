"""Fixtures of all rings."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
import yaml
from scipy.signal import lfilter

from wavshap_lightning.audio.io import save_audio


@pytest.fixture
def unchecked_types():
    """Without the checks of types, which stop wrong values before ours do and draw from `random`."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Networks as small as those of the tests spend their time on handing work to threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Corpora as other projects list them

SPEAKER_OF_SPLIT = {"train": "ann", "dev": "ben", "test": "cat"}


def _write_csv(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def _audiofolder(root, clips):
    for split in SPEAKER_OF_SPLIT:
        rows = [
            f"../{path},{label},{speaker},{text}"
            for path, label, speaker, part, text in clips
            if part == split
        ]
        _write_csv(root / split / "metadata.csv", "file_name,label,speaker_id,transcription", *rows)
    return root


def _kaldi(root, clips):
    for split in SPEAKER_OF_SPLIT:
        rows = {
            f"{speaker}-{Path(path).stem}": its
            for its in clips
            for path, _, speaker, part, _ in [its]
            if part == split
        }
        columns = {"wav.scp": 0, "utt2emo": 1, "utt2spk": 2, "text": 4}
        for name, column in columns.items():
            _write_csv(
                root / "data" / split / name,
                *(f"{utterance} {its[column]}" for utterance, its in rows.items()),
            )
    return root / "data"


def _speechbrain(root, clips):
    for split, name in zip(SPEAKER_OF_SPLIT, ("train", "valid", "test"), strict=True):
        entries = {
            path: {
                "wav": f"{{data_root}}/{path}",
                "length": 0.5,
                "emo": label,
                "spk_id": speaker,
                "words": text,
            }
            for path, label, speaker, part, text in clips
            if part == split
        }
        (root / f"{name}.json").write_text(json.dumps(entries, indent=2))
    return root


def _lhotse(root, clips):
    for split in SPEAKER_OF_SPLIT:
        with gzip.open(root / f"cuts_{split}.jsonl.gz", "wt") as file:
            for path, label, speaker, part, text in clips:
                recording = {"id": path, "sources": [{"type": "file", "channels": [0], "source": path}]}
                recording |= {
                    "sampling_rate": 16000,
                    "num_samples": 8000,
                    "duration": 0.5,
                    "channel_ids": [0],
                }
                supervision = {"id": path, "recording_id": path, "start": 0.0, "duration": 0.5, "channel": 0}
                supervision |= {"text": text, "speaker": speaker, "custom": {"emotion": label}}
                cut = {"id": path, "start": 0.0, "duration": 0.5, "channel": 0, "supervisions": [supervision]}
                if part == split:
                    file.write(json.dumps({**cut, "recording": recording, "type": "MonoCut"}) + "\n")
    return root


def _audformat(root, clips):
    files = {
        "type": "filewise",
        "columns": {"speaker": {"scheme_id": "speaker"}, "transcription": {"scheme_id": "transcription"}},
    }
    texts = {f"a{index:02d}": clip[4] for index, clip in enumerate(clips)}
    header = {
        "name": "toy",
        "schemes": {
            "speaker": {"dtype": "str", "labels": {"ann": {"age": 30}}},
            "transcription": {"labels": texts},
        },
        "splits": {split: {"type": split} for split in SPEAKER_OF_SPLIT},
        "tables": {"files": files},
    }
    _write_csv(
        root / "db.files.csv",
        "file,speaker,transcription",
        *(f"{its[0]},{its[2]},{code}" for code, its in zip(texts, clips, strict=True)),
    )
    for split in SPEAKER_OF_SPLIT:
        name = f"emotion.categories.{split}.gold_standard"
        header["tables"][name] = {
            "type": "filewise",
            "split_id": split,
            "columns": {"emotion": {"scheme_id": "emotion"}},
        }
        rows = [f"{path},{label},0.9" for path, label, _, part, _ in clips if part == split]
        _write_csv(root / f"db.{name}.csv", "file,emotion,emotion.confidence", *rows)
    (root / "db.yaml").write_text(yaml.safe_dump(header))
    return root


def _nkululeko(root, clips):
    for split in SPEAKER_OF_SPLIT:
        rows = [
            f"{path},{speaker},{label},female,{text}"
            for path, label, speaker, part, text in clips
            if part == split
        ]
        _write_csv(root / f"toy_{split}.csv", "file,speaker,emotion,gender,text", *rows)
    return root


TREES = {
    "audiofolder": _audiofolder,
    "kaldi": _kaldi,
    "speechbrain": _speechbrain,
    "lhotse": _lhotse,
    "audformat": _audformat,
    "nkululeko": _nkululeko,
}


@pytest.fixture
def build_tree():
    """`(kind, root) -> source`: twelve clips of half a second by three people, in a project's format."""

    def build_tree(kind, root):
        generator, clips = np.random.default_rng(0), []
        for split, speaker in SPEAKER_OF_SPLIT.items():
            for index in range(4):
                path, label = f"wav/{speaker}_{index}.wav", ("happy", "sad")[index % 2]
                save_audio(root / path, (0.1 * generator.standard_normal(8_000)).clip(-1, 1))
                clips.append((path, label, speaker, split, f"sentence {index}"))
        return TREES[kind](root, clips)

    return build_tree


# Voices, and their cues by means of their own

RATE = 16_000


@pytest.fixture(scope="session")
def spoken():
    """`(seconds=1.0, hertz=180.0, semitones=6.0, level=0.2, tilt=0.9) -> samples` at 16 kHz."""
    return _spoken


@pytest.fixture(scope="session")
def measured():
    """`(samples) -> {cue: number}`, without WORLD: semitones, semitones, dB, octaves of duration, dB."""
    return _measured


def _spoken(seconds=1.0, hertz=180.0, semitones=6.0, level=0.2, tilt=0.9):
    """Pulses of gliding pitch through two resonances, with silence before and after; known throughout."""
    times = np.arange(round(seconds * RATE)) / RATE
    active = (times >= 0.15) & (times < seconds - 1 + 0.85)
    glide = semitones * (times - times[active].mean()) / np.ptp(times[active])
    phase = np.cumsum(hertz * 2 ** (glide / 12)) / RATE
    pulses = np.diff(np.floor(phase), prepend=0) * active
    sound = pulses
    for center, width in ((600, 120), (1800, 200), (3300, 300)):
        radius = np.exp(-np.pi * width / RATE)
        sound = lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * center / RATE), radius**2], sound)
    sound = lfilter([1], [1, -tilt], sound) * active
    sound = level * sound / np.sqrt(np.square(sound[active]).mean()) / 2
    return sound.astype(np.float32)


def _pitch_of(sound):
    """F0 in semitones from the autocorrelation of 64 ms, where it is periodic."""
    frames = np.lib.stride_tricks.sliding_window_view(sound.astype(float), 1024)[::80]
    frames = frames[np.abs(frames).max(1) > 0.02] * np.hanning(1024)
    power = np.square(np.abs(np.fft.rfft(frames, 2048)))
    window = np.fft.irfft(np.square(np.abs(np.fft.rfft(np.hanning(1024), 2048))))[:300]
    similar = np.fft.irfft(power)[:, :300] / window
    similar = similar[:, 23:] / similar[:, :1]  # 700 Hz and below
    best = similar.max(1)
    first = (similar > 0.9 * best[:, None]).argmax(1)
    near = np.minimum(first[:, None] + np.arange(8), similar.shape[1] - 1)
    lag = 23 + first + np.take_along_axis(similar, near, 1).argmax(1)
    return 12 * np.log2(RATE / lag[best > 0.7])


def _measured(sound):
    """The cues by other means: autocorrelation, RMS, time above a level, powers of two bands."""
    semitones = _pitch_of(sound)
    rms = np.sqrt(np.square(np.lib.stride_tricks.sliding_window_view(sound, 400)[::80]).mean(1))
    loud = rms > rms.max() / 10
    power = np.square(np.abs(np.fft.rfft(sound)))
    split = len(power) // 8  # 1 kHz
    return {
        "pitch_level": float(np.median(semitones)),
        "pitch_range": float(np.subtract(*np.quantile(semitones, [0.9, 0.1]))),
        "loudness": float(10 * np.log10(np.square(rms[loud]).mean())),
        "tempo": float(np.log2(loud.sum())),
        "spectrum": float(10 * np.log10(power[split:].sum() / power[:split].sum())),
    }


# Studies


def _system(name, uar, letters, *, best=False):
    recall = {"angry": uar + 0.1, "happy": uar, "sad": uar - 0.1}
    chosen = [
        {"fold": fold, "layer": layer, "pooling": "mean"} for fold, layer in enumerate((2, 2, "learned"))
    ]
    scores = {"uar": uar, "uar_low": uar - 0.043, "uar_high": uar + 0.037, "wa": uar + 0.011}
    scores |= {"macro_f1": uar - 0.013, "seed_std": 0.0072, "validation_uar": uar + 0.029}
    names = {"name": name, "corpus": "toy", "backbone": name}
    return {**names, **scores, "recall": recall, "letters": letters, "best": best, "chosen": chosen}


def _stress():
    rows = [{"level": None, "unit": "", "value": 0.713}, {"level": 20, "unit": "dB", "value": 0.617}]
    rows += [{"level": 0, "unit": "dB", "value": 0.419}]
    for row, kind, correlation in zip(rows, ("clean", "noise", "noise"), (None, 0.83, 0.52), strict=True):
        row.update(kind=kind, low=row["value"] - 0.067, high=row["value"] + 0.058)
        row.update(out_of_distribution=1.07 + row["value"], map_correlation=correlation)
        row.update(map_low=correlation, map_high=correlation)
    groups = [
        {"kind": "gender", "name": name, "clips": 41, "speakers": 6, "value": value, "low": 0.5, "high": 0.9}
        for name, value in (("female", 0.723), ("male", 0.697))
    ]
    gap = {"kind": "gender", "a": "female", "b": "male", "difference": 0.026, "low": -0.071, "high": 0.118}
    bins = [{"low": 0.5, "high": 1.0, "confidence": 0.81, "accuracy": 0.7, "num_clips": 82}]
    return {
        "run": "runs/toy",
        "score": "uar",
        "clips": 82,
        "ladder": rows,
        "groups": groups,
        "gaps": [gap],
        "abstention": [{"kept": 0.5, "value": 0.812}, {"kept": 1.0, "value": 0.713}],
        "calibration": {"ece": 0.113, "temperature": 1.37, "bins": bins},
        "notes": ["Only 82 clips were tested."],
    }


@pytest.fixture
def study():
    """Content of `study.json` without a fault."""
    folds = [{"name": "fold-0", "train": ["ann"], "validation": ["bob"], "test": ["cat", "dan"]}]
    condition = {"condition": "hum", "unit": "dB", "median": 0.412, "others": 0.387, "area": 0.513, "p": 0.74}
    corpus = {
        "corpus": "toy",
        "protocol": {
            "name": "toy-3-folds",
            "hash": "0123456789abcdef" * 4,
            "unit": "speaker",
            "folds": folds,
        },
        "clips": 1234,
        "speakers": 12,
        "audit": {"summary": {"all": {"seconds": {"total": 3702.5}}}, "findings": []},
        "conditions": [{**condition, "label": label, "tells": False} for label in ("angry", "happy", "sad")],
    }
    pair = {"corpus": "toy", "a": "large", "b": "small", "difference": 0.154, "low": 0.091, "high": 0.218}
    layers = [
        {
            "corpus": "toy",
            "backbone": "large",
            "layer": layer,
            "uar": uar,
            "low": uar - 0.03,
            "high": uar + 0.03,
        }
        for layer, uar in ((0, 0.441), (1, 0.652), ("learned", 0.671))
    ]
    leak = {"corpus": "toy", "backbone": "large", "split": "random clips", "chosen_on": "validation"}
    differs = {"difference": 0.131, "difference_low": 0.092, "difference_high": 0.164}
    across = {"train": "toy", "test": "other", "backbone": "large", "clips": 99, "uar": 0.473, "low": 0.431}
    priors = [
        {**across, "high": 0.512, "prior": name, "wa": wa}
        for name, wa in {"natural": 0.443, "balanced": 0.474}.items()
    ]
    return {
        "name": "a study",
        "command": "python train.py bench study.yaml",
        "labels": ["angry", "happy", "sad"],
        "seeds": 5,
        "corpora": [corpus],
        "systems": [_system("large", 0.704, "a", best=True), _system("small", 0.55, "b")],
        "comparisons": [{**pair, "p": 0.0003, "p_corrected": 0.0006, "different": True}],
        "layers": layers,
        "transfer": priors,
        "inflation": [{**leak, "uar": 0.835, "low": 0.803, "high": 0.861, **differs}],
        "stress": _stress(),
        "attributions": [
            {
                "target": "angry",
                "clips": "41",
                "kind": "bands",
                "part": "2-4",
                "share": 0.37,
                "low": 0.31,
                "high": 0.43,
            }
        ],
        "findings": [],
        "limits": ["A sentence about limits."],
    }
