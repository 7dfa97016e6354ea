"""A model's files are data: a config that asks for code from elsewhere is refused before a library reads it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from bivdiff.catalog.families import FAMILIES
from bivdiff.errors import ModelUnavailableError
from bivdiff.models.hub import source_of
from bivdiff.models.loaders import load_component
from bivdiff.models.loaders.foreign import check_configs
from bivdiff.settings import Settings

TOYBOX = Settings().toybox_folder
KERNEL = "someone/attention"


@pytest.fixture
def source(tmp_path):
    """The built-in text encoder, as a model of one's own."""
    shutil.copytree(TOYBOX / "text_encoder", tmp_path / "text_encoder")
    spec = replace(FAMILIES["toybox"].text_encoder, repo=str(tmp_path))
    return source_of(spec, tmp_path, Settings(), torch.float32)


def add(source, **entries):
    path = source.root / "text_encoder" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"attn_implementation": KERNEL}, f"'attn_implementation' is \"{KERNEL}\" in text_encoder/config.json"),
        ({"_attn_implementation": KERNEL}, f"'_attn_implementation' is \"{KERNEL}\""),
        ({"attn_implementation": {"": "sdpa", "text_config": KERNEL}}, KERNEL),
        ({"attn_implementation": "flash_attention_2"}, "flash_attention_2"),
        ({"text_config": {"attn_implementation": KERNEL}}, f"'attn_implementation' is \"{KERNEL}\""),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "'auto_map' is"),
    ],
)
def test_a_config_that_asks_for_code_from_elsewhere_is_refused(source, entries, told):
    add(source, **entries)
    with pytest.raises(ModelUnavailableError, match=r"is never run.*take that line out") as refused:
        load_component(source)
    assert told in str(refused.value)
    assert str(source.root) in str(refused.value)


@pytest.mark.parametrize("entries", [{}, {"attn_implementation": "eager"}, {"_attn_implementation": None}])
def test_a_config_that_asks_for_what_is_here_is_read(source, entries):
    add(source, **entries)
    assert load_component(source).config.model_type == "clip_text_model"


def test_of_a_pipeline_every_folder_is_looked_into(source):
    add(source, auto_map={})
    whole = source._replace(spec=replace(source.spec, folder=""))
    check_configs(whole)
    with pytest.raises(ModelUnavailableError, match="auto_map"):
        check_configs(whole, of_all_folders=True)
