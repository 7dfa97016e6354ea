"""Control maps: edges at full resolution, depth with one range for the whole clip, and what networks draw.

The networks are the real classes with random weights, so the tests know nothing of their taste: they check what is
done around them. Where a map's meaning is at stake, an `Oracle` answers in a network's place what it is told to.
"""

import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.pixels.annotators import ANNOTATORS, annotate, annotate_in_steps, loading
from bivdiff.pixels.annotators.depth import IMAGENET_MEAN, IMAGENET_STD
from bivdiff.pixels.annotators.detectors import part
from bivdiff.pixels.annotators.sizes import working_shape

ONE_LEVEL = 1
"""Of 255: what the order of additions in other batch sizes may change after rounding."""

RESAMPLING = 2
"""Of 255: transformers' image processor rounds to whole levels after resizing, and depth is stretched after that."""

DRAWN_BY_NETWORKS = ("pose", "softedge", "scribble", "lineart", "normal", "sketch")


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
    with pytest.raises(InputError, match=r"no control type 'edges'. Choose one of canny, depth, lineart, normal"):
        annotate("edges", moving_square())


def test_every_kind_of_model_has_a_loader() -> None:
    kinds = {annotator.kind for annotator in ANNOTATORS.values()}
    assert kinds == {None, "depth_estimator", *loading.LOADERS}
    assert loading.FILES.keys() == loading.LOADERS.keys()


def test_a_model_where_none_is_needed_is_a_programming_mistake() -> None:
    with pytest.raises(ValueError, match="'canny' takes no model"):
        annotate("canny", moving_square(), model=nn.Identity())
    with pytest.raises(ValueError, match="'pose' takes a body_pose"):
        annotate("pose", moving_square())


@pytest.mark.parametrize("control_type", ANNOTATORS)
def test_frames_of_another_kind_are_a_programming_mistake(control_type: str) -> None:
    for frames in (moving_square() / 255, moving_square()[0], moving_square()[:0]):
        with pytest.raises(ValueError, match="frames must be uint8"):
            annotate(control_type, frames)


def test_importing_the_package_is_cheap() -> None:
    heavy = {"torch", "cv2", "controlnet_aux", "transformers"}
    assert python(f"import sys, bivdiff.pixels.annotators; print({heavy} & set(sys.modules))") == ("set()\n", "")


def test_loading_is_imported_without_torch() -> None:
    program = "import sys, bivdiff.pixels.annotators.loading; print('torch' in sys.modules)"
    assert python(program) == ("False\n", "")


def test_steps_count_the_frames_and_can_be_left() -> None:
    frames = moving_square(3)
    steps = annotate_in_steps("canny", frames)
    assert next(steps) == 1
    steps.close()
    assert list(annotate_in_steps("canny", frames)) == [1, 2, 3]
    assert list(annotate_in_steps("depth", frames, model=FakeModel(), chunk_size=2)) == [2, 3]
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("frame", "working_size", "multiple", "shown"),
    [
        ((512, 512), 512, 64, (512, 512)),
        ((320, 576), 512, 64, (512, 896)),
        ((1920, 1080), 512, 64, (896, 512)),
        ((64, 64), 518, 14, (518, 518)),
        ((480, 854), 518, 14, (518, 924)),
        ((8, 4000), 512, 64, (64, 2048)),
    ],
)
def test_working_shape(frame: tuple[int, int], working_size: int, multiple: int, shown: tuple[int, int]) -> None:
    assert working_shape(*frame, working_size, multiple) == shown


@pytest.mark.parametrize("working_size", [0, -512, 16, 4096, float("nan")])
def test_working_size_out_of_range(working_size: float) -> None:
    with pytest.raises(InputError, match="working size of a control map must be from 32 to 2048"):
        annotate("softedge", moving_square(1), model=Oracle(lambda x: [x]), working_size=working_size)


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


# What networks draw


class Oracle(nn.Module):
    """Answers what it is told to, on the device of its only parameter, and remembers what it was shown."""

    def __init__(self, answer: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.answer = answer
        self.shown = []
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, pixels: Tensor) -> object:
        self.shown.append(pixels)
        return self.answer(pixels)


