"""The front of the library: five names, each imported when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import bivdiff
from bivdiff.bridge import pipeline
from bivdiff.catalog import requests
from bivdiff.media import reading
from bivdiff.models import manager
from bivdiff.settings import Settings

NAMES = {
    "run": pipeline.run,
    "default_request": requests.default_request,
    "read_clip": reading.read_clip,
    "ModelManager": manager.ModelManager,
    "Settings": Settings,
}


def test_the_names_are_the_functions_and_classes_themselves():
    assert {name: getattr(bivdiff, name) for name in bivdiff.__all__} == NAMES
    assert set(NAMES) <= set(dir(bivdiff))


def test_another_name_is_refused_as_any_modules_is():
    with pytest.raises(AttributeError, match="module 'bivdiff' has no attribute 'walk'"):
        _ = bivdiff.walk


def test_importing_the_library_loads_no_networks():
    heavy = "{'torch', 'diffusers', 'transformers', 'gradio', 'numpy'}"
    told = f"import sys, bivdiff; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
