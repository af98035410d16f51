"""Make `figures/report.png` again: explain clips of PlantedSpeech, build their report, photograph it.

    python docs/make_report_picture.py --checkpoint runs/demo/version_0/checkpoints/best.ckpt

Needs the extra `dev` and Chromium, and neither network nor data.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import sync_playwright

from wavshap_lightning import explain, load_audio
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.planted.corpus import PlantedSettings, ensure_planted_speech
from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.report.page import build_report

PICTURE = Path(__file__).parent / "figures" / "report.png"
CLIPS = ("s12-child_angry_01", "s12-child_happy_01", "s11-female_sad_01", "s11-female_fearful_02")
WIDTH_PX, HEIGHT_PX = 1200, 1480


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="of the demo")
    checkpoint = parser.parse_args().checkpoint
    with tempfile.TemporaryDirectory() as folder:
        clips = ensure_planted_speech(Path(folder) / "corpus", PlantedSettings())
        named = {clip.name: clip for clip in clips}
        page = Path(folder) / "report.html"
        page.write_text(
            report(checkpoint, [named[name] for name in CLIPS if name in named]), encoding="utf-8"
        )
        photograph(page)


def report(checkpoint: Path, clips: Sequence[Clip]) -> str:
    """The page of some clips."""
    found = []
    for clip in clips:
        explanation = explain(checkpoint, clip, target=clip.label, stages=("frames", "layers", "waveform"))
        waveform = load_audio(clip.path, sample_rate=explanation.sample_rate)
        saved = explanation.to_saved_clip(label=clip.label)
        found.append(ClipView.from_saved(saved, clip.path.name, waveform))
    return build_report(found, title="PlantedSpeech", model={"Model": "the demo's"})


def photograph(page: Path) -> None:
    """Its beginning, in light, with the cursor somewhere in the clip."""
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"))
        view = browser.new_page(viewport={"width": WIDTH_PX, "height": HEIGHT_PX}, color_scheme="light")
        view.goto(page.as_uri())
        view.wait_for_selector("[data-plot=bands] .bars")
        view.evaluate("document.querySelector('audio').currentTime = 0.9")
        view.wait_for_timeout(500)
        view.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
