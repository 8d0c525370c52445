"""What stands before a card, in YAML: the Hugging Face Hub reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from slimnet._json import encode

Facts = Mapping[str, Any]
TASK = "image-classification"
FENCE = "---\n"

_UNSAFE = re.compile("[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def front_matter(model: Facts, report: Facts, config: Facts, *, licence: str | None = None) -> str:
    """The YAML of a card, between its fences.

    Args:
        model, report, config: see :func:`slimnet.bundle.card.model_card`.
        licence: of the network, as the Hub calls it (``apache-2.0``); slimnet knows none by itself.
    """
    network, method = config.get("model"), (report.get("method") or {}).get("name")
    tags = ["slimnet", "onnx", "pruning", *(str(tag) for tag in (network, method) if tag)]
    values: dict[str, Any] = {"license": licence} if licence else {}
    values |= {"library_name": "slimnet", "pipeline_tag": TASK, "tags": list(dict.fromkeys(tags))}
    if metrics := _metrics(model, report):
        values["metrics"] = list(dict.fromkeys(entry["type"] for entry in metrics))
        name = str(network or "network") + (", slimmed" if is_slimmed(report) else "")
        values["model-index"] = [_index(name, report["data"]["name"], model, metrics)]
    lines = "".join(f"{key}: {_quoted(value)}\n" for key, value in values.items())
    return f"{FENCE}{lines}{FENCE}\n"


def is_slimmed(report: Facts) -> bool:
    """Whether channels or branches were cut out, as far as the report tells: a network that was trained dense has lost none."""
    surgery = report.get("surgery") or {}
    return bool(surgery.get("removed", 1)) or surgery.get("params_after") != surgery.get("params_before")


def _metrics(model: Facts, report: Facts) -> list[dict[str, Any]]:
    """Accuracy of each precision, and macro-F1; nothing without a data set's name, or where nothing was measured."""
    if "name" not in (report.get("data") or {}):
        return []
    found = [
        {"type": "accuracy", "name": f"accuracy, {name}", "value": round(entry["accuracy"]["value"], 4)}
        for name, entry in model["precisions"].items()
        if entry["accuracy"] and entry["accuracy"]["split"] == model["accuracy"].get("split")
    ]
    f1 = ((report.get("evaluation") or {}).get("slim") or {}).get("macro_f1")
    if found and f1 is not None and "fp32" in model["precisions"]:
        found.append({"type": "f1", "name": "macro-F1, fp32", "value": round(f1, 4)})
    return found


def _index(name: str, data: str, model: Facts, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    dataset = {"name": data, "type": data, "split": model["accuracy"]["split"]}
    return {"name": name, "results": [{"task": {"type": TASK}, "dataset": dataset, "metrics": metrics}]}


def _quoted(value: Any) -> str:
    """JSON, which is YAML once what YAML cannot hold is escaped; a name is never more than a text in it."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", encode(value))
