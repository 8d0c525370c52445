"""The surgeon on networks of torchvision, timm and our own: exact on all, and what it leaves it can explain.

The light ones run in CI, all of them with ``make test-slow``; ``docs/coverage.md`` shows the numbers.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from skips import skip_without
from slimnet.export import export_onnx
from zoo import CASES, MODES, Case, Mode, measure

ONNX_IN_CI = ("squeezenet1_0", "mobilenet_v3_small")


def params(*, light: tuple[str, ...]) -> list[object]:
    return [pytest.param(case, id=case.name, marks=() if case.name in light else pytest.mark.slow) for case in CASES]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", params(light=tuple(case.name for case in CASES if case.light)))
def test_half_of_the_filters_go_without_a_trace(case: Case, mode: Mode) -> None:
    if case.missing:
        skip_without("timm")
    row, *_ = measure(case, mode)
    assert row["parity"] <= 1e-9
    assert row["parity_stored"] <= 1e-5
    assert row["sensitivity"] > 1e-3, "a network that ignores its input proves nothing"
    left = row["zero_filters"] - row["zero_filters_removed"]
    assert left == 0 or row["reasons"]
    if mode == "coupled":
        assert left <= case.left * row["zero_filters"]
    if mode == "coupled" or case.source != "own":
        assert row["zero_filters_removed"] > 0
        assert row["flops"]["after"] < row["flops"]["before"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", params(light=ONNX_IN_CI))
def test_what_is_left_exports(case: Case, mode: Mode, tmp_path: Path) -> None:
    if case.missing:
        skip_without("timm")
    _, masked, result, x = measure(case, mode)
    report = export_onnx(result.model, x, tmp_path / "slim.onnx", reference=masked, tolerance=1e-6)
    assert report.passed
    assert {check.batch for check in report.checks} == {1, 2, 7}
