"""Maps in time by Captum, SHAP, LIME and us, as they are commonly made: all of chance belongs to a seed."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

try:
    import shap
    from captum.attr import IntegratedGradients, KernelShap, Lime, NoiseTunnel, Saliency
    from lime.lime_base import LimeBase
except ImportError as error:
    sys.exit(f"{error.name} is not installed; pip install 'wavshap-lightning[compare]'")
from _problems import HOP_SAMPLES, captum_shap
from torch.nn.functional import pad

from wavshap_lightning.attribution.baselines import noise
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.explainer.defaults import NUM_REFERENCES, REFERENCE_DRAWS, draw_references
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.recording import Recording, open_recording
from wavshap_lightning.explainer.settings import DEFAULT_DRAWS, ExplainSettings
from wavshap_lightning.explainer.time_grid import times_of
from wavshap_lightning.models.classifier import EmotionClassifier

NUM_BASELINES = 50
"""Clips of noise, at the level of the clip, from which a call of GradientSHAP takes its baselines. Captum's
takes as many as draws if that is more; SHAP passes all of them through the model at once."""

SPAN_HOPS = 5
"""Frames of a span that LIME and Kernel SHAP remove: 100 ms."""

RELATIVE_NOISE = 0.15
"""Deviation of SmoothGrad's noise over the range of the clip, as its authors have it. Captum's default, 1, is
louder than any clip."""

AT_ONCE = 25

Frames = Float[Tensor, " frames"]


@dataclass(frozen=True)
class Case:
    """A clip in a classifier.

    Args:
        clip: With its speaker and its evidence, if it is known.
        classifier: The classifier that is explained.
        recording: The clip, read.
        label: The class whose log-odds are explained.
        others: Other clips at hand.
    """

    clip: Clip
    classifier: EmotionClassifier
    recording: Recording
    label: str
    others: Sequence[Clip] = ()

    @property
    def target(self) -> Target:
        """The log-odds of the label."""
        return Target("log_odds", (self.classifier.labels.index(self.label),))

    @property
    def rows(self) -> Float[Tensor, "1 samples"]:
        """The clip as a batch of one, as the libraries take it."""
        return self.recording.waveform[None]

    def spans(self) -> Float[Tensor, "1 samples"]:
        """The span that each sample belongs to."""
        return (torch.arange(self.rows.shape[1]) // (SPAN_HOPS * HOP_SAMPLES))[None]


def open_case(
    clip: Clip, classifier: EmotionClassifier, waveform: Tensor | None = None, others: Sequence[Clip] = ()
) -> Case:
    """A clip, or a waveform instead of its file, with the class that the classifier predicts."""
    recording = open_recording(clip if waveform is None else waveform, classifier.backbone.frame_grid)
    with torch.no_grad():
        best = int(classifier(recording.waveform[None])[0].argmax())
    return Case(clip, classifier, recording, classifier.labels[best], others)


@dataclass(frozen=True)
class Map:
    """Attributions over time.

    Args:
        values: One number for each frame of 20 ms.
        centers_s: Where the frames are.
    """

    values: Frames
    centers_s: Float[np.ndarray, " frames"]


class Score(nn.Module):
    """Waveforms to the explained score, `(batch, 1)`, as a module, which SHAP asks for."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.classifier, self.target = case.classifier, case.target

    def forward(self, waveforms: Tensor) -> Tensor:
        """Score of each."""
        return self.target(self.classifier(waveforms))

    def flat(self, waveforms: Tensor) -> Tensor:
        """The same, `(batch,)`, as Captum asks for."""
        return self(waveforms)[:, 0]

    @torch.no_grad()
    def without_spans(self, kept: np.ndarray, case: Case) -> np.ndarray:
        """Scores of the clip with some of its spans silent, `(masks,)`.

        Args:
            kept: 1 for the spans that are left, `(masks, spans)`.
            case: The clip.
        """
        parts = torch.from_numpy(np.atleast_2d(kept)).float().split(AT_ONCE)
        return torch.cat([self.flat(case.rows * part[:, case.spans()[0]]) for part in parts]).numpy()


