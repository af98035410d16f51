"""The report in light and dark, and on paper."""

from __future__ import annotations

import re

import pytest


def test_light_dark_and_paper(open_page, html):
    page = open_page(html, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(22, 24, 27)"
    page.locator("#theme").click()
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.locator("#theme").click()
    assert page.evaluate(background) == "rgb(22, 24, 27)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert not page.locator("#theme").is_visible()
    assert not page.locator("audio").is_visible()
    assert page.pdf().startswith(b"%PDF")


PAPER_PX = {"width": 695, "height": 910}
"""What the smaller of A4 and Letter leaves within the page's margins."""


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_clip_fits_its_sheet_in_its_colours(open_page, html, until, theme):
    """On paper heading, words and everything over time stand on one sheet, and nothing is cut off."""
    page = open_page(html, color_scheme=theme, viewport=PAPER_PX)
    until(page, "document.querySelectorAll('#clip .js-plotly-plot').length === 6")
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    page.emulate_media(media="print", color_scheme=theme)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    until(page, "document.querySelector('[data-plot=timeline]').layout.width > 800")
    page.wait_for_timeout(200)
    top, right, bottom = page.evaluate(
        """() => {
            const box = (place) => place.getBoundingClientRect();
            const rights = [...document.querySelectorAll('main *')].map((one) => box(one).right);
            const [clip, over] = ['#clip', '.over-time'].map((name) => box(document.querySelector(name)));
            return [clip.top, Math.max(...rights), over.bottom];
        }"""
    )
    assert bottom - top <= PAPER_PX["height"]
    assert right <= PAPER_PX["width"] + 1
    empty = "[...document.querySelectorAll('[data-summary-plot]')].filter((one) => !one.querySelector('svg'))"
    assert page.evaluate(f"{empty}.length") == 0
    colours = "document.querySelector('.key .for'), document.querySelector('.warnings, .words button')"
    assert page.evaluate(f"[{colours}].every((one) => getComputedStyle(one).printColorAdjust === 'exact')")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    hidden = ("audio", "nav", "#theme", ".cursor", ".keys")
    assert not any(page.locator(one).first.is_visible() for one in hidden)


@pytest.mark.slow
def test_it_prints_on_a_sheet_for_each_thing_to_read(open_page, html, until):
    """The table, the clip over time, its charts, and each class: no page is begun for what was cut."""
    page = open_page(html)
    until(page, "document.querySelectorAll('#clip .js-plotly-plot').length === 6")
    printed = page.pdf(format="Letter")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 4
    page.wait_for_timeout(200)
    width = page.locator("[data-plot=timeline]").evaluate("(plot) => plot.layout.width ?? null")
    assert width is None  # on the screen it is as wide as the window again
