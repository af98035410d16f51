"""`explain.py` and `wavshap-explain`: explanations of recordings, corpora and models."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from wavshap_lightning.audio.io import SAMPLE_RATE, save_audio
from wavshap_lightning.cli.clips import (
    ClipExplainer,
    ClipOptions,
    ExplainedClip,
    ModelOptions,
    attempt,
    find_clips,
    open_for,
    open_model,
    place_of,
)
from wavshap_lightning.cli.options import read_arguments
from wavshap_lightning.cli.output import Output, model_words, status_of, summary_row
from wavshap_lightning.cli.terminal import complain, exit_status, on_one_line, quiet, tell
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import logits_to_outputs, split_outputs
from wavshap_lightning.models.loading import choose_epochs, models_in
from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.cues import cue_rows, signed, sum_in_words
from wavshap_lightning.viz.report.page import build_report

COMMANDS = {
    "": ("explain", "explain_clips"),
    "corpus": ("corpus", "explain_corpus"),
    "compare": ("explain", "compare_models"),
    "scorecard": ("scorecard", "score_methods"),
    "scores": ("explain", "print_scores"),
}
"""Module and function of each command; the one without a name explains recordings."""

EPILOG = "Other commands: explain.py corpus | compare | scorecard | scores --help. Guide: docs/explain.md"
SHARED = "The options of explain.py --help apply here too (corpus: all but --device)."
MAX_DESCRIBED = 5
"""More clips than these get a line each."""

EXAMPLE_LABEL = "angry"
NUM_FRAMES, NUM_WORDS, NUM_NEURONS = 5, 5, 3


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with 0 if every clip was explained, 1 if some could not be (each named with its reason), 2 if
    nothing could be done, 130 if interrupted.
    """
    words = list(sys.argv[1:] if args is None else args)
    name = words.pop(0) if words and words[0] in COMMANDS else ""
    # A corpus has thousands of clips.
    defaults = {"figures": False, "sounds": False} if name == "corpus" else {}
    module, function = COMMANDS[name]
    with exit_status(), quiet():
        command = getattr(import_module(f"wavshap_lightning.cli.{module}"), function)
        program = f"explain.py {name}".strip()
        hidden = name in ("corpus", "compare")
        epilog = SHARED if hidden else EPILOG
        arguments = read_arguments(
            command, words, prog=program, epilog=epilog, defaults=defaults, hide_shared=hidden
        )
        sys.exit(command(**arguments))


def explain_clips(
    model: str,
    audio: list[str],
    clip: ClipOptions,
    settings: ExplainSettings,
    output: Output,
    *,
    opening: ModelOptions,
    device: str = "cpu",
) -> int:
    """Explain recordings: which frames, bands, layers and neurons speak for or against a class.

    Args:
        model: Checkpoint, run, exported folder or Hugging Face model.
        audio: Recordings; a synthetic clip is made if there are none.
        clip: What to explain about every clip.
        settings: Settings of the explanation.
        output: Files to write.
        opening: What the model does not tell about itself.
        device: Where to compute, such as cpu, cuda or cuda:1.

    Returns:
        The exit status.
    """
    clips = find_clips(audio, output.folder)
    work = ClipExplainer(open_model(model, device, opening), settings, clip, clips.values())
    return explain_all(model, work, clips, output)


