"""The methods that take spans of frames away, as settings ask for them."""

from __future__ import annotations

from wavshap_lightning.attribution.baselines import Baselines, BaselineSet
from wavshap_lightning.attribution.kernel_shap import kernel_shap
from wavshap_lightning.attribution.method import Question
from wavshap_lightning.attribution.occlusion import occlusion
from wavshap_lightning.attribution.players import Players, equal_spans, members
from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.attribution.segment_lime import lime
from wavshap_lightning.attribution.shapley import shapley
from wavshap_lightning.explainer.grids import TimeGrid, segment_membership
from wavshap_lightning.explainer.settings import ExplainSettings

FRAMES_A_SPAN = 5
EXACT_SPANS, FITTED_SPANS = 8, 16
DEFAULT_EVALUATIONS = 512


def take_away(
    question: Question, baselines: Baselines, settings: ExplainSettings, times: TimeGrid
) -> Attribution:
    """Run the method of the settings.

    Args:
        question: What is explained: from frames to logits.
        baselines: Frames that stand for absence.
        settings: How; the method is one of those that take spans away.
        times: Where frames lie in time.
    """
    asked = (question.score, question.input, baselines, players_of(settings, times), question.target)
    options = question.options
    match settings.method:
        case "occlusion":
            return occlusion(*asked, options=options)
        case "shapley":
            return shapley(*asked, options=options)
        case _:
            fitted = kernel_shap if settings.method == "kernel_shap" else lime
            return fitted(
                *asked,
                generator=settings.seed,
                num_coalitions=_num_coalitions(settings, baselines),
                options=options,
            )


def players_of(settings: ExplainSettings, times: TimeGrid) -> Players:
    """The settings' segments and what is left of the clip, or equal spans."""
    if settings.segments:
        spans = tuple((start_s, end_s) for start_s, end_s in settings.segments)
        return members(segment_membership(times, spans), name="segments")
    usual = {"occlusion": -(-times.count // FRAMES_A_SPAN), "shapley": EXACT_SPANS}
    return equal_spans(times.count, settings.num_spans or usual.get(settings.method, FITTED_SPANS))


def _num_coalitions(settings: ExplainSettings, baselines: Baselines) -> int:
    """An even number, as all baselines take part in each."""
    evaluations = settings.num_draws or DEFAULT_EVALUATIONS
    shared_by = len(baselines) if isinstance(baselines, BaselineSet) else 1
    return evaluations // shared_by // 2 * 2
