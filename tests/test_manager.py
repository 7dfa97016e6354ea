"""The model manager: what is loaded once stays, what is in use is not dropped, what is broken is told."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from bivdiff import catalog
from bivdiff.catalog import ModelSpec
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.models import manager as manager_module
from bivdiff.models.manager import ModelManager

FAMILY = catalog.family("toybox")


@pytest.fixture
def fresh(settings):
    return ModelManager(settings)


def test_a_component_is_loaded_once(fresh, monkeypatch):
    loads = []

    def load(spec, folder, dtype):
        loads.append((spec.kind, (folder / spec.folder).name, dtype))
        return torch.nn.Linear(2, 2)

    monkeypatch.setattr(manager_module, "load_component", load)
    with fresh.use(FAMILY.unet) as (first,):
        pass
    with fresh.use(FAMILY.unet, FAMILY.vae) as (second, _):
        assert second is first
    assert loads == [("unet", "unet", torch.float32), ("vae", "vae", torch.float32)]


def test_unloading_leaves_what_is_in_use(fresh):
    with fresh.use(FAMILY.scheduler), fresh.use(FAMILY.text_encoder):
        with fresh.use(FAMILY.tokenizer):
            pass
        fresh.unload()
        assert fresh.loaded() == ["scheduler", "text_encoder"]
    fresh.unload()
    assert fresh.loaded() == []


NETWORKS = [*FAMILY.controlnets.values(), *FAMILY.t2i_adapters.values(), FAMILY.instruct_pix2pix, FAMILY.inpainting]


@pytest.mark.parametrize("spec", [FAMILY.vae, FAMILY.unet, FAMILY.text_encoder, *NETWORKS])
def test_models_come_ready_to_infer(fresh, spec):
    with fresh.use(spec) as (model,):
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert model.dtype == torch.float32


def test_a_missing_folder_is_told(fresh):
    with pytest.raises(ModelUnavailableError, match="nowhere"), fresh.use(ModelSpec("unet", "nowhere")):
        pass


def test_a_truncated_file_is_told_and_a_repaired_one_then_loads(settings, tmp_path):
    shutil.copytree(settings.toybox_folder, tmp_path / "toybox")
    weights = next((tmp_path / "toybox" / "vae").glob("*.safetensors"))
    whole = weights.read_bytes()
    broken = ModelManager(replace(settings, toybox_folder=tmp_path / "toybox"))
    weights.write_bytes(whole[:1000])
    with pytest.raises(ModelUnavailableError, match="vae"), broken.use(FAMILY.vae):
        pass
    weights.write_bytes(whole)
    with broken.use(FAMILY.vae) as (vae,):
        assert vae.config.latent_channels == 4


def test_weights_of_another_architecture_are_refused(settings, tmp_path):
    shutil.copytree(settings.toybox_folder / "text_encoder", tmp_path / "vae")
    with (
        pytest.raises(ModelUnavailableError, match="another architecture"),
        ModelManager(replace(settings, toybox_folder=tmp_path)).use(FAMILY.vae),
    ):
        pass


def test_unknown_devices_are_refused(settings):
    for name in ("abacus", "cuda" if not torch.cuda.is_available() else "xpu"):
        with pytest.raises(InputError, match=name):
            ModelManager(replace(settings, device=name))