def compare_models(
    model: str,
    audio: list[str],
    clip: ClipOptions,
    settings: ExplainSettings,
    output: Output,
    *,
    opening: ModelOptions,
    others: Sequence[str] = (),
    epochs: str | None = None,
    device: str = "cpu",
) -> int:
    """Explain recordings with MODEL and with other models or epochs, with the same draws, and compare.

    Args:
        model: The first model, or the folder of a cross-validation for its first fold.
        audio: Recordings; a synthetic clip is made if there are none.
        clip: What to explain about every clip.
        settings: Settings of the explanation.
        output: Files to write.
        opening: What the model does not tell about itself.
        others: Models to compare with, or the folder of a cross-validation for its folds.
        epochs: Epochs of MODEL's run to compare with, such as 9,19,29, or all.
        device: Where to compute, such as cpu, cuda or cuda:1.

    Returns:
        The exit status.

    Raises:
        WavshapError: If a model cannot be opened or compared with the first, or an epoch was not kept.
    """
    epoch, chosen = (None, {}) if epochs is None else choose_epochs(model, epochs)
    model, *folds = models_in(model)
    folds += [one for name in others for one in models_in(name) if one == name or Path(one) != Path(model)]
    named = {**{name: name for name in folds}, **{f"epoch {n}": str(path) for n, path in chosen.items()}}
    if not named:
        raise SettingError(f"others={[*others]}: give models to compare with, or epochs of the run")
    clips = find_clips(audio, output.folder)
    classifier = open_model(model, device, opening)
    compared = [_sharing_backbone(open_model(path, device, opening), classifier) for path in named.values()]
    work = ClipExplainer(classifier, settings, clip, clips.values(), compared)
    names = (model if epoch is None else f"epoch {epoch}", *named)
    return explain_all(model, work, clips, output, names)


def _sharing_backbone(other: EmotionClassifier, first: EmotionClassifier) -> EmotionClassifier:
    """The other classifier; it shares the backbone of the first if it is the same, which saves memory."""
    one, its = first.backbone, other.backbone
    if one.fingerprint == its.fingerprint and one.settings == its.settings and one.settings.frozen:
        other.backbone = one
    return other


def explain_all(
    model: str, work: ClipExplainer, clips: Mapping[str, Clip], output: Output, names: Sequence[str] = ()
) -> int:
    """Explain clips one by one, and write and print what is found; the table is written whatever ends it.

    Args:
        model: Name of the model, for the page.
        work: Explains a clip.
        clips: The clips by the names of their files; a synthetic one is made if there are none.
        output: Files to write.
        names: Names of the models that are compared, the first one first.

    Returns:
        The exit status.
    """
    output.open()
    clips = clips or make_example(output.folder / "sounds", work.explainer.settings.seed)
    views: list[ClipView] = []
    rows: list[dict[str, str]] = []
    try:
        for stem, clip in clips.items():
            found, reason = attempt(work.explain, clip)
            rows.append(summary_row(clip, found, reason, work.classifier))
            if found is not None:
                output.write_clip(stem, found, names)
                every = (found.saved, *found.others)
                shown = [ClipView.from_saved(one, place_of(clip), found.waveform) for one in every]
                shown = [replace(one, sounds=found.sounds) for one in shown]
                views += shown
                progress = f"[{len(rows):>{len(str(len(clips)))}}/{len(clips)}]"
                describe(found, shown, progress, brief=len(clips) > MAX_DESCRIBED)
            output.write_summary(rows)
    except KeyboardInterrupt:
        done = f"{_num_done(rows)} of {len(clips)} clips are done"
        complain(f"interrupted: {done}, in {on_one_line(output.folder)}")
        raise
    if output.report:
        failed = [(row["clip"], row["reason"]) for row in rows if row["status"] == "failed"]
        facts = model_words(model, work.classifier)
        page = build_report(views, title="Explained recordings", model=facts, failed=failed)
        output.write("report.html", page)
    return output.conclude(_num_done(rows), len(clips))


def _num_done(rows: Sequence[Mapping[str, str]]) -> int:
    return sum(row["status"] == "ok" for row in rows)


