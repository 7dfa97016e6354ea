"""Control maps: edges at full resolution, and depth with one range for the whole clip.

The depth model is the real class at a tiny size with random weights, so the tests know nothing of its taste; they
check what is done around it. Not in it: the models' quality.
"""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from bivdiff.annotators import ANNOTATORS, annotate
from bivdiff.annotators.depth import IMAGENET_MEAN, IMAGENET_STD
from bivdiff.errors import InputError, ModelUnavailableError

ONE_LEVEL = 1
"""Of 255: what the order of additions in other batch sizes may change after rounding."""


def moving_square(count: int = 3, height: int = 128, width: int = 128) -> np.ndarray:
    """A light square on dark ground, `(F, H, W, 3)`, four pixels further right in each frame."""
    frames = np.full((count, height, width, 3), 40, np.uint8)
    for index, frame in enumerate(frames):
        frame[30:60, 20 + 4 * index : 50 + 4 * index] = (220, 180, 140)
    return frames


def python(program: str) -> tuple[str, str]:
    """Run a program in a fresh interpreter and return what it printed on standard output and standard error."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


# The package


def test_unknown_control_type_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no control type 'edges'. Choose one of canny, depth"):
        annotate("edges", moving_square())


@pytest.mark.parametrize("control_type", ANNOTATORS)
def test_frames_of_another_kind_are_a_programming_mistake(control_type: str) -> None:
    for frames in (moving_square() / 255, moving_square()[0], moving_square()[:0]):
        with pytest.raises(ValueError, match="frames must be uint8"):
            annotate(control_type, frames)


def test_importing_the_package_is_cheap() -> None:
    heavy = {"torch", "cv2", "controlnet_aux", "transformers"}
    assert python(f"import sys, bivdiff.annotators; print({heavy} & set(sys.modules))") == ("set()\n", "")


# Canny


@pytest.mark.parametrize("size", [(128, 128), (64, 192), (127, 101), (65, 63), (100, 300)])
def test_canny_draws_crisp_edges_where_they_are(size: tuple[int, int]) -> None:
    frames = moving_square(2, *size)
    edges = annotate("canny", frames)
    assert edges.shape == frames.shape
    assert edges.dtype == np.uint8
    assert set(np.unique(edges)) == {0, 255}
    for index, drawn in enumerate(edges[..., 0] > 0):
        rows, columns = np.nonzero(drawn)
        left, right = 20 + 4 * index, min(50 + 4 * index, size[1])
        # On the outline, to one pixel, and nowhere else.
        inside = (abs(rows - 44.5) < 14) & (abs(columns - (left + right - 1) / 2) < (right - left) / 2 - 2)
        assert not inside.any()
        assert (rows.min(), columns.min()) in {(y, x) for y in (29, 30) for x in (left - 1, left)}
        assert drawn[35:55, left - 1 : left + 1].sum(axis=1).tolist() == [1] * 20
    assert (edges == edges[..., :1]).all()


def test_canny_is_opencv_without_resampling() -> None:
    import cv2

    frames = np.random.default_rng(0).integers(0, 256, (2, 96, 72, 3), np.uint8)
    expected = np.stack([cv2.Canny(frame, 40, 100) for frame in frames])
    # Within one pixel of the border the detector sees its repetition.
    assert np.array_equal(annotate("canny", frames)[:, 2:-2, 2:-2, 0], expected[:, 2:-2, 2:-2])


def test_canny_keeps_what_is_one_pixel_wide() -> None:
    frames = np.full((1, 128, 128, 3), 30, np.uint8)
    frames[:, :, 64] = 230
    assert (annotate("canny", frames)[0, 5:-5, 60:69, 0].max(axis=1) == 255).all()


def test_canny_thresholds() -> None:
    frames = np.full((1, 64, 64, 3), 100, np.uint8)
    frames[:, :, 32:] = 115
    assert annotate("canny", frames, low_threshold=20, high_threshold=50).any()
    assert not annotate("canny", frames, low_threshold=100, high_threshold=200).any()


@pytest.mark.parametrize("thresholds", [(0, 100), (-1, 100), (100, 40), (float("nan"), 100), (40, float("inf"))])
def test_canny_thresholds_out_of_range(thresholds: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="Canny thresholds"):
        annotate("canny", moving_square(1), low_threshold=thresholds[0], high_threshold=thresholds[1])


def test_canny_is_quiet() -> None:
    """The detector's package warns of parts that are not used here."""
    program = "import numpy, bivdiff.annotators as a; a.annotate('canny', numpy.zeros((1, 64, 64, 3), 'uint8'))"
    assert python(program) == ("", "")


# Depth


@pytest.fixture(scope="module")
def depth_model() -> DepthAnythingForDepthEstimation:
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[4, 8, 12, 16],
        fusion_hidden_size=8,
        head_hidden_size=4,
        patch_size=14,
    )
    torch.manual_seed(0)
    return DepthAnythingForDepthEstimation(config).eval()


