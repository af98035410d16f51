"""Progress bars show on a terminal, on the first process, once the work takes long."""

from __future__ import annotations

from wavshap_lightning.progress import progress_bars, without_progress_bars


def test_nothing_is_shown_without_a_terminal(capfd):
    with progress_bars(shown_after_s=0.0) as bar:
        bar("frames")(8, 64)
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_a_bar_shows_once_it_takes_long(monkeypatch, capfd):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress_bars(shown_after_s=60.0) as bar:
        bar("frames")(8, 64)
    assert capfd.readouterr() == ("", "")
    with progress_bars(shown_after_s=0.0) as bar:
        bar("frames")(8, 64)
    out, err = capfd.readouterr()
    assert out == ""
    assert "frames" in err


def test_other_processes_and_loops_within_a_loop_show_none(monkeypatch, capfd):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with without_progress_bars(), progress_bars(shown_after_s=0.0) as bar:
        bar("frames")(8, 64)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with progress_bars(shown_after_s=0.0) as bar:
        bar("frames")(8, 64)
    assert capfd.readouterr() == ("", "")
