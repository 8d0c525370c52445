"""The classifiers that slimnet ships against others whose weights ship inside a package, on the same faces.

    SLIMNET_DATA=DATA python benchmarks/expression_peers.py [--work FOLDER] [ROW…]   # answers and sizes; then the times of all
    SLIMNET_DATA=DATA python benchmarks/expression_peers.py --answers [ROW…]         # answers and sizes alone; the times stay
    SLIMNET_DATA=DATA python benchmarks/expression_peers.py --times                  # the times alone, of all rows that are there

The faces are the 3,589 of FER2013's test split. A package gets an environment of its own in FOLDER (default: slimnet-peers in the
folder for temporary files; kept between runs; 20 GB, from the package registries), its own preprocessing, and its labels are
mapped to FER2013's classes. Where its interface looks for a face first, its classifier gets the face as it is all the same. A
script of ``expression_peers/`` does that, in a process of its own that cannot reach a network.

By FER+'s votes the right answer is what most of ten people saw; a face where nothing, or contempt, has more than half of the
votes is left out there.

Times are of one face after the other, pixels in memory to a label, one thread: a block of faces in slimnet's process, one in the
package's, in turns and in random order; a second process of slimnet's is the control. Expected: published single networks reach
68 to 73 %; a package far above has most likely seen the faces. An hour on a busy core, half of it installing; --times 3 minutes.
Writes results/expression_peers.json after each row; rows that are not asked for stay in it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _expression_peers import BASELINE, ELSEWHERE, PEERS, Peer, all_peers
from _peers import Process, closure_bytes, installed_bytes, npm_environment, pip_environment, read_answers, running, score
from _results import own_run, write_networks
from _runs import data_dir
from _tables import ROOT, Result, measured, of_runs, percent, processor, ranged, table
from infer_alone import PACKAGES as BUNDLE_ALONE
from numpy.typing import NDArray

from slimnet.data import Split, load_data, match_classes
from slimnet.data.duplicates import leaked
from slimnet.data.sets.fer2013 import CLASSES
from slimnet.errors import SlimnetError, one_line, unknown
from slimnet.measure.machine import Watch
from slimnet.measure.stats import median_interval
from slimnet.measure.timed import Timed
from slimnet.measure.timings import reasons_to_distrust, summarise
from slimnet.ready import ready_bundle

NAME = "expression_peers"
SCRIPTS = Path(__file__).parent / NAME
WORK = Path(tempfile.gettempdir()) / "slimnet-peers"
PAIRS, BLOCK, WARM = 15, 0.2, 1.0
"""Blocks of each side, seconds of a block, seconds before the first."""
SHARED = ("faces", "again", "trained", "voted", "labels", "time", "slimnet_bytes")
"""What a run says beside its rows."""


class Faces:
    """Faces of FER2013, also as files for other processes.

    Attributes:
        test, trained: paths of uint8 (N, 48, 48): the test split, and as many training images that do not stand in it.
        labels: of each, by path.
        voted: (N,) of the test split, the class that most people of FER+ saw; the number of classes where they do not agree.
        again: (N,) which of the test split also stand in the training split.
    """

    def __init__(self, folder: Path) -> None:
        data = load_data("fer2013", data_dir=str(data_dir() / "fer2013"))
        alone = data.train.subset((~leaked(data.train, (data.test,))).nonzero().flatten())
        some = alone.subset(torch.arange(len(data.test)) * len(alone) // len(data.test))
        self.test, self.trained = folder / "test.npy", folder / "trained.npy"
        self.labels = {}
        for path, split in ((self.test, data.test), (self.trained, some)):
            np.save(path, split.take(torch.arange(len(split)))[:, 0].numpy())
            self.labels[path] = split.labels.numpy()
        self.voted = by_votes(data.test)
        self.again = leaked(data.test, (data.train,)).numpy()


def by_votes(test: Split) -> NDArray[np.int64]:
    """(N,) the class of FER2013 that has more than half of FER+'s votes, by face; the number of classes where none has."""
    options = {"without_contempt": True}
    votes = load_data("ferplus", data_dir=str(data_dir() / "fer2013"), data_options=options)
    sure = match_classes(CLASSES, votes.classes, who="FER2013", whose="FER+").split(votes.test)
    assert test.indices is not None
    assert sure.indices is not None
    found = np.full(len(test), len(CLASSES), np.int64)
    found[torch.searchsorted(test.indices, sure.indices).numpy()] = sure.labels.numpy()
    return found


def file_name(peer: Peer) -> str:
    """A row's name as that of a file."""
    return peer.name.replace("/", "-").lstrip("@")


