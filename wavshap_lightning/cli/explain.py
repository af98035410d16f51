"""`explain.py` and `wavshap-explain`: what a checkpoint hears in clips.

This version gives the class scores of each clip.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from wavshap_lightning.audio.io import AUDIO_SUFFIXES, load_audio
from wavshap_lightning.cli.quiet import quiet
from wavshap_lightning.corpora.files import find_audio
from wavshap_lightning.errors import AudioError, SettingError, WavshapError
from wavshap_lightning.models.checkpoint import load_classifier
from wavshap_lightning.models.classifier import EmotionClassifier

EXIT_DONE, EXIT_SOME_FAILED, EXIT_NOTHING_DONE, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with 0 if every clip was scored, 1 if some could not be (each named with its reason), 2 if
    nothing could be done, 130 if interrupted.
    """
    options = _build_parser().parse_args(args)
    try:
        with quiet():
            classifier = load_classifier(options.model).to(options.device)
            paths = list_audio(options.audio)
            sys.exit(_score_all(classifier, paths))
    except WavshapError as error:
        _complain(error)
        sys.exit(EXIT_NOTHING_DONE)
    except BrokenPipeError:  # whoever reads the lines, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_DONE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def list_audio(names: Sequence[str]) -> list[Path]:
    """Files as given, folders searched for audio, in alphabetical order.

    Raises:
        SettingError: If a folder holds no audio.
    """
    paths: list[Path] = []
    for path in map(Path, names):
        found = find_audio(path) if path.is_dir() else [path]
        if not found:
            raise SettingError(f"audio={path} holds no audio file ({', '.join(sorted(AUDIO_SUFFIXES))})")
        paths += found
    return paths


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="explain.py",
        description="Score clips with a checkpoint: the three most probable classes of each, a line a clip.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a checkpoint, such as runs/demo/version_0/checkpoints/best.ckpt"
    )
    parser.add_argument(
        "audio", metavar="AUDIO", nargs="+", help="audio files, or folders to search for them"
    )
    parser.add_argument(
        "--device", default="cpu", type=_device, help="where to compute: cpu (default), cuda, cuda:1, ..."
    )
    return parser


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(
            f"device={name!r} cannot be used: {str(error).splitlines()[0]}"
        ) from error


def _score_all(classifier: EmotionClassifier, paths: Sequence[Path]) -> int:
    """Print a line a clip as it is scored; return the exit status."""
    num_scored = 0
    for path in paths:
        try:
            probabilities = score_clip(classifier, path)
        except WavshapError as error:
            _complain(error)
            continue
        num_scored += 1
        sys.stdout.write(f"{_ranked(probabilities)}  {_on_one_line(path)}\n")
        sys.stdout.flush()
    if num_scored == len(paths):
        return EXIT_DONE
    return EXIT_SOME_FAILED if num_scored else EXIT_NOTHING_DONE


def _on_one_line(path: Path) -> str:
    r"""The path as it is written, but for line breaks and the like in its name.

    >>> _on_one_line(Path("a\tname.wav"))
    'a\\tname.wav'
    """
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(path))


def _ranked(probabilities: dict[str, float]) -> str:
    """The most probable class and the two that follow, in columns of fixed width.

    >>> _ranked({"sad": 0.25, "angry": 0.7, "calm": 0.05})
    'angry 0.700  sad   0.250  calm  0.050'
    """
    width = max(map(len, probabilities))
    first = sorted(probabilities, key=lambda label: -probabilities[label])[:3]
    return "  ".join(f"{label:<{width}} {probabilities[label]:.3f}" for label in first)


@torch.inference_mode()
def score_clip(classifier: EmotionClassifier, path: Path) -> dict[str, float]:
    """The probability of each class for one clip.

    Raises:
        AudioError: If the clip cannot be read or is shorter than one frame.
    """
    waveform = load_audio(path, sample_rate=classifier.sample_rate)
    shortest = classifier.backbone.frame_grid.receptive_field_samples
    if len(waveform) < shortest:
        raise AudioError(
            f"path={path} has {len(waveform)} samples at {classifier.sample_rate} Hz, one frame needs "
            f"{shortest}; give a longer clip"
        )
    device = next(classifier.parameters()).device
    logits = classifier(torch.from_numpy(waveform)[None].to(device))
    return dict(zip(classifier.labels, logits.softmax(1)[0].tolist(), strict=True))


def _complain(error: WavshapError) -> None:
    message = f"{type(error).__name__}: {error}".encode(
        errors="backslashreplace"
    ).decode()  # a path may be no text
    Console(stderr=True).print(message, style="red", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
