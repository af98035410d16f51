"""The report in a real browser: every page is watched for what it fetches, alerts or complains of."""

from __future__ import annotations

import shutil
import time

import pytest

from wavshap_lightning.viz.report.page import build_report


def find_browser(playwright, started):
    """Debian's, another Chrome's, or Playwright's own; skips where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    try:
        return started.chromium.launch(executable_path=found, args=["--mute-audio"])
    except playwright.Error as error:
        pytest.skip(f"no Chromium can be started ({str(error).splitlines()[0]}); apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        browser = find_browser(playwright, started)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def faults():
    """What a page fetched, alerted or complained of."""
    return []


@pytest.fixture(autouse=True)
def _no_faults(faults):
    yield
    found = [*faults]
    faults.clear()
    assert found == []


@pytest.fixture(scope="module")
def open_page(browser, faults, tmp_path_factory):
    """`(html, **context) -> page`."""
    contexts = []

    def allow(route):
        if route.request.url.startswith("file://"):
            route.continue_()
        else:
            faults.append(route.request.url)
            route.abort()

    def opened(html, **context):
        file = tmp_path_factory.mktemp("page") / "report.html"
        file.write_text(html, encoding="utf-8", newline="\n")
        own = ("data:", "blob:", file.as_uri())
        contexts.append(browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **context}))
        page = contexts[-1].new_page()
        page.route("**/*", allow)
        page.on("console", lambda said: faults.append(said.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda one: one.url.startswith(own) or faults.append(one.url))
        page.goto(file.as_uri(), wait_until="commit")
        page.wait_for_selector("#clip[data-shown]")
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def clips(build_clip):
    return [build_clip(f"clip {place}.wav", texts=(), seed=place) for place in range(3)]


@pytest.fixture(scope="module")
def html(clips):
    failed = [("gone.wav", "the file is empty; give a recording")]
    return build_report(clips, failed=failed, title="Four clips", model={"Checkpoint": "best.ckpt"})


@pytest.fixture(scope="module")
def shared(open_page, html):
    return open_page(html)


@pytest.fixture
def page(shared, until):
    """One page for all tests that can begin at its first clip."""
    for clip in (1, 0):
        shared.evaluate(f"location.hash = 'clip-{clip}'")
        shared.wait_for_selector(f"#clip[data-shown='{clip}']")
    until(shared, "document.querySelector('audio').readyState >= 2")
    return shared


@pytest.fixture(scope="session")
def until():
    """`(page, condition)`: wait; the page's policy forbids Playwright's own way."""

    def until(page, condition):
        end = time.monotonic() + 20
        while not page.evaluate(condition):
            assert time.monotonic() < end, condition
            page.wait_for_timeout(20)

    return until
