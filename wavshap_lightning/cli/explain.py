"""`explain.py` and `wavshap-explain`: explanations of recordings, corpora and models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from wavshap_lightning.audio.io import SAMPLE_RATE, save_audio
from wavshap_lightning.cli.clips import (
    CLIP_ERRORS,
    ClipExplainer,
    ClipOptions,
    ExplainedClip,
    Item,
    find_items,
    name_items,
    open_model,
    reason_of,
)
from wavshap_lightning.cli.options import read_arguments
from wavshap_lightning.cli.output import Output, explained_row, failed_row, model_words, status_of
from wavshap_lightning.cli.terminal import (
    complain,
    describe,
    describe_briefly,
    exit_status,
    on_one_line,
    quiet,
    shown,
)
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError, WavshapError
from wavshap_lightning.explainer.recording import open_recording
from wavshap_lightning.explainer.settings import STAGES, ExplainSettings
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.viz.clip_view import ClipView

COMMANDS = {
    "": ("explain", "explain_clips"),
    "corpus": ("corpus", "explain_corpus"),
    "compare": ("compare", "compare_models"),
    "scorecard": ("scorecard", "score_methods"),
    "scores": ("explain", "print_scores"),
}
"""Module and function of each command; the one without a name explains recordings."""

EPILOG = "Other commands: explain.py corpus | compare | scorecard | scores --help. Guide: docs/explain.md"
SHARED = "The other options of explain.py --help hold here too, except for --device of a corpus."
MAX_DESCRIBED = 5
"""More clips than these get a line each."""

EXAMPLE_LABEL = "angry"


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with 0 if every clip was explained, 1 if some could not be (each named with its reason), 2 if
    nothing could be done, 130 if interrupted.
    """
    words = list(sys.argv[1:] if args is None else args)
    name = words.pop(0) if words and words[0] in COMMANDS else ""
    # A corpus has thousands of clips.
    defaults = {"stages": list(STAGES), **({"figures": False, "sounds": False} if name == "corpus" else {})}
    module, function = COMMANDS[name]
    with exit_status(), quiet():
        command = getattr(import_module(f"wavshap_lightning.cli.{module}"), function)
        program = f"explain.py {name}".strip()
        epilog = SHARED if name in ("corpus", "compare") else EPILOG
        arguments = read_arguments(
            command, words, prog=program, epilog=epilog, defaults=defaults, hide_shared=bool(name)
        )
        sys.exit(command(**arguments))


def explain_clips(
    model: str,
    audio: list[str],
    clip: ClipOptions,
    settings: ExplainSettings,
    output: Output,
    *,
    device: str = "cpu",
) -> int:
    """Explain recordings: when, in which bands, layers and neurons is evidence for or against a class.

    Args:
        model: The model.
        audio: Recordings; a synthetic clip is made if there are none.
        clip: The question about every clip.
        settings: How to explain.
        output: Files to write.
        device: Where to compute, such as cpu, cuda or cuda:1.

    Returns:
        The exit status.
    """
    items = find_items(audio, output.folder)
    work = ClipExplainer(open_model(model, device), settings, clip, len(items))
    return explain_items(model, work, items, output)


