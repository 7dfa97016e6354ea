"""The text-to-video model VidRD ("Reuse and Diffuse"), as released inside BIVDiff: its U-Net and its checkpoint.

Inside the network frames are pictures of one batch, `(B F, C, h, w)`, and only what spans frames sees clips.
Source: https://arxiv.org/abs/2309.03549; https://github.com/MCG-NJU/BIVDiff, models/ReuseAndDiffuse.
"""

# ruff: noqa: ARG002 - `register_to_config` keeps the U-Net's arguments, and its parts read them from there

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin, Transformer2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import AttentionMixin, BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps, get_timestep_embedding
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_3d_condition import UNet3DConditionOutput
from diffusers.models.upsampling import Upsample2D
from safetensors.torch import load_file
from torch import Tensor, nn

from bivdiff.errors import ModelUnavailableError
from bivdiff.models.architectures import VIDRD_TEXT_PREFIX, VIDRD_UNET_PREFIX

_FETCH = "Download it again, from the link in models/ReuseAndDiffuse/README.md of github.com/MCG-NJU/BIVDiff."


class VidRDUNet(ModelMixin, AttentionMixin, ConfigMixin):  # type: ignore[misc]
    """Predicts the noise of clips from what a text says, with any number of frames and any size.

    The arguments are keys of UNet2DConditionModel's config and mean the same, down to `attention_head_dim`, which is
    the number of heads. Levels whose block types have `CrossAttn` in their name have transformers; by default all but
    the coarsest do. New are:

    Args:
        add_temp_embed: tell transformers each frame's position.
        add_temp_conv: put a temporal convolution after each resnet.

    Raises:
        ValueError: the arguments tell of different numbers of levels, or a width that groups do not divide.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(  # noqa: PLR0913 - a config's keys
        self, *, sample_size: int | None = None, in_channels: int = 4, out_channels: int = 4,
        flip_sin_to_cos: bool = True, freq_shift: int = 0, down_block_types: Sequence[str] | None = None,
        up_block_types: Sequence[str] | None = None, block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        layers_per_block: int = 2, downsample_padding: int = 1, mid_block_scale_factor: float = 1,
        act_fn: str = "silu", norm_num_groups: int = 32, norm_eps: float = 1e-5, cross_attention_dim: int = 1280,
        attention_head_dim: int | Sequence[int] = 8, use_linear_projection: bool = False,
        upcast_attention: bool = False, add_temp_embed: bool = True, add_temp_conv: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        levels = _levels(self.config)
        finest, coarsest = levels[0], levels[-1]

        self.conv_in = nn.Conv2d(in_channels, finest.width, 3, padding=1)
        self.time_proj = Timesteps(finest.width, flip_sin_to_cos, freq_shift)
        self.time_embedding = TimestepEmbedding(finest.width, 4 * finest.width)

        self.down_blocks = nn.ModuleList()
        skips = [finest.width]
        for level in levels:
            inputs = [skips[-1]] + [level.width] * (layers_per_block - 1)
            block = _DownStage(self.config, level, inputs, len(inputs) * level.attends_down)
            skips += [level.width] * layers_per_block
            if level is not coarsest:
                # Only under this name does it hold its convolution once.
                block.downsamplers.append(Downsample2D(level.width, True, padding=downsample_padding, name="op"))
                skips.append(level.width)
            self.down_blocks.append(block)

        self.mid_block = _Stage(self.config, coarsest, [coarsest.width] * 2, 1, mid_block_scale_factor)

        self.up_blocks = nn.ModuleList()
        below = coarsest.width
        for level in reversed(levels):
            inputs = [width + skips.pop() for width in [below] + [level.width] * layers_per_block]
            upwards = _UpStage(self.config, level, inputs, len(inputs) * level.attends_up)
            if level is not finest:
                upwards.upsamplers.append(Upsample2D(level.width, True))
            self.up_blocks.append(upwards)
            below = level.width

        self.conv_norm_out = nn.GroupNorm(norm_num_groups, finest.width, norm_eps)
        self.conv_act = nn.SiLU()
        self.conv_out = nn.Conv2d(finest.width, out_channels, 3, padding=1)

    def forward(self, sample: Tensor, timestep: Tensor | float, encoder_hidden_states: Tensor) -> UNet3DConditionOutput:
        """Predict the noise.

        Args:
            sample: noisy latents `(B, C, F, h, w)`.
            timestep: one for all clips, or `(B,)`.
            encoder_hidden_states: the texts' embeddings `(B, L, D)`.

        Returns:
            `sample`, the prediction `(B, C, F, h, w)`, in the dtype of the weights.
        """
        frames = sample.shape[2]
        time = self.time_proj(torch.as_tensor(timestep, device=sample.device).expand(len(sample)))
        text = encoder_hidden_states.to(self.dtype).repeat_interleave(frames, 0)
        given = _Given(self.time_embedding(time.to(self.dtype)), text, frames)

        pictures = self.conv_in(_fold(sample.to(self.dtype)))
        skips = [pictures]
        for block in (*self.down_blocks, self.mid_block, *self.up_blocks):
            pictures = block(pictures, skips, given)
        pictures = self.conv_out(self.conv_act(_over_clips(self.conv_norm_out, pictures, frames)))
        return UNet3DConditionOutput(sample=_unfold(pictures, frames))


def split_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Read the released checkpoint, or a .safetensors file with the same names in it; nothing but weights is read.

    Args:
        path: the file. Where its format allows it, weights stay there until they are used.

    Returns:
        The state dicts of a `VidRDUNet` of `VIDRD_UNET`, and of Stable Diffusion 2.1's CLIPTextModel.

    Raises:
        ModelUnavailableError: the file is missing, damaged, more than weights, or of another model.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelUnavailableError(f"The file '{path}' with the weights of VidRD is missing. {_FETCH}")
    content = _read(path)
    weights = content.get("state_dict", content) if isinstance(content, dict) else {}
    unet, text_encoder = (_under(prefix, weights) for prefix in (VIDRD_UNET_PREFIX, VIDRD_TEXT_PREFIX))
    if not unet or not text_encoder:
        raise ModelUnavailableError(
            f"The file '{path.name}' is not VidRD's: it lacks weights whose names start with 'unet.' or with "
            f"'text_encoder.'. {_FETCH}"
        )
    # transformers 5 names the text model's layers without the model that was around it, and saves no position numbers.
    text_encoder = _under("text_model.", text_encoder) or text_encoder
    text_encoder.pop("embeddings.position_ids", None)
    return unet, text_encoder


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UnpicklingError as error:
        raise ModelUnavailableError(
            f"The file '{path.name}' holds more than weights, or is damaged. Reading the rest could run code, so it "
            f"was left alone. {_FETCH} If you trust it, save its 'state_dict' alone with torch.save, and use that file."
        ) from error
    except Exception as error:  # torch lets through whatever a damaged file led to, from struct.error to AssertionError
        raise ModelUnavailableError(
            f"The file '{path.name}' cannot be read as VidRD's weights: it is incomplete or damaged. {_FETCH}"
        ) from error


def _under(prefix: str, weights: dict[Any, Any]) -> dict[str, Tensor]:
    """The weights whose names start with a prefix, without it."""
    named = ((str(name), weight) for name, weight in weights.items() if isinstance(weight, Tensor))
    return {name.removeprefix(prefix): weight for name, weight in named if name.startswith(prefix)}


class _Level(NamedTuple):
    """One size of the U-Net, and whether there are transformers at it on the way down and up."""

    width: int
    heads: int
    attends_down: bool
    attends_up: bool


def _levels(config: Any) -> list[_Level]:
    """The levels, finest first."""
    widths, heads = config.block_out_channels, config.attention_head_dim
    heads = [heads] * len(widths) if isinstance(heads, int) else heads
    down_types = config.down_block_types or ["CrossAttn"] * (len(widths) - 1) + ["Down"]
    up_types = (config.up_block_types or down_types[::-1])[::-1]
    attends = (["CrossAttn" in name for name in types] for types in (down_types, up_types))
    return [_Level(*level) for level in zip(widths, heads, *attends, strict=True)]


class _Given(NamedTuple):
    """What layers are given: the timestep `(B, T)`, the text of each frame `(B F, L, D)`, the number of frames."""

    time: Tensor
    text: Tensor
    frames: int


class _Stage(nn.Module):
    """Layers of one size: in each a resnet, a temporal convolution, a transformer."""

    def __init__(self, config: Any, level: _Level, inputs: Sequence[int], transformers: int, scale: float = 1) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(_Resnet(config, width, level.width, scale) for width in inputs)
        convs = len(inputs) * config.add_temp_conv
        self.temp_convs = nn.ModuleList(_TemporalConv(level.width) for _ in range(convs))
        self.attentions = nn.ModuleList(_transformer(config, level) for _ in range(transformers))
        self.downsamplers, self.upsamplers = nn.ModuleList(), nn.ModuleList()

    def forward(self, pictures: Tensor, skips: list[Tensor], given: _Given) -> Tensor:
        for index in range(len(self.resnets)):
            pictures = self._layer(index, pictures, given)
        return pictures

    def _layer(self, index: int, pictures: Tensor, given: _Given) -> Tensor:
        pictures = self.resnets[index](pictures, given.time, given.frames)
        if self.temp_convs:
            pictures = self.temp_convs[index](pictures, given.frames)
        if index < len(self.attentions):
            options = {"cross_attention_kwargs": {"frames": given.frames}, "return_dict": False}
            (pictures,) = self.attentions[index](pictures, given.text, **options)
        return pictures


class _DownStage(_Stage):
    """Puts the output of each layer, and its own, on the stack of skips."""

    def forward(self, pictures: Tensor, skips: list[Tensor], given: _Given) -> Tensor:
        for index in range(len(self.resnets)):
            pictures = self._layer(index, pictures, given)
            skips.append(pictures)
        for downsampler in self.downsamplers:
            pictures = downsampler(pictures)
            skips.append(pictures)
        return pictures


class _UpStage(_Stage):
    """Takes a skip for each layer off the stack, and ends at the size of the next."""

    def forward(self, pictures: Tensor, skips: list[Tensor], given: _Given) -> Tensor:
        for index in range(len(self.resnets)):
            pictures = self._layer(index, torch.cat([pictures, skips.pop()], 1), given)
        for upsampler in self.upsamplers:
            # Halving rounded odd sizes up, so twice its own may be one too many.
            pictures = upsampler(pictures, skips[-1].shape[-2:])
        return pictures


class _Resnet(ResnetBlock2D):  # type: ignore[misc]
    """Convolves frames, and normalises over clips."""

    def __init__(self, config: Any, width_in: int, width_out: int, scale: float) -> None:
        super().__init__(
            in_channels=width_in, out_channels=width_out, temb_channels=4 * config.block_out_channels[0],
            groups=config.norm_num_groups, eps=config.norm_eps, non_linearity=config.act_fn, output_scale_factor=scale,
        )  # fmt: skip

    def forward(self, pictures: Tensor, time: Tensor, frames: int) -> Tensor:
        shift = self.time_emb_proj(self.nonlinearity(time)).repeat_interleave(frames, 0)[:, :, None, None]
        hidden = self.conv1(self.nonlinearity(_over_clips(self.norm1, pictures, frames))) + shift
        hidden = self.conv2(self.dropout(self.nonlinearity(_over_clips(self.norm2, hidden, frames))))
        shortcut = pictures if self.conv_shortcut is None else self.conv_shortcut(pictures)
        return (shortcut + hidden) / self.output_scale_factor


class _TemporalConv(nn.Module):
    """Convolutions over time, added to what they are given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # The released code has 32 groups here whatever the config says; a width that these do not divide has fewer.
        groups = math.gcd(width, 32)
        self.convs = nn.Sequential()
        for _ in range(4):
            conv = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0))
            self.convs.extend([nn.GroupNorm(groups, width), nn.SiLU(), nn.Dropout(0.1), conv])

    def forward(self, pictures: Tensor, frames: int) -> Tensor:
        return pictures if frames == 1 else pictures + _over_clips(self.convs, pictures, frames)


