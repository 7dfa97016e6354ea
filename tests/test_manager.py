"""The model manager: what is loaded once stays, what is in use is not dropped, two budgets hold, nothing leaks."""

from __future__ import annotations

import gc
import shutil
import threading
import weakref
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from paper import PAPER_BRIDGE, TWO_STEPS

from bivdiff.bridge.pipeline import framewise_frames, last, run
from bivdiff.catalog.families import family_named
from bivdiff.catalog.requests import default_request
from bivdiff.catalog.specs import ModelSpec
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import InputError, ModelUnavailableError, OutOfMemoryError
from bivdiff.models import hub, placement
from bivdiff.models import manager as managing
from bivdiff.models.manager import ModelManager
from bivdiff.models.memory import Memory, MemoryProbe
from bivdiff.models.placement import POLICIES
from bivdiff.settings import Settings
from bivdiff.toybox import world

FAMILY = family_named("toybox")
KILO = 1000  # bytes of a fake component, in thousands


class Probe(MemoryProbe):
    """A machine with so much free."""

    def __init__(self, device=10**9, host=10**9):
        self._device, self._host = Memory(device, device), Memory(host, host)

    def device(self, _):
        return self._device

    def host(self):
        return self._host


class Block(torch.nn.Module):
    """A component of so many thousand bytes."""

    def __init__(self, kilobytes):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(kilobytes * KILO // 4, dtype=torch.float32), requires_grad=False)

    def forward(self, inputs):
        return inputs + self.weight.sum()


class Shelf:
    """Reads fake components and remembers which."""

    def __init__(self):
        self.read, self.broken, self.alive = [], set(), weakref.WeakSet()

    def __call__(self, spec, _):
        self.read.append(spec.key)
        if spec.key in self.broken:
            raise ModelUnavailableError(f"'{spec.key}' is broken. Mend it.")
        block = Block(spec.bytes // KILO)
        self.alive.add(block)
        return block


def spec_of(name, kilobytes=100, **changes):
    return ModelSpec(key=name, kind="controlnet", repo=f"nobody/{name}", bytes=kilobytes * KILO, bytes_per_number=4,
                     **changes)  # fmt: skip


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def manager_of(tmp_path, shelf):
    """Makes a manager of fake components, with budgets in kilobytes."""

    def make(policy="model", device=1000, host=10_000):
        settings = Settings(
            device="cpu", offload=policy, device_memory=f"{device}k", host_memory=f"{host}k", models_folder=tmp_path
        )
        return ModelManager(settings, Probe(), shelf)

    return make


@pytest.fixture
def fresh(settings):
    return ModelManager(settings)


def use(manager, *specs, reserve=0):
    with manager.use(*specs, reserve=reserve):
        return manager.readout().resident


class TestCache:
    def test_a_component_is_loaded_once(self, manager_of, shelf):
        manager = manager_of()
        with manager.use(spec_of("a")) as (first,):
            pass
        with manager.use(spec_of("a"), spec_of("b")) as (second, _):
            assert second is first
        assert shelf.read == ["a", "b"]

    def test_the_same_weights_under_another_key_are_one_component(self, manager_of, shelf):
        with manager_of().use(spec_of("a"), replace(spec_of("a"), key="b")) as (first, second):
            assert first is second
        assert shelf.read == ["a"]

    def test_the_host_budget_drops_what_was_used_least_recently(self, manager_of):
        manager = manager_of(host=300)
        for name in "abc":
            use(manager, spec_of(name))
        use(manager, spec_of("a"))
        use(manager, spec_of("d"))
        assert manager.loaded() == ["a", "c", "d"]

    def test_what_is_held_is_not_dropped(self, manager_of):
        manager = manager_of(host=200)
        with manager.hold(spec_of("a"), spec_of("b")):
            use(manager, spec_of("c"))
            assert {"a", "b"} <= set(manager.loaded())
        use(manager, spec_of("d"))
        assert manager.loaded() == ["c", "d"]

    def test_a_failure_in_the_middle_of_a_load_holds_nothing(self, manager_of, shelf):
        manager = manager_of()
        shelf.broken.add("b")
        with pytest.raises(ModelUnavailableError, match="broken"), manager.hold(spec_of("a"), spec_of("b")):
            pass
        manager.unload()
        assert manager.loaded() == []
        shelf.broken.clear()
        assert use(manager, spec_of("b")) == ("b",)

    def test_room_is_made_before_a_component_is_read(self, manager_of):
        manager, seen = manager_of(host=200), []
        for name in "ab":
            use(manager, spec_of(name))
        read = manager._read
        manager._read = lambda spec, base: seen.append(manager.loaded()) or read(spec, base)
        use(manager, spec_of("c"))
        assert seen == [["b"]]

    def test_what_is_larger_than_expected_makes_others_leave_once_it_is_there(self, manager_of):
        manager = manager_of(host=250)
        use(manager, spec_of("a"))
        manager._read = lambda *_: Block(200)
        use(manager, spec_of("b", 50))
        assert manager.loaded() == ["b"]

    def test_changed_files_are_read_again_unless_somebody_holds_what_was_in_them(self, manager_of, shelf, monkeypatch):
        manager, spec, stamps = manager_of(), spec_of("a"), ["first"]
        monkeypatch.setattr(hub, "stamp", lambda *_: stamps[-1])
        with manager.hold(spec) as (first,):
            stamps.append("second")
            with manager.hold(spec) as (held,):
                assert held is first
            assert manager.stamp(spec) == "first"
        with manager.hold(spec) as (second,):
            assert second is not first
        stamps.append("")  # they are gone, which is no change
        with manager.hold(spec) as (kept,):
            assert kept is second
        assert (manager.stamp(spec), manager.stamp(spec_of("b"))) == ("second", "")
        assert shelf.read == ["a", "a"]

    def test_who_holds_or_runs_what_is_told_in_order(self, manager_of):
        manager = manager_of()
        with manager.hold(spec_of("b"), spec_of("a"), spec_of("c")) as (b, *_):
            assert manager.held() == manager.loaded() == ["a", "b", "c"]
            with manager.running(b):
                assert manager.state(spec_of("b")) == "on device"
            assert manager.state(spec_of("a")) == "in memory"
        assert manager.held() == []

    def test_what_is_to_be_downloaded_is_told_where_files_are_read(self, settings, tmp_path, manager_of):
        specs = [FAMILY.unet, spec_of("a")]
        assert ModelManager(replace(settings, models_folder=tmp_path)).missing(specs) == specs[1:]
        assert manager_of().missing(specs) == []  # made, and not read

    def test_unloading_gives_back_what_is_tied_in_circles_and_what_libraries_keep(self, manager_of, monkeypatch):
        manager, freed = manager_of(), []
        monkeypatch.setattr(managing, "free_memory", freed.append)
        with manager.hold(spec_of("a")) as (block,):
            block.circle = [block]
            alive = weakref.ref(block)
        del block
        gc.disable()
        try:
            manager.unload()
        finally:
            gc.enable()
        assert alive() is None
        assert freed == [manager.device]

    def test_what_is_loaded_in_the_midst_of_a_run_can_be_moved_after_it(self, manager_of):
        with torch.inference_mode(), manager_of().hold(spec_of("a")) as (block,):
            assert not block.weight.is_inference()

    def test_what_is_shared_with_a_base_counts_once_and_lies_on_the_host(self, manager_of):
        manager, base = manager_of(), spec_of("base")
        motion, read = spec_of("motion", 50, base=base), manager._read
        assert manager.weight_bytes(motion) == 150 * KILO

        def build(spec, below):
            block = read(spec, below)
            block.below = below
            return block

        manager._read = build
        assert use(manager, base) == ("base",)
        with manager.hold(motion):
            assert manager.readout().resident == ()
            assert manager.budget.loaded[motion].bytes == 50 * KILO
        assert manager.weight_bytes(motion) == manager.host_bytes([motion]) == 150 * KILO
        assert manager.host_bytes([motion, base, spec_of("c")]) == 250 * KILO

    def test_what_a_component_is_built_on_stays_while_it_is_held(self, manager_of, shelf):
        manager = manager_of(host=250)
        base = spec_of("base")
        with manager.hold(spec_of("motion", base=base)):
            use(manager, spec_of("c"))
            assert "base" in manager.loaded()
        assert shelf.read[:2] == ["base", "motion"]

    def test_unloading_leaves_what_is_in_use(self, fresh):
        with fresh.use(FAMILY.scheduler), fresh.use(FAMILY.text_encoder):
            with fresh.use(FAMILY.tokenizer):
                pass
            fresh.unload()
            assert fresh.loaded() == ["toybox/scheduler", "toybox/text_encoder"]
        fresh.unload()
        assert fresh.loaded() == []

    def test_one_component_can_be_unloaded(self, manager_of):
        manager = manager_of()
        use(manager, spec_of("a"), spec_of("b"))
        manager.unload(spec_of("a"))
        assert manager.loaded() == ["b"]
        assert manager.state(spec_of("a")) == "absent"


class TestDevice:
    def test_components_stay_on_the_device_until_another_needs_room(self, manager_of):
        manager = manager_of(device=250)
        use(manager, spec_of("a"))
        assert use(manager, spec_of("b")) == ("a", "b")
        assert use(manager, spec_of("c")) == ("b", "c")

    def test_the_least_recently_used_leaves_first(self, manager_of):
        manager = manager_of(device=250)
        for name in "aba":
            use(manager, spec_of(name))
        assert set(use(manager, spec_of("c"))) == {"a", "c"}

    def test_room_is_left_for_what_a_stage_computes(self, manager_of):
        manager = manager_of(device=250)
        use(manager, spec_of("a"))
        assert use(manager, spec_of("b"), reserve=100 * KILO) == ("b",)

    def test_room_is_left_even_where_all_that_runs_is_there_already(self, manager_of):
        manager = manager_of(device=250)
        use(manager, spec_of("a"))
        use(manager, spec_of("b"))
        assert use(manager, spec_of("b"), reserve=100 * KILO) == ("b",)

    def test_what_runs_does_not_leave(self, manager_of):
        manager = manager_of(device=250)
        with manager.use(spec_of("a"), spec_of("b")), pytest.raises(OutOfMemoryError, match=r"250 kB.*100 kB"):
            use(manager, spec_of("c"))
        assert manager.readout().resident == ("a", "b")
        assert use(manager, spec_of("c"))[-1] == "c"

    def test_two_families_alternate(self, manager_of, shelf):
        manager = manager_of(device=350)
        families = [[spec_of(f"{name}{part}", 150) for part in "12"] for name in "xy"]
        for _ in range(5):
            for family in families:
                with manager.use(*family) as blocks:
                    sums = [block(torch.zeros(1)).item() for block in blocks]
                assert sums[0] == sums[1] > 0
                assert set(manager.readout().resident) == {spec.key for spec in family}
        assert len(shelf.read) == 4

    def test_weights_are_the_same_wherever_they_are(self, manager_of):
        manager = manager_of(device=150)
        with manager.hold(spec_of("a"), spec_of("b")) as (a, b):
            before = a.weight.clone()
            with manager.running(a):
                there = a.weight.data_ptr()
                assert torch.equal(a.weight, before)
            with manager.running(b):
                assert a.weight.data_ptr() != there
                assert torch.equal(a.weight, before)

    def test_what_is_named_twice_runs_once(self, manager_of):
        manager = manager_of(device=150)
        with manager.hold(spec_of("a")) as (a,), manager.running(a, a):
            assert manager.readout().resident == ("a",)
            assert manager.budget.entry_of(a).runners == 1

    def test_a_swap_is_timed(self, manager_of, monkeypatch):
        manager, ticks = manager_of(), iter([10.0, 12.5])
        monkeypatch.setattr(managing, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
        assert (manager.readout().swap_seconds, manager.readout().swap_bytes) == (0, 0)
        for _ in range(2):  # the second time all is there, and nothing is swapped
            use(manager, spec_of("a"), spec_of("b"))
            readout = manager.readout()
            assert (readout.swap_seconds, readout.swap_bytes) == (2.5, 200 * KILO)

    def test_the_lean_policy_has_nothing_on_the_device(self, manager_of):
        assert use(manager_of(policy="group", device=1), spec_of("a")) == ()

    def test_without_offload_what_nobody_holds_is_dropped_for_room(self, manager_of):
        manager = manager_of(policy="none", device=250)
        for name in "abc":
            use(manager, spec_of(name))
        assert manager.loaded() == ["b", "c"]

    def test_what_was_to_run_and_did_not_fit_can_leave_again(self, manager_of):
        manager = manager_of(device=150)
        assert use(manager, spec_of("a")) == ("a",)
        with pytest.raises(OutOfMemoryError):
            use(manager, spec_of("a"), spec_of("b"))
        assert manager.held() == []
        assert use(manager, spec_of("c")) == ("c",)

    def test_what_has_left_the_host_for_the_device_counts_there_alone(self, manager_of):
        used, held = manager_of("none", host=250), manager_of("none", host=250)
        for name in "abc":
            use(used, spec_of(name))
            with held.hold(spec_of(name)):
                pass
        assert used.loaded() == ["a", "b", "c"]
        assert held.loaded() == ["b", "c"]

    def test_where_models_are_placed_ahead_nothing_moves_later(self, manager_of):
        manager = manager_of(policy="zerogpu", device=1000)
        with manager.hold(spec_of("a")):
            assert manager.readout().resident == ("a",)
        use(manager, spec_of("a"))
        assert manager.readout().swap_bytes == 0

    def test_memory_that_cannot_be_pinned_is_used_as_it_is(self, monkeypatch, caplog):
        whole = torch.empty

        def refuse(*sizes, pin_memory=False, **options):
            if pin_memory:
                raise RuntimeError("CUDA error: out of memory")
            return whole(*sizes, **options)

        monkeypatch.setattr(torch, "empty", refuse)
        block = Block(2)
        before = block.weight.clone()
        placement.place(block, "model", torch.device("cuda"))
        assert torch.equal(block.weight, before)
        assert "could not be pinned" in caplog.text

    def test_weights_travel_in_few_large_pieces(self, monkeypatch):
        monkeypatch.setattr(placement, "SLAB_BYTES", 4 * 1024)
        module = torch.nn.Module()
        sizes = [(3,), (5, 7), (500,), (2, 3, 3, 3), (2000,), (40,)]  # numbers of four bytes; one is more than a slab
        module.tensors = torch.nn.ParameterList(torch.randn(size) for size in sizes)
        module.tensors[3].data = module.tensors[3].data.to(memory_format=torch.channels_last)
        module.register_buffer("steps", torch.arange(9))
        before = [tensor.detach().clone() for tensor in placement.tensors_of(module)]
        kept = placement.place(module, "model", torch.device("cpu"))
        for move in (lambda: None, kept.enter, kept.leave):
            move()
            for tensor, was in zip(placement.tensors_of(module), before, strict=True):
                assert torch.equal(tensor, was)
                assert tensor.stride() == was.stride()
                assert tensor.storage_offset() * tensor.element_size() % placement.ALIGNMENT == 0
        pieces = {tensor.untyped_storage().data_ptr() for tensor in placement.tensors_of(module)}
        assert len(pieces) == 4  # three of floats, one of integers
        assert kept.device_bytes == 0

    def test_what_two_modules_share_lies_on_the_host_once(self):
        below, above = Block(2), Block(1)
        above.below = below
        first, second = (placement.place(module, "model", torch.device("cpu")) for module in (below, above))
        on_host = below.weight.data_ptr()
        second.enter()
        assert below.weight.data_ptr() != on_host
        second.leave()
        first.enter()
        first.leave()
        assert below.weight.data_ptr() == on_host

    def test_another_policy_holds_no_longer_than_it_is_wanted(self, manager_of, shelf):
        manager = manager_of()
        use(manager, spec_of("a"))
        with manager.policy_restored():
            manager.set_policy("group")
            use(manager, spec_of("a"))
        assert manager.policy == "model"
        assert use(manager, spec_of("a")) == ("a",)  # placed anew, since it was streamed
        assert shelf.read == ["a", "a", "a"]
        use(manager, spec_of("a"))
        assert shelf.read == ["a", "a", "a"]

    def test_a_leaner_policy_takes_over_for_what_is_not_held(self, manager_of):
        manager = manager_of(policy="none")
        use(manager, spec_of("a"))
        assert manager.leaner_policy() == "model"
        manager.set_policy("model")
        assert manager.loaded() == []
        assert manager.leaner_policy() == "group"
        manager.set_policy("group")
        assert manager.leaner_policy() is None

    def test_two_threads_share_one_component(self, manager_of, shelf):
        manager = manager_of()
        begin, seen = threading.Barrier(2), []

        def work():
            begin.wait()
            with manager.use(spec_of("a")) as (block,):
                seen.append(block)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen[0] is seen[1]
        assert shelf.read == ["a"]

    def test_a_thousand_swaps_leak_nothing(self, manager_of, shelf):
        manager = manager_of(device=250, host=350)
        specs = [spec_of(name) for name in "abcde"]
        for turn in range(1000):
            use(manager, specs[turn % 5])
        gc.collect()
        held = sum(block.weight.numel() * 4 for block in shelf.alive)
        assert len(shelf.read) == 1000  # five in turn never find themselves in a cache of three
        assert held <= 350 * KILO
        # By its type, since asking some of the objects that libraries leave about what they are makes them warn.
        tensors = [item for item in gc.get_objects() if issubclass(type(item), torch.Tensor) and item.numel() == 25_000]
        storages = {tensor.data_ptr() for tensor in tensors}
        assert len(storages) <= 3 + 2  # on the host, and of those two on the device


@pytest.fixture(scope="module")
def reference(settings, source_frames):
    return last(run(_request(source_frames), ModelManager(settings))).frames


def _request(frames):
    steps = {"num_inference_steps": 2, "num_inversion_steps": 2, "num_smoothing_steps": 2}
    return default_request("control", "toybox", frames, "a red cube", seed=1, **steps)


def _plain(frames, task, image_model, **changes):
    """Each network in one way alone: guidance, an inversion of the image model's and more would be traced again."""
    return default_request(
        task, "toybox", frames, "a red cube", image_model=image_model, seed=1, guidance_scale=1.0,
        smoothing_guidance_scale=1.0, **{**PAPER_BRIDGE, "mixing_ratio": 0.0, **TWO_STEPS, **changes},
    )  # fmt: skip


@pytest.fixture
def traced_manager(settings, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    return ModelManager(replace(settings, compile=True))


class TestWholeRuns:
    @pytest.mark.parametrize(("policy", "memory"), [("none", "auto"), ("model", "90MB"), ("group", "60MB")])
    def test_every_policy_gives_the_same_bits(self, settings, source_frames, reference, policy, memory):
        manager = ModelManager(replace(settings, offload=policy, device_memory=memory))
        for _ in range(2):
            assert np.array_equal(last(run(_request(source_frames), manager)).frames, reference)

    @pytest.mark.parametrize(("policy", "memory", "leaner"), [("model", "20MB", "group"), ("none", "70MB", "model")])
    def test_a_run_that_does_not_fit_goes_on_with_a_leaner_policy_and_says_so(
        self, settings, source_frames, reference, policy, memory, leaner
    ):
        manager = ModelManager(replace(settings, offload=policy, device_memory=memory))
        *events, result = run(_request(source_frames), manager)
        notes = [event.note for event in events if event.note]
        assert manager.policy == policy  # the next run is not slowed down by this one
        assert f"leaner offload policy '{leaner}'" in notes[0]
        assert np.array_equal(result.frames, reference)

    def test_what_others_took_of_the_device_since_then_counts(self, settings, source_frames, reference):
        probe = Probe()
        manager = ModelManager(replace(settings, offload="model", device_memory="1GB"), probe)
        probe.device = lambda _: Memory(20_000_000, 10**9)
        *events, result = run(_request(source_frames), manager)
        assert any("leaner offload policy 'group'" in event.note for event in events)
        assert np.array_equal(result.frames, reference)

    def test_traced_networks_give_the_same_bits_and_are_counted_in_every_run(
        self, settings, source_frames, traced_manager
    ):
        """What compiling changes of a run, without the minutes that it takes to write code for a processor."""
        request = _plain(source_frames, "control", "controlnet")
        wanted = last(run(request, ModelManager(settings)))
        for _ in range(2):
            found = last(run(request, traced_manager))
            assert np.array_equal(found.frames, wanted.frames)
            assert found.evaluations == wanted.evaluations

    def test_a_traced_network_lets_prompt2prompt_into_its_attention(self, settings, source_frames, traced_manager):
        request = _plain(source_frames, "edit", "prompt2prompt", source_prompt="a red cone")
        wanted = framewise_frames(request, ModelManager(settings))
        for _ in range(2):
            assert np.array_equal(framewise_frames(request, traced_manager), wanted)

    def test_tiles_of_a_picture_larger_than_one_join_to_the_picture(self):
        """With the weights that ship. Each tile is normalised on its own, so it is not the same picture."""
        frames = world.render(world.sample_scene(3), 256, 384, 1).frames
        picture = torch.from_numpy(frames).permute(0, 3, 1, 2) / 127.5 - 1
        errors = []
        for tiling in (False, True):
            manager = ModelManager(Settings(device="cpu", tiling=tiling))
            with torch.inference_mode(), manager.use(FAMILY.vae) as (vae,):
                assert vae.config.sample_size < 256
                again = vae.decode(vae.encode(picture).latent_dist.mode()).sample
            assert again.shape == picture.shape
            errors.append(float(((again - picture) ** 2).mean()))
        assert errors[0] < 0.004  # 30 dB
        assert errors[0] < errors[1] < 0.025  # 22 dB

    def test_without_a_compiler_compiling_is_refused(self, settings, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CXX", raising=False)
        with pytest.raises(InputError, match=r"no C\+\+ compiler"):
            ModelManager(replace(settings, compile=True))

    def test_torchs_own_error_is_met_alike_and_finished_stages_are_kept(
        self, settings, source_frames, reference, monkeypatch
    ):
        from bivdiff.bridge import pipeline

        manager = ModelManager(replace(settings, offload="model", device_memory="1GB"))
        whole = pipeline.smooth

        def full_once(*given, **named):
            monkeypatch.setattr(pipeline, "smooth", whole)
            raise torch.OutOfMemoryError
            yield given, named

        monkeypatch.setattr(pipeline, "smooth", full_once)
        *events, result = run(_request(source_frames), manager)
        assert np.array_equal(result.frames, reference)
        again = [event.message for event in events[events.index(next(e for e in events if e.note)) :]]
        assert any("there already" in message for message in again)

    def test_where_nothing_leaner_is_left_the_error_says_what_to_change(self, settings, source_frames):
        manager = ModelManager(replace(settings, offload="none"))  # a device without memory of its own
        manager.running = _raise_out_of_memory
        with pytest.raises(OutOfMemoryError, match="frame batch size"):
            last(run(_request(source_frames), manager))


TASKS_AND_MODELS = [(name, model) for name, task in TASKS.items() for model in task.image_models]


@pytest.mark.parametrize(("task", "image_model"), TASKS_AND_MODELS)
def test_no_network_computes_that_was_not_brought_to_the_device(settings, task_request, task, image_model):
    manager = ModelManager(replace(settings, offload="model", device_memory="1GB"))
    computed = []

    def check(module, _):
        spec = manager.budget.spec_of(module)
        computed.append(spec.key)
        assert manager.budget.loaded[spec].runners, f"{spec.key} computes outside of `running`"

    read = manager._read

    def watched(spec, base):
        component = read(spec, base)
        if isinstance(component, torch.nn.Module):
            component.register_forward_pre_hook(check)
            for name in ("encode", "decode"):
                if hasattr(component, name):
                    setattr(component, name, _before(partial(check, component, None), getattr(component, name)))
        return component

    manager._read = watched
    last(run(task_request(task, image_model, mixing_ratio=0.5), manager))
    assert {"toybox/vae", "toybox/video_unet", "toybox/text_encoder"} <= set(computed)


def _before(first, second):
    def both(*args, **kwargs):
        first()
        return second(*args, **kwargs)

    return both


def _raise_out_of_memory(*_, **__):
    raise torch.OutOfMemoryError


class TestFiles:
    NETWORKS = (
        *FAMILY.networks["controlnet"].values(),
        *FAMILY.networks["t2i-adapter"].values(),
        FAMILY.networks["instruct-pix2pix"]["unet"],
        FAMILY.networks["inpainting"]["unet"],
    )

    @pytest.mark.parametrize("spec", [FAMILY.vae, FAMILY.unet, FAMILY.text_encoder, *NETWORKS], ids=lambda s: s.key)
    def test_models_come_ready_to_infer(self, fresh, spec):
        with fresh.use(spec) as (model,):
            assert not model.training
            assert not any(parameter.requires_grad for parameter in model.parameters())
            assert model.dtype == torch.float32

    def test_a_missing_folder_is_told(self, fresh):
        nowhere = ModelSpec(key="toybox/nowhere", kind="unet", folder="nowhere")
        with pytest.raises(ModelUnavailableError, match="nowhere"), fresh.use(nowhere):
            pass

    def test_a_truncated_file_is_told_and_a_repaired_one_then_loads(self, settings, tmp_path):
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

    @pytest.mark.parametrize(("wanted", "given"), [("vae", "unet"), ("unet", "inpainting"), ("unet", "vae")])
    def test_weights_of_another_architecture_are_refused(self, settings, tmp_path, wanted, given):
        shutil.copytree(settings.toybox_folder / given, tmp_path / wanted)
        # With the config of the class that is wanted: what tells is the weights.
        shutil.copy(settings.toybox_folder / wanted / "config.json", tmp_path / wanted / "config.json")
        manager = ModelManager(replace(settings, toybox_folder=tmp_path))
        with pytest.raises(ModelUnavailableError, match="another architecture"), manager.use(getattr(FAMILY, wanted)):
            pass


class TestChoices:
    def test_unknown_devices_dtypes_and_policies_are_refused(self, settings):
        absent = "cuda" if not torch.cuda.is_available() else "xpu"
        for change in ({"device": "abacus"}, {"device": absent}, {"dtype": "float3"}, {"offload": "attic"}):
            with pytest.raises(InputError, match=next(iter(change.values()))):
                ModelManager(replace(settings, **change))

    def test_budgets_are_most_of_what_is_free_unless_they_are_set(self, settings):
        manager = ModelManager(settings, Probe(host=10**9))
        assert manager.budget.host == 800_000_000
        assert manager.budget.device is None  # the CPU has no memory of its own
        assert ModelManager(replace(settings, host_memory="2GB"), Probe()).budget.host == 2_000_000_000

    def test_a_card_has_a_budget_of_its_own_unless_it_comes_later(self, settings, monkeypatch):
        assert not ModelManager(settings).slices
        monkeypatch.setattr(managing, "choose_device", lambda _: torch.device("cuda"))
        budgets = {}
        for policy in ("none", "model", "zerogpu"):
            card = ModelManager(replace(settings, dtype="bfloat16", offload=policy), Probe(device=1000))
            budgets[policy] = card.budget.device
        assert budgets == {"none": 950, "model": 950, "zerogpu": None}
        assert card.slices
        # The card has float16, whose digits are enough.
        assert (card.dtype_of(FAMILY.vae), card.dtype_of(FAMILY.unet)) == (torch.float16, torch.bfloat16)

    @pytest.mark.parametrize("tiles", [False, True])
    @pytest.mark.parametrize("slices", [False, True])
    def test_autoencoders_and_nothing_else_take_pictures_in_tiles_and_one_by_one(self, settings, tiles, slices):
        manager, asked = ModelManager(settings), []
        manager.tiles, manager.slices = tiles, slices
        component = SimpleNamespace(enable_tiling=lambda: asked.append("t"), enable_slicing=lambda: asked.append("s"))
        for spec in (FAMILY.vae, FAMILY.text_encoder):
            manager._prepare(component, spec)
        assert asked == ["t"] * tiles + ["s"] * slices

    def test_on_a_space_without_a_device_of_its_own_models_are_placed_ahead(self, settings, monkeypatch):
        monkeypatch.setenv("SPACES_ZERO_GPU", "1")
        assert ModelManager(settings).policy == "zerogpu"

    def test_an_autoencoder_gets_more_digits_than_bfloat16_has(self, settings):
        manager = ModelManager(replace(settings, dtype="bfloat16"))
        with manager.use(FAMILY.vae, FAMILY.unet) as (vae, unet):
            assert (vae.dtype, unet.dtype) == (torch.float32, torch.bfloat16)

    def test_half_precision_and_eight_bits_stay_near_the_result(self, settings, source_frames, reference):
        for change in ({"dtype": "bfloat16"}, {"fp8": True}):
            frames = last(run(_request(source_frames), ModelManager(replace(settings, **change)))).frames
            assert frames.std() > 1
            assert 0 < np.abs(frames.astype(int) - reference).mean() < 20

    def test_eight_bits_are_for_what_runs_in_every_step_and_counted_before_it_is_loaded(self, settings):
        full, eight = (ModelManager(replace(settings, fp8=fp8)) for fp8 in (False, True))
        assert eight.weight_bytes(FAMILY.unet) == full.weight_bytes(FAMILY.unet) / 4  # from 32 bits
        assert eight.weight_bytes(FAMILY.text_encoder) == full.weight_bytes(FAMILY.text_encoder)
        for manager in (full, eight):
            use(manager, FAMILY.unet)
        assert eight.weight_bytes(FAMILY.unet) < 0.35 * full.weight_bytes(FAMILY.unet)  # norms keep their digits

    def test_every_policy_has_a_sentence(self):
        assert all(len(text) > 20 for text in POLICIES.values())
