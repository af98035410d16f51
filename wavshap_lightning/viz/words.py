"""Words for a figure: names as they are written, numbers, and what the caption says."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import PurePath

from matplotlib import font_manager

from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.viz.theme import font_families

MINUS = "\N{MINUS SIGN}"
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
TO, APOSTROPHE = "\N{EN DASH}", "\N{RIGHT SINGLE QUOTATION MARK}"
TARGET, PREDICTED, LABELLED = "\N{BLACK CIRCLE}", "\N{BLACK RIGHT-POINTING TRIANGLE}", "\N{BLACK DIAMOND}"
LABEL_WIDTH, CLIP_WIDTH, CAPTION_WIDTH = 16, 72, 150
METHODS = {
    "gradient_shap": "GradientSHAP",
    "integrated_gradients": "Integrated gradients",
    "saliency": "Saliency",
    "input_x_gradient": "Input times gradient",
    "smooth_grad": "SmoothGrad",
    "occlusion": "Occlusion",
    "shapley": "Exact Shapley values",
    "kernel_shap": "Kernel SHAP",
    "lime": "LIME",
}
SCORES = {
    "log_odds": "log-odds of {}",
    "logit": "logit of {}",
    "log_probability": "log-probability of {}",
    "probability": "probability of {}",
    "margin": "logit of {} above {}",
}


def literal(text: str, width: int = 40) -> str:
    r"""A name on one line, as it is written.

    Signs that no font has are spelled out; of a long name the middle is left out.

    Args:
        text: Any text: a label, a file's name.
        width: Signs there is room for.

    >>> print(literal("two\nlines"), literal("a_very_long_$name$.wav", 12))
    two\nlines a_very…$.wav
    """
    shown = "".join(sign if _can_be_drawn(sign) else ascii(sign)[1:-1] for sign in text)
    if len(shown) <= width:
        return shown
    tail = (width - 1) // 2
    return f"{shown[: width - 1 - tail]}{ELLIPSIS}{shown[len(shown) - tail :]}"


def number(value: float, *, signed: bool = False) -> str:
    """Three digits that count, with a true minus.

    >>> number(0.01234), number(3.0, signed=True), number(-31.41) == f"{MINUS}31.4"
    ('0.0123', '+3', True)
    """
    return f"{value:{'+' if signed else ''}.3g}".replace("-", MINUS)


def percent(share: float) -> str:
    """A share of one in per cent: two digits that count, more where there are more before the point.

    >>> percent(0.0123), percent(0.874), percent(1.0), percent(1.613)
    ('1.2 %', '87 %', '100 %', '161 %')
    """
    return f"{100 * share:.2g} %" if abs(share) < 0.0995 else f"{share * 100:.0f} %"


def score_name(explanation: Explanation, target: str) -> str:
    """What is explained, in words: the unit of the attributions."""
    asked = next(iter(explanation.attributions.values())).target
    index = explanation.targets.index(target)
    classes = [asked.classes[index], *(() if asked.against is None else (asked.against,))]
    names = [literal(explanation.labels[place], LABEL_WIDTH) for place in classes]
    return SCORES[asked.kind].format(*names)


def target_class(explanation: Explanation, target: str) -> str:
    """The label that a target speaks for."""
    asked = next(iter(explanation.attributions.values())).target
    return explanation.labels[asked.classes[explanation.targets.index(target)]]


def clip_name(explanation: Explanation) -> str:
    """The clip's file, without its folders."""
    return literal(PurePath(explanation.clip).name, CLIP_WIDTH) if explanation.clip else "A waveform"


def decision(explanation: Explanation, target: str | None, label: str | None) -> str:
    """Target, prediction and label, with the signs that mark them among the classes.

    Args:
        explanation: Of which clip.
        target: Which one; None for all.
        label: What the clip was annotated as, if that is known.
    """
    prediction = explanation.prediction
    words = [f"{TARGET} target {literal(target or 'all classes', 2 * LABEL_WIDTH)}"]
    if target is not None:
        words[0] += f": {score_name(explanation, target)} = {number(explanation.score[target])}"
    words.append(f"{PREDICTED} predicted {literal(prediction, LABEL_WIDTH)}")
    words += [f"{LABELLED} labelled {literal(label, LABEL_WIDTH)}"] if label is not None else []
    return "      ".join(words)


def caption(explanation: Explanation, target: str | None) -> list[str]:
    """What the numbers are and how they were found, a sentence or two a line.

    Args:
        explanation: Of which clip.
        target: Which one; None for all.
    """
    found = explanation.attributions
    completeness = [f"{path} {gap_words(one, explanation, target)}" for path, one in found.items()]
    lines = [] if target is None else [_difference(next(iter(found.values())), explanation, target)]
    lines.append(f"Completeness gap before the correction: {', '.join(completeness)}.")
    return [*lines, how(explanation)]


def note_lines(notes: Sequence[str]) -> list[str]:
    """Warnings for the foot of a page, each on as many lines as it takes.

    >>> note_lines(["Take more draws."])
    ['Note: Take more draws.']
    """
    wrapped = [textwrap.wrap(f"Note: {literal(note, 10 * CAPTION_WIDTH)}", CAPTION_WIDTH) for note in notes]
    return [line for lines in wrapped for line in lines]


def how(explanation: Explanation) -> str:
    """Method, baselines, draws and seed."""
    found = explanation.attributions
    first = next(iter(found.values()))
    draws = {path: one.num_draws for path, one in found.items()}
    counts = [f"{count} for {path}" for path, count in draws.items()]
    drawn = f"{first.num_draws} for each path" if len(set(draws.values())) == 1 else ", ".join(counts)
    seed = "" if first.seed is None else f"; seed {first.seed}"
    return f"{METHODS[first.method]}, {first.estimand}; draws: {drawn}{seed}."


def gap_words(found: Attribution, explanation: Explanation, target: str | None) -> str:
    """The relative gap of one path, the largest where no target is named."""
    if found.relative_gap is None:
        return "not claimed"
    gaps = found.relative_gap
    worst = max(gaps) if target is None else gaps[explanation.targets.index(target)]
    return f"{100 * worst:.2g} %"


def _difference(found: Attribution, explanation: Explanation, target: str) -> str:
    index, name = explanation.targets.index(target), score_name(explanation, target)
    score = found.score[index]
    if found.mean_baseline_score is None or found.gap is None:
        return f"The {name} is {number(score)}. This method claims no completeness: its sum means nothing."
    mean = found.mean_baseline_score[index]
    return (
        f"The {name} is {number(score)} for the clip and {number(mean)} on average for the baselines; "
        f"attributions add up to the difference, {number(score - mean, signed=True)}."
    )


def _can_be_drawn(sign: str) -> bool:
    return sign.isprintable() and ord(sign) in _signs_drawn()


@cache
def _signs_drawn() -> frozenset[int]:
    fonts = (font_manager.get_font(font_manager.findfont(family)) for family in font_families())
    return frozenset(code for font in fonts for code in font.get_charmap())
