"""Channel groups: the dimensions of several layers that must shrink together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch

import torch
from torch import Tensor, nn

from slimnet.errors import ArgumentError
from slimnet.fields import one_of
from slimnet.graph.analysis import analyse
from slimnet.graph.capture import ExampleInputs
from slimnet.graph.findings import Analysis, Entry
from slimnet.graph.values import NONE
from slimnet.names import COUPLES, Couple


@dataclass(frozen=True, eq=False)
class Rows:
    """The entries along one dimension of a parameter or buffer that belong to the channels of a group.

    Attributes:
        name: full name of the parameter or buffer, e.g. ``"layer1.0.conv1.weight"``.
        dim: the dimension of that tensor which the indices address.
        index: (channels, k) int64; row ``c`` holds the ``k`` entries of channel ``c``. ``k`` is 1 for a convolution or
            norm, the map's H·W for a linear layer behind a flatten.
    """

    name: str
    dim: int
    index: Tensor

    @property
    def module(self) -> str:
        """Full name of the module that owns the tensor."""
        return self.name.rpartition(".")[0]

    def flat(self) -> Tensor:
        """All indices, channel by channel: (channels · k,) int64."""
        return self.index.reshape(-1)


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that live in several layers and can only be removed from all of them at once.

    Attributes:
        name: the first layer that makes the channels; unique among the groups of a model.
        size: number of channels.
        filters: rows of convolution and linear weights and biases that make the channels (dim 0 of ``weight``, ``bias``).
        norms: entries of ``weight``, ``bias``, ``running_mean``, ``running_var`` of the norms on the way.
        inputs: columns (dim 1) of the weights that read the channels.
        biases: names of the biases among ``filters``.
        buffers: names of the buffers among ``filters`` (fixed blurs): they are cut along, but neither scored nor masked.
        normed: names of those weights and biases in ``filters`` whose output goes straight into a norm, and nowhere else.
        others: entries of parameters used element by element (PReLU slopes, layer scales), and the rows of an attention's
            queries and keys: they are cut along, but neither scored nor masked.
        pinned: why these channels may not be removed ("" where they may), e.g. "output of the network".
        inside: of a residual branch (see :func:`slimnet.graph.residual_branches`): the modules that serve it alone.
        roots: the analysis' labels of the channels.
    """

    name: str
    size: int
    filters: tuple[Rows, ...] = ()
    norms: tuple[Rows, ...] = ()
    inputs: tuple[Rows, ...] = ()
    others: tuple[Rows, ...] = ()
    biases: frozenset[str] = frozenset()
    buffers: frozenset[str] = frozenset()
    normed: frozenset[str] = frozenset()
    pinned: str = ""
    inside: tuple[str, ...] = ()
    roots: tuple[int, ...] = field(default=(), repr=False)

    @property
    def weights(self) -> tuple[Rows, ...]:
        """The members of ``filters`` that are weights: parameters, and not biases."""
        return tuple(rows for rows in self.filters if rows.name not in self.biases | self.buffers)

    @property
    def is_branch(self) -> bool:
        """Whether this is a residual branch, closed as a whole."""
        return bool(self.inside)

    @property
    def is_stream(self) -> bool:
        """Whether more than one layer makes these channels (a residual stream)."""
        return len(self.weights) > 1

    def vector(self, per_channel: Tensor, rows: Rows, length: int, fill: float = 1.0) -> Tensor:
        """Scatter one value a channel into a vector along the dimension of ``rows``.

        Args:
            per_channel: (size,) values.
            rows: a member of this group.
            length: size of the tensor's dimension ``rows.dim``.
            fill: value of the entries that do not belong to the group.

        Returns:
            (length,) tensor of the dtype and device of ``per_channel``.
        """
        out = torch.full((length,), fill, dtype=per_channel.dtype, device=per_channel.device)
        out[rows.flat().to(out.device)] = per_channel.repeat_interleave(rows.index.shape[1])
        return out


def prunable(groups: Iterable[ChannelGroup]) -> tuple[ChannelGroup, ...]:
    """The groups whose channels may be masked: not pinned, and made by at least one layer."""
    return tuple(group for group in groups if not group.pinned and group.weights)


