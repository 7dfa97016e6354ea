"""What a run is told to have taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bivdiff.models.metering import Meter, peak_memory_bytes

BLOCK = 200_000_000  # bytes


def test_each_stage_has_its_own_peak_of_the_hosts_memory():
    meter = Meter()
    with meter.stage("load"):
        pass
    with meter.stage("framewise"):
        held = np.ones(BLOCK, np.uint8)
        del held
    with meter.stage("smoothing"):
        pass
    with meter.stage("load"):
        held = np.ones(BLOCK // 2, np.uint8)
    peaks = meter.peak_bytes
    assert peaks["framewise"] - peaks["smoothing"] == pytest.approx(BLOCK, rel=0.2)
    assert peaks["load"] - peaks["smoothing"] == pytest.approx(BLOCK // 2, rel=0.2)  # the higher of its two times
    assert peak_memory_bytes(meter) == peaks["framewise"]
    assert held.all()


def test_a_card_is_asked_for_the_peak_since_the_stage_began(monkeypatch):
    peaks = {0: 0, 1: 0}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(peaks))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peaks.update({device: 0}))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks[device])
    meter = Meter()
    for stage, taken in (("framewise", 5), ("inversion", 3), ("framewise", 4)):
        with meter.stage(stage):
            peaks[1] = taken
    assert meter.peak_bytes == {"framewise": 5, "inversion": 3}
    assert peak_memory_bytes(meter) == 5