def explain_items(
    model: str,
    work: ClipExplainer,
    items: Sequence[Item],
    output: Output,
    also: Callable[[ExplainedClip], Callable[[], None]] | None = None,
) -> int:
    """Explain clips one by one, and write and print what is found; the table is written whatever ends it.

    Args:
        model: Name of the model, for the page.
        work: Explains a clip.
        items: The clips; a synthetic one is made if there are none.
        output: Files to write.
        also: Further work on every clip that is explained, which fails the clip where it raises; returns
            what is left to write.

    Returns:
        The exit status.
    """
    output.open()
    items = items or make_example(output.folder / "sounds", work.explainer.settings.seed)
    views: list[ClipView] = []
    failed: list[tuple[str, str]] = []
    try:
        for count, item in enumerate(items, 1):
            try:
                found = work.explain(item)
                write_more = None if also is None else also(found)
            except CLIP_ERRORS as error:
                reason = reason_of(error)
                complain(f"failed: {shown(item.clip.path)}: {reason}")
                output.add_row(failed_row(item, reason))
                failed.append((item.name, reason))
                continue
            output.write_clip(found)
            output.add_row(explained_row(found))
            if write_more is not None:
                write_more()
            views.append(ClipView.from_saved(found.saved, item.name, found.waveform))
            if len(items) > MAX_DESCRIBED:
                progress = f"[{count:>{len(str(len(items)))}}/{len(items)}]"
                describe_briefly(progress, item.name, found.explanation, found.saved.numbers)
            else:
                describe(item.name, found.explanation, found.saved.numbers)
    except KeyboardInterrupt:
        complain(f"interrupted: {len(views)} of {len(items)} clips are done, in {shown(output.folder)}")
        raise
    finally:
        output.write_summary()
    if output.report:
        title, facts = "Explained recordings", model_words(model, work.classifier)
        output.write_report(views, title=title, model=facts, failed=failed)
    return output.conclude(len(views), len(items))


def print_scores(model: str, audio: list[str], *, device: str = "cpu") -> int:
    """Print the three most probable classes of each recording.

    Args:
        model: The model.
        audio: Recordings.
        device: Where to compute, such as cpu, cuda or cuda:1.

    Returns:
        The exit status.

    Raises:
        WavshapError: If the model cannot be opened, or there are no recordings.
    """
    if not audio:
        raise SettingError("audio=[]: give recordings, folders or manifests")
    items = find_items(audio, Path("explanations"))
    classifier = open_model(model, device)
    num_done = 0
    for item in items:
        try:
            probabilities = score_clip(classifier, item.clip)
        except WavshapError as error:
            complain(error)
            continue
        num_done += 1
        sys.stdout.write(f"{_ranked(probabilities)}  {on_one_line(item.name)}\n")
        sys.stdout.flush()
    return status_of(num_done, len(items))


@torch.inference_mode()
def score_clip(classifier: EmotionClassifier, clip: Clip) -> dict[str, float]:
    """Probability of each class for one clip.

    Raises:
        AudioError: If the clip cannot be read or is shorter than one frame.
    """
    grid, device = classifier.backbone.frame_grid, next(classifier.parameters()).device
    recording = open_recording(clip, classifier.sample_rate, min_samples=grid.receptive_field_samples)
    logits = classifier(recording.waveform[None].to(device))[0]
    return dict(zip(classifier.labels, logits.softmax(0).tolist(), strict=True))


def _ranked(probabilities: dict[str, float]) -> str:
    """The three most probable classes, in columns of fixed width.

    >>> _ranked({"sad": 0.25, "angry": 0.7, "calm": 0.05})
    'angry 0.700  sad   0.250  calm  0.050'
    """
    width = max(map(len, probabilities))
    first = sorted(probabilities, key=lambda label: -probabilities[label])[:3]
    return "  ".join(f"{label:<{width}} {probabilities[label]:.3f}" for label in first)


def make_example(folder: Path, seed: int) -> list[Item]:
    """A clip of synthetic speech with a rough voice in a known span, written as `example.wav`.

    Raises:
        AudioError: If it cannot be written.
    """
    # SciPy's signal module, which nothing else here needs, takes a while to load.
    from wavshap_lightning.planted.scenes import draw_clip  # noqa: PLC0415
    from wavshap_lightning.planted.voices import draw_speaker  # noqa: PLC0415

    generator = np.random.default_rng(seed)
    speaker = draw_speaker(generator, voice="female")
    waveform, evidence = draw_clip(speaker, EXAMPLE_LABEL, generator)
    path = folder / "example.wav"
    save_audio(path, waveform, sample_rate=SAMPLE_RATE)
    return name_items([Clip(path, EXAMPLE_LABEL, evidence=evidence)])


if __name__ == "__main__":
    main()