def as_released(kind: str, network: nn.Module) -> object:
    """What the released file of that kind holds, in its layout."""
    weights = network.state_dict()
    if kind == "pidinet":
        return {"epoch": 19, "state_dict": {f"module.{name}": weight for name, weight in weights.items()}}
    if kind == "normalbae":
        return {"model": weights}
    if kind == "body_pose":
        return {name.partition(".")[2]: weight for name, weight in weights.items()}
    return {name: weight.half() for name, weight in weights.items()} if kind == "hed" else weights


def network_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "normalbae":
        settings = SimpleNamespace(architecture="BN", sampling_ratio=0.4, importance_ratio=0.7)
        return part("normalbae.nets.NNET").NNET(settings).eval()
    build = {
        "hed": lambda: part("hed").ControlNetHED_Apache2(),
        "pidinet": lambda: part("pidi.model").pidinet(),
        "lineart": lambda: part("lineart").Generator(3, 1, 3),
        "body_pose": lambda: part("open_pose.model").bodypose_model(),
    }[kind]
    return build().eval()


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, nn.Module]:
    """Every network with random weights, read from a file like the released one."""
    folder = tmp_path_factory.mktemp("Annotators")
    read = {}
    for kind, file in loading.FILES.items():
        network = network_of(kind)
        torch.save(as_released(kind, network), folder / file)
        read[kind] = loading.LOADERS[kind](folder)
        (folder / file).unlink()  # up to 290 MB
        expected = network.half().float().state_dict() if kind == "hed" else network.state_dict()
        assert all(torch.equal(weight, expected[name]) for name, weight in read[kind].state_dict().items())
    return read


def test_loaded_networks_are_ready(networks: dict[str, nn.Module]) -> None:
    for network in networks.values():
        assert not network.training
        for parameter in network.parameters():
            assert (parameter.dtype, parameter.device.type, parameter.requires_grad) == (torch.float32, "cpu", False)


@pytest.mark.parametrize("control_type", DRAWN_BY_NETWORKS)
def test_maps_by_networks(networks: dict[str, nn.Module], control_type: str) -> None:
    model = networks[ANNOTATORS[control_type].kind]
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    frames = np.random.default_rng(2).integers(0, 256, (2, 37, 45, 3), np.uint8)
    kept = frames.copy()
    maps = annotate(control_type, frames, model=model, working_size=64)
    assert maps.shape == frames.shape
    assert maps.dtype == np.uint8
    assert np.array_equal(frames, kept)
    # The same again, whatever the other frames are.
    assert np.array_equal(annotate(control_type, frames[1:], model=model, working_size=64), maps[1:])
    if control_type not in {"normal", "pose"}:
        assert (maps == maps[..., :1]).all()
    if control_type in {"scribble", "sketch"}:
        assert set(np.unique(maps)) <= {0, 255}
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("size", [(512, 512), (320, 576), (70, 128), (130, 90), (9, 400)])
def test_maps_have_the_size_of_the_frames(size: tuple[int, int]) -> None:
    frames = moving_square(1, *size)
    oracle = Oracle(lambda pixels: [pixels[:, :1] - 128] * 5)
    assert annotate("softedge", frames, model=oracle).shape == frames.shape
    assert tuple(oracle.shown[0].shape[2:]) == working_shape(*size, 512, 64)


def brightness(pixels: Tensor) -> Tensor:
    """In [0, 1], of pixels in [0, 255] or in [0, 1]."""
    return pixels.mean(dim=1, keepdim=True) / (255 if pixels.max() > 1 else 1)


def edges_where_bright(pixels: Tensor) -> list[Tensor]:
    return [brightness(pixels) * 40 - 20] * 5


def square_and_ground(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The levels inside of the first frame's `moving_square`, and far outside of it."""
    return maps[0, 33:57, 23:47].reshape(-1, 3), maps[0, 70:].reshape(-1, 3)


def test_soft_edges_are_white_on_black() -> None:
    square, ground = square_and_ground(annotate("softedge", moving_square(1), model=Oracle(edges_where_bright)))
    assert (square.min(), ground.max()) == (255, 0)


def test_safe_soft_edges_have_three_levels() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, None, :, None], 3, axis=3).repeat(64, axis=1)
    oracle = Oracle(lambda pixels: [brightness(pixels) * 8 - 4] * 5)
    assert set(np.unique(annotate("softedge", ramp, model=oracle, working_size=64))) == {0, 127, 255}
    soft = annotate("softedge", ramp, model=oracle, working_size=64, safe=False)[0, 0, :, 0].astype(int)
    assert (np.diff(soft) >= 0).all()
    assert np.abs(soft - 255 / (1 + np.exp(4 - 8 * np.arange(256) / 255))).max() <= ONE_LEVEL