def not_ignored(groups: Sequence[ChannelGroup], ignore: Iterable[str]) -> tuple[ChannelGroup, ...]:
    """The groups whose names match none of the patterns (``fnmatch``).

    Raises:
        ArgumentError: if a pattern matches no group.
    """
    patterns = tuple(ignore)
    for pattern in patterns:
        if not any(fnmatch(group.name, pattern) for group in groups):
            names = ", ".join(group.name for group in groups) or "none"
            raise ArgumentError(f"`ignore` {pattern!r} matches no channel group; there are: {names}.")
    return tuple(group for group in groups if not any(fnmatch(group.name, pattern) for pattern in patterns))


def channel_groups(model: nn.Module, example_inputs: ExampleInputs, *, couple: Couple = "stream") -> tuple[ChannelGroup, ...]:
    """The channel groups of any model that ``torch.export`` can follow.

    Args:
        model: the network; it is left as it was.
        example_inputs: a tensor or tuple of tensors, batch first.
        couple: ``"stream"``: channels that are added to each other are one group. ``"none"``: every convolution is a group of
            its own, with the norm behind it (the papers' independent masks; they cannot all be removed).

    Returns:
        The groups in execution order. Pinned ones are among them; :func:`prunable` leaves them out.

    Raises:
        ArgumentError: if ``couple`` is neither of the two.
        GraphError: if the model cannot be analysed.
    """
    one_of(*COUPLES).check("`couple`", couple)
    analysis = analyse(model, example_inputs)
    return stream_groups(analysis) if couple == "stream" else _layer_groups(analysis)


def stream_groups(analysis: Analysis) -> tuple[ChannelGroup, ...]:
    """Channels that are touched by the same layers, in the same way, make a group."""
    entries = list(analysis.entries.items())
    roots = [analysis.roots(entry.labels) for _, entry in entries]
    places = {key: _Places.of(labels) for (key, _), labels in zip(entries, roots, strict=True)}
    names: dict[str, int] = {}
    return tuple(
        _group(analysis, [entries[number][0] for number in where], channels, pinned, places, names)
        for where, channels, pinned in _kinds(analysis, roots)
    )


@dataclass(frozen=True, eq=False)
class _Places:
    """Where along one dimension of a parameter each channel lies: representatives, sorted, and their indices."""

    roots: Tensor
    indices: Tensor

    @classmethod
    def of(cls, roots: Tensor) -> _Places:
        indices = roots.argsort(stable=True)
        return cls(roots[indices], indices)

    def index(self, roots: Tensor) -> Tensor:
        """(channels, k): the k indices of each of these channels."""
        first = torch.searchsorted(self.roots, roots)
        count = int(torch.searchsorted(self.roots, roots[0], right=True) - first[0])
        return self.indices[first[:, None] + torch.arange(count)]


def _kinds(analysis: Analysis, roots: Sequence[Tensor]) -> Iterator[tuple[list[int], list[int], str]]:
    """Channels that lie in the same dimensions and are counted in the same pieces, in the same way, with what pins them; in the
    order in which they are met."""
    if not roots:
        return
    numbers = torch.cat([torch.full_like(labels, number) for number, labels in enumerate(roots)])
    joined = torch.cat(list(roots))
    order = joined.argsort(stable=True)
    order = order[joined[order] != NONE]
    channels, counts = torch.unique_consecutive(joined[order], return_counts=True)
    starts = counts.cumsum(0) - counts
    touched, found = numbers[order].numpy(), channels.tolist()
    pieces = _pieces(analysis)
    kinds: dict[tuple[bytes, str, tuple[int, ...]], tuple[int, int, list[int]]] = {}
    for place in order[starts].argsort().tolist():
        start, stop = int(starts[place]), int(starts[place] + counts[place])
        key = (touched[start:stop].tobytes(), analysis.pinned(found[place]), tuple(pieces.get(found[place], ())))
        kinds.setdefault(key, (start, stop, []))[2].append(found[place])
    for (_, pinned, _), (start, stop, alike) in kinds.items():
        yield list(dict.fromkeys(touched[start:stop].tolist())), alike, pinned


