"""What a mask marks, of every kind that editors, datasets and segmenters write: by files, through the reader."""

from pathlib import Path

import numpy as np
import pytest
from clips import encode, ffmpeg
from PIL import Image

from bivdiff.errors import InputError
from bivdiff.media.reading import Clip, read_mask
from bivdiff.media.writing import write_mp4
from bivdiff.studio.form import MaskForm, SourceForm, read_masks

SIDE = 128
SQUARE = np.zeros((SIDE, SIDE), bool)
SQUARE[40:90, 40:90] = True
CLIP = Clip(np.zeros((2, SIDE, SIDE, 3), np.uint8), 8)
DOTS = np.random.default_rng(0).random((SIDE, SIDE)) < 0.5


def two(marked: object, other: object, kind: type = np.uint8) -> np.ndarray:
    """One value in the square, another elsewhere."""
    return np.where(SQUARE[..., None], np.asarray(marked, kind), np.asarray(other, kind)).astype(kind).squeeze()


def palette(values: np.ndarray, colours: list[int]) -> Image.Image:
    picture = Image.fromarray(values.astype(np.uint8))
    picture.putpalette(colours)
    return picture


def layer(colour: tuple[int, int, int], opacity: int = 255) -> Image.Image:
    """What one paints on an empty layer."""
    return Image.fromarray(two((*colour, opacity), (*colour, 0)))


def opaque(picture: np.ndarray, alpha: int) -> Image.Image:
    return Image.fromarray(np.dstack([picture, np.full(picture.shape[:2], alpha, np.uint8)]))


DAVIS = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
MARKS = {
    "white on black": lambda: Image.fromarray(two(255, 0)),
    "one bit": lambda: Image.fromarray(two(255, 0)).convert("1"),
    "white paint on a layer": lambda: layer((255, 255, 255)),
    "red paint on a layer": lambda: layer((255, 0, 0)),
    "black paint on a layer": lambda: layer((0, 0, 0)),
    "faint paint on a layer": lambda: layer((255, 0, 0), 80),
    "a layer in grey": lambda: layer((255, 255, 255)).convert("LA"),
    "black and white paint": lambda: Image.fromarray(
        np.where(np.arange(SIDE)[:, None, None] < 100, two((255, 255, 255, 255), (0, 0, 0, 255)), 0).astype(np.uint8)
    ),
    "alpha that is full everywhere": lambda: opaque(two((255,) * 3, (0,) * 3), 255),
    "alpha that is half everywhere": lambda: opaque(two((255,) * 3, (0,) * 3), 128),
    "alpha that is nothing everywhere": lambda: opaque(two((255,) * 3, (0,) * 3), 0),
    "red on black": lambda: Image.fromarray(two((255, 0, 0), (0, 0, 0))),
    "dark blue on black": lambda: Image.fromarray(two((0, 0, 128), (0, 0, 0))),
    "red on dark grey": lambda: Image.fromarray(two((255, 0, 0), (34, 34, 34))),
    "dark red on dark grey": lambda: Image.fromarray(two((64, 0, 0), (34, 34, 34))),
    "red on cream": lambda: Image.fromarray(two((200, 0, 0), (240, 220, 200))),
    "a palette with a dark ground": lambda: palette(two(1, 0), [10, 20, 30, 200, 100, 50]),
    "red on white": lambda: Image.fromarray(two((255, 0, 0), (255, 255, 255))),
    "green on grey": lambda: Image.fromarray(two((0, 200, 0), (128, 128, 128))),
    "yellow on blue": lambda: Image.fromarray(two((255, 255, 0), (0, 0, 255))),
    "0 and 1": lambda: Image.fromarray(two(1, 0)),
    "100 and 200": lambda: Image.fromarray(two(200, 100)),
    "labels": lambda: Image.fromarray(np.where(SQUARE, np.where(DOTS, 1, 3), 0).astype(np.uint8)),
    "16 bits": lambda: Image.fromarray(two(65535, 0, np.uint16)),
    "16 bits of 0 and 1": lambda: Image.fromarray(two(1, 0, np.uint16)),
    "16 bits of 0 and 1000": lambda: Image.fromarray(two(1000, 0, np.uint16)),
    "a palette as of DAVIS": lambda: palette(two(1, 0), DAVIS),
    "a palette of several objects": lambda: palette(np.where(SQUARE, np.where(DOTS, 1, 3), 0), DAVIS),
    "a palette of white, black": lambda: palette(two(0, 1), [255, 255, 255, 0, 0, 0]),
    "a palette of nothing but black": lambda: palette(two(1, 0), [0] * 6),
}


