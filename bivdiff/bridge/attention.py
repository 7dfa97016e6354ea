"""Attention that pictures share: what frames see of each other, and what Prompt-to-Prompt changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from bivdiff.types import FrameAttention

# Level 0 of a U-Net works at the latents' own size, each next one at half of it. Self-attention is shared from this
# level down: the shapes are laid out there, while finer levels draw the surfaces that an edit may have to change.
SHARED_SELF_LEVEL = 1
# Words are located by the maps of this level, 16x16 for latents of 64x64: coarse enough to follow meaning ...
MAP_LEVEL = 2
# ... but where its shorter side had fewer places than this, by those of a finer level: 8x8 for latents of 16x16.
MIN_MAP_SIDE = 8

Attend: TypeAlias = Callable[[Any, Tensor, Tensor, Tensor, "Tensor | None"], Tensor]
"""From a layer, its queries, keys and values `(B, heads, places, width)`, and a mask, to what the queries find."""


class TokenMap(NamedTuple):
    """Where the edited prompt's tokens take their attention from.

    `matrix` `(L, L)`: share of each source token's attention (row) that goes to each edited token (column). `own`
    `(L,)`: share of its own attention that an edited token keeps.
    """

    matrix: Tensor
    own: Tensor


@dataclass(frozen=True, eq=False)
class AttentionControl:
    """What the edited pictures of a batch take over from the source pictures.

    The batch holds the source pictures first and the edited ones last, in the same order; those between are left alone.

    Attributes:
        pairs: number of source pictures, and of edited ones.
        latent_size: height and width of the latents.
        token_map: ties the edited pictures' cross-attention to their sources'; None leaves it free.
        token_weights: `(L,)`, times the edited pictures' attention to each token; None changes nothing.
        share_self: the edited pictures take their sources' self-attention from `SHARED_SELF_LEVEL` down.
        map_tokens: `(2, L)`, tokens (1, else 0) of the source's and the edited prompt to make maps of; None makes none.
    """

    pairs: int
    latent_size: tuple[int, int]
    token_map: TokenMap | None = None
    token_weights: Tensor | None = None
    share_self: bool = False
    map_tokens: Tensor | None = None

    @property
    def acts(self) -> bool:
        """Whether it changes or looks at anything."""
        given = (self.token_map, self.token_weights, self.map_tokens)
        return self.share_self or any(part is not None for part in given)

    def changes_self(self, places: int) -> bool:
        """Whether it acts on a self-attention layer with that many places."""
        height, width = level_size(self.latent_size, SHARED_SELF_LEVEL)
        return self.share_self and places <= height * width

    def changes_cross(self, places: int) -> bool:
        """Whether it acts on a cross-attention layer with that many places."""
        return self.token_map is not None or self.token_weights is not None or self.makes_maps(places)

    def makes_maps(self, places: int) -> bool:
        """Whether a cross-attention layer with that many places adds to the maps."""
        height, width = map_size(self.latent_size)
        return self.map_tokens is not None and places == height * width


@contextmanager
def controlled(unet: Any, control: AttentionControl) -> Iterator[list[Tensor]]:
    """Let `control` act on a U-Net's attention; on leaving, its processors are the same objects as before.

    Layers on which the control does not act are left to their own processors.

    Args:
        unet: a UNet2DConditionModel.
        control: what to change, for batches laid out as it says.

    Yields:
        A list that each layer of `map_size` adds its maps to: `(2, pairs, height, width)`, the attention of the
        source and of the edited pictures to `map_tokens`.
    """
    before = unet.attn_processors
    maps: list[Tensor] = []
    unet.set_attn_processor({name: _Controlled(own, control, maps) for name, own in before.items()})
    try:
        yield maps
    finally:
        unet.set_attn_processor(before)


def level_size(latent_size: tuple[int, int], level: int) -> tuple[int, int]:
    """Height and width of a U-Net's level: each halves the one above, rounded up."""
    height, width = (-(-side // 2**level) for side in latent_size)
    return height, width


def map_size(latent_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the attention maps that locate words."""
    levels = (level_size(latent_size, level) for level in range(MAP_LEVEL, 0, -1))
    return next((size for size in levels if min(size) >= MIN_MAP_SIDE), latent_size)


_OTHERS: Mapping[FrameAttention, tuple[str, ...]] = {
    "none": (), "first": ("first",), "previous": ("previous",), "both": ("first", "previous"),
}  # fmt: skip


class FrameLooks:
    """What the frames of a clip see of each other while an image model makes them.

    Its U-Net's self-attention reads the keys and values of the first frame, of the frame before, or of both, beside the
    frame's own. Frames may come in batches: what a later one needs of an earlier one is kept until the clip is through.

    Args:
        frame_attention: as in GenerationRequest.
        num_frames: of the clip. A U-Net under `put_into` is shown all of them in each of its passes, in their order.

    Attributes:
        copies: how often each batch holds its frames, one copy of them after the other. 1 is also right where whole
            clips follow one another, as guidance lays them out.

    Source: Text2Video-Zero (arXiv:2303.13439), which reads the first frame instead of the frame's own.
    """

    def __init__(self, frame_attention: FrameAttention, num_frames: int) -> None:
        self.copies = 1
        self._others = _OTHERS[frame_attention]
        self._num_frames = num_frames
        self._seen = 0  # frames of one copy, over all passes
        self._rows: list[tuple[tuple[int, int], int]] = []

    @contextmanager
    def put_into(self, unet: Any) -> Iterator[None]:
        """Let the frames see each other in a U-Net; on leaving, its processors are the same objects as before."""
        if not self._others:
            yield
            return
        before = unet.attn_processors
        unet.set_attn_processor({name: _Looking(own, self) for name, own in before.items()})
        watch = unet.register_forward_pre_hook(lambda _, given: self._lay_out(len(given[0])))
        try:
            yield
        finally:
            watch.remove()
            unet.set_attn_processor(before)

    def _lay_out(self, batch: int) -> None:
        """Note which clip and which frame of it each row of the next batch is."""
        part = batch // self.copies
        places = [divmod(self._seen + place, self._num_frames) for place in range(part)]
        self._rows = [((copy, clip), frame) for copy in range(self.copies) for clip, frame in places]
        self._seen += part

    def seen_with(self, states: Tensor, kept: dict[Any, Tensor]) -> Tensor:
        """Keys or values `(B, heads, places, width)` with those of the other frames behind them, along the places.

        `kept` holds what a layer needs of batches before, and is changed to what it needs of this one.
        """
        parts, fresh = [states], set()
        for other in self._others:
            rows = []
            for own, (clip, frame) in zip(states, self._rows, strict=True):
                key = other, clip
                seen = own if frame == 0 else kept[key]
                if frame == 0 or other == "previous":
                    kept[key] = own
                    fresh.add(key)
                rows.append(seen)
            parts.append(torch.stack(rows))
        finished = {clip for clip, frame in self._rows if frame == self._num_frames - 1}
        for key in list(kept):
            if key[1] in finished:
                del kept[key]
            elif key in fresh:
                kept[key] = kept[key].clone()  # and not the whole batch that it is a part of
        return torch.cat(parts, 2)


class _Looking:
    """The processor of one attention layer whose frames see each other."""

    def __init__(self, own: Any, looks: FrameLooks) -> None:
        self._own, self._looks = own, looks
        self._keys: dict[Any, Tensor] = {}
        self._values: dict[Any, Tensor] = {}

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None, temb: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        if encoder_hidden_states is not None:
            own: Tensor = self._own(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return own
        return _attended(attn, hidden_states, None, attention_mask, temb, self._attend)

    def widened(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values with those of the other frames that each frame sees."""
        return self._looks.seen_with(key, self._keys), self._looks.seen_with(value, self._values)

    def _attend(self, attn: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        key, value = self.widened(key, value)
        return F.scaled_dot_product_attention(query, key, value, mask, scale=attn.scale)


def _attended(
    attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None, attention_mask: Tensor | None,
    temb: Tensor | None, attend: Attend,
) -> Tensor:  # fmt: skip
    """What an attention layer makes of its input, with `attend` in place of its attention.

    Source for the layout around the attention itself: diffusers' AttnProcessor and AttnProcessor2_0.
    """
    is_cross = encoder_hidden_states is not None
    residual = hidden_states
    if attn.spatial_norm is not None:
        hidden_states = attn.spatial_norm(hidden_states, temb)
    if residual.ndim == 4:
        hidden_states = hidden_states.flatten(2).transpose(1, 2)
    if attn.group_norm is not None:
        hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
    text = encoder_hidden_states if is_cross else hidden_states
    if is_cross and attn.norm_cross:
        text = attn.norm_encoder_hidden_states(text)

    # (B, heads, places or tokens, width of a head)
    query, key, value = (
        layer(states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        for layer, states in ((attn.to_q, hidden_states), (attn.to_k, text), (attn.to_v, text))
    )
    query = query if attn.norm_q is None else attn.norm_q(query)
    key = key if attn.norm_k is None else attn.norm_k(key)
    if attention_mask is not None:
        attention_mask = attn.prepare_attention_mask(attention_mask, key.shape[2], len(query))
        attention_mask = attention_mask.unflatten(0, (len(query), attn.heads))
    made = attend(attn, query, key, value, attention_mask).transpose(1, 2).flatten(2).to(query.dtype)

    hidden_states = attn.to_out[1](attn.to_out[0](made))
    if residual.ndim == 4:
        hidden_states = hidden_states.transpose(1, 2).reshape(residual.shape)
    if attn.residual_connection:
        hidden_states = hidden_states + residual
    return hidden_states / attn.rescale_output_factor


class _Controlled:
    """The processor of one attention layer under control."""

    def __init__(self, own: Any, control: AttentionControl, maps: list[Tensor]) -> None:
        self._own = own
        self._control = control
        self._maps = maps

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None, temb: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        is_cross = encoder_hidden_states is not None
        places = hidden_states.shape[2:].numel() if hidden_states.ndim == 4 else hidden_states.shape[1]
        if not (self._control.changes_cross(places) if is_cross else self._control.changes_self(places)):
            own: Tensor = self._own(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return own
        attend = self._cross if is_cross else self._self
        return _attended(attn, hidden_states, encoder_hidden_states, attention_mask, temb, attend)

    def _self(self, attn: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        # Probabilities come from query and key alone: with the source's, the edited pictures have the source's
        # probabilities, and none of the (places x places) matrices is ever held.
        if isinstance(self._own, _Looking):
            key, value = self._own.widened(key, value)
        pairs = self._control.pairs
        query, key = (torch.cat([part[:-pairs], part[:pairs]]) for part in (query, key))
        return F.scaled_dot_product_attention(query, key, value, mask, scale=attn.scale)

    def _cross(self, attn: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        control = self._control
        pairs, edited = control.pairs, slice(len(query) - control.pairs, None)
        probs_source, probs = (
            _probabilities(attn, query[rows], key[rows], None if mask is None else mask[rows])
            for rows in (slice(pairs), edited)
        )
        if control.token_map is not None:
            matrix, own = (part.to(probs) for part in control.token_map)
            probs = probs_source @ matrix + own * probs
        if control.token_weights is not None:
            probs = probs * control.token_weights.to(probs)
        if control.map_tokens is not None and control.makes_maps(query.shape[2]):
            both = torch.stack([probs_source, probs]).float().mean(2)  # (2, pairs, places, L), over the heads
            found = torch.einsum("bnpl,bl->bnp", both, control.map_tokens.to(both))
            self._maps.append(found.unflatten(2, map_size(control.latent_size)))
        attended = F.scaled_dot_product_attention(query, key, value, mask, scale=attn.scale)
        return torch.cat([attended[:-pairs], probs @ value[edited]])


def _probabilities(attn: Any, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Attention probabilities `(B, heads, places, L)` in the layer's own precision."""
    flat_mask = None if mask is None else mask.flatten(0, 1)
    return attn.get_attention_scores(query.flatten(0, 1), key.flatten(0, 1), flat_mask).unflatten(0, query.shape[:2])
