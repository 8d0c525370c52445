"""Seconds to a refusal, to a rate for a share of FLOPs, and from Ctrl-C to the end.

    python benchmarks/quick_answers.py

Every command is run in a process of its own, as a user would. Refusals are the fastest of three; expected: under a second each on
an idle core. Commands are interrupted at several moments; expected: they end within 2 s. `prune` looks for half of the FLOPs of
torchvision's resnet18 at 224 pixels; expected on an idle core: 5 s, without the start of Python and the import of torch. About
eight minutes. Writes results/quick_answers.json.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _results import write_result
from _tables import Result, of_runs, processor, table, when

CLI = (sys.executable, "-m", "slimnet_cli")
REFUSED = (
    "train --model resnet9 --out o",
    "train --model resnet8 --data digit --out o",
    "train --model resnet8 --method fdsp --out o",
    "train --model resnet8 --out full",
    "train --recipe frob --out o",
    "train --resume --out no",
    "prune no.pth --model resnet18 --rate 0.4 --out o",
    "slim no.pth --model resnet18 --out o",
    "inspect no.pth --model resnet18",
    "export no --out o",
    "report no",
    "evaluate no",
    "bench no",
    "verify no",
    "predict no x.png",
    "web no --out o",
)
RESNET = "resnet18.safetensors --model resnet18 --num-classes 1000 --in-channels 3 --image-size 224"
INTERRUPTED = (
    "train --model resnet20 --epochs 50 --out interrupted --force",
    f"prune {RESNET} --flops 0.5 --out pruned --force",
    f"slim {RESNET} --out slim --force",
    "export run --out interrupted-bundle --precision int8 --force",
    "evaluate run",
    "bench bundle --seconds 60",
)
MOMENTS = (1.0, 8.0, 20.0)
TIMED = """
import sys, time
from slimnet.commands import prune_checkpoint
began = time.perf_counter(), time.process_time()
prune_checkpoint("resnet18.safetensors", "pruned", model="resnet18", num_classes=1000, in_channels=3, image_size=224,
                 flops=0.5, force=True)
print(time.perf_counter() - began[0], time.process_time() - began[1])
"""


def refusal(command: str, folder: Path) -> float:
    """Seconds, the least of three."""
    return min(seconds(command, folder) for _ in range(3))


def seconds(command: str, folder: Path) -> float:
    """Of a command that ends with status 1."""
    began = time.perf_counter()
    done = subprocess.run([*CLI, *command.split()], cwd=folder, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode != 1 or not done.stderr.startswith("slimnet: error:"):
        raise SystemExit(f"{command}: {done.stderr}")
    return took


def _hear() -> None:
    """In the child: a shell lets what it runs in the background ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted(command: str, folder: Path, moments: Sequence[float]) -> list[dict[str, float]]:
    """Seconds from a SIGINT at each moment to the end; what is over before is left out."""
    found = []
    for moment in moments:
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        child = subprocess.Popen([*CLI, *command.split()], cwd=folder, preexec_fn=_hear, **quiet)  # noqa: PLW1509  # one thread
        try:
            child.wait(moment)
            continue
        except subprocess.TimeoutExpired:
            began = time.perf_counter()
            child.send_signal(signal.SIGINT)
        status = child.wait()
        found.append({"moment": moment, "seconds": time.perf_counter() - began, "status": status})
    return found


def prepare(folder: Path) -> None:
    """A network to prune, a run and its bundle."""
    from safetensors.torch import save_file

    from slimnet import build_model

    (folder / "full").mkdir()
    (folder / "full" / "x").touch()
    save_file(build_model("resnet18", num_classes=1000).state_dict(), folder / "resnet18.safetensors")
    for command in ("train --model resnet20 --epochs 1 --out run --quiet", "export run --out bundle"):
        subprocess.run([*CLI, *command.split()], cwd=folder, check=True, capture_output=True)


def main() -> None:
    """Measure all of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        values: dict[str, Any] = {"load": os.getloadavg()[0], "processors": os.cpu_count()}
        values["refused"] = [{"command": command, "seconds": refusal(command, folder)} for command in REFUSED]
        timed = subprocess.run([sys.executable, "-c", TIMED], cwd=folder, capture_output=True, text=True, check=True)
        values["prune_seconds"], values["prune_processor_seconds"] = map(float, timed.stdout.split())
        values["interrupted"] = [{"command": command, "trials": interrupted(command, folder, MOMENTS)} for command in INTERRUPTED]
    write_result("quick_answers", values)


@of_runs("quick_answers")
def quick_table(runs: list[Result]) -> str:
    """Seconds to the end."""
    rows = []
    for run in runs:
        refused = [row["seconds"] for row in run["refused"]]
        rows.append((f"{len(refused)} refusals", f"{min(refused):.2f}–{max(refused):.2f}", processor(run)))
        pruned = f"{run['prune_seconds']:.1f}; of a processor {run['prune_processor_seconds']:.1f}"
        rows.append(("`prune --flops 0.5`, resnet18 at 224", pruned, processor(run)))
        for row in run["interrupted"]:
            trials = ", ".join(f"{trial['seconds']:.2f} (at {trial['moment']:g})" for trial in row["trials"])
            rows.append((f"Ctrl-C in `{row['command'].split()[0]}`", trials, processor(run)))
    busy = f"The load was {runs[0]['load']:.1f} on {runs[0]['processors']} processors."
    return table(("what", "seconds", "processor, instruction set"), rows) + f"\n\n{busy} {when(runs)}."


TABLES = {"quick": quick_table}


if __name__ == "__main__":
    main()
