"""The per-class attribution summary as rows."""

from __future__ import annotations

from wavshap_lightning.training.corpus_run.predict import COLUMNS, emotion_rows
from wavshap_lightning.viz.report.summary import ClipShares, summarize


def clip(start, target="sad"):
    thirds = {"start": start, "middle": 0.5 - start, "end": 0.5}
    return ClipShares(target, ("happy", "sad"), {"thirds": thirds}, ())


def test_a_row_a_part_with_its_interval():
    summaries = summarize([*[clip(0.1 * (1 + index % 3)) for index in range(6)], clip(0.25, "happy")])
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in emotion_rows(summaries)]
    assert [(row["target"], row["part"]) for row in rows] == [
        (target, part) for target in ("happy", "sad") for part in ("start", "middle", "end")
    ]
    alone, first = rows[0], rows[3]
    assert alone == {
        "target": "happy", "clips": "1", "kind": "thirds", "part": "start",
        "share": "0.25", "low": "", "high": "", "n": "1",
    }  # fmt: skip
    assert (first["share"], first["clips"], first["n"]) == ("0.2", "6", "6")
    assert 0.1 < float(first["low"]) < 0.2 < float(first["high"]) < 0.3
    (shares,) = summaries[1].shares.values()
    assert float(first["low"]) == round(float(shares.low[0]), 6)