def drawn_noise(case: Case, count: int, seed: int) -> Float[Tensor, "count samples"]:
    """Baselines of a seed."""
    return noise(case.recording.waveform).declare(count, torch.Generator().manual_seed(seed)).values


def gradient_shap(case: Case, count: int, seed: int) -> Tensor:
    """Captum's `GradientShap`, with noise as baselines."""
    attribute = captum_shap(case.classifier, case.target)
    return attribute(case.rows[0], drawn_noise(case, max(NUM_BASELINES, count), seed), count)


def gradient_explainer(case: Case, count: int, seed: int) -> Tensor:
    """SHAP's `GradientExplainer`, with such noise as its background."""
    explainer = shap.GradientExplainer(Score(case), drawn_noise(case, NUM_BASELINES, seed))
    return torch.from_numpy(explainer.shap_values(case.rows, nsamples=count, rseed=seed)).flatten()


def integrated_gradients(case: Case, count: int, seed: int) -> Tensor:
    """Captum's, from its default baseline, which is silence."""
    del seed  # nothing is drawn
    return IntegratedGradients(Score(case).flat).attribute(case.rows, n_steps=count)[0]


def integrated_from_noise(case: Case, count: int, seed: int) -> Tensor:
    """Captum's, from one clip of noise."""
    method = IntegratedGradients(Score(case).flat)
    return method.attribute(case.rows, drawn_noise(case, 1, seed), n_steps=count)[0]


def smooth_grad(case: Case, count: int, seed: int) -> Tensor:
    """Captum's `NoiseTunnel` around its `Saliency`, which takes magnitudes."""
    del seed  # of the global generators
    level = RELATIVE_NOISE * float(case.rows.max() - case.rows.min())
    tunnel = NoiseTunnel(Saliency(Score(case).flat))
    return tunnel.attribute(case.rows, nt_type="smoothgrad", nt_samples=count, stdevs=level)[0]


def captum_spans(method: type[Lime | KernelShap], case: Case, count: int, seed: int) -> Tensor:
    """Captum's LIME or Kernel SHAP with its default regression; silence fills the spans."""
    del seed  # of the global generators
    options = {"n_samples": count, "perturbations_per_eval": AT_ONCE, "feature_mask": case.spans()}
    return method(Score(case).flat).attribute(case.rows, **options)[0]


def kernel_explainer(case: Case, count: int, seed: int) -> Tensor:
    """SHAP's `KernelExplainer`."""
    del seed  # of the global generators
    num_spans = int(case.spans().max()) + 1
    score = partial(Score(case).without_spans, case=case)
    explainer = shap.KernelExplainer(score, np.zeros((1, num_spans)))
    weights = explainer.shap_values(np.ones((1, num_spans)), nsamples=count, silent=True)
    return torch.from_numpy(np.asarray(weights).ravel())[case.spans()[0]]


def lime_base(case: Case, count: int, seed: int) -> Tensor:
    """LIME with the masks, distances and kernel of its explainer of images."""
    num_spans = int(case.spans().max()) + 1
    generator = np.random.RandomState(seed)
    kept = generator.randint(0, 2, (count, num_spans))
    kept[0] = 1
    distances = 1 - kept.sum(1) ** 0.5 / num_spans**0.5  # cosine, from the whole clip
    method = LimeBase(lambda distance: np.sqrt(np.exp(-(distance**2) / 0.25**2)), random_state=generator)
    scores = Score(case).without_spans(kept, case)[:, None]
    found = method.explain_instance_with_data(kept, scores, distances, 0, num_features=num_spans)[1]
    weights = torch.zeros(num_spans, dtype=torch.float64)
    for span, weight in found:
        weights[span] = weight
    return weights[case.spans()[0]]


def ours(case: Case, count: int, seed: int, given: Sequence[Clip] = (), **settings: object) -> Map:
    """A whole explanation, with its checks and errors, and the map in time of its first such stage."""
    chosen = ExplainSettings(seed=seed, num_draws=count, **settings)
    found = Explainer(case.classifier, chosen).explain(case.recording, case.label, recordings=given)
    stage = found.time_stage
    return Map(found.values(stage, "frames"), found.times[stage].center_s())