@pytest.mark.parametrize("kind", MARKS)
def test_what_a_picture_marks(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mask.png"
    MARKS[kind]().save(path)
    masks, notes = read_mask(path, CLIP)
    assert set(np.unique(masks)) == {0, 255}
    marked = SQUARE if kind != "black and white paint" else SQUARE & (np.arange(SIDE)[:, None] < 100)
    assert np.array_equal(masks > 0, np.stack([marked, marked]))
    plain = {"white on black", "one bit", "16 bits", "a palette of white, black", "alpha that is full everywhere"}
    assert bool(notes) == (kind not in plain | {kind for kind in MARKS if kind.startswith("alpha")})
    turned, _ = read_mask(path, CLIP, turned=True)
    assert np.array_equal(turned, 255 - masks)


VIDEOS = {
    "red.mp4": ((255, 0, 0), (0, 0, 0), ["-pix_fmt", "yuv420p", "-crf", "18"]),
    "white.webm": ((255,) * 3, (0,) * 3, ["-c:v", "libvpx", "-b:v", "1M"]),
    "dim.mp4": ((60,) * 3, (0,) * 3, ["-pix_fmt", "yuv420p", "-crf", "18"]),
    "labels.mkv": ((1,) * 3, (0,) * 3, ["-c:v", "ffv1"]),
    "deep.mkv": ((255,) * 3, (0,) * 3, ["-c:v", "ffv1", "-pix_fmt", "gray16le"]),
    "red.gif": ((255, 0, 0), (0, 0, 0), []),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_what_a_video_marks(tmp_path: Path, name: str) -> None:
    marked, other, options = VIDEOS[name]
    path = encode(tmp_path / name, np.stack([two(marked, other)] * 2), "8", *options)
    masks, _ = read_mask(path, CLIP)
    assert np.mean((masks > 0) != SQUARE) < 0.02  # half-size colour bleeds over the edge


def test_a_video_with_transparency_marks_what_is_painted(tmp_path: Path) -> None:
    rgba = np.stack([np.asarray(layer((0, 0, 255)))] * 2)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{SIDE}x{SIDE}", "-r", "8", "-i", "-"]
    for name, options in {"a.mov": ["-c:v", "qtrle"], "a.webm": ["-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p"]}.items():
        ffmpeg(*raw, *options, tmp_path / name, data=rgba.tobytes())
        assert np.mean((read_mask(tmp_path / name, CLIP).frames > 0) != SQUARE) < 0.005


def test_soft_greys_are_told_and_cut_half_way(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, SIDE).round().astype(np.uint8)[None].repeat(SIDE, 0)
    Image.fromarray(ramp).save(tmp_path / "soft.png")
    masks, notes = read_mask(tmp_path / "soft.png", CLIP)
    assert np.array_equal(masks[0] > 0, ramp >= 128)
    assert "soft edges or greys: from half way on they count as marked" in notes[0]


def test_a_photo_is_said_to_be_no_mask(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    told = "seems to be a picture of many colours, and no mask, is marked"
    assert told in read_mask(tmp_path / "photo.png", CLIP).notes[0]


def made_anew(path: Path, **form: object) -> tuple[float, str]:
    """The share of the picture that is made anew, and what is said of it."""
    masks, notes = read_masks(MaskForm(clip=path, **{"grow": 0, **form}), SourceForm(video=path), CLIP)
    return float((masks > 0).mean()), notes[-1]


def test_how_much_is_made_anew_is_said_and_nearly_all_or_nothing_too(tmp_path: Path) -> None:
    Image.fromarray(two(255, 0)).save(tmp_path / "square.png")
    share, said = made_anew(tmp_path / "square.png")
    assert share == pytest.approx(0.1526, abs=1e-4)
    assert said == "15.3 % of the picture is made anew."
    share, said = made_anew(tmp_path / "square.png", grow=4)
    assert said.startswith(
        f"{100 * share:.3g} % of the picture is made anew: 15.3 % is marked, and the mask grows by 4"
    )
    write_mp4(tmp_path / "white.mp4", np.full((2, SIDE, SIDE, 3), 255, np.uint8), 8)
    share, said = made_anew(tmp_path / "white.mp4")
    assert share == 1
    assert said.endswith("That is nearly all of it: if the mask marks what is to stay, turn it round.")
    dot = np.zeros((SIDE, SIDE), np.uint8)
    dot[:4, :4] = 255
    Image.fromarray(dot).save(tmp_path / "dot.png")
    assert "nearly nothing: mark more" in made_anew(tmp_path / "dot.png")[1]


@pytest.mark.parametrize("level", [0, 1, 90])
def test_one_dark_shade_marks_nothing_and_turned_all(tmp_path: Path, level: int) -> None:
    Image.new("L", (SIDE, SIDE), level).save(tmp_path / "dark.png")
    with pytest.raises(InputError, match=r"nothing to make anew.*has one dark shade everywhere.*Mark more"):
        made_anew(tmp_path / "dark.png")
    assert made_anew(tmp_path / "dark.png", black_regenerates=True)[0] == 1
