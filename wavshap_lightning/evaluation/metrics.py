"""The metrics of the scorecard: what they are called, what they are about, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal[
    "localisation", "faithfulness", "counterfactuals", "masked sound", "sanity", "stability", "estimate"
]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Args:
        name: Its column.
        title: What it is, in a few words.
        group: What it is about.
        higher_is_better: Which way.
        decides: Whether the verdict on its group rests on it. All that decide must agree.
    """

    name: str
    title: str
    group: Group
    higher_is_better: bool = True
    decides: bool = False

    @property
    def better(self) -> str:
        """The direction in a word."""
        return "higher" if self.higher_is_better else "lower"


LOWER = {"higher_is_better": False}
METRICS: tuple[Metric, ...] = (
    Metric("auc", "Evidence found: AUC of signed attributions", "localisation", decides=True),
    Metric("absolute_auc", "Evidence found: AUC of magnitudes", "localisation"),
    Metric("mass", "Positive attribution inside the evidence", "localisation"),
    Metric("pointing", "Largest attribution inside the evidence", "localisation"),
    Metric("iou", "Overlap of largest attributions and evidence", "localisation"),
    Metric("comprehensiveness_noise", "Comprehensiveness, filled with noise", "faithfulness", decides=True),
    Metric("comprehensiveness_mean", "Comprehensiveness, filled with the mean", "faithfulness", decides=True),
    Metric("sufficiency_noise", "Sufficiency, filled with noise", "faithfulness", **LOWER, decides=True),
    Metric("sufficiency_mean", "Sufficiency, filled with the mean", "faithfulness", **LOWER, decides=True),
    Metric("deletion", "Area under deletion", "faithfulness", **LOWER),
    Metric("insertion", "Area under insertion", "faithfulness"),
    Metric("abpc", "Area between perturbation curves", "faithfulness"),
    Metric("infidelity", "Normalised infidelity", "faithfulness", **LOWER),
    Metric("consistency_pitch", "Sizes of changes: pitch of spans raised", "counterfactuals", decides=True),
    Metric("consistency_tempo", "Sizes of changes: spans slower", "counterfactuals", decides=True),
    Metric("consistency_level", "Sizes of changes: spans softer", "counterfactuals", decides=True),
    Metric("consistency_tilt", "Sizes of changes: spans duller", "counterfactuals", decides=True),
    Metric("increase", "Masked sound: average increase (AI)", "masked sound"),
    Metric("drop", "Masked sound: average drop (AD)", "masked sound", **LOWER),
    Metric("gain", "Masked sound: average gain (AG)", "masked sound"),
    Metric("removal_drop", "Masked sound: faithfulness (FF)", "masked sound"),
    Metric("fidelity", "Masked sound: input fidelity (Fid-In)", "masked sound"),
    Metric("head_redrawn", "Likeness with the head drawn anew", "sanity", **LOWER),
    Metric("all_redrawn", "Likeness with every parameter drawn anew", "sanity", **LOWER),
    Metric("other_class", "Rank correlation with another class's map", "sanity", **LOWER),
    Metric("other_seeds", "Agreement with heads of other seeds", "sanity"),
    Metric("sensitivity_30", "Sensitivity to noise at 30 dB", "stability", **LOWER),
    Metric("sensitivity_40", "Sensitivity to noise at 40 dB", "stability", **LOWER),
    Metric("gap", "Completeness gap", "estimate", **LOWER),
    Metric("reliability", "Reliability of the estimate", "estimate"),
    Metric("seconds", "Seconds a clip", "estimate", **LOWER),
)

SANITY = frozenset(metric.name for metric in METRICS if metric.group == "sanity")
"""On what maps depend is asked of each method by itself: a control comes out the same whatever is changed."""
