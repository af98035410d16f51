"""Whether a map depends on what the clip is compared with: agreement over families of baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.agreement import correlation
from wavshap_lightning.evaluation.summary import when_path
from wavshap_lightning.explainer.explain import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.settings import RECORDED_FAMILIES, ExplainSettings
from wavshap_lightning.explainer.sound import Recording
from wavshap_lightning.explainer.targets import PREDICTED

DRAWN_FAMILIES = ("noise", "spectral_noise", "time_shifted")
"""Those that need nothing but the clip."""


def explain_by_family(
    explainer: Explainer,
    clip: Recording,
    target: str = PREDICTED,
    *,
    families: Sequence[str] = DRAWN_FAMILIES,
    recordings: Sequence[Recording] = (),
) -> dict[str, Explanation]:
    """One clip, explained against each of several families of baselines.

    Args:
        explainer: The classifier, and all other settings.
        clip: As in [`Explainer.explain`][wavshap_lightning.explainer.explain.Explainer.explain].
        target: See there; one.
        families: Which, at least two.
        recordings: For those that consist of recordings.

    Raises:
        SettingError: If there are fewer than two, or one is unknown.
        WavshapError: As there.
    """
    if len({*families}) < 2:
        raise SettingError(f"families={list(families)} must name two different families at least")
    found = {}
    for family in families:
        settings = ExplainSettings.from_dict({**explainer.settings.to_dict(), "baselines": family})
        one = Explainer(explainer.classifier, settings)
        given = recordings if family in RECORDED_FAMILIES else ()
        found[family] = one.explain(clip, target, recordings=given)
    return found


def family_agreement(explanations: Mapping[str, Explanation]) -> dict[tuple[str, str], float]:
    """Pearson's correlation of the frames' attributions, for every two families.

    Close to 1: what the map shows does not depend on the choice. Much below: the families ask different
    questions, and the map has to be read together with its baseline.

    Args:
        explanations: Of one clip and one target, by family; each with a path that says when.

    Raises:
        SettingError: If one does not say when.
    """
    frames = {}
    for family, one in explanations.items():
        path = when_path(one)
        if path is None:
            raise SettingError(
                f"{family!r} was explained along {', '.join(one.attributions)}, which does not say when; "
                "explain with 'frames' or 'waveform' among views"
            )
        frames[family] = one.values(path, "frames")
    return {pair: correlation(frames[pair[0]], frames[pair[1]]) for pair in combinations(frames, 2)}
