"""Attention of packed texts: by a variable-length kernel where there is one, else in rectangles."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from likewise.base.log import fields, logger
from likewise.nets.ops import Attention

if TYPE_CHECKING:
    from likewise.engines.torch_feed import Feed, Group

_log = logger("engines.torch")

Varlen = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int, Attention], torch.Tensor
]
"""Queries, keys and values [tokens, heads, width], cumulative lengths and the longest: packed."""

Mask = Callable[["Group", torch.Tensor, torch.Tensor], torch.Tensor | None]
"""What the scores of a rectangle, its queries and its keys are masked with: of bool, True where
seen, or numbers to add."""

_WIDEST_HEAD = 256
_PROBE_LENGTHS = (5, 1, 130)
_CLOSE = 0.05
"""How far bf16 may be from the reference in the probe, whose values are about 1."""


def find_varlen(device: torch.device, dtype: torch.dtype) -> tuple[Varlen | None, str]:
    """The variable-length attention to use on `device` in `dtype`, and which it is or why none.

    It is believed only after it gave the right numbers for a few texts, here and now.
    """
    if device.type != "cuda" or dtype == torch.float32:
        return None, "attention in rectangles"
    for name, found in (("torch varlen", _from_torch()), ("flash-attn", _from_flash_attn())):
        if found is None:
            continue
        try:
            worst = _probe(found, device, dtype)
        except (RuntimeError, TypeError, ValueError) as refused:
            _log.warning(fields("attention refused", kind=name, device=device, why=refused))
            continue
        if worst < _CLOSE:
            return found, f"attention: {name}"
        _log.warning(fields("attention refused", kind=name, device=device, off_by=worst))
    return None, "attention in rectangles: no variable-length kernel works here"


def suits_varlen(how: Attention) -> bool:
    """Whether a variable-length kernel can compute it: no bias, and heads of a width it takes."""
    return how.bias is None and how.width % 8 == 0 and how.width <= _WIDEST_HEAD


def in_rectangles(
    qkv: torch.Tensor, how: Attention, feed: Feed, views: dict[str, torch.Tensor], mask: Mask
) -> torch.Tensor:
    """Each group of texts spread to [texts, heads, length, width], and its tokens gathered back.

    `qkv` is [tokens, heads + 2 x groups, width]; the result [tokens, heads x width].
    """
    if len(feed.groups) == 1 and feed.groups[0].texts == 1:
        return _rectangle(qkv, feed.groups[0], how, mask)
    spread = qkv.index_select(0, views["slots"])
    done = [
        _rectangle(spread[g.first_slot : g.first_slot + g.texts * g.length], g, how, mask)
        for g in feed.groups
    ]
    return torch.cat(done).index_select(0, views["back"])


def _rectangle(qkv: torch.Tensor, group: Group, how: Attention, mask: Mask) -> torch.Tensor:
    heads, shared = how.heads, how.groups
    split = qkv.view(group.texts, group.length, heads + 2 * shared, how.width).transpose(1, 2)
    query, key, value = split.split((heads, shared, shared), dim=1)
    if shared != heads:
        key, value = (x.repeat_interleave(heads // shared, dim=1) for x in (key, value))
    seen = mask(group, query, key)
    # Empty slots come after a text's own tokens: none of those looks that far.
    context = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, is_causal=how.causal and seen is None, scale=how.scale
    )
    return context.transpose(1, 2).reshape(group.texts * group.length, heads * how.width)


def sees(how: Attention, group: Group, lengths: torch.Tensor) -> torch.Tensor | None:
    """Which keys each query may look at: bool [texts or 1, 1, length or 1, length]; None for all.

    `lengths` are those of the group's texts. None too where it is plainly causal.
    """
    if how.causal and how.window is None and how.bias is None and not group.is_expanded:
        return None
    places = torch.arange(group.length, device=lengths.device)
    seen: torch.Tensor | None = None
    if not group.is_full:
        seen = (places < lengths[:, None])[:, None, None, :]
    after = places[None, :] - places[:, None]
    for limit in (
        after <= 0 if how.causal else None,
        after.abs() <= how.window if how.window is not None else None,
    ):
        if limit is not None:
            seen = limit[None, None] if seen is None else seen & limit
    return seen


def _from_torch() -> Varlen | None:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    if not {"window_size", "scale", "enable_gqa"} <= set(inspect.signature(varlen_attn).parameters):
        return None

    def attend(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cumulative: torch.Tensor,
        longest: int,
        how: Attention,
    ) -> torch.Tensor:
        return varlen_attn(
            query,
            key,
            value,
            cumulative,
            cumulative,
            longest,
            longest,
            scale=how.scale,
            window_size=_window(how),
            enable_gqa=how.groups != how.heads,
        )

    return attend


def _from_flash_attn() -> Varlen | None:
    try:
        from flash_attn import flash_attn_varlen_func
    except ModuleNotFoundError:
        return None
    except ImportError as broken:
        _log.warning(fields("attention refused", kind="flash-attn", why=broken))
        return None

    def attend(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cumulative: torch.Tensor,
        longest: int,
        how: Attention,
    ) -> torch.Tensor:
        return flash_attn_varlen_func(
            query,
            key,
            value,
            cumulative,
            cumulative,
            longest,
            longest,
            softmax_scale=how.scale,
            causal=how.causal,
            window_size=_window(how),
        )

    return attend


def _window(how: Attention) -> tuple[int, int]:
    """How many places before and after itself a token sees; -1 is all."""
    before = -1 if how.window is None else how.window
    return before, 0 if how.causal else before


def _probe(attend: Varlen, device: torch.device, dtype: torch.dtype) -> float:
    """How far `attend` is from plain attention, at worst, over what architectures ask of it."""
    heads, groups, width = 4, 2, 64
    cumulative = torch.tensor([0, 5, 6, 136], dtype=torch.int32, device=device)
    pick = torch.Generator().manual_seed(0)
    made = torch.randn((sum(_PROBE_LENGTHS), heads + 2 * groups, width), generator=pick)
    qkv = made.to(device, dtype)
    query, key, value = qkv.split((heads, groups, groups), dim=1)
    worst = 0.0
    for causal, window in ((False, None), (True, None), (False, 3), (True, 3)):
        how = Attention(heads, width, kv_heads=groups, causal=causal, window=window)
        ours = attend(query, key, value, cumulative, max(_PROBE_LENGTHS), how).float()
        theirs = torch.cat([_alone(one, how) for one in qkv.float().split(_PROBE_LENGTHS)])
        off = (ours.reshape(theirs.shape) - theirs).abs().max().item()
        # NaN compares as false: it must not pass.
        worst = max(worst, off) if off == off else float("inf")
    return worst


def _alone(qkv: torch.Tensor, how: Attention) -> torch.Tensor:
    """Attention of one text, [tokens, heads x width]."""
    from likewise.engines.torch_feed import Group

    group = Group(1, len(qkv), 0, 0, is_full=True)
    lengths = torch.tensor([len(qkv)], device=qkv.device)
    return _rectangle(qkv, group, how, lambda one, *_: sees(how, one, lengths))
