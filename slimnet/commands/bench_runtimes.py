"""All that a bundle holds for runtimes, in one paired comparison, and which is the fastest here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.errors import FileFormatError
from slimnet.files.untrusted import member
from slimnet.names import DEPLOYED
from slimnet.runtimes.files import RuntimeFile
from slimnet.runtimes.formats import FORMATS, check_runs, installed_bytes, missing, of_runtime

if TYPE_CHECKING:
    from slimnet.export import Bundle
    from slimnet.measure import LatencyReport, Variant

PLAIN = "onnxruntime fp32"


def held_by(bundle: Bundle, runtime: str) -> dict[str, RuntimeFile]:
    """Precision → the network of a bundle in another runtime.

    Raises:
        SlimnetError: if the runtime is not installed.
        FileFormatError: if the bundle holds nothing for it.
    """
    check_runs(runtime)
    form, shape = of_runtime(runtime), tuple(bundle.model["inputs"][0]["shape"][1:])
    found = {
        precision: RuntimeFile(runtime, tuple(member(bundle.path, file.name) for file in files), shape)
        for (name, precision), files in bundle.format_files.items()
        if name == form.name
    }
    if not found:
        raise FileFormatError(f"{bundle.path} holds nothing for {runtime}: `slimnet export --formats {form.name}` writes it.")
    return found


def all_networks(bundle: Bundle) -> dict[str, Path | RuntimeFile]:
    """``onnxruntime fp32``, ``openvino int8`` … → each network that can be run here; the first is the baseline."""
    networks: dict[str, Path | RuntimeFile] = {f"onnxruntime {name}": path for name, path in bundle.precision_files.items()}
    formats = {name for name, _ in bundle.format_files}
    for form in FORMATS.values():
        if form.name in formats and missing(form) is None:
            networks |= {f"{form.runtime} {precision}": file for precision, file in held_by(bundle, form.runtime).items()}
    return networks


def left_out(bundle: Bundle) -> Iterator[str]:
    """A line for each runtime that the bundle holds files for, and that is not installed."""
    for name in dict.fromkeys(name for name, _ in bundle.format_files):
        line = missing(FORMATS[name])
        if line is not None:
            yield f"{FORMATS[name].runtime} is left out: {line}"


def accuracies(bundle: Bundle) -> dict[str, float | None]:
    """Accuracy of each, by the names of :func:`all_networks`; fp32 gives in all runtimes what it gives in ONNX Runtime."""
    held = {"onnxruntime": bundle.model["precisions"]}
    held |= {FORMATS[name].runtime: entries for name, entries in bundle.model.get("formats", {}).items()}
    plain = (bundle.model["accuracy"] or {}).get("slim")
    return {
        f"{runtime} {precision}": plain if precision == "fp32" else (entry["accuracy"] or {}).get("value")
        for runtime, entries in held.items()
        for precision, entry in entries.items()
    }


def runtime_bytes(name: str) -> int | None:
    """What the runtime in the name of a network takes on the disk."""
    runtime = name.partition(" ")[0]
    return installed_bytes(of_runtime(runtime).packages if runtime in DEPLOYED else ("onnxruntime",))


def advice(rows: list[dict[str, Any]], latency: LatencyReport) -> str:
    """One line: the fastest here, by how much, and what cannot be told from it; or that nothing is faster beyond the noise."""
    plain, best = latency[latency.baseline], max(latency.variants, key=lambda variant: variant.speedup)
    doubt = max(abs(end - 1) for end in (latency.control.speedup, *latency.control.interval))
    size = {row["name"]: row["file_bytes"] for row in rows}
    if best.name == plain.name or best.interval[0] <= 1 + doubt:
        return f"Fastest here: {plain.name}, {size[plain.name]:,} bytes; what differs from it is not faster, or within the noise"
    low, high = best.interval
    words = f"Fastest here: {best.name}, {best.speedup:.2f}× ({low:.2f}–{high:.2f}) {plain.name}, {size[best.name]:,} bytes"
    near = [other.name for other in latency.variants if other is not best and _overlap(other, best)]
    return f"{words}; not told apart from it: {', '.join(near)}" if near else words


def _overlap(one: Variant, other: Variant) -> bool:
    return one.interval[0] <= other.interval[1] and other.interval[0] <= one.interval[1]


def about(name: str, found: Mapping[str, float | None]) -> dict[str, Any]:
    """What a row says beside the comparison."""
    return {"accuracy": found.get(name), "runtime_bytes": runtime_bytes(name)}
