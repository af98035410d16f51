"""A report of many clips: small enough to send, quick enough to read."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from wavshap_lightning.explainer.files import SavedClip
from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.report.page import build_report

MOST_BYTES = 60e6


@pytest.mark.slow
def test_two_hundred_clips_stay_small_and_responsive(open_page, clips, waveform):
    three_seconds = [longer(clip, waveform, 4) for clip in clips[:3]]
    many = [replace(three_seconds[place % 3], name=f"clip {place:03}.wav") for place in range(200)]
    page_text = build_report(many, title="Many")
    size = len(page_text.encode())
    page = open_page(page_text)
    opened_s = page.evaluate("performance.now()") / 1000
    page.wait_for_load_state()
    read_s = page.evaluate("performance.now()") / 1000
    steps = []
    for place in range(1, 6):
        start = time.perf_counter()
        page.keyboard.press("ArrowDown")
        page.wait_for_selector(f"#clip[data-shown='{place}']")
        steps.append(time.perf_counter() - start)
    opened = f"the first clip shown after {opened_s:.1f} s, all read after {read_s:.1f} s"
    sys.stdout.write(
        f"\n200 clips of 3 s: {size / 1e6:.1f} MB, {opened}, a clip in {np.median(steps):.2f} s\n"
    )
    assert size <= MOST_BYTES
    assert page.locator("#clip h2").text_content() == "clip 005.wav"


def longer(clip, waveform, times):
    """The clip several times in a row."""
    numbers, arrays = dict(clip.numbers), dict(clip.arrays)
    period_s = numbers["duration_s"]
    for path in ("frames", "waveform"):
        held = numbers[path]
        places = {
            name: [value + period_s * turn for turn in range(times) for value in held[name]]
            for name in ("start_s", "end_s")
        }
        numbers[path] = {name: values * times for name, values in held.items()} | places
    for name in ("layer_frame", "band_frame", "layer_frame_half_width", "band_frame_half_width"):
        arrays[name] = np.tile(arrays[name], times)
    numbers["duration_s"] = period_s * times
    return ClipView.from_saved(SavedClip(numbers, arrays), clip.name, np.tile(waveform, times))
