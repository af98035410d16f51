"""The report in a real browser: it opens, plays, says the right number on hover, and obeys keys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wavshap_lightning.viz.report.page import build_report
from wavshap_lightning.viz.theme import EN_DASH, MINUS, number

HOSTILE = "<script>alert(1)</script>.wav"
HOSTILE_LABEL = "</script><img src=x onerror=alert(1)>"
PLACES = """(place) => {
  const { xaxis, yaxis, yaxis2, yaxis3, margin } = place.layout, box = place.getBoundingClientRect();
  const height = box.height - margin.t - margin.b, width = box.width - margin.l - margin.r;
  const axis = (one) => ({ range: place._fullLayout[one].range, domain: place.layout[one].domain });
  return { left: box.left + margin.l, top: box.top + margin.t, width, height, x: xaxis.range,
    y: ["yaxis", "yaxis2", "yaxis3"].map(axis) };
}"""


def timeline(page):
    return page.locator("[data-plot=timeline]")


def time_of(page):
    return page.evaluate("document.querySelector('audio').currentTime")


def hover(page, time_s, height, row=None):
    """Point at a time, and a value on a row's axis or, without one, a share of the plot's height."""
    timeline(page).scroll_into_view_if_needed()
    place = timeline(page).evaluate(PLACES)
    first, last = place["x"]
    x = place["left"] + (time_s - first) / (last - first) * place["width"]
    share = height
    if row is not None:
        (low, high), (foot, top) = place["y"][row]["range"], place["y"][row]["domain"]
        share = 1 - (foot + (height - low) / (high - low) * (top - foot))
    page.mouse.move(0, 0)  # the words of the point before are gone first
    page.wait_for_selector(".hovertext", state="detached")
    page.mouse.move(x + 1, place["top"] + share * place["height"] + 1)
    page.mouse.move(x, place["top"] + share * place["height"])
    page.wait_for_selector(".hovertext")
    return page.locator(".hovertext text.nums").first.text_content()


def test_opens_with_all_there_is(page, until):
    assert page.locator("h1").text_content() == "Four clips"
    assert page.locator(".headline").text_content().startswith("Predicted happy (64 %)")
    until(page, "document.querySelectorAll('#clip .js-plotly-plot').length === 6")


def test_the_policy_forbids_scripts_that_are_not_ours(page, faults):
    forbidden = page.evaluate(
        """() => new Promise((resolve) => {
            const tell = (event) => resolve(event.effectiveDirective);
            document.addEventListener("securitypolicyviolation", tell);
            const script = document.createElement("script");
            script.textContent = "window.injected = true";
            document.body.append(script);
        })"""
    )
    assert forbidden.startswith("script-src")
    assert page.evaluate("window.injected") is None
    page.wait_for_timeout(50)
    assert len(faults) == 1
    assert "Content Security Policy" in faults.pop()


def test_player_plays_and_the_cursor_moves(page, waveform, until):
    place = page.evaluate("document.querySelector('.cursor').getBoundingClientRect().left")
    page.keyboard.press("Space")
    until(page, "document.querySelector('audio').currentTime > 0.2")
    moved = page.evaluate("document.querySelector('.cursor').getBoundingClientRect().left")
    assert moved > place + 50
    until(page, "document.querySelector('audio').ended")
    assert page.evaluate("document.querySelector('audio').duration") == pytest.approx(
        len(waveform) / 16_000, abs=0.03
    )


def test_the_cursor_stands_at_the_time(page, waveform, until):
    page.evaluate("document.querySelector('audio').currentTime = 0.5")
    until(page, "!document.querySelector('audio').seeking")
    page.wait_for_timeout(100)
    place = timeline(page).evaluate(PLACES)
    expected = place["left"] + 0.5 / (len(waveform) / 16_000) * place["width"]
    left = page.evaluate("document.querySelector('.cursor').getBoundingClientRect().left")
    assert left == pytest.approx(expected, abs=2)


def test_hover_says_the_frames_number_and_interval(page, clips):
    held = clips[0].numbers["frames"]
    for place in (5, 20, 33):
        middle = (held["start_s"][place] + held["end_s"][place]) / 2
        said = hover(page, middle, 0.1, row=2)
        value, half = held["attribution"][place], held["half_width"][place]
        assert said.startswith(f"{held['start_s'][place]:.3f}")
        assert number(value, signed=True) in said
        assert number(value - half, signed=True) in said
        assert number(value + half, signed=True) in said
        assert said.endswith("not resolved") == (abs(value) <= half)


def test_hover_says_the_bands_number_frequency_and_interval(page, clips):
    arrays, bands = clips[0].arrays, clips[0].numbers["bands"]
    band, column = 10, 40
    middle_hz = (bands["low_hz"][band] + bands["high_hz"][band]) / 2
    middle_s = (column * 128 + 128 - 256) / 16_000
    mel = float(np.interp(middle_hz, *mel_scale()))
    said = hover(page, middle_s, mel, row=1)
    value, half = arrays["band_frame"][band, column], arrays["band_frame_half_width"][band, column]
    assert f"{bands['low_hz'][band]:.0f}" in said
    assert number(float(value), signed=True) in said
    assert f"± {float(half):.3g}" in said
    assert ("not resolved" in said) == (abs(value) <= half)


def mel_scale():
    import librosa

    hertz = np.linspace(0, 8000, 4001)
    return hertz, librosa.hz_to_mel(hertz)


def test_columns_sort_both_ways(page):
    cells = "document.querySelectorAll('#table tbody tr')"
    read = f"[...{cells}].map((row) => [row.cells[0].textContent, row.cells[6].textContent])"
    heading = page.locator("th", has_text="Sum")
    heading.locator("button").click()
    up = page.evaluate(read)
    heading.locator("button").click()
    assert page.evaluate(read) == up[::-1]
    values = [float(text.replace(MINUS, "-")) for _, text in up]
    assert values == sorted(values)
    assert heading.get_attribute("aria-sort") == "descending"
    page.locator("th button", has_text="File").click()
    assert [name for name, _ in page.evaluate(read)] == ["clip 0.wav", "clip 1.wav", "clip 2.wav"]


def test_rows_open_clips_and_failed_ones_are_listed_with_the_reason(page):
    page.locator("#table tbody tr").nth(2).click()
    page.wait_for_selector("#clip[data-shown='2']")
    assert page.locator("#clip h2").text_content() == "clip 2.wav"
    said = page.locator("#clips .warnings").text_content().strip()
    assert said == "gone.wav: the file is empty; give a recording"


def test_an_address_opens_its_clip(open_page, html):
    page = open_page(html)
    page.goto(f"{page.url}#clip-2")
    page.reload()
    page.wait_for_selector("#clip[data-shown='2']")
    assert page.locator("#clip h2").text_content() == "clip 2.wav"


def test_keys_seek_and_move_between_clips(page):
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert time_of(page) == pytest.approx(0.2, abs=0.01)
    page.keyboard.press("ArrowLeft")
    assert time_of(page) == pytest.approx(0.1, abs=0.01)
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("#clip[data-shown='1']")
    assert page.locator("[aria-current]").get_attribute("data-clip") == "1"
    page.keyboard.press("ArrowUp")
    page.wait_for_selector("#clip[data-shown='0']")


def test_focus_is_seen_and_everything_has_a_name(page):
    page.locator("#theme").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "File"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    unnamed = "button:not([aria-label]), a, audio:not([aria-label]), [role=img]:not([aria-label])"
    assert page.evaluate(
        f"[...document.querySelectorAll('{unnamed}')]"
        ".every((one) => one.tagName !== 'AUDIO' && one.textContent.trim())"
    )


def test_hostile_names_are_harmless_and_readable(open_page, build_clip):
    labels = {"labels": (HOSTILE_LABEL, "happy", "sad", "angry"), "logits": (3.0, 2.0, 1.0, -1.0)}
    clip = build_clip(HOSTILE, HOSTILE_LABEL, classes=(0,), warnings=[HOSTILE], **labels)
    segment = {"start_s": 0.1, "end_s": 0.4, "attribution": 1.0, "stderr": 0.1, "half_width": 0.2}
    clip = replace(clip, numbers={**clip.numbers, "segments": [{"text": HOSTILE_LABEL, **segment}]})
    page = open_page(
        build_report([clip, clip], title=HOSTILE, model={HOSTILE: HOSTILE}, failed=[(HOSTILE, HOSTILE)])
    )
    assert page.title() == HOSTILE
    assert page.locator("#clip h2").text_content() == HOSTILE
    assert page.locator("#table a").first.text_content() == HOSTILE
    assert page.locator(".words button").first.text_content().startswith(HOSTILE_LABEL)
    name = page.locator("[data-plot=classes] .ytick text").first
    assert "</script>" in name.text_content()
    assert name.text_content().endswith("alert(1)>")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("#clip[data-shown='1']")
    assert page.locator("img").count() == 0


def test_words_seek(open_page, build_clip, until):
    clip = build_clip()
    segment = {
        "text": "door",
        "start_s": 0.3,
        "end_s": 0.4,
        "attribution": -1.0,
        "stderr": 0.1,
        "half_width": 0.2,
    }
    clip = replace(clip, numbers={**clip.numbers, "segments": [segment]})
    page = open_page(build_report([clip], title="One"))
    until(page, "document.querySelector('audio').readyState >= 2")
    word = page.locator(".words button")
    assert word.get_attribute("class") == "against"
    assert (
        word.get_attribute("title")
        == f"0.30{EN_DASH}0.40 s: {MINUS}1, 95 % interval {MINUS}1.2 to {MINUS}0.8"
    )
    word.click()
    assert time_of(page) == pytest.approx(0.3, abs=0.01)