def start(peer: Peer, work: Path, stack: ExitStack) -> tuple[Process, Path]:
    """The peer's process, and the folder of what is installed for it. The environment is made where it is missing.

    Raises:
        MeasureError: if it does not install, or does not run.
    """
    own = peer.name not in {each.name for each in PEERS}
    folder = work / ("bundle" if own else peer.packages.split()[0].replace("/", "-").replace("==", "-").lstrip("@"))
    command, installed = (npm_environment if peer.of_npm else pip_environment)(folder, peer.packages)
    variables = {"NODE_PATH": str(installed)} if peer.of_npm else {}
    if own:  # in this environment: the other is what its bundle needs, without slimnet
        command, variables = [sys.executable], {"PYTHONPATH": str(ROOT)}
    script, *arguments = peer.script
    log = work / f"{file_name(peer)}.log"
    return stack.enter_context(running([*command, str(SCRIPTS / script), *arguments], log, **variables)), installed


def answered(peer: Peer, faces: Faces, work: Path, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a peer says of the faces, and what it takes on the disk; of its further ways what is ``known``, if it is given."""
    with ExitStack() as stack:
        process, installed = start(peer, work, stack)
        first, *others = process.about["ways"]
        size = sum((installed / path).stat().st_size for path in peer.weights)
        disk = installed_bytes(installed)
        if not peer.weights:
            bundle = ready_bundle(peer.script[1])
            size = sum(path.stat().st_size for path in bundle.glob("*.onnx"))
            disk += sum(path.stat().st_size for path in bundle.iterdir() if path.is_file())

        def said(path: Path, way: str) -> Any:
            out = work / f"{file_name(peer)}.json"
            out.unlink(missing_ok=True)
            process.ask(do="answer", way=way, faces=str(path), out=str(out))
            return read_answers(out, len(faces.labels[path]), peer.words, CLASSES)

        def scored(way: str) -> dict[str, Any]:
            answers, sure = said(faces.test, way), faces.voted < len(CLASSES)
            voted = score(faces.voted[sure], answers[sure], faces.again[sure], CLASSES)
            by = {"faces": int(sure.sum()), "accuracy": voted["accuracy"], "macro_f1": voted["macro_f1"]}
            return {**score(faces.labels[faces.test], answers, faces.again, CLASSES), "votes": by}

        found = scored(first)
        trained = float((said(faces.trained, first) == faces.labels[faces.trained]).mean())
        ways = [{"way": way, **scored(way)} for way in others] if known is None else known["others"]
    return {
        "name": peer.name, "way": first, **found, "accuracy_on_trained": trained, "others": ways, "weights_bytes": size,
        "installed_bytes": disk, "versions": process.about["versions"], "lacks": peer.lacks(),
    }  # fmt: skip


def timed(peer: Peer, base: Process, faces: Faces, work: Path, rng: np.random.Generator) -> tuple[dict[str, Any], Any]:
    """A peer's milliseconds and how often slimnet's time that is, and both sides' block medians in ns (PAIRS, 2)."""
    with ExitStack() as stack:
        process, _ = start(peer, work, stack)
        sides = (base, process)
        for side in sides:
            side.ask(do="time", faces=str(faces.test), seconds=WARM)
        medians, busy = np.zeros((PAIRS, 2)), np.zeros((PAIRS, 2))
        for row in range(PAIRS):
            for i in rng.permutation(2):
                told = sides[i].ask(do="time", faces=str(faces.test), seconds=BLOCK)
                medians[row, i], busy[row, i] = np.median(told["ns"]), told["busy"]
    ratios = medians[:, 1] / medians[:, 0]
    found = {
        "ms": float(np.median(medians[:, 1])) / 1e6,
        "interval": list(median_interval(medians[:, 1] / 1e6)),
        "ratio": float(np.median(ratios)),
        "ratio_interval": list(median_interval(ratios)),
        "busy": float(np.median(busy[:, 1])),
    }
    return found, (medians, float(np.median(busy[:, 0])))


def time_all(peers: Sequence[Peer], faces: Faces, work: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """How they were timed, and the times of each by name; of the baseline those of a second process, which is the control."""
    rng, found = np.random.default_rng(0), {}
    watch = Watch()
    with ExitStack() as stack:
        own = all_peers()[BASELINE]
        base, _ = start(own, work, stack)
        times, (control, busy) = timed(own, base, faces, work, rng)
        found[BASELINE] = times
        for peer in peers:
            try:
                found[peer.name], _ = timed(peer, base, faces, work, rng)
            except SlimnetError as error:
                print(f"{peer.name}: {one_line(error)}", file=sys.stderr)
            else:
                print(peer.name, found[peer.name], flush=True)
    activity = replace(watch.stop(), on_processor=busy)
    nothing = Timed("slimnet again", "onnxruntime", None, 0.0, 0.0, lambda: 0)
    again = summarise(nothing, control[:, 1], control[:, 0], seed=0)
    how = {
        "pairs": PAIRS,
        "block_seconds": BLOCK,
        "control": again.speedup,
        "control_interval": list(again.interval),
        "load": activity.load,
        "seconds": activity.seconds,
        "flags": reasons_to_distrust((), again, 1, activity),
    }
    return how, found


def write(rows: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> None:
    """Rows into the result; the others, and what else the run says, stay."""
    kept = {key: value for key, value in own_run(NAME).items() if key in SHARED}
    write_networks(NAME, kept | dict(values), rows)


def main() -> None:
    peers = all_peers()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(peers)}; all without")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "slimnet-peers", help="folder for environments"
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--times", action="store_true", help="renew the times alone, of all rows that are there")
    parser.add_argument("--first", action="store_true", help="leave the ways that look for a face first as they are")
    only.add_argument("--answers", action="store_true", help="renew the answers alone; times stay")
    args = parser.parse_args()
    for name in args.rows:
        if name not in peers:
            parser.error(unknown("unknown row", name, peers))
    if args.rows and args.times:
        parser.error("--times takes no rows: all are timed in one run.")
    args.work.mkdir(parents=True, exist_ok=True)
    faces = Faces(args.work)
    for name in () if args.times else args.rows or peers:
        answer(peers[name], faces, args.work, first=args.first)
    if args.answers:
        return
    there = {row["name"]: row for row in own_run(NAME).get("networks", []) if "error" not in row}
    if BASELINE not in there:
        sys.exit(f"{NAME}: there is no row {BASELINE!r} from this machine and these versions: run it without --times first.")
    others = [peer for name, peer in peers.items() if name in there and name != BASELINE]
    how, times = time_all(others, faces, args.work)
    write([row | {"time": times.get(name)} for name, row in there.items()], {"time": how})


def answer(peer: Peer, faces: Faces, work: Path, *, first: bool) -> None:
    """A row, written; one that says why, where there is none."""
    before = next((each for each in own_run(NAME).get("networks", []) if each["name"] == peer.name), {})
    try:
        row = answered(peer, faces, work, before if first and "others" in before else None)
    except SlimnetError as error:
        row = {"name": peer.name, "error": one_line(error)}
    print(row, flush=True)
    same = all(row.get(what) == before.get(what) for what in ("versions", "weights_bytes"))
    if "error" not in row and "time" in before and same:
        row["time"] = before["time"]
    sizes = {"faces": len(faces.again), "again": int(faces.again.sum()), "trained": len(faces.labels[faces.trained])}
    sure = faces.voted < len(CLASSES)
    labels = score(faces.voted[sure], faces.labels[faces.test][sure], faces.again[sure], CLASSES)  # as if they were answers
    write(
        [row],
        {
            **sizes,
            "voted": int(sure.sum()),
            "labels": {what: labels[what] for what in ("accuracy", "confusion")},
            "slimnet_bytes": closure_bytes("slimnet"),
        },
    )


ABOVE = 0.77
"""Nothing published reaches it: the best ensemble of networks has 76.8 % (Pham et al., ICPR 2020)."""


MOST_BUSY = 1.2
"""Processors: what keeps more of them busy has more than one thread, whatever it was told."""


def busy(row: Result) -> float:
    """How many processors a row kept busy while it was timed."""
    return float((row.get("time") or {}).get("busy", 0.0))


def seen(row: Result) -> str:
    """Whether these faces may have trained it."""
    said = all_peers()[row["name"]].seen
    if row["accuracy"] < ABOVE:
        return said
    return f"{said}; no published network reaches {percent(ABOVE, 0)}: very likely yes"


def notes(run: Result) -> str:
    """What the tables do not show."""
    rows = [row for row in run["networks"] if "error" not in row]
    lines = [
        f"{row['name']} {other['way']}: {percent(other['accuracy'], 1)}"
        + (f", {other['no_class']:,} faces without an answer" if other["no_class"] else "")
        for row in rows
        for other in row["others"]
    ]
    lines += [f"{row['name']}: {row['no_class']:,} faces without an answer" for row in rows if row["no_class"]]
    lines += [f"{row['name']}: {busy(row):.1f} processors busy" for row in rows if busy(row) > MOST_BUSY]
    lines += [f"{row['name']} has no {', '.join(row['lacks'])}" for row in rows if row["lacks"]]
    apart = "; ".join(f"{why}: {names}" for why, names in ELSEWHERE.items())
    return "\n\n".join([*(["To note: " + "; ".join(lines) + "."] if lines else []), f"Without a row: {apart}."])


def answers_table(run: Result) -> str:
    """How good each is, and how large."""
    rows = []
    for row in run["networks"]:
        peer = all_peers().get(row["name"])
        if peer is None or "error" in row:
            rows.append((row["name"], row.get("error", "no longer shipped"), *[""] * 7))
            continue
        versions = row["versions"]
        package = peer.packages.split()[0].replace("==", "@").rpartition("@")[0] or "slimnet"
        rows.append(
            (
                row["name"].replace(package, f"{package} {versions.get(package, '')}".strip(), 1),
                percent(row["accuracy"], 1),
                f"{row['macro_f1']:.3f}",
                percent(row["votes"]["accuracy"], 1) if "votes" in row else "–",
                percent(row["accuracy_without_duplicates"], 1),
                percent(row["accuracy_on_trained"], 1),
                f"{row['weights_bytes'] / 1e3:,.0f} kB",
                peer.licence,
                seen(row),
            )
        )
    again = f"accuracy without the {run['again']:,} that also stand in the training split"
    trained = f"accuracy on {run['trained']:,} training faces"
    head = ("classifier", "accuracy", "macro-F1", "accuracy by FER+'s votes", again, trained, "weights", "licence")
    return table((*head, "did these faces train it?"), rows)


def labels_and_votes(run: Result) -> str:
    """How far FER2013's labels agree with FER+'s votes, and where they do least."""
    found = np.array(run["labels"]["confusion"])[:, : len(CLASSES)]  # rows: votes; columns: labels
    apart = found * (1 - np.eye(len(CLASSES), dtype=np.int64))
    seen, label = np.unravel_index(int(apart.argmax()), apart.shape)
    return (
        f"By FER+'s votes: {run['voted']:,} faces; FER2013's own labels agree with the votes on "
        f"{percent(run['labels']['accuracy'], 1)} of them. Of {int(found[:, label].sum())} that are labelled {CLASSES[label]}, "
        f"{int(apart[seen, label])} were seen as {CLASSES[seen]}."
    )


STEADY = 0.1
"""How far from 1 the ends of the control's interval may be: else no time is shown."""


def is_steady(run: Result) -> bool:
    """Whether a run's times say anything."""
    return all(abs(end - 1) <= STEADY for end in run["time"]["control_interval"])


def times_table(runs: Sequence[Result]) -> str:
    """How fast each is, on each kind of processor, and what it takes to have it."""
    rows = []
    for run in runs:
        for row in run["networks"]:
            peer, time = all_peers().get(row["name"]), row.get("time")
            if peer is not None and "error" not in row:
                ms, ratio = "not timed", ""
                if time:
                    ms, ratio = "the machine was too busy", ""
                if time and is_steady(run):
                    ms, ratio = ranged(time["ms"], time["interval"]), ranged(time["ratio"], time["ratio_interval"], "×")
                rows.append((row["name"], peer.runtime, ms, ratio, f"{row['installed_bytes'] / 1e6:,.0f} MB", processor(run)))
    head = ("classifier", "runtime", "ms a face", f"over {BASELINE}, in turns", "installed", "processor, instruction set")
    return table(head, rows)


@of_runs(NAME)
def peers_table(runs: list[Result]) -> str:
    """Both tables, and what they do not show."""
    run = runs[0]
    flags = [(measured(r), r["time"]["flags"]) for r in runs if "time" in r]
    where = "; ".join(f"{when}{', busy machine' if 'contended' in flag else ''}" for when, flag in flags)
    shared = (
        f"Pixels to a label, one face at a time, one thread; {PAIRS} pairs of blocks. The row of {BASELINE} is the control, a "
        "second process of it. Installed: all that pip or npm takes along on Linux, CUDA too; slimnet's bundles need "
        f"{', '.join(BUNDLE_ALONE)} alone (with infer.py), slimnet itself takes {run['slimnet_bytes'] / 1e6:,.0f} MB. {where}."
    )
    said = [answers_table(run), times_table(runs), shared, notes(run)]
    if "voted" in run:
        said.insert(1, labels_and_votes(run))
    return "\n\n".join(said)


TABLES = {"expression-peers": peers_table}


if __name__ == "__main__":
    main()
