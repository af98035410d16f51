"""`explain.py` from its arguments to its exit status."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from wavshap_lightning.cli.explain_clip import Explained, Work, explain_item, prepare, settings_of
from wavshap_lightning.cli.explain_compare import Rivals, open_rivals
from wavshap_lightning.cli.explain_files import Output, write_report
from wavshap_lightning.cli.explain_items import Item, find_items
from wavshap_lightning.cli.explain_scores import score_all
from wavshap_lightning.cli.explain_segments import check_segments
from wavshap_lightning.cli.explain_words import describe, describe_briefly
from wavshap_lightning.cli.model_argument import open_model
from wavshap_lightning.cli.quiet import quiet
from wavshap_lightning.cli.terminal import complain, shown
from wavshap_lightning.errors import SettingError, WavshapError
from wavshap_lightning.explainer.fingerprint import fingerprint
from wavshap_lightning.explainer.saved import SavedClip
from wavshap_lightning.models.classifier import EmotionClassifier

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
        write_report(out, seen, "What the model hears", model_words(options.model, classifier))
    num_explained = sum(saved is not None for _, saved, _, _ in seen)
    conclude(num_explained, len(items), out)
    return exit_status(num_explained, len(items))


def _check(options: Namespace) -> None:
    for switch, name, reason in UNHEARD:
        given = getattr(options, name)
        if getattr(options, switch) and given:
            raise SettingError(f"{name}={given} does not go with --{switch.replace('_', '-')}, {reason}")


def _scorecard(options: Namespace, classifier: EmotionClassifier, items: Sequence[Item], out: Path) -> int:
    from wavshap_lightning.cli.explain_scorecard import check_target, score_methods  # noqa: PLC0415 - slow

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
    from wavshap_lightning.cli.explain_example import make_example  # noqa: PLC0415 - slow

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