def describe(found: ExplainedClip, views: Sequence[ClipView], progress: str, *, brief: bool) -> None:
    """Print a clip in a few aligned lines, or on one line that ends with `!` if there are diagnostics.

    Args:
        found: The explained clip.
        views: The same, as it is shown; of several dimensions each, the others only with their scores.
        progress: What a single line begins with, such as `[3/40]`.
        brief: Print a single line: decision and gap.
    """
    explanation, numbers, console = found.explanation, found.saved.numbers, Console(highlight=False)
    name, facts = on_one_line(place_of(found.clip)), dict(_facts(explanation, views))
    if brief:
        mark = "  !" if numbers["diagnostics"] else ""
        line = f"{progress}  {next(iter(facts.values()))}  gap {facts['completeness gap']}  {name}{mark}"
        console.print(Text(line), soft_wrap=True)
        return
    console.print(Text(f"{name}  {explanation.duration_s:.2f} s", style="bold"), soft_wrap=True)
    if views[0].cues:
        facts["cues"] = "\n".join(map(on_one_line, _cue_lines(views[0])))
    if votes := views[0].facts.get("Votes"):
        facts["listeners"] = votes
    table = Table.grid(Column(style="dim", no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    for title, words in facts.items():
        table.add_row(f"  {title}", Text(words))
    for one in numbers["diagnostics"]:
        table.add_row(f"  {one['severity']}", Text(one["message"], style="yellow"))
    console.print(table)
    console.print()


def _facts(explanation: Explanation, views: Sequence[ClipView]) -> Iterator[tuple[str, str]]:
    """Decision, scores, and gap, frames, layer and neurons of the first target, in words by title."""
    view = views[0]
    numbers, target = view.numbers, view.target
    labeled = f"  (labeled {view.label})" if view.label else ""
    decision = view.values(target=len(views) == 1)
    if view.prediction:
        decision = f"{view.prediction}, probability {view.outputs[view.prediction]:.3f}"
    yield view.words["best"] or "values", f"{decision}{labeled}"
    for one in views:
        score, mean = one.numbers["score"], one.numbers["baseline_score"]
        difference = "" if mean is None else f", of the baselines {mean:+.3f}, explained {score - mean:+.3f}"
        yield one.score_name(), f"{score:+.3f}{difference}"
    gap = next(iter(explanation.relative_gap(target).values()))
    yield "completeness gap", f"{'none' if gap is None else f'{100 * gap:.1f} %'} (before correction)"
    for name, reason in explanation.reasons.items():
        value = getattr(explanation.settings, name)
        yield name, f"{value if isinstance(value, str) else ', '.join(value)}: {reason}"
    if (shown := view.frames) is not None:
        largest = max(shown.values, key=abs)
        yield "attribution", f"mean {shown.values.mean():+.4f}, largest {largest:+.4f} a frame"
        frames = explanation.top("frames", NUM_FRAMES, target=target)
        yield "top frames", "\n".join(map(_place, frames))
        yield from _top_words(explanation, view)
        words = "" if view.reliability is None else view.reliability.in_words("frames")
        if words and not any(one["message"].startswith(words) for one in numbers["diagnostics"]):
            yield "reliability", words
        if view.agreement is not None:
            yield "agreement", view.agreement.in_words()
    if "layers" in explanation.attributions:
        layer = explanation.top("layers", 1, target=target)[0]
        neurons = explanation.top("layer_neuron", NUM_NEURONS, layer=layer["layer"], target=target)
        yield "top layer", f"{layer['layer']}  {_interval(layer)}"
        yield "top neurons", ", ".join(f"{one['neuron']} ({_interval(one)})" for one in neurons)
    for pair in numbers.get("families", ()):
        agreement = "unknown" if pair["correlation"] is None else f"{pair['correlation']:+.2f}"
        yield f"{pair['first']} and {pair['second']}", f"correlation {agreement}"


def _top_words(explanation: Explanation, view: ClipView) -> Iterator[tuple[str, str]]:
    """The words and pauses with the largest magnitudes, if their times are known."""
    if (words := view.units("words")) is not None:
        found = explanation.top("words", NUM_WORDS + 1, target=view.target)
        named = [(on_one_line(words.names[one["word"]]), one) for one in found if not isnan(one["start_s"])]
        width = max(len(name) for name, _ in named)
        lines = [f"{name:<{width}}  {_place(one)}" for name, one in named[:NUM_WORDS]]
        doubts = [view.doubts] if any(name.endswith("?") for name, _ in named[:NUM_WORDS]) else []
        yield "top words", "\n".join([*lines, *filter(None, doubts)])


def _place(unit: Mapping[str, Any]) -> str:
    return f"{max(unit['start_s'], 0):5.2f}-{unit['end_s']:.2f} s  {_interval(unit)}"


def _cue_lines(view: ClipView) -> Iterator[str]:
    """The sum of an explanation in cues, and a line for each of its terms."""
    yield f"{view.score_name()}: {sum_in_words(view.cues)}"
    line = "{:<11} {:<19} {:>13} {:>11}".format
    yield line("", "difference", "effect ± 95 %", "moved alone")
    for row in cue_rows(view.cues):
        alone = "" if row.alone is None else signed(row.alone) if row.sign else "unresolved"
        yield line(row.name, row.difference, row.words, alone).rstrip()


def _interval(unit: Mapping[str, Any]) -> str:
    half_width = "" if isnan(unit["half_width"]) else f" ± {unit['half_width']:.4f}"
    return f"{unit['attribution']:+.4f}{half_width}"


def print_scores(model: str, audio: list[str], opening: ModelOptions, *, device: str = "cpu") -> int:
    """Print the three most probable classes of each recording, or its values, of each task.

    Args:
        model: Checkpoint, run, exported folder or Hugging Face model.
        audio: Recordings.
        opening: What the model does not tell about itself.
        device: Where to compute, such as cpu, cuda or cuda:1.

    Returns:
        The exit status.

    Raises:
        WavshapError: If the model cannot be opened, or there are no recordings.
    """
    if not audio:
        raise SettingError("audio=[]: give recordings, folders or manifests")
    clips = find_clips(audio, Path("explanations")).values()
    classifier = open_model(model, device, opening)
    score = partial(score_clip, classifier)
    num_done = 0
    for clip in clips:
        outputs, _ = attempt(score, clip)
        if outputs is not None:
            num_done += 1
            parts = zip(outputs, classifier.outputs, strict=True)
            words = "  |  ".join(_listed(one, ranked=of.task != "dimensions") for one, of in parts)
            tell(f"{words}  {on_one_line(place_of(clip))}")
    return status_of(num_done, len(clips))


@torch.inference_mode()
def score_clip(classifier: EmotionClassifier, clip: Clip) -> list[dict[str, float]]:
    """Probability of each class or label, or value of each dimension, for one clip, by task.

    Raises:
        AudioError: If the clip cannot be read or is shorter than one frame.
    """
    device = next(classifier.parameters()).device
    logits = classifier(open_for(classifier, clip).waveform[None].to(device))[0]
    parts = zip(split_outputs(logits, classifier.outputs), classifier.outputs, strict=True)
    return [dict(zip(of.labels, logits_to_outputs(x, of.task).tolist(), strict=True)) for x, of in parts]


def _listed(outputs: dict[str, float], *, ranked: bool) -> str:
    """The three largest outputs, or all in their order, in columns of fixed width.

    >>> _listed({"sad": 0.25, "angry": 0.7, "calm": 0.05, "bored": 0.0}, ranked=True)
    'angry 0.700  sad   0.250  calm  0.050'
    """
    width = max(map(len, outputs))
    shown = sorted(outputs, key=lambda name: -outputs[name])[:3] if ranked else outputs
    return "  ".join(f"{name:<{width}} {outputs[name]:.3f}" for name in shown)


def make_example(folder: Path, seed: int) -> dict[str, Clip]:
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
    return {path.stem: Clip(path, EXAMPLE_LABEL, evidence=evidence)}
