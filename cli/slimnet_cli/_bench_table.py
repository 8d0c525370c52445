"""A comparison on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slimnet_cli._clean import echo
from slimnet_cli._emit import emit_table, number, percent, say


def show(report: Any, *, memory: bool, heading: str = "") -> None:
    """The table, the control, target and prediction; on stderr, what to beware of."""
    if heading:
        echo()
        echo(heading)
        echo()
    head = ["network", "accuracy", "FLOPs", "parameters", "bytes", "median", "speed-up", "95 % interval"]
    sized = any(row.get("runtime_bytes") for row in report.rows)
    rows = [[*head, *(["peak memory"] if memory else []), *(["runtime"] if sized else [])]]
    for row, variant in zip(report.rows, report.latency.variants, strict=True):
        low, high = variant.interval
        cells = [
            row["name"],
            percent(row["accuracy"]),
            number(row["flops"]),
            number(row["params"]),
            number(row["file_bytes"]),
            f"{variant.median_ms:.3f} ms",
            f"{variant.speedup:.2f}",
            f"{low:.2f}–{high:.2f}",
        ]
        more = [_megabytes(row["memory_bytes"])] if memory else []
        rows.append([*cells, *more, *([_megabytes(row["runtime_bytes"])] if sized else [])])
    emit_table(rows)
    echo(_control(report.latency))
    if report.paper:
        echo(f"FLOPs saved in paper accounting: {percent(report.paper['saved'])}; FLOPs are multiply-adds")
    if report.target:
        echo(_target(report.target))
    for line in (*report.notes, *report.latency.flags.values()):
        say(f"warning: {line}")
    for row in report.rows:
        if row["unknown_operators"]:
            say(f"warning: operators of {row['name']} that are not counted: {', '.join(row['unknown_operators'])}")
    if report.advice is not None:
        echo(report.advice)


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.1f} MB"


def _control(latency: Any) -> str:
    low, high = latency.control.interval
    machine = ", ".join(str(latency.environment[name]) for name in ("cpu", "instructions") if name in latency.environment)
    how = [
        f"batch {latency.batch}",
        f"{latency.threads} thread{'s' if latency.threads > 1 else ''}",
        *([] if latency.provider == "cpu" else [latency.provider]),
        f"{latency.rounds} rounds",
        f"{latency.inputs} inputs",
        *([machine] if machine else []),
    ]
    return f"A/A control: {latency.control.speedup:.3f} ({low:.3f}–{high:.3f}); {', '.join(how)}"


def _target(target: Mapping[str, Any]) -> str:
    (name, value), *_ = target["target"].items()
    predicted, measured = target["predicted"], target["measured"]
    if name == "ms":
        words = f"target {value:.3f} ms, predicted {predicted['ms']:.3f} ms"
        found = _between("measured {:.3f} ms", measured, "ms", "ms_interval", "{:.3f}–{:.3f}")
    else:
        of = {"speedup": f"{value:.2f}×"}.get(name) or f"{percent(value)} of the {'FLOPs' if name == 'flops' else 'weights'}"
        words = f"target {of}, predicted {predicted['speedup']:.2f}×"
        found = _between("measured {:.2f}×", measured, "speedup", "interval", "{:.2f}–{:.2f}")
    return f"{words}, {found or 'not comparable: ' + str(target['reason'])}"


def _between(words: str, measured: Mapping[str, Any] | None, middle: str, ends: str, form: str) -> str:
    if measured is None:
        return ""
    return f"{words.format(measured[middle])} ({form.format(*measured[ends])})"
