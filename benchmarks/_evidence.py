"""Do attributions find the evidence planted in synthetic clips?"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.settings import ExplainSettings


def evidence_auc(checkpoint: Path, clips: Iterable[Clip], *, seed: int = 0) -> float:
    """Mean area under the ROC curve of frames inside against frames outside the evidence.

    Args:
        checkpoint: Of the classifier; its evidence for each clip's label is what is explained, with the
            default settings.
        clips: Those with evidence are looked at.
        seed: Decides the baselines.
    """
    explainer = Explainer(checkpoint, ExplainSettings(stages=("frames",), seed=seed))
    with_evidence = [clip for clip in clips if clip.evidence]
    return statistics.fmean(_auc(explainer.explain(clip, clip.label), clip) for clip in with_evidence)


def _auc(explanation: Explanation, clip: Clip) -> float:
    middle_s = explanation.times["frames"].center_s()
    inside = np.any([(span.start_s <= middle_s) & (middle_s < span.end_s) for span in clip.evidence], axis=0)
    return float(roc_auc_score(inside, explanation.values("frames", "frames").numpy()))
