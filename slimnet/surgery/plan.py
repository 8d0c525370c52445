"""The surgeon's plan: all that is done to a network, as data that can be written, read and applied to a fresh copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from slimnet._json import check
from slimnet._modes import unwrapped
from slimnet.errors import FileFormatError
from slimnet.surgery.copies import bake
from slimnet.surgery.literals import Graph, Literal, add_bias
from slimnet.surgery.operations import Count, Cut, Expansion, Fold, Heads, Move, Operation, Shut
from slimnet.surgery.parts import Parts
from slimnet.surgery.resize import resize

VERSION = 1


@dataclass(frozen=True)
class GroupPlan:
    """What happens to one channel group, and why what stays stays.

    Attributes:
        name: name of the group.
        size: channels before.
        kept: the channels that remain.
        members: the layers that make, normalise or read the channels.
        closed: channels whose filters are zero in every layer that makes them.
        partly: channels whose filters are zero in some of these layers only.
        reasons: reason → number of closed or partly closed channels that stay because of it; where a channel stands for all
            filters of a convolution group, those of which some filters are zero count as well.
    """

    name: str
    size: int
    kept: tuple[int, ...]
    members: tuple[str, ...]
    closed: int
    partly: int
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The surgeon's plan: everything needed to cut a fresh copy of the network in the same way.

    ``graph``: how the exported program of the network is made the slim model; None where its modules are. ``runs``: in how many
    different runs the network was recorded, where its control flow depends on data; 0 where the plan holds for all inputs.
    """

    groups: tuple[GroupPlan, ...]
    cuts: tuple[Cut, ...]
    folds: tuple[Fold, ...] = ()
    moves: tuple[Move, ...] = ()
    shuts: tuple[Shut, ...] = ()
    expansions: tuple[Expansion, ...] = ()
    counts: tuple[Count, ...] = ()
    heads: tuple[Heads, ...] = ()
    graph: Graph | None = None
    runs: int = 0
    version: int = VERSION

    def apply(self, model: nn.Module) -> nn.Module:
        """Cut ``model`` in place (also on the meta device, where only shapes change).

        Args:
            model: a fresh copy of the network that the plan was made for.

        Returns:
            The same module; of a plan for the exported program, that program, a ``torch.fx.GraphModule``.

        Raises:
            SurgeryError: if the network is not the one that the plan was made for.
            GraphError: if the network cannot be exported, and the plan is for the exported program.
        """
        baked = bake(unwrapped(model))
        program = None if self.graph is None else self.graph.trace(baked)
        network = Parts(baked if program is None else program)
        made = {fold.bias for fold in self.folds if fold.makes_bias}
        for cut in self.cuts:
            if cut.name not in made:
                cut.check(network)
        changed: tuple[Operation, ...] = (*self.folds, *self.cuts, *self.moves, *self.counts)
        for operation in changed:
            operation.apply(network)
        if self.graph is not None and program is not None:
            self.graph.write(program)
            for fold in self.folds:
                if fold.makes_bias:
                    add_bias(program, network.tensor(fold.weight), fold.bias)
            return program
        names = (*(cut.name for cut in self.cuts), *(fold.weight for fold in self.folds))
        for path in {name.rpartition(".")[0] for name in names}:
            resize(network.module(path))
        wrapped: tuple[Operation, ...] = (*self.heads, *self.expansions, *self.shuts)
        for operation in wrapped:
            operation.apply(network)
        return model

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON values; index lists are written as ranges ("0-15,20")."""
        plan = asdict(self)
        for item in (*plan["groups"], *plan["cuts"], *plan["heads"]):
            item["kept"] = to_ranges(item["kept"])
        for item in plan["moves"]:
            item["inputs"], item["outputs"] = to_ranges(item["inputs"]), to_ranges(item["outputs"])
        for item in plan["expansions"]:
            item["live"] = to_ranges(item["live"])
        for name in ("heads", "graph", "runs"):
            if not plan[name]:
                del plan[name]  # as plans were before there were any
        return {"version": plan.pop("version"), **plan}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Plan:
        """Read what :meth:`as_dict` wrote.

        Raises:
            FileFormatError: if the version is unknown or a field is missing or malformed.
        """
        if not isinstance(value, Mapping):
            raise FileFormatError(f"the plan must be an object, got {type(value).__name__}.")
        if value.get("version") != VERSION or value["version"] is True:
            raise FileFormatError(f"plan version {value.get('version')!r} is not known (this slimnet reads {VERSION}).")
        check(value, "plan", "the plan")
        try:
            return cls(
                groups=tuple(
                    GroupPlan(**{**g, "kept": from_ranges(g["kept"], g["size"]), "members": tuple(g["members"])})
                    for g in value["groups"]
                ),
                cuts=tuple(Cut(**{**c, "kept": from_ranges(c["kept"], c["size"])}) for c in value["cuts"]),
                folds=tuple(
                    Fold(**{**f, "columns": tuple(f["columns"]), "constants": tuple(f["constants"])}) for f in value["folds"]
                ),
                moves=tuple(
                    Move(
                        **{
                            **m,
                            "inputs": from_ranges(m["inputs"], m["in_size"]),
                            "outputs": from_ranges(m["outputs"], m["out_size"]),
                        }
                    )
                    for m in value["moves"]
                ),
                shuts=tuple(
                    Shut(s["module"], tuple(s["values"]), s["dims"], s["full"], tuple(s["others"])) for s in value["shuts"]
                ),
                expansions=tuple(
                    Expansion(**{**e, "live": from_ranges(e["live"], len(e["values"])), "values": tuple(e["values"])})
                    for e in value["expansions"]
                ),
                counts=tuple(Count(**c) for c in value.get("counts", ())),
                heads=tuple(Heads(h["module"], h["size"], from_ranges(h["kept"], h["size"])) for h in value.get("heads", ())),
                graph=_graph(value["graph"]) if "graph" in value else None,
                runs=value.get("runs", 0),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"the plan is malformed: {error}") from None


def _graph(value: Mapping[str, Any]) -> Graph:
    literals = (
        Literal(**{**found, "before": tuple(found["before"]), "after": tuple(found["after"])}) for found in value["literals"]
    )
    return Graph(
        inputs=tuple(tuple(shape) for shape in value["inputs"]),
        kinds=tuple(value["kinds"]),
        free=tuple(value["free"]),
        operators=value["operators"],
        literals=tuple(literals),
    )


def to_ranges(indices: Sequence[int]) -> str:
    """Write increasing indices as ranges: (0, 1, 2, 5) → "0-2,5"."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def from_ranges(text: str, size: int) -> tuple[int, ...]:
    """Read what :func:`to_ranges` wrote of ``size`` entries.

    Raises:
        ValueError: if it is no list of rising ranges within them.
    """
    result: list[int] = []
    before = -1
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not before < low <= high < size:
            raise ValueError(f"{part} is no rising range within {size:,} entries")
        result.extend(range(low, high + 1))
        before = high
    return tuple(result)
