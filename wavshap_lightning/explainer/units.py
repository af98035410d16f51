"""At what resolution each path's attributions and errors are stated."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.layer_views import layer_detail, layer_frame, layer_neuron
from wavshap_lightning.attribution.spectral_views import band_frame
from wavshap_lightning.attribution.views import View, grouped, summed
from wavshap_lightning.explainer.grids import STFT, TimeGrid, mel_band_edges, segment_membership
from wavshap_lightning.explainer.settings import ExplainSettings, Path

Map = Callable[[Float[Tensor, "draws targets *units"]], Float[Tensor, "draws targets *coarser"]]


def units_of(
    path: Path,
    settings: ExplainSettings,
    mix_weights: Float[Tensor, " layer"],
    times: Mapping[str, TimeGrid],
    num_samples: int,
) -> tuple[View, ...]:
    """The views of a path; a tolerance is meant for the first.

    Args:
        path: Which.
        settings: What was asked for.
        mix_weights: What the head weighs layers with.
        times: Where units lie in time, by path.
        num_samples: Length of the clip.
    """
    match path:
        case "frames":
            return _with_segments(summed(1, name="frames", neighbours=True), settings, times[path])
        case "layers":
            return _layer_units(settings, mix_weights)
        case "waveform":
            frames = grouped(times[path].hop_samples, name="frames")
            return (
                *_with_segments(frames, settings, times[path]),
                *_band_units(settings, num_samples, times[path].sample_rate),
            )


def _band_units(settings: ExplainSettings, num_samples: int, sample_rate: int) -> tuple[View, ...]:
    edges = mel_band_edges(settings.num_bands, sample_rate).tolist()
    by_frame = band_frame(num_samples, window=STFT.window, hop=STFT.hop, band_edges=edges)
    return (by_frame, coarser(by_frame, "bands", lambda units: units.sum(3)))


def _layer_units(settings: ExplainSettings, mix_weights: Float[Tensor, " layer"]) -> tuple[View, ...]:
    by_frame = layer_frame(mix_weights)
    layers = coarser(by_frame, "layers", lambda units: units.sum(3))
    in_full = () if settings.layer is None else (layer_detail(mix_weights, settings.layer),)
    return (by_frame, layer_neuron(mix_weights), layers, *in_full)


def coarser(view: View, name: str, add_up: Map, *, neighbours: bool = False) -> View:
    """Sums of a view's units, with errors of their own.

    Args:
        view: Whose units.
        name: What the sums are.
        add_up: The sums; linear.
        neighbours: As in [`View`][wavshap_lightning.attribution.views.View].
    """
    return View(
        name,
        lambda gradients, directions: add_up(view.project(gradients, directions)),
        neighbours,
        view.after_first,
    )


def _with_segments(frames: View, settings: ExplainSettings, times: TimeGrid) -> tuple[View, ...]:
    if not settings.segments:
        return (frames,)
    membership = segment_membership(times, tuple((start_s, end_s) for start_s, end_s in settings.segments))
    return (frames, coarser(frames, "segments", lambda units: units @ membership.to(units).T))
