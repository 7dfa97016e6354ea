"""A file is judged by its content, whatever its name, and is read whole: pictures, animations, many pictures."""

import io
import json
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from clips import LOSSY, counting_frames, encode, error, numbers, smooth_frames
from PIL import Image, PngImagePlugin

from bivdiff.errors import InputError
from bivdiff.media.carried import settings_text
from bivdiff.media.reading import probe, read_clip
from bivdiff.media.writing import Carry, write_gif, write_mp4, write_png_zip

MEDIA = Path(__file__).parent / "media"
COLOURS = [(200, 30, 30), (30, 160, 40), (40, 60, 200), (220, 180, 140)]


def quarters(frame: np.ndarray) -> np.ndarray:
    """The colours in the middle of the four quarters of a picture."""
    height, width = frame.shape[:2]
    return frame[[height // 4, height // 4, -height // 4, -height // 4], [width // 4, -width // 4] * 2].astype(int)


@pytest.mark.parametrize(
    "name", ["blob", "clip", "clip.mpeg4", "clip.3gp", "clip.txt", "clip.png", "Ünïcode 名.M4V", "-y"]
)
def test_a_clip_is_a_clip_by_any_name(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / "made.mp4", counting_frames(8), "10", "-pix_fmt", "yuv420p").rename(tmp_path / name)
    assert numbers(read_clip(path).frames) == list(range(8))


@pytest.mark.parametrize("name", ["photo.jfif", "photo.mp4", "photo"])
def test_a_picture_is_a_picture_by_any_name(tmp_path: Path, name: str) -> None:
    Image.fromarray(smooth_frames(1)[0]).save(tmp_path / name, "JPEG", quality=95)
    assert error(read_clip(tmp_path / name, num_frames=1).frames, smooth_frames(1)) < LOSSY


@pytest.mark.parametrize(("name", "size"), [("photo-in-tiles.avif", (512, 512)), ("photo.heic", (128, 96))])
def test_a_phones_photo_is_read_whole(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    """The AVIF is of 2 by 2 tiles, as every HEIC of a phone is."""
    path = shutil.copy(MEDIA / name, tmp_path / "photo")
    info = probe(path)
    assert (info.width, info.height, info.num_frames) == (*size, 1)
    assert np.abs(quarters(read_clip(path, num_frames=1).frames[0]) - COLOURS).max() <= 6


def test_a_photo_with_a_second_picture_behind_it_is_the_first(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (96, 64), colour) for colour in ((200, 30, 30), (0, 0, 0)))
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second])
    shown = read_clip(tmp_path / "phone.jpg", num_frames=1).frames
    assert shown.shape == (1, 64, 96, 3)
    assert np.abs(shown[0, 32, 48].astype(int) - (200, 30, 30)).max() < 6


@pytest.mark.parametrize("compressed", [False, True])
def test_a_png_with_much_text_is_read(tmp_path: Path, compressed: bool) -> None:
    info = PngImagePlugin.PngInfo()
    for number in range(3):
        info.add_text(f"workflow {number}", "x" * 40 * 2**20, zip=compressed)
    picture = smooth_frames(1)[0]
    Image.fromarray(picture).save(tmp_path / "made.png", pnginfo=info)
    assert np.array_equal(read_clip(tmp_path / "made.png", num_frames=1).frames[0], picture)


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_an_animation_has_all_its_pictures(tmp_path: Path, kind: str) -> None:
    pictures = [Image.fromarray(frame) for frame in counting_frames(12)]
    path = tmp_path / "animation.png"
    pictures[0].save(path, kind, save_all=True, append_images=pictures[1:], duration=40, quality=90)
    info = probe(path)
    assert (info.num_frames, info.fps) == (12, pytest.approx(25))
    assert numbers(read_clip(path, start=0.12, stride=2, num_frames=4).frames) == [3, 5, 7, 9]


# TIFF and BMP


def tiff(path: Path, pictures: list[Image.Image], **options: object) -> Path:
    pictures[0].save(path, "TIFF", save_all=True, append_images=pictures[1:], **options)
    return path


@pytest.mark.parametrize("compression", [None, "packbits", "tiff_lzw", "tiff_adobe_deflate"])
def test_pages_of_one_size_are_a_clip_without_a_rate(tmp_path: Path, compression: str | None) -> None:
    path = tiff(tmp_path / "stack", [Image.fromarray(frame) for frame in counting_frames(9)], compression=compression)
    clip = read_clip(path, num_frames=4, stride=2, start=0.125)
    assert numbers(clip.frames) == [1, 3, 5, 7]
    assert (probe(path).fps, read_clip(path, fps=24).fps) == (8, 24)
    other = tiff(tmp_path / "other.tif", [Image.new("RGB", (8, side), (200, 30, 30)) for side in (8, 4, 2)])
    shown = read_clip(other, num_frames=1)
    assert (shown.frames == (200, 30, 30)).all()
    assert shown.notes == ('"other.tif" has pages of different sizes, which are no clip: the first of them is used.',)


