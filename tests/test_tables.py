"""Tables on the screen: as wide as they are where there is room, and never wider than the terminal."""

from __future__ import annotations

import pytest

from medrecipes.data.leakage import table
from medrecipes.scoring.tables import aligned

COUNTS = {"rows": 4321, "document": 0, "article": None, "question": 12, "answer": 3, "near_duplicate": 7}
FIGURES = [
    ["51 test rows", "base", "tuned", "difference"],
    ["bits per byte of answer", "2.657 [2.471, 2.829]", "2.549 [2.344, 2.745]", "-0.108 [-0.151, -0.073]"],
    ["precision of spans, micro", "0.131 [0.112, 0.151]", "-", "0.123 [-]"],
    ["steps", "7", "8", "9"],
]


def test_figures_stand_above_their_intervals_where_a_line_would_wrap() -> None:
    assert (
        aligned(FIGURES)[1]
        == "bits per byte of answer    2.657 [2.471, 2.829]  2.549 [2.344, 2.745]  -0.108 [-0.151, -0.073]"
    )
    assert aligned(FIGURES, 120) == aligned(FIGURES)
    assert aligned(FIGURES, 80) == [
        "51 test rows               base            tuned           difference",
        "bits per byte of answer    2.657           2.549           -0.108",
        "  95% interval             [2.471, 2.829]  [2.344, 2.745]  [-0.151, -0.073]",
        "precision of spans, micro  0.131           -               0.123",
        "  95% interval             [0.112, 0.151]                  [-]",
        "steps                      7               8               9",
    ]
    assert aligned([], 80) == []


@pytest.mark.parametrize("rows", [99, 4321, 98_765, 1_234_567])
@pytest.mark.parametrize("threshold", [0, 0.9, 0.95])
def test_what_a_split_leaks_fits_eighty_columns(rows: int, threshold: float) -> None:
    report = {
        "threshold": threshold,
        **{kind: {part: {**COUNTS, "rows": rows} for part in ("dev", "test")} for kind in ("grouped", "by_row")},
    }
    whole, narrow = table(report).splitlines(), table(report, 80).splitlines()
    assert max(map(len, whole)) > 80
    assert max(map(len, narrow)) <= 80
    assert [line.split()[-6:] for line in whole[1:]] == [line.split()[-6:] for line in narrow[1:]]
    assert [line.split(":")[0] for line in narrow[1:]] == ["grouped (used)"] * 2 + ["naive random split"] * 2
    assert table(report, 120) == table(report)