def test_scribble_is_a_thick_line_around_the_edge() -> None:
    frames = np.zeros((1, 128, 128, 3), np.uint8)
    frames[:, :, 60:69] = 255
    oracle = Oracle(edges_where_bright)
    maps = annotate("scribble", frames, model=oracle, working_size=128)
    assert set(np.unique(maps)) == {0, 255}
    # The nine columns, and on either side the six that a blur by 3 pixels lifts above 4 levels.
    assert np.flatnonzero(maps[0, 64, :, 0]).tolist() == list(range(54, 75))
    larger = annotate("scribble", frames.repeat(2, axis=1).repeat(2, axis=2), model=oracle, working_size=128)
    assert set(np.unique(larger)) == {0, 255}
    assert np.flatnonzero(larger[0, 128, :, 0]).tolist() == list(range(108, 150))


def test_sketch_is_white_where_an_edge_is_likelier_than_not() -> None:
    frames = np.full((1, 128, 128, 3), (120, 250, 250), np.uint8)
    frames[:, 30:60, 20:50, 0] = 140
    # PiDiNet was trained on blue first; of its answers the last counts.
    oracle = Oracle(lambda pixels: [1 - pixels[:, 2:], pixels[:, 2:]])
    square, ground = square_and_ground(annotate("sketch", frames, model=oracle))
    assert (square.min(), ground.max()) == (255, 0)


def test_lineart_is_white_on_black_though_the_network_draws_black_on_white() -> None:
    oracle = Oracle(lambda pixels: (brightness(pixels) < 0.5).float())
    square, ground = square_and_ground(annotate("lineart", moving_square(1), model=oracle))
    assert (square.min(), ground.max()) == (255, 0)


