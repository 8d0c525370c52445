"""Modules that attend with several heads: their own numbers once heads are gone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

COUNTS = (
    "num_heads", "n_heads", "n_head", "nhead", "nheads", "heads", "num_head", "num_attention_heads", "num_attn_heads",
    "num_query_heads", "n_local_heads", "num_kv_heads", "n_kv_heads", "n_kv_head", "num_key_value_heads",
)  # fmt: skip
"""What the code of attentions calls the number of its heads."""
WIDTHS = ("attn_dim", "inner_dim", "all_head_size", "attention_dim", "kv_dim", "q_dim")
"""What it calls the channels of all heads together, where that need not be the width of the stream."""


class FewerHeads(nn.MultiheadAttention):
    """A :class:`torch.nn.MultiheadAttention` with fewer heads than its width has room for.

    torch's own takes the width of a head from the width of the stream. Parameters have their names there, and what is taken
    and given is the same; ``need_weights`` gives the mean over the heads that are left.

    Attributes:
        had: the number of heads before.
        kept: those that are left, for masks that are given for each head.
    """

    had: int
    kept: tuple[int, ...]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend, as :meth:`torch.nn.MultiheadAttention.forward` does."""
        batched = query.dim() == 3
        q, k, v = self._projected(query, key, value, batched)
        mask = self._mask(q, k, attn_mask, key_padding_mask)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
            weights = F.softmax(scores if mask is None else scores + mask, dim=-1)
            weights = F.dropout(weights, dropout) if dropout else weights
            out = weights @ v
            weights = weights.mean(dim=1) if average_attn_weights else weights
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        out = self.out_proj(out.transpose(1, 2).flatten(2))
        if not batched:
            return out[0], None if weights is None else weights[0]
        return out if self.batch_first else out.transpose(0, 1), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor, batched: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values: (N, heads, L, width of a head) each."""
        width = self.num_heads * self.head_dim

        def by_batch(x: Tensor) -> Tensor:
            return x[None] if not batched else x if self.batch_first else x.transpose(0, 1)

        if query is key and key is value:
            x = by_batch(query)
            whole = F.linear(x, self.in_proj_weight, self.in_proj_bias)
            return whole.reshape(x.shape[0], x.shape[1], 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)  # type: ignore[return-value]
        weights = torch.split(self.in_proj_weight, width)
        biases = [None] * 3 if self.in_proj_bias is None else torch.split(self.in_proj_bias, width)
        parts = [F.linear(by_batch(x), w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]
        shape = (-1, self.num_heads, self.head_dim)
        q, k, v = (part.reshape(part.shape[0], *shape).transpose(1, 2) for part in parts)
        return q, k, v

    def _mask(self, q: Tensor, k: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None) -> Tensor | None:
        """What is added to the scores, (N or 1, heads or 1, L, S)."""
        mask = None
        if attn_mask is not None:
            mask = _added(attn_mask, q)
            if mask.dim() == 3:  # one for each head there was
                mask = mask.view(q.shape[0], self.had, *mask.shape[1:])[:, list(self.kept)]
        if key_padding_mask is not None:
            padding = _added(key_padding_mask, q).reshape(-1, 1, 1, k.shape[2])
            mask = padding if mask is None else mask + padding
        return mask if mask is None or mask.dim() == 4 else mask[None, None]


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as numbers that are added: -inf where a truth value says "not this one"."""
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(mask, -torch.inf)
    return mask.to(like.dtype)


@singledispatch
def keep_heads(module: nn.Module, size: int, kept: Sequence[int]) -> None:
    """Make an attention's own numbers agree with its tensors, in place, once these were cut.

    Register a rule for an attention of your own with ``keep_heads.register``. Without one, the attributes that are called what
    most code calls them are set: the number of heads, and the channels of all heads together.

    Args:
        module: the module whose code attends.
        size: the number of heads before; where queries share keys, of heads that have keys of their own.
        kept: those that remain, in rising order.
    """
    for name in (*COUNTS, *WIDTHS):
        value = _number(module, name)
        if value and value % size == 0:
            setattr(module, name, value // size * len(kept))


@keep_heads.register
def _(module: nn.MultiheadAttention, size: int, kept: Sequence[int]) -> None:
    plain = type(module) in (nn.MultiheadAttention, FewerHeads) and module.bias_k is None and not module.add_zero_attn
    if not plain or module.in_proj_weight is None:
        return  # torch will say so
    had, before = (module.had, module.kept) if isinstance(module, FewerHeads) else (size, tuple(range(size)))
    module.__class__ = FewerHeads
    module.num_heads = len(kept)
    vars(module).update(had=had, kept=tuple(before[index] for index in kept))
    module._qkv_same_embed_dim = False  # what torch's fused layers ask before they take the weights themselves


def owner(model: nn.Module, path: str, size: int) -> str:
    """The module whose numbers say how many heads there are: that of the path, or the nearest around it that has any."""
    place = path.partition("@")[0]
    for candidate in _upwards(place):
        module = model.get_submodule(candidate)
        counts = [_number(module, name) for name in COUNTS]
        if any(count and count % size == 0 for count in counts):
            return candidate
    return place


def _upwards(path: str) -> list[str]:
    parts = path.split(".") if path else []
    return [".".join(parts[:length]) for length in range(len(parts), -1, -1)]


def _number(module: nn.Module, name: str) -> int:
    """A whole number that a module has under a name, 0 for none."""
    value = vars(module).get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
