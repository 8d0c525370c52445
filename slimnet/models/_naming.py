"""The names of a state dict brought to those of a network: wrappers around it left out, bookkeeping too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from slimnet.models._layouts import AVERAGED, few

BOOKKEEPING = ("n_averaged", "total_ops", "total_params", "num_batches_tracked", "_extra_state")
"""Ends of names that no answer depends on: of averages, of thop, of norms in training."""
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Heads that only a training recipe of GoogLeNet and Inception uses."""
_INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "module")
"""Wrappers that stand in the middle of names as well: compiled or parallel parts of a network."""
_DEPTH = 6


@dataclass(frozen=True)
class Naming:
    """How names of a file become names of a network.

    Attributes:
        prefix: what is dropped before them.
        added: what is put before them.
        inside: wrappers that are dropped in the middle.
        hits: how many names of the network are met.
    """

    prefix: str = ""
    added: str = ""
    inside: bool = False
    hits: int = 0

    def of(self, name: str) -> str | None:
        """The network's name; None where this one is of something beside the network."""
        plain = ".".join(_without_wrappers(name)) if self.inside else name
        return self.added + plain.removeprefix(self.prefix) if plain.startswith(self.prefix) else None


def find_naming(wanted: Collection[str], names: Iterable[str]) -> Naming:
    """The naming that meets most names of a network, and changes least."""
    names, wanted = list(names), frozenset(wanted)
    found = [Naming(hits=sum(name in wanted for name in names))]
    for inside in (False, True):
        given = [".".join(_without_wrappers(name)) for name in names] if inside else names
        if inside and given == names:
            continue
        dropped = Counter(prefix for name in given for prefix, rest in _cuts(name) if rest in wanted)
        found += [Naming(prefix, "", inside, hits) for prefix, hits in dropped.items()]
        present = frozenset(given)
        put = Counter(prefix for name in wanted for prefix, rest in _cuts(name) if rest in present)
        found += [Naming("", prefix, inside, hits) for prefix, hits in put.items() if prefix]
    found = [each for each in found if each == found[0] or 2 * each.hits >= len(wanted)]  # a few alike names say nothing
    return max(found, key=lambda each: (each.hits, not _is_average(each.prefix), not each.inside, -len(each.prefix + each.added)))


def renamed(wanted: Collection[str], state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """A state dict by the names of a network, and what was left out, a line each."""
    naming = find_naming(wanted, state)
    found, beside, counted = {}, [], []
    for name, tensor in state.items():
        new = naming.of(name)
        if (new or name) not in wanted and name.rpartition(".")[2] in BOOKKEEPING:
            counted.append(name.rpartition(".")[2])
        elif new is None or (new not in wanted and new.startswith(AUXILIARY)):
            beside.append(name)
        else:
            found[new] = tensor
    whole = not {name for name in wanted if name.rpartition(".")[2] not in BOOKKEEPING} - found.keys()
    if beside and not whole:  # what is missing may be among them: nothing is left out of what does not fit
        found |= {name: state[name] for name in beside}
        beside = []
    return found, tuple(_notes(naming, beside, counted, len(found)))


def _notes(naming: Naming, beside: list[str], counted: list[str], count: int) -> Iterator[str]:
    if naming.prefix:
        yield f"dropped {naming.prefix!r} before {count} names"
    if naming.added:
        yield f"put {naming.added!r} before its names"
    if naming.inside and not naming.prefix:
        yield "dropped wrappers in the middle of names"
    if beside:
        yield f"left out what is not of the network: {few(beside)}"
    if counted:
        yield f"left out bookkeeping: {', '.join(sorted(set(counted)))}"


def _is_average(prefix: str) -> bool:
    return any(word in prefix.lower() for word in AVERAGED)


def _without_wrappers(name: str) -> list[str]:
    return [part for part in name.split(".") if part not in _INSIDE]


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """A name cut after each of its first parts: ("", "a.b"), ("a.", "b")."""
    parts = name.split(".", _DEPTH)
    for place in range(len(parts)):
        start = "".join(f"{part}." for part in parts[:place])
        yield start, name[len(start) :]
