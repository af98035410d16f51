"""What a notebook shows is readable, and harmless whatever a clip is called."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET


def test_decision_moments_and_layer(three_paths):
    shown = three_paths._repr_html_()
    tree = ET.fromstring(shown.replace("&plusmn;", "+-"))  # noqa: S314 - our own
    rows = [[cell.text for cell in row] for row in tree.iter("tr")]
    assert len(rows) == 6
    first = three_paths.top_frames(1)[0]
    assert rows[0][:2] == [f"{first.start_s:.2f} to {first.end_s:.2f} s", f"{first.attribution:+.3f}"]
    assert rows[-1][0] == f"layer {three_paths.top_layers(1)[0].unit}"
    assert f"predicted <b>{three_paths.prediction}</b>" in shown


def test_names_are_escaped(three_paths):
    odd = replace(
        three_paths, clip="/a/<script>alert(1)<.wav", labels=tuple(f"<i>{n}" for n in three_paths.labels)
    )
    shown = odd._repr_html_()
    assert "<script>" not in shown
    assert "<i>" not in shown
    assert "&lt;script&gt;" in shown


def test_a_method_without_intervals(three_paths):
    bare = {
        path: replace(
            found,
            views={name: replace(view, stderr=None) for name, view in found.views.items()},
            gap=None,
        )
        for path, found in three_paths.attributions.items()
    }
    shown = replace(three_paths, attributions=bare)._repr_html_()
    assert "&plusmn;" not in shown
    assert "gap" not in shown
