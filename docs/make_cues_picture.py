"""Make `figures/cues.png` again: a clip explained in acoustic cues.

    python docs/make_cues_picture.py MODEL CLIP REFERENCE --target angry

CLIP and REFERENCE are recordings of the same speaker, the second one neutral. That of the page is an angry
clip of RAVDESS, of an actor whom the classifier did not see.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.labels import UNLABELED
from wavshap_lightning.explainer.cues import NEUTRAL, CueExplanation, explain_cues
from wavshap_lightning.viz import theme
from wavshap_lightning.viz.cues import plot_cues

PICTURE = Path(__file__).parent / "figures" / "cues.png"
SIZE_PX = (900, 250)
LONGEST_S = 3.0


def main() -> None:
    """Explain and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a classifier")
    parser.add_argument("clip", type=Path, help="recording to explain")
    parser.add_argument("reference", type=Path, help="neutral recording of the speaker")
    parser.add_argument("--target", default="predicted", help="class to explain")
    given = parser.parse_args()
    clip, reference = (
        Clip(path, UNLABELED, start_s=0.0, end_s=LONGEST_S) for path in (given.clip, given.reference)
    )
    explained = explain_cues(given.model, clip, reference=reference, target=given.target)
    plot(explained).savefig(PICTURE, bbox_inches="tight", pad_inches=0.12, metadata={"Software": None})


def plot(explained: CueExplanation) -> Figure:
    """The panel of cues alone."""
    with theme.theme():
        figure = Figure(figsize=[pixels / theme.DPI for pixels in SIZE_PX], layout="constrained")
        title = f"Log-odds of {explained.target} above those of the neutral clip, by cue"
        plot_cues(figure.subplots(), {**explained.to_dict(), "reference_kind": NEUTRAL}, title)
        figure.draw_without_rendering()
    return figure


if __name__ == "__main__":
    main()