def ours_from_others(case: Case, count: int, seed: int, *, chosen_anew: bool = False) -> Map:
    """The same with some of the clips at hand as baselines, as the explanation of a corpus takes them."""
    others = [one for one in case.others if one.path != case.clip.path]
    if chosen_anew:
        others = [others[index] for index in np.random.default_rng(seed).permutation(len(others))]
    return ours(case, count, seed, given=draw_references(others)[:NUM_REFERENCES])


def on_waveform(method: Callable[[Case, int, int], Tensor], case: Case, count: int, seed: int) -> Map:
    """Sums over 20 ms of what a library attributes to samples, the global generators set to the seed."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - from which Captum and SHAP draw
        samples = method(case, count, seed).detach().double()
    values = pad(samples, (0, -len(samples) % HOP_SAMPLES)).reshape(-1, HOP_SAMPLES).sum(1)
    times = times_of(case.classifier.backbone.frame_grid, len(samples))["waveform"]
    return Map(values, times.center_s())


Explain = Callable[[Case, int, int], Map]


@dataclass(frozen=True)
class Method:
    """A method and the numbers of draws that it is tried with.

    Args:
        explain: A map of a case, from a number of draws and a seed.
        clips: By number of draws, the number of clips at most: 48 for what is claimed, fewer for curves and
            for what takes long.
        usual: The default of the library, or the number that is commonly taken.
        race: Whether it is one of those that ours has to be faster than: more draws make it more stable.
    """

    explain: Explain
    clips: dict[int, int]
    usual: int
    race: bool = False


def peer(
    method: Callable[[Case, int, int], Tensor], clips: dict[int, int], usual: int, *, race: bool = True
) -> Method:
    """A method of a library."""
    return Method(partial(on_waveform, method), clips, usual, race=race)


ALL, EACH_ACTOR, SOME, FEW = 48, 24, 10, 4
OURS, CAPTUM, SILENCE = "ours, default", "GradientShap (Captum)", "integrated gradients from silence (Captum)"
SMOOTH = "SmoothGrad (Captum)"
OTHERS, CHOSEN_ANEW = "ours, default with other clips", "ours, default with another choice of clips"
USUAL_MANY, REFERENCE = 50, 256
METHODS = {
    OURS: Method(
        ours,
        {**dict.fromkeys((4, 8, 16, 32), SOME), DEFAULT_DRAWS: ALL, 128: FEW, REFERENCE: FEW},
        DEFAULT_DRAWS,
    ),
    OTHERS: Method(ours_from_others, {REFERENCE_DRAWS: ALL}, REFERENCE_DRAWS),
    CHOSEN_ANEW: Method(partial(ours_from_others, chosen_anew=True), {REFERENCE_DRAWS: ALL}, REFERENCE_DRAWS),
    "ours, frames": Method(partial(ours, stages=("frames",)), {64: SOME}, DEFAULT_DRAWS),
    "ours, waveform": Method(partial(ours, stages=("waveform",)), {64: SOME}, DEFAULT_DRAWS),
    CAPTUM: peer(gradient_shap, {5: ALL, USUAL_MANY: ALL, 200: FEW}, 5),
    "GradientExplainer (SHAP)": peer(gradient_explainer, {50: SOME, 200: FEW}, 200),
    SILENCE: peer(integrated_gradients, {50: EACH_ACTOR}, 50, race=False),
    "integrated gradients from noise (Captum)": peer(integrated_from_noise, {50: SOME}, 50, race=False),
    SMOOTH: peer(smooth_grad, {**dict.fromkeys((5, 10, 20, 50), SOME), 200: FEW}, 5),
    "LIME (Captum)": peer(partial(captum_spans, Lime), {25: SOME, 500: FEW}, 25),
    "LIME (lime)": peer(lime_base, {250: FEW, 1000: FEW}, 1000),
    "Kernel SHAP (Captum)": peer(partial(captum_spans, KernelShap), {25: SOME, 500: FEW}, 25),
    "KernelExplainer (SHAP)": peer(kernel_explainer, {2100: FEW}, 2100),
}
"""The default of `KernelExplainer` is 2048 and twice the number of spans, about 2100."""