@pytest.mark.parametrize(
    ("facing", "colour"), [((0, 0, 1), (127, 127, 255)), ((0.6, 0, 0.8), (204, 127, 229)), ((0, -1, 0), (127, 0, 127))]
)
def test_normals_of_a_plane(facing: tuple[float, float, float], colour: tuple[int, int, int]) -> None:
    def plane(pixels: Tensor) -> tuple[list[Tensor]]:
        kappa = 30.0  # how sure the network is, which is no part of the map
        answer = torch.tensor([*facing, kappa]).view(1, 4, 1, 1).expand(-1, -1, *pixels.shape[2:])
        return ([torch.zeros_like(answer), answer],)

    oracle = Oracle(plane)
    maps = annotate("normal", np.full((1, 90, 160, 3), 255, np.uint8), model=oracle)
    assert np.abs(maps.reshape(-1, 3).astype(int) - colour).max() <= ONE_LEVEL
    expected = (1 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    assert torch.allclose(oracle.shown[0].mean(dim=(0, 2, 3)), expected, atol=1e-4)


JOINTS = {1: (0.5, 0.3), 2: (0.35, 0.3), 3: (0.3, 0.5), 4: (0.3, 0.7), 5: (0.65, 0.3)}
"""Neck, right shoulder, elbow and wrist, left shoulder, by OpenPose's numbers: x and y as shares of the frame."""

LIMBS = {(1, 2): 12, (2, 3): 14, (3, 4): 16, (1, 5): 20}
"""Each limb's pair of joints, and the first of the two channels that say in which direction it runs."""


def person(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """OpenPose's two answers for one person; its neck is right of the middle by the frame's brightness."""
    height, width = (side // 8 for side in pixels.shape[2:])
    shift = 0.2 * float(pixels.mean() + 0.5)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = {joint: torch.tensor([(x + shift) * width, y * height]) for joint, (x, y) in JOINTS.items()}
    heat, directions = torch.zeros(1, 19, height, width), torch.zeros(1, 38, height, width)
    for joint, (x, y) in places.items():
        heat[0, joint] = torch.exp(-((columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2) / 2)
    for (start, end), channel in LIMBS.items():
        along = places[end] - places[start]
        directions[0, channel : channel + 2] = (along / along.norm()).view(2, 1, 1)
    return directions, heat


def test_pose_is_a_coloured_figure_on_black() -> None:
    frames = np.stack([np.full((256, 384, 3), level, np.uint8) for level in (0, 255)])
    figures = annotate("pose", frames, model=Oracle(person), working_size=192)
    for figure, shift in zip(figures, (0, 0.2), strict=True):
        drawn = figure.max(axis=2) > 100
        rows, columns = np.nonzero(drawn)
        # Within the sticks' and the low resolution's widths.
        assert abs(rows.min() / 256 - 0.3) < 0.03
        assert abs(rows.max() / 256 - 0.7) < 0.03
        assert abs(columns.min() / 384 - 0.3 - shift) < 0.03
        assert abs(columns.max() / 384 - 0.65 - shift) < 0.03
        neck, wrist = ((int(y * 256), int((x + shift) * 384)) for x, y in (JOINTS[1], JOINTS[4]))
        assert figure[neck].argmax() == 0  # red
        assert figure[wrist][0] > 60
        assert figure[wrist][1] > 100  # yellow
        assert drawn.mean() < 0.1


def test_pose_of_nobody_is_black() -> None:
    def nobody(pixels: Tensor) -> tuple[Tensor, Tensor]:
        height, width = (side // 8 for side in pixels.shape[2:])
        return torch.zeros(1, 38, height, width), torch.zeros(1, 19, height, width)

    assert not annotate("pose", moving_square(1), model=Oracle(nobody)).any()


# Their files


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match=r"'sk_model.pth' of the lineart annotator is missing.*Annotators"):
        loading.LOADERS["lineart"](tmp_path)


def released_bytes(kind: str) -> bytes:
    buffer = io.BytesIO()
    torch.save(as_released(kind, network_of(kind)), buffer)
    return buffer.getvalue()


def with_a_weight_that_is_no_number() -> bytes:
    content = as_released("pidinet", network_of("pidinet"))
    content["state_dict"]["module.classifier.weight"][0] = float("nan")
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        lambda: b"",
        lambda: b"<html>404</html>",
        lambda: released_bytes("pidinet")[:100_000],
        lambda: released_bytes("lineart"),
        lambda: pickle.dumps([1, 2, 3]),
        with_a_weight_that_is_no_number,
    ],
    ids=["empty", "text", "truncated", "another network", "no weights", "not finite"],
)
def test_a_file_that_is_not_the_weights_is_refused(content: Callable[[], bytes], tmp_path: Path) -> None:
    (tmp_path / loading.FILES["pidinet"]).write_bytes(content())
    with pytest.raises(
        ModelUnavailableError, match=r"'table5_pidinet.pth' does not hold the weights.*download it again"
    ):
        loading.LOADERS["pidinet"](tmp_path)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (ran,)

    for save in (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))):
        save(Bomb(), tmp_path / loading.FILES["hed"])
        with pytest.raises(ModelUnavailableError, match="does not hold the weights"):
            loading.LOADERS["hed"](tmp_path)
    assert not ran.exists()


def test_the_detectors_package_is_quiet() -> None:
    """On import it warns of parts that are not used here, and it prints while it builds the network of normals."""
    program = (
        "import numpy, torch\n"
        "from bivdiff.pixels.annotators import annotate, loading\n"
        "annotate('canny', numpy.zeros((1, 64, 64, 3), 'uint8'))\n"
        "with torch.device('meta'): loading._normalbae()\n"
    )
    assert python(program) == ("", "")


# Depth


@pytest.fixture(scope="module")
def depth_model() -> DepthAnythingForDepthEstimation:
    return tiny_depth_model(56)


def tiny_depth_model(image_size: int) -> DepthAnythingForDepthEstimation:
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=image_size,
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


@pytest.mark.parametrize("size", [(518, 700), (720, 1271), (1030, 533)])
def test_depth_of_the_released_geometry_is_as_transformers_makes_it(size: tuple[int, int]) -> None:
    """Depth Anything V2's patches of 14 and side of 518, on clips of odd aspect, with its own image processor."""
    model = tiny_depth_model(518)
    processor = DPTImageProcessor(
        size={"height": 518, "width": 518}, keep_aspect_ratio=True, ensure_multiple_of=14, resample=3,
        image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD,
    )  # fmt: skip
    frames = moving_square(2, *size)
    with torch.inference_mode():
        depth = model(**processor(list(frames), return_tensors="pt")).predicted_depth
    depth = nn.functional.interpolate(depth[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    expected = (depth - depth.min()) / (depth.max() - depth.min()) * 255
    drawn = annotate("depth", frames, model=model)[..., 0].astype(float)
    assert np.abs(drawn - expected.numpy()).max() <= RESAMPLING


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
