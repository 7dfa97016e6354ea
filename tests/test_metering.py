"""What a run is told to have taken."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from bivdiff.models import metering
from bivdiff.models.metering import StageMeter, peak_memory_bytes


@pytest.fixture
def high_water(tmp_path, monkeypatch):
    """Sets what the system says is the process's highest memory, in kB; it is told when to count anew."""
    status, reset = tmp_path / "status", tmp_path / "clear_refs"
    monkeypatch.setattr(metering, "STATUS", status)
    monkeypatch.setattr(metering, "PEAK_RESET", reset)

    def reach(kilobytes: int) -> None:
        assert reset.read_text() == "5"
        status.write_text(f"Name:\tpython\nVmHWM:\t {kilobytes} kB\nVmRSS:\t 7 kB\n")
        reset.unlink()

    return reach


def test_each_stage_has_its_own_peak_of_the_hosts_memory(high_water):
    meter = StageMeter()
    for stage, kilobytes in (("load", 300), ("framewise", 900), ("smoothing", 500), ("load", 400)):
        with meter.stage(stage):
            high_water(kilobytes)
    # Of a stage's two times the higher counts.
    assert meter.peak_bytes == {"load": 400 * 1024, "framewise": 900 * 1024, "smoothing": 500 * 1024}
    assert peak_memory_bytes(meter) == 900 * 1024


def test_where_the_system_keeps_no_peak_the_memory_now_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(metering, "STATUS", tmp_path / "nowhere" / "status")
    monkeypatch.setattr(metering, "PEAK_RESET", tmp_path / "nowhere" / "clear_refs")
    monkeypatch.setattr(metering.psutil.Process, "memory_info", lambda _: SimpleNamespace(rss=123))
    meter = StageMeter()
    with meter.stage("load"):
        pass
    assert meter.peak_bytes == {"load": 123}


def test_a_card_is_asked_for_the_peak_since_the_stage_began(monkeypatch):
    peaks = {0: 0, 1: 0}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(peaks))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peaks.update({device: 0}))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks[device])
    meter = StageMeter()
    for stage, taken in (("framewise", 5), ("inversion", 3), ("framewise", 4)):
        with meter.stage(stage):
            peaks[1] = taken
    assert meter.peak_bytes == {"framewise": 5, "inversion": 3}
    assert peak_memory_bytes(meter) == 5
