"""`explain.py` from its arguments to its exit status."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wavshap_lightning.audio.io import SAMPLE_RATE, load_audio, save_audio
from wavshap_lightning.cli.clips import (
    Explained,
    Item,
    Work,
    check_segments,
    explain_item,
    find_items,
    name_items,
    open_model,
    prepare,
    settings_of,
)
from wavshap_lightning.cli.compare import Rivals, open_rivals
from wavshap_lightning.cli.output import Output, write_report
from wavshap_lightning.cli.terminal import complain, on_one_line, quiet, shown
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import AudioError, SettingError, WavshapError
from wavshap_lightning.explainer.explainer import fingerprint
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.files import SavedClip
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.stages import logits_of
from wavshap_lightning.models.classifier import EmotionClassifier

EXAMPLE_LABEL = "angry"


def make_example(folder: Path, seed: int) -> list[Item]:
    """A clip of synthetic speech with a rough voice in a known span, written so that it can be heard.

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
    return name_items([Item(path, clip=Clip(path, EXAMPLE_LABEL, evidence=evidence))])


def score_all(classifier: EmotionClassifier, items: Sequence[Item], settings: ExplainSettings) -> int:
    """Print a line a clip as it is scored; return how many could be."""
    num_scored = 0
    for item in items:
        try:
            probabilities = score_clip(classifier, item.recording, settings)
        except WavshapError as error:
            complain(error)
            continue
        num_scored += 1
        sys.stdout.write(f"{_ranked(probabilities)}  {on_one_line(item.name)}\n")
        sys.stdout.flush()
    return num_scored


def _ranked(probabilities: dict[str, float]) -> str:
    """The most probable class and the two that follow, in columns of fixed width.

    >>> _ranked({"sad": 0.25, "angry": 0.7, "calm": 0.05})
    'angry 0.700  sad   0.250  calm  0.050'
    """
    width = max(map(len, probabilities))
    first = sorted(probabilities, key=lambda label: -probabilities[label])[:3]
    return "  ".join(f"{label:<{width}} {probabilities[label]:.3f}" for label in first)


@torch.inference_mode()
def score_clip(
    classifier: EmotionClassifier, recording: Path | Clip, settings: ExplainSettings
) -> dict[str, float]:
    """The probability of each class for one clip.

    Args:
        classifier: Which.
        recording: The clip.
        settings: They say how a long one is cut.

    Raises:
        AudioError: If the clip cannot be read or is shorter than one frame.
    """
    clip = recording if isinstance(recording, Clip) else Clip(recording, label="unknown")
    waveform = load_audio(
        clip.path, sample_rate=classifier.sample_rate, start_s=clip.start_s, end_s=clip.end_s
    )
    shortest = classifier.backbone.frame_grid.receptive_field_samples
    if len(waveform) < shortest:
        raise AudioError(
            f"path={clip.path} has {len(waveform)} samples at {classifier.sample_rate} Hz, one frame needs "
            f"{shortest}; give a longer clip"
        )
    device = next(classifier.parameters()).device
    logits = logits_of(classifier, torch.from_numpy(waveform).to(device), settings)
    return dict(zip(classifier.labels, logits.softmax(0).tolist(), strict=True))


NUM_MOMENTS, NUM_NEURONS = 5, 3
SCORES = {"log_odds": "log-odds", "log_probability": "log-probability"}