def _transformer(config: Any, level: _Level) -> Transformer2DModel:
    transformer = Transformer2DModel(
        level.heads, level.width // level.heads, level.width, num_layers=0, norm_num_groups=config.norm_num_groups,
        use_linear_projection=config.use_linear_projection,
    )  # fmt: skip
    transformer.transformer_blocks.append(_TransformerBlock(config, level))
    return transformer


class _TransformerBlock(BasicTransformerBlock):  # type: ignore[misc]
    """Attends to the frame, to the text, and from each place to the same place in all frames."""

    def __init__(self, config: Any, level: _Level) -> None:
        width, heads, upcast = level.width, level.heads, config.upcast_attention
        super().__init__(
            width, heads, width // heads, cross_attention_dim=config.cross_attention_dim, upcast_attention=upcast
        )
        self.temp_norm = nn.LayerNorm(width)
        self.temp_attn = Attention(width, heads=heads, dim_head=width // heads, upcast_attention=upcast)
        self._embeds = config.add_temp_embed

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, cross_attention_kwargs: dict[str, int], **_: Any
    ) -> Tensor:
        hidden = self.attn1(self.norm1(hidden_states)) + hidden_states
        hidden = self.attn2(self.norm2(hidden), encoder_hidden_states) + hidden
        hidden = self._over_frames(hidden, cross_attention_kwargs["frames"])
        return self.ff(self.norm3(hidden)) + hidden

    def _over_frames(self, hidden: Tensor, frames: int) -> Tensor:
        clips = hidden.unflatten(0, (-1, frames))
        if self._embeds:
            clips = clips + _positions(frames, hidden)
        # The released code adds the position to a single frame, too, where it leaves out the other temporal layers.
        if frames == 1:
            return clips.flatten(0, 1)
        tracks = clips.transpose(1, 2).flatten(0, 1)
        tracks = self.temp_attn(self.temp_norm(tracks)) + tracks
        return tracks.unflatten(0, (len(clips), -1)).transpose(1, 2).flatten(0, 1)


def _positions(frames: int, hidden: Tensor) -> Tensor:
    """Sines and cosines of each frame's number, in turns: `(F, 1, C)`, like `hidden` in device and dtype."""
    numbers = torch.arange(frames, device=hidden.device)
    halves = get_timestep_embedding(numbers, hidden.shape[-1], downscale_freq_shift=0)
    return halves.unflatten(1, (2, -1)).transpose(1, 2).flatten(1)[:, None].to(hidden.dtype)


def _over_clips(layer: nn.Module, pictures: Tensor, frames: int) -> Tensor:
    return _fold(layer(_unfold(pictures, frames)))


def _fold(clips: Tensor) -> Tensor:
    return clips.transpose(1, 2).flatten(0, 1)


def _unfold(pictures: Tensor, frames: int) -> Tensor:
    return pictures.unflatten(0, (-1, frames)).transpose(1, 2)
