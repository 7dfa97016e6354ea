"""Wan: a transformer over latents that are compressed in time, a rectified flow, and words of UMT5."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bivdiff.models.architectures import UMT5_XXL, WAN_1_3B, WAN_VAE, Architecture
from bivdiff.models.loaders.kind import Footprint, Kind, Load, Source, diffusers_loader, transformers_loader

if TYPE_CHECKING:
    from torch import Tensor, nn

TEXT_LENGTH = 512


def _call(network: Any, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor) -> Tensor:
    predicted: Tensor = network(latents, timestep.expand(len(latents)), prompt_embeds).sample
    return predicted


def _read(tokenizer: Any, text_encoder: Any, prompt: str) -> Tensor:
    """States `(1, TEXT_LENGTH, D)` of a prompt's tokens, and zeros behind them: Wan is given no mask."""
    words = tokenizer(
        [" ".join(html.unescape(prompt).split())], padding="max_length", max_length=TEXT_LENGTH, truncation=True,
        return_attention_mask=True, return_tensors="pt",
    ).to(text_encoder.device)  # fmt: skip
    states: Tensor = text_encoder(words.input_ids, words.attention_mask).last_hidden_state
    return states * words.attention_mask[..., None].to(states.dtype)


def _exactly(class_name: str) -> Load:
    """Reads a component that says of itself that it is of a class; another's weights would go by the same names."""
    load = diffusers_loader(class_name)

    def load_checked(source: Source) -> nn.Module:
        config = json.loads((source.root / source.spec.folder / "config.json").read_text("utf-8"))
        named = config.get("_class_name", class_name)
        if named != class_name:
            raise ValueError(f"Its config says that it is a {named}, and a {class_name} is needed.")
        component: nn.Module = load(source)
        return component

    return load_checked


def _tokenizer(source: Source) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(source.root, subfolder=source.spec.folder, local_files_only=True)


def _flow_scheduler(source: Source) -> Any:
    """The levels of a rectified flow; which solver it was released with does not matter, only how far they are shifted.

    Raises:
        ValueError: it is no flow's, or its levels are not fixed before the size of a clip is known.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    spec = source.spec
    config = FlowMatchEulerDiscreteScheduler.load_config(source.root, subfolder=spec.folder, local_files_only=True)
    config |= dict(spec.config)
    name = str(config.get("_class_name"))
    if not (name.startswith("FlowMatch") or config.get("use_flow_sigmas")):
        raise ValueError(f"Its sampler is {name}, which is no rectified flow's.")
    if config.get("use_dynamic_shifting") or config.get("invert_sigmas"):
        raise ValueError("Its noise levels depend on the size of the clip, or run the other way.")
    return FlowMatchEulerDiscreteScheduler(shift=config.get("flow_shift", config.get("shift", 1.0)))


KINDS = {
    "wan_transformer": Kind(
        title="video model", load=_exactly("WanTransformer3DModel"),
        architecture=Architecture("diffusers", "WanTransformer3DModel", WAN_1_3B), in_every_step=True,
        footprint=Footprint(2689, 49.6e6, 193.3), call=_call,
    ),
    "wan_vae": Kind(
        title="autoencoder of clips", load=_exactly("AutoencoderKLWan"),
        architecture=Architecture("diffusers", "AutoencoderKLWan", WAN_VAE), codes="clips", precise=True,
        footprint=Footprint(6868, 2860.6e6), encoding=Footprint(4105, 1949.0e6),
    ),
    "umt5_encoder": Kind(
        title="text encoder", load=transformers_loader("UMT5EncoderModel"), by_transformers=True,
        architecture=Architecture("transformers", "UMT5EncoderModel", UMT5_XXL), read=_read,
    ),
    "t5_tokenizer": Kind(title="tokenizer", load=_tokenizer, holds="tokenizer"),
    "flow_scheduler": Kind(
        title="noise levels of a flow", load=_flow_scheduler, holds="schedule", asks_twice_first=True,
    ),
}  # fmt: skip

# From `benchmarks/footprint.py`: transformers at five latents, autoencoders at three, where all of it lives at once.
FOOTPRINTS: Mapping[str, Footprint] = {
    "wan2.1-14b/transformer": Footprint(25351, 118.5e6, 859.0),
    "wan2.2-5b/transformer": Footprint(2392, 21.6e6, 24.2),
    "wan2.2-5b/vae": Footprint(14853, 2835.3e6),
}
"""Of entries of another size than the smallest Wan, by key."""
ENCODINGS: Mapping[str, Footprint] = {"wan2.2-5b/vae": Footprint(2849, 995.4e6)}