class FakeModel(SimpleNamespace):
    """Answers with a brightness that a test can foresee, and remembers what it was shown."""

    def __init__(self, answer: object = None, **config: object) -> None:
        backbone = SimpleNamespace(patch_size=14, image_size=56)
        super().__init__(
            config=SimpleNamespace(backbone_config=backbone, **config),
            device=torch.device("cpu"),
            dtype=torch.float32,
            shown=[],
            answer=answer or (lambda pixel_values: pixel_values.mean(dim=1)),
        )

    def __call__(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        self.shown.append(pixel_values)
        return SimpleNamespace(predicted_depth=self.answer(pixel_values))


@pytest.mark.parametrize("size", [(56, 56), (64, 96), (37, 101), (128, 70)])
def test_depth_of_any_size(depth_model: DepthAnythingForDepthEstimation, size: tuple[int, int]) -> None:
    frames = moving_square(2, *size)
    depth = annotate("depth", frames, model=depth_model)
    assert depth.shape == frames.shape
    assert depth.dtype == np.uint8
    assert (depth.min(), depth.max()) == (0, 255)
    assert (depth == depth[..., :1]).all()
    assert np.array_equal(depth, annotate("depth", frames, model=depth_model))


def test_depth_in_chunks_equals_the_whole(depth_model: DepthAnythingForDepthEstimation) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (5, 40, 60, 3), np.uint8)
    whole = annotate("depth", frames, model=depth_model, chunk_size=5).astype(int)
    for chunk_size in (1, 2, 4):
        chunked = annotate("depth", frames, model=depth_model, chunk_size=chunk_size)
        assert np.abs(chunked - whole).max() <= ONE_LEVEL


def test_depth_leaves_the_model_as_it_was(depth_model: DepthAnythingForDepthEstimation) -> None:
    before = {name: value.clone() for name, value in depth_model.state_dict().items()}
    annotate("depth", moving_square(1), model=depth_model)
    assert all(torch.equal(value, before[name]) for name, value in depth_model.state_dict().items())
    assert not depth_model.training
    assert all(parameter.grad is None for parameter in depth_model.parameters())


def test_depth_has_one_range_for_the_clip() -> None:
    """Frames of evenly rising brightness stay ordered; a range for each frame would make them alike."""
    frames = np.stack([np.full((56, 56, 3), level, np.uint8) for level in (50, 100, 150, 200, 250)])
    depth = annotate("depth", frames, model=FakeModel(), chunk_size=2)
    assert np.abs(depth.mean(axis=(1, 2, 3)) - [0, 63.75, 127.5, 191.25, 255]).max() <= ONE_LEVEL


def test_depth_shows_the_model_whole_patches_of_normalised_pixels() -> None:
    model = FakeModel()
    frames = np.full((3, 64, 97, 3), (10, 120, 250), np.uint8)
    annotate("depth", frames, model=model, chunk_size=2)
    assert [tuple(shown.shape) for shown in model.shown] == [(2, 3, 56, 84), (1, 3, 56, 84)]
    expected = (torch.tensor([10, 120, 250]) / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    assert torch.allclose(model.shown[0].mean(dim=(0, 2, 3)), expected, atol=1e-4)
    annotate("depth", frames, model=model, working_size=140)
    assert tuple(model.shown[-1].shape) == (3, 3, 140, 210)


def test_depth_keeps_near_white_and_in_place() -> None:
    """A model that calls the bright near: the square comes out white, where it is."""
    frames = moving_square(2, 112, 168)
    depth = annotate("depth", frames, model=FakeModel(), working_size=112)
    for index in range(2):
        assert depth[index, 35:55, 26 + 4 * index : 44 + 4 * index].min() > 240
        assert depth[index, 80:].max() < 15


def test_metric_depth_is_inverted() -> None:
    frames = np.stack([np.full((56, 56, 3), level, np.uint8) for level in (10, 250)])

    def metres(pixel_values: torch.Tensor) -> torch.Tensor:
        return pixel_values.mean(dim=1) + 3

    assert annotate("depth", frames, model=FakeModel(metres)).mean(axis=(1, 2, 3)).tolist() == [0, 255]
    metric = annotate("depth", frames, model=FakeModel(metres, depth_estimation_type="metric"))
    assert metric.mean(axis=(1, 2, 3)).tolist() == [255, 0]


def test_flat_depth_is_black() -> None:
    assert not annotate("depth", moving_square(), model=FakeModel(lambda x: torch.full_like(x[:, 0], 7))).any()


def test_depth_that_is_not_finite_is_caught() -> None:
    with pytest.raises(ModelUnavailableError, match="not finite"):
        annotate("depth", moving_square(), model=FakeModel(lambda x: x[:, 0] * float("nan")))
