"""Where the weights of a loaded component lie while it is used and while it waits: the offload policies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

_LOG = logging.getLogger(__name__)

OffloadPolicy = Literal["none", "model", "group", "zerogpu"]
POLICIES: dict[OffloadPolicy, str] = {
    "none": "All models stay on the device",
    "model": "Each model comes to the device for its stage",
    "group": "Each layer comes just before it runs: slow, and fits almost anywhere",
    "zerogpu": "All models are placed before there is a device, as Hugging Face's ZeroGPU wants it",
}


class Placement(Protocol):
    """A component's weights: so many bytes of them are on the device, and whether the host holds none any more."""

    device_bytes: int
    left_host: bool

    def enter(self) -> int:
        """Make the component ready to run; returns the bytes that were copied for it."""

    def leave(self) -> None:
        """Give back what it has of the device, if the policy ever does."""

    def needs(self) -> int:
        """Bytes that `enter` would take of the device now."""


def place(module: nn.Module, policy: OffloadPolicy, device: torch.device) -> Placement:
    """Take a module that was just loaded on the host into a policy's care."""
    placements: dict[OffloadPolicy, Callable[[nn.Module, torch.device], Placement]] = {
        "none": Resident, "model": Swapped, "group": Streamed, "zerogpu": Resident
    }  # fmt: skip
    return placements[policy](module, device)


class Resident:
    """On the device from first use until it is dropped; no copy stays on the host."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self._module, self._device = module, device
        self.device_bytes = 0
        self.left_host = False

    def enter(self) -> int:
        """Move it, once."""
        copied = self.needs()
        if copied:
            with torch.inference_mode(False):  # weights moved in that mode could not be built upon outside it
                self._module.to(self._device)
            self.device_bytes = copied
            self.left_host = True
        return copied

    def leave(self) -> None:
        """It stays."""

    def needs(self) -> int:
        """All of it, before the first use."""
        return 0 if self.device_bytes else size_of(self._module)


class Swapped:
    """On the host, and copied to the device as a whole for as long as there is room.

    The weights never change, so nothing is ever copied back: what leaves the device is found on the host as it was.
    Where the device is a CUDA card the host's copy is pinned, and it lies in few large slabs rather than in thousands
    of tensors, so that it travels at the full speed of the bus.
    """

    left_host = False

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self._device = device
        self._bytes = size_of(module)
        self._places = _packed(list(tensors_of(module)), device)
        for place in self._places:
            place.tensor.data = place.within(place.slab)
        self.device_bytes = 0

    def enter(self) -> int:
        """Copy every slab to the device."""
        if self.device_bytes:
            return 0
        slabs = {id(place.slab): place.slab for place in self._places}
        with torch.inference_mode(False):
            # A copy, even where host and device are the same memory: that is how the policy is tested without a card.
            arrived = {key: slab.to(self._device, non_blocking=True, copy=True) for key, slab in slabs.items()}
            for place in self._places:
                place.tensor.data = place.within(arrived[id(place.slab)])
        self.device_bytes = self._bytes
        return self._bytes

    def leave(self) -> None:
        """Point every tensor back to the host."""
        for place in self._places:
            place.tensor.data = place.within(place.slab)
        self.device_bytes = 0

    def needs(self) -> int:
        """All of it, unless it is there."""
        return 0 if self.device_bytes else self._bytes


SLAB_BYTES = 2**26  # pinned memory is given out in powers of two, and a fuller slab wastes less of its own
ALIGNMENT = 256  # bytes, where a tensor may begin: what the device's own allocator keeps to
_SLABS: WeakValueDictionary[int, Tensor] = WeakValueDictionary()  # by where their memory begins


class _Place(NamedTuple):
    """A module's tensor, and where in a flat slab of its dtype its numbers lie."""

    tensor: Tensor
    slab: Tensor
    offset: int
    stride: tuple[int, ...]

    def within(self, slab: Tensor) -> Tensor:
        """The tensor's numbers in that slab or a copy of it."""
        return slab.as_strided(self.tensor.shape, self.stride, self.offset)


def _packed(tensors: list[Tensor], device: torch.device) -> list[_Place]:
    """Copy tensors to slabs of their dtypes; those that lie in one, since another module has them too, stay there."""
    places, waiting = [], dict[torch.dtype, list[Tensor]]()
    for tensor in tensors:
        slab = _SLABS.get(tensor.untyped_storage().data_ptr())
        if slab is not None:
            places.append(_Place(tensor, slab, int(tensor.storage_offset()), tensor.stride()))
            continue
        batch = waiting.setdefault(tensor.dtype, [])
        if batch and sum(map(_room, batch)) + _room(tensor) > SLAB_BYTES // tensor.element_size():
            places += _slab_of(batch, device)
            batch.clear()
        batch.append(tensor)
    for batch in waiting.values():
        places += _slab_of(batch, device)
    return places


def _room(tensor: Tensor) -> int:
    """How many numbers a tensor's place in a slab has."""
    step = ALIGNMENT // tensor.element_size()
    return -(-tensor.numel() // step) * step


def _slab_of(tensors: list[Tensor], device: torch.device) -> list[_Place]:
    slab = _host_memory(sum(map(_room, tensors)), tensors[0].dtype, device)
    places, offset = [], 0
    for tensor in tensors:
        stride = torch.empty_like(tensor, device="meta").stride()  # dense, in the order it has
        places.append(_Place(tensor, slab, offset, stride))
        places[-1].within(slab).copy_(tensor)
        offset += _room(tensor)
    _SLABS[slab.untyped_storage().data_ptr()] = slab
    return places


class Streamed:
    """On the host; diffusers' group offloading copies each layer just before it runs, and drops it after."""

    device_bytes = 0
    left_host = False

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        from diffusers.hooks import apply_group_offloading

        streams = device.type == "cuda"
        apply_group_offloading(
            module, onload_device=device, offload_device=torch.device("cpu"), offload_type="leaf_level",
            use_stream=streams, record_stream=streams,
        )  # fmt: skip

    def enter(self) -> int:
        """Nothing to do: every layer brings itself."""
        return 0

    def leave(self) -> None:
        """Nothing to give back."""

    def needs(self) -> int:
        """Next to nothing: a layer at a time."""
        return 0


def tensors_of(module: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers, each once."""
    yield from module.parameters()
    yield from module.buffers()


def size_of(module: nn.Module) -> int:
    """Bytes of a module's weights."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(module))


def _host_memory(numbers: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory of the host for so many numbers, pinned where that speeds up the way to the device."""
    if device.type == "cuda":
        try:
            return torch.empty(numbers, dtype=dtype, pin_memory=True)
        except RuntimeError as error:  # the system bounds what may be pinned
            _LOG.warning("The host's memory could not be pinned, so models come to the device more slowly: %s", error)
    return torch.empty(numbers, dtype=dtype)