def _pieces(analysis: Analysis) -> dict[int, list[int]]:
    """Channel → the pieces in which the network's code counts it: groups that lose the same share keep their proportion."""
    found: dict[int, list[int]] = defaultdict(list)
    for number, part in enumerate(part for pieces in analysis.pieces for part in pieces.parts):
        for root in torch.unique(analysis.roots(part)).tolist():
            found[root].append(number)
    return found


def _group(
    analysis: Analysis,
    where: list[tuple[str, int]],
    roots: list[int],
    pinned: str,
    places: Mapping[tuple[str, int], _Places],
    names: dict[str, int],
) -> ChannelGroup:
    members: dict[str, list[Rows]] = defaultdict(list)
    channels = torch.tensor(roots)
    for key in where:
        entry = analysis.entries[key]
        index = places[key].index(channels)
        speaks = _speaking(analysis, entry, index)
        if speaks is not None:
            members["other"].append(Rows(*key, index[~speaks].reshape(len(index), -1)))
            index = index[speaks].reshape(len(index), -1)
        if index.shape[1]:
            members[entry.role].append(Rows(*key, index))
    filters = [rows for role in ("filter", "bias") for rows in members[role]]
    makers = [*filters, *members["norm"], *members["other"]]
    name = (makers[0].module or makers[0].name) if makers else "input"
    names[name] = names.get(name, 0) + 1
    return ChannelGroup(
        name=name if names[name] == 1 else f"{name}#{names[name]}",
        size=len(roots),
        filters=tuple(filters),
        norms=tuple(members["norm"]),
        inputs=tuple(members["input"]),
        others=tuple(members["other"]),
        biases=frozenset(rows.name for rows in members["bias"]),
        buffers=frozenset(rows.name for rows in filters if not _is_parameter(analysis.model, rows.name)),
        normed=_normed(analysis, filters),
        pinned=pinned,
        roots=tuple(roots),
    )


def _speaking(analysis: Analysis, entry: Entry, index: Tensor) -> Tensor | None:
    """Which rows, (channels, k) bool, make more than queries and keys; None where all do, or channels differ in how many."""
    if entry.name not in analysis.silent or entry.dim != 0:
        return None
    speaks = ~analysis.silent[entry.name][index]
    counts = speaks.sum(dim=1)
    return None if bool(speaks.all()) or bool((counts != counts[0]).any()) else speaks


def _is_parameter(model: nn.Module, name: str) -> bool:
    path, _, attribute = name.rpartition(".")
    return attribute in model.get_submodule(path)._parameters


def _normed(analysis: Analysis, filters: Iterable[Rows]) -> frozenset[str]:
    modules = {name.rpartition(".")[0] for name in analysis.norm_behind}
    return frozenset(rows.name for rows in filters if rows.module in modules)


def _layer_groups(analysis: Analysis) -> tuple[ChannelGroup, ...]:
    """One group a convolution: its filters, its bias and the norm that alone reads it."""
    groups = []
    for (name, dim), entry in analysis.entries.items():
        module = name.rpartition(".")[0]
        tensor = dict(analysis.model.named_parameters(remove_duplicate=False)).get(name)
        if entry.role != "filter" or tensor is None or tensor.dim() < 3:
            continue
        bias = [_all_rows(other) for other in _entries(analysis, module, "bias")]
        norm = analysis.norm_behind.get(name, "")
        norms = [_all_rows(other) for other in _entries(analysis, norm, "norm")] if norm else []
        size = tensor.shape[dim]
        filters = (_all_rows(entry), *bias)
        biases = frozenset(rows.name for rows in bias)
        groups.append(ChannelGroup(module, size, filters, tuple(norms), biases=biases, normed=_normed(analysis, filters)))
    return tuple(groups)


def _entries(analysis: Analysis, module: str, role: str) -> list[Entry]:
    return [e for e in analysis.entries.values() if e.role == role and e.name.rpartition(".")[0] == module]


def _all_rows(entry: Entry) -> Rows:
    return Rows(entry.name, entry.dim, torch.arange(len(entry.labels)).reshape(-1, 1))
