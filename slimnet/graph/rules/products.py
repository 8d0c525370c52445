"""Products of activations: what is summed over is added up channel by channel, the other channels come out."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from slimnet.graph.capture import operator_in, shape_of
from slimnet.graph.findings import Sum
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.rules.registry import as_vector, opaque, rule
from slimnet.graph.values import NONE, Value, compact

BATCH = "ABCDEFGHIJKLMNOPQRSTUVW"


@rule("mm")
def matrices(run: Interpreter, node: Node, first: Any, second: Any) -> Any:
    """(…, n, k) times (…, k, m)."""
    values = [as_vector(run, value) for value in (first, second)]
    if not all(isinstance(value, Value) for value in values):
        return opaque(run, node, *values)
    batches = [BATCH[: len(value.shape) - 2][::-1] for value in values]
    left, right = (value.shape for value in values)
    if min(len(left), len(right)) < 2:
        return opaque(run, node, *values)
    out = max(batches, key=len) + "xz"
    return _contract(run, node, values, [batches[0] + "xy", batches[1] + "yz"], out)


@rule("einsum")
def _einsum(run: Interpreter, node: Node, equation: str, values: Sequence[Any], **_: Any) -> Any:
    values = [as_vector(run, value) for value in values]
    if not all(isinstance(value, Value) for value in values) or len(values) > 2:
        return opaque(run, node, *values)
    letters, out = spelled(equation, [len(value.shape) for value in values])
    if any(len(set(word)) < len(word) for word in letters):
        return opaque(run, node, *values)
    return _contract(run, node, values, letters, out)


def spelled(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """A letter for each dimension of every operand of an einsum, and for those of what comes out.

    Letters stand in the place of ``...``. Where the equation does not say what comes out, it is every letter that comes once, in
    the order of the alphabet, behind ``...``.

    Args:
        equation: as torch takes it.
        ranks: how many dimensions the operands have.

    Example:
        >>> spelled("...ij, jk", [3, 2])
        (['aij', 'jk'], 'aik')
    """
    ins, arrow, out = equation.replace(" ", "").partition("->")
    if not arrow:
        named = [letter for letter in ins if letter.isalpha()]
        out = ("..." if "..." in ins else "") + "".join(sorted(letter for letter in named if named.count(letter) == 1))
    words = ins.split(",")
    widths = [rank - len(word.replace("...", "")) for rank, word in zip(ranks, words, strict=True)]
    rest = "".join(letter for letter in string.ascii_letters if letter not in equation)[: max(widths)]
    words = [word.replace("...", rest[len(rest) - width :]) for word, width in zip(words, widths, strict=True)]
    return words, out.replace("...", rest)


def _contract(run: Interpreter, node: Node, values: Sequence[Value], letters: Sequence[str], out: str) -> Any:
    """The sum, over the letters that do not come out, of the product of one or two tensors, each dimension a letter.

    Channels along a letter are one in both. A letter of channels that is summed over needs those that are not zero. Of several
    letters of channels that come out, all but the largest stay whole: no position belongs to two channels.
    """
    wide = {
        letter
        for value, word in zip(values, letters, strict=True)
        for letter, size in zip(word, value.labels.shape, strict=True)
        if size > 1 or bool((value.labels != NONE).any() and value.labels.numel() == 1)
    }
    carried = [letter for letter in sorted(wide) if _carries(run, values, letters, letter)]
    coming = [letter for letter in carried if letter in out]
    if len(carried) < len(wide) or any(len(value.varying) > 1 for value in values):
        return opaque(run, node, *values)
    coming.sort(key=lambda letter: -max(v.shape[w.index(letter)] for v, w in zip(values, letters, strict=True) if letter in w))
    for value, word in zip(values, letters, strict=True):
        if any(letter in word for letter in coming[1:]):
            run.pin(value, f"multiplied by other channels ({operator_in(node)})")
    rows = {
        letter: next(v.labels.reshape(-1) for v, word in zip(values, letters, strict=True) if letter in word)
        for letter in carried
    }
    for letter in carried:
        if letter not in out:
            zero = _zero(values, letters, letter).reshape(-1).expand(len(rows[letter]))
            run.analysis.sums.append(Sum(rows[letter], ~zero))
    labels = torch.full((1,) * len(out), NONE)
    for letter in coming[:1]:
        labels = rows[letter].reshape([-1 if other == letter else 1 for other in out])
    constant = torch.where(_zero(values, letters, out), 0.0, torch.nan).to(torch.float64)
    return Value(shape_of(node), labels, compact(constant))


def _carries(run: Interpreter, values: Sequence[Value], letters: Sequence[str], letter: str) -> bool:
    """Whether a letter stands for channels, in every tensor that has it; they are then one."""
    rows = []
    for value, word in zip(values, letters, strict=True):
        if letter in word:
            if value.varying != (word.index(letter),) or bool((value.labels == NONE).any()):
                return False
            rows.append(value.labels.reshape(-1))
    if len({len(row) for row in rows}) > 1:
        return False
    for row in rows[1:]:
        run.labels.unite(rows[0], row)
    return True


def _zero(values: Sequence[Value], letters: Sequence[str], out: str) -> Tensor:
    """Where the product, summed over all letters but those of ``out``, is zero because each of its terms is; sizes 1 or full."""
    sizes = {letter: 1 for word in letters for letter in word}
    for value, word in zip(values, letters, strict=True):
        for letter, size in zip(word, value.constant.shape, strict=True):
            sizes[letter] = max(sizes[letter], size)
    full = "".join(sizes)
    product = torch.ones([1] * len(full), dtype=torch.bool)
    for value, word in zip(values, letters, strict=True):
        order = [word.index(letter) for letter in full if letter in word]
        some = (value.constant != 0).permute(order)
        product = product & some.reshape([some.shape[[word[i] for i in order].index(x)] if x in word else 1 for x in full])
    kept = [full.index(letter) for letter in full if letter not in out]
    some = product.expand([sizes[letter] for letter in full])
    for place in sorted(kept, reverse=True):
        some = some.any(dim=place)
    left = [letter for letter in full if letter in out]
    order = [left.index(letter) for letter in out]
    return ~some.permute(order)