def describe(found: Explained, console: Console) -> None:
    """A clip in a few aligned lines: decision, moments, layer and neurons, and what to beware of."""
    explanation, target = found.explanation, found.saved.numbers["target"]
    title = f"{on_one_line(found.item.name)}  {explanation.duration_s:.2f} s"
    console.print(Text(title, style="bold"), soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in _lines(found, target):
        table.add_row(f"  {name}", Text(words))
    for warning in found.saved.numbers["warnings"]:
        table.add_row("  beware", Text(warning, style="yellow"))
    console.print(table)
    console.print()


def describe_briefly(found: Explained, count: int, total: int, console: Console) -> None:
    """A clip on one line: how far we are, decision, gap, strongest moment, name."""
    explanation, target = found.explanation, found.saved.numbers["target"]
    width = max(map(len, explanation.labels))
    probability = explanation.probabilities[explanation.prediction]
    words = [
        f"[{count:>{len(str(total))}}/{total}]",
        f"{explanation.prediction:<{width}} {probability:.2f}",
        f"gap {_gap(explanation, target):>7}",
    ]
    if moments := _moments(explanation, target, 1):
        words.append(f"{moments[0]:<32}")
    words.append(on_one_line(found.item.name) + ("  !" if found.saved.numbers["warnings"] else ""))
    console.print(Text("  ".join(words)), soft_wrap=True)


def _lines(found: Explained, target: str) -> list[tuple[str, str]]:
    explanation, numbers = found.explanation, found.saved.numbers
    probability = explanation.probabilities[explanation.prediction]
    label = f"  (labelled {found.item.label})" if found.item.label else ""
    lines = [("predicted", f"{explanation.prediction}, probability {probability:.3f}{label}")]
    lines.append((f"{_score_name(explanation)} of {target}", _difference(numbers)))
    lines.append(("gap", f"{_gap(explanation, target)} before it was closed"))
    lines += _extent(explanation, target)
    moments = _moments(explanation, target, NUM_MOMENTS)
    lines += [("moments" if place == 0 else "", words) for place, words in enumerate(moments)]
    lines += _layers(explanation, target)
    return lines + [
        ("agreement", f"{pair['first']} and {pair['second']}: {_known(pair['correlation'])}")
        for pair in numbers.get("families", ())
    ]


def _known(correlation: float | None) -> str:
    return "not known" if correlation is None else f"{correlation:+.2f}"


def _score_name(explanation: Explanation) -> str:
    kind = next(iter(explanation.attributions.values())).target.kind
    return SCORES.get(kind, kind)


def _difference(numbers: Mapping[str, Any]) -> str:
    score, baseline = numbers["score"], numbers["baseline_score"]
    if score is None or baseline is None:
        return f"{score:+.3f}"
    return f"{score:+.3f}, of the baselines {baseline:+.3f}, explained {score - baseline:+.3f}"


def _gap(explanation: Explanation, target: str) -> str:
    gap = next(iter(explanation.relative_gap(target).values()))
    return "none" if gap is None else f"{gap:.1%}"


def _extent(explanation: Explanation, target: str) -> list[tuple[str, str]]:
    path = explanation.time_stage
    if path is None:
        return []
    values = explanation.values(path, "frames", target)
    largest = float(values[values.abs().argmax()])
    return [("attribution", f"mean {float(values.mean()):+.4f}, largest {largest:+.4f} a frame")]


def _moments(explanation: Explanation, target: str, count: int) -> list[str]:
    path = explanation.time_stage
    if path is None:
        return []
    return [
        f"{one.start_s:5.2f}-{one.end_s:.2f} s  {_with_interval(one.attribution, one.half_width)}"
        for one in explanation.top_frames(count, stage=path, target=target)
    ]


def _layers(explanation: Explanation, target: str) -> list[tuple[str, str]]:
    if "layers" not in explanation.attributions:
        return []
    top = explanation.top_layers(1, target=target)[0]
    neurons = explanation.top_neurons(top.layer, NUM_NEURONS, target=target)
    words = [f"{one.neuron} ({_with_interval(one.attribution, one.half_width)})" for one in neurons]
    return [
        ("layer", f"{top.layer}  {_with_interval(top.attribution, top.half_width)}"),
        ("neurons", ", ".join(words)),
    ]


def _with_interval(value: float, half_width: float | None) -> str:
    return f"{value:+.4f}" if half_width is None else f"{value:+.4f} ± {half_width:.4f}"


EXIT_DONE, EXIT_SOME_FAILED, EXIT_NOTHING_DONE, EXIT_INTERRUPTED = 0, 1, 2, 130
MANY = 5
"""Clips that are described at length; more get a line each."""

UNHEARD = (
    ("scores_only", "compare", "which explains nothing; leave one of them out"),
    ("scores_only", "epochs", "which explains nothing; leave one of them out"),
    ("scores_only", "families", "which explains nothing; leave one of them out"),
    ("scores_only", "scorecard", "which explains nothing; leave one of them out"),
    ("scorecard", "epochs", "whose other heads are of other seeds; name their checkpoints with --compare"),
    ("scorecard", "families", "whose maps are of one family of baselines; leave one of them out"),
)
"""A switch, what it would pass over in silence, and why, with what to do instead."""

OUT_OF_REACH = (WavshapError, RuntimeError, MemoryError)
"""What a single clip may fail with: input that cannot be explained, or memory that does not suffice."""

Seen = tuple[str, SavedClip | None, Any, str]


def run(options: Namespace) -> int:
    """Do what was asked for; return the exit status.

    Raises:
        WavshapError: If nothing can be done.
    """
    _check(options)
    with quiet():
        out = Path(options.out).expanduser()
        items = find_items(options.audio, out)
        classifier = open_model(options.model, options.device)
        if options.scores_only:
            items = items or _example(out, options.seed)
            return exit_status(score_all(classifier, items, settings_of(options)), len(items))
        if options.scorecard:
            return _scorecard(options, classifier, items, out)
        work = prepare(options, classifier)
        check_segments(options.segments, len(items))
        rivals = open_rivals(options, work)
        output = Output(out, options.figures, options.sounds, options.share)
        output.open()
        items = items or _example(out, options.seed)
        seen = _explain_all(work, rivals, items, output)
    if options.report:
        write_report(out, seen, "Explained clips", model_words(options.model, classifier))
    num_explained = sum(saved is not None for _, saved, _, _ in seen)
    conclude(num_explained, len(items), out)
    return exit_status(num_explained, len(items))


def _check(options: Namespace) -> None:
    for switch, name, reason in UNHEARD:
        given = getattr(options, name)
        if getattr(options, switch) and given:
            raise SettingError(f"{name}={given} does not go with --{switch.replace('_', '-')}, {reason}")


def _scorecard(options: Namespace, classifier: EmotionClassifier, items: Sequence[Item], out: Path) -> int:
    from wavshap_lightning.cli.scorecard import check_target, score_methods  # noqa: PLC0415 - slow

    check_target(options.target)
    Output(out, figures=True, sounds=False, share=options.share).open()
    items = items or _example(out, options.seed)
    rivals = [open_model(name, options.device) for name in options.compare]
    num_measured = score_methods(
        classifier, items, out, target=options.target, seed=options.seed, rivals=rivals
    )
    return exit_status(num_measured, len(items))


def _explain_all(work: Work, rivals: Rivals | None, items: Sequence[Item], output: Output) -> list[Seen]:
    """Clip by clip; the table is written whatever ends it."""
    console = Console(highlight=False)
    seen: list[Seen] = []
    try:
        for count, item in enumerate(items, 1):
            try:
                found = explain_item(work, item)
                comparisons = [] if rivals is None else rivals.compare(found)
            except OUT_OF_REACH as error:
                reason = reason_of(error)
                complain(f"failed: {shown(item.path)}: {reason}")
                output.fail(item, reason)
                seen.append((item.name, None, None, reason))
                continue
            output.add(found)
            if rivals is not None:
                rivals.write(comparisons, found, output.folder, figure=output.figures)
            seen.append((item.name, found.saved, found.waveform, ""))
            _say(found, count, len(items), console)
    except KeyboardInterrupt:
        num_done = sum(saved is not None for _, saved, _, _ in seen)
        complain(f"interrupted: {num_done} of {len(items)} clips are done, in {shown(output.folder)}")
        raise
    finally:
        output.write_summary()
    return seen


def _say(found: Explained, count: int, total: int, console: Console) -> None:
    if total > MANY:
        describe_briefly(found, count, total, console)
    else:
        describe(found, console)


def reason_of(error: BaseException) -> str:
    """Never empty, and on one line."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if isinstance(error, WavshapError) else f"{type(error).__name__}: {words[:300]}"


def _example(out: Path, seed: int) -> list[Item]:

    return make_example(out / "sounds", seed)


def model_words(name: str, classifier: EmotionClassifier) -> dict[str, str]:
    """What people should know of the classifier."""
    settings = classifier.backbone.settings
    return {
        "model": name,
        "backbone": settings.name if settings.revision is None else f"{settings.name} ({settings.revision})",
        "classes": ", ".join(classifier.labels),
        "fingerprint": fingerprint(classifier)[:12],
    }


def exit_status(num_done: int, num_items: int) -> int:
    """How the command ends."""
    if num_done == num_items:
        return EXIT_DONE
    return EXIT_SOME_FAILED if num_done else EXIT_NOTHING_DONE


def conclude(num_explained: int, num_items: int, out: Path) -> None:
    """Say how it went, and where to look."""
    clips = "clip" if num_items == 1 else "clips"
    where = shown(out / "report.html" if (out / "report.html").is_file() else out / "summary.csv")
    sys.stdout.write(f"{num_explained} of {num_items} {clips} explained: {where}\n")