def test_tiffs_and_bmps_are_pictures_in_all_their_depths(tmp_path: Path) -> None:
    picture = smooth_frames(1)[0]
    for name, options in {"a.bmp": {}, "a.tif": {}, "big.tif": {"big_tiff": True}}.items():
        Image.fromarray(picture).save(tmp_path / name, **options)
        assert np.array_equal(read_clip(tmp_path / name, num_frames=1).frames[0], picture)
    grey = np.linspace(0, 65535, 64).astype(np.uint16).reshape(1, 64).repeat(4, axis=0)
    for kind in (np.uint16, ">u2", np.int32):
        Image.fromarray(grey.astype(kind)).save(tmp_path / "grey.tif")
        assert np.array_equal(read_clip(tmp_path / "grey.tif", num_frames=1).frames[0, ..., 1], grey >> 8)
    for kind in ("tif", "bmp"):
        folder = tmp_path / kind
        folder.mkdir()
        for number, frame in enumerate(counting_frames(12)):
            Image.fromarray(frame).save(folder / f"{number}.{kind}")
        assert numbers(read_clip(folder, num_frames=12).frames) == list(range(12))


def strange_tiff(path: Path, kind: str) -> Path:
    picture = Image.new("RGB", (16, 16))
    tags = {"dng": {50706: b"\1\4\0\0"}, "nef": {254: 1}, "tiles": {65000: 2**17, 65001: 2**17}}.get(kind, {})
    if kind == "fractions":
        picture = Image.fromarray(np.zeros((4, 4), np.float32))
    picture.convert("1" if kind == "fax" else picture.mode).save(
        path, "TIFF", tiffinfo=tags, compression="group4" if kind == "fax" else None
    )
    content = bytearray(path.read_bytes())
    if kind == "cr2":
        content[4:8], table = len(content).to_bytes(4, "little"), content[8:]
        content[8:] = b"CR" + content[10:] + table
    elif kind == "tiles":
        for given, meant in ((65000, 322), (65001, 323)):
            content = content.replace(struct.pack("<HH", given, 4), struct.pack("<HH", meant, 4))
    elif kind == "cut":
        del content[len(content) // 2 :]
    elif kind == "many":  # a table that has no end
        content = bytearray(b"II*\0" + (8).to_bytes(4, "little") + b"\xff\xff" + b"\0" * 12 * 0xFFFF)
    elif kind == "no width":
        content = content.replace(struct.pack("<H", 256), struct.pack("<H", 65000))
    elif kind == "numbers":  # of which there are no such many
        place = int.from_bytes(content[4:8], "little")
        content[place + 2 + 4 : place + 2 + 8] = (2**28).to_bytes(4, "little")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("dng", "camera's raw file"), ("nef", "camera's raw file"), ("cr2", "camera's raw file"),
        ("tiles", "megapixels"), ("fractions", "fractions for its levels"), ("fax", "compression 'group4'"),
        ("cut", "could not be decoded"), ("many", "could not be decoded"), ("numbers", "could not be decoded"),
        ("no width", "could not be decoded"),
    ],
)  # fmt: skip
def test_a_tiff_that_is_no_safe_picture_is_refused(tmp_path: Path, kind: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_clip(strange_tiff(tmp_path / f"{kind}.tif", kind), num_frames=1)


# Many pictures


def frames_in(folder: Path, names: list[str], first: int = 0) -> Path:
    folder.mkdir(parents=True)
    for name, frame in zip(names, counting_frames(first + len(names))[first:], strict=True):
        kind = {"jpg": "JPEG", "webp": "WEBP"}.get(name.rpartition(".")[2], "PNG")
        Image.fromarray(frame).save(folder / name, kind)
    return folder


def test_a_folder_is_a_clip_in_natural_order(tmp_path: Path) -> None:
    folder = frames_in(tmp_path / "my frames", [f"Frame {number}.png" for number in range(12)])
    (folder / "notes.txt").write_text("by me")
    (folder / ".DS_Store").write_bytes(b"\0")
    shutil.copy(folder / "Frame 3.png", folder / "._Frame 3.png")
    (folder / "older").mkdir()
    assert probe(folder)[2:] == (8.0, 1.5, 12)
    assert numbers(read_clip(folder, num_frames=12).frames) == list(range(12))
    clip = read_clip(folder, num_frames=3, start=0.25, stride=2, fps=24)
    assert clip.fps == 12
    assert numbers(clip.frames) == [6, 8, 10]


@pytest.mark.parametrize("pattern", ["frame_%05d.png", "frame_%d.png", "frame_*.png", "frame_?????.png", "f*[0-9].png"])
def test_a_pattern_is_a_clip(tmp_path: Path, pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frames_in(tmp_path / "a", [f"frame_{number:05d}.png" for number in range(8, 14)])
    for other in ("mask_00001.png", "frame_00001.jpg", "frame_.txt"):
        Image.fromarray(counting_frames(64)[63]).save(tmp_path / "a" / other, "JPEG" if "jpg" in other else "PNG")
    assert numbers(read_clip(tmp_path / "a" / pattern, num_frames=6).frames) == list(range(6))
    monkeypatch.chdir(tmp_path / "a")
    assert numbers(read_clip(pattern, num_frames=6).frames) == list(range(6))


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
@pytest.mark.parametrize("inside", ["", "frames/"])
def test_a_zip_of_pictures_is_a_clip(tmp_path: Path, kind: str, inside: str) -> None:
    folder = frames_in(tmp_path / "frames", [f"{number}.{kind}" for number in range(11)])
    with zipfile.ZipFile(tmp_path / "frames.zip", "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        archive.comment = b"packed by hand"
        for path in folder.iterdir():
            archive.write(path, inside + path.name)
            archive.writestr(f"__MACOSX/{inside}._{path.name}", path.read_bytes())
        archive.writestr("readme.txt", "mine")
    clip = read_clip(tmp_path / "frames.zip", num_frames=11)
    assert numbers(clip.frames) == list(range(11))
    assert clip.fps == 8


def test_the_zip_that_is_written_here_is_read_here_at_its_rate(tmp_path: Path) -> None:
    carried = io.BytesIO()
    with zipfile.ZipFile(carried, "w") as archive:
        archive.writestr("settings.json", settings_text({"fps": 12.5}))
        archive.writestr("pictures/index.json", json.dumps({"names": ["frames"]}))
        archive.writestr("pictures/frames-00000.png", b"\x89PNG\r\n\x1a\nnot looked at")
    write_png_zip(tmp_path / "out.zip", counting_frames(9), Carry("{}", carried.getvalue()))
    clip = read_clip(tmp_path / "out.zip", num_frames=9)
    assert numbers(clip.frames) == list(range(9))
    assert clip.fps == 12.5
    assert read_clip(tmp_path / "out.zip", fps=30).fps == 30


def bad_zip(path: Path, kind: str) -> Path:
    png, other = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    Image.new("RGB", (8, 9)).save(other, "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        if kind == "no picture":
            archive.writestr("a.txt", "a")
        elif kind == "two folders":
            archive.writestr("images/1.png", png.getvalue())
            archive.writestr("masks/1.png", png.getvalue())
        elif kind == "two sizes":
            archive.writestr("1.png", png.getvalue())
            archive.writestr("2.png", other.getvalue())
        elif kind == "cut":
            archive.writestr("1.png", png.getvalue()[:40])
        elif kind == "bomb":
            bomb = png.getvalue()[:16] + (60000).to_bytes(4, "big") * 2 + png.getvalue()[24:]
            archive.writestr("1.png", bomb)
        elif kind == "many":
            for number in range(2**14 + 1):
                archive.writestr(f"{number}.png", b"")
    if kind == "torn":
        path.write_bytes(path.read_bytes()[:-8] + b"PK")
    return path


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("no picture", "holds no pictures"), ("empty", "holds no pictures"), ("two folders", "in 2 folders"),
        ("two sizes", r'"2.png" in "a.zip" is 8x9, and the first picture is 8x8'), ("cut", "could not be decoded"),
        ("bomb", "could not be decoded|megapixels"), ("many", "holds too much"), ("torn", "is damaged"),
    ],
)  # fmt: skip
def test_a_bad_zip_is_refused_with_a_sentence(tmp_path: Path, kind: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_clip(bad_zip(tmp_path / "a.zip", kind), num_frames=2 if kind == "two sizes" else 1)


def test_a_rate_is_for_pictures_alone(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", counting_frames(8), 8)
    write_gif(tmp_path / "a.gif", counting_frames(8), 10)
    for name in ("a.mp4", "a.gif"):
        with pytest.raises(InputError, match="has a rate of its own"):
            read_clip(tmp_path / name, fps=24)
    for wrong in (0, -1, float("nan"), 1e9):
        with pytest.raises(InputError, match="must be above 0"):
            read_clip(tmp_path / "a.mp4", fps=wrong)
