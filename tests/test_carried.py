"""What files carry: it comes back exactly, the files still play, and what is not as it was written is refused."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from bivdiff.errors import InputError
from bivdiff.media import archives, carried
from bivdiff.media.reading import read_clip
from bivdiff.media.writing import Carry, write_gif, write_mp4, write_png, write_png_zip
from bivdiff.types import Control, GenerationRequest


@pytest.fixture
def request_(task_request, source_frames) -> GenerationRequest:
    """An inpainting request with all kinds of pictures, and words in which something could break."""
    noise = np.random.default_rng(0).integers(0, 256, source_frames.shape, np.uint8)
    controls = (Control(control_type="canny"), Control(control_type="depth", frames=noise, start=0.1, end=0.7))
    prompt = 'красный "куб" = 赤い\n立方体 \\ 🟥; comment=no'
    return task_request(
        "inpaint", "inpainting", prompt=prompt, controls=controls, mixing_ratio=0.1 + 0.2, seed=2**32 - 1
    )


@pytest.fixture
def carry(request_) -> Carry:
    return carried.carry(carried.settings_of(request_, 7.5), carried.pack(request_))


@pytest.fixture
def mp4(tmp_path: Path, source_frames, carry) -> Path:
    path = tmp_path / "clip.mp4"
    write_mp4(path, source_frames, 7.5, carry)
    return path


def assert_same(first: GenerationRequest, second: GenerationRequest) -> None:
    assert first.settings() == second.settings()
    pairs = [(first.frames, second.frames), (first.masks, second.masks)]
    pairs += [(one.frames, other.frames) for one, other in zip(first.controls, second.controls, strict=True)]
    for one, other in pairs:
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)


def with_archive(carry: Carry, changes: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The archive with other files, or without those that are None."""
    with zipfile.ZipFile(io.BytesIO(carry.archive)) as archive:
        files = {entry.filename: archive.read(entry) for entry in archive.infolist()} | changes
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            if data is not None:
                archive.writestr(name, data)
    return buffer.getvalue()


def refused(path: Path, data: bytes, words: str) -> None:
    path.write_bytes(data)
    with pytest.raises(InputError, match=words):
        carried.read(path)


# What comes back


def test_an_mp4_gives_back_the_request_exactly(mp4, request_):
    found = carried.read(mp4)
    assert_same(found.request, request_)
    assert found.settings == carried.settings_of(request_, 7.5)


def test_an_mp4_that_carries_still_plays_and_is_read(tmp_path, mp4, source_frames):
    write_mp4(tmp_path / "plain.mp4", source_frames, 7.5)
    kept, plain = read_clip(mp4, num_frames=4), read_clip(tmp_path / "plain.mp4", num_frames=4)
    np.testing.assert_array_equal(kept.frames, plain.frames)
    assert kept.fps == plain.fps == 7.5
    # Any complaint of a decoder that checks everything would be printed.
    strict = [get_ffmpeg_exe(), "-v", "warning", "-err_detect", "explode", "-i", mp4, "-f", "null", "-"]
    done = subprocess.run(strict, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_same_run_gives_the_same_bytes(tmp_path, mp4, source_frames, carry):
    write_mp4(tmp_path / "again.mp4", source_frames, 7.5, carry)
    assert (tmp_path / "again.mp4").read_bytes() == mp4.read_bytes()


def test_settings_survive_a_program_that_copies_the_streams_only(tmp_path, mp4, request_):
    copy = tmp_path / "copy.mp4"
    command = [get_ffmpeg_exe(), "-v", "error", "-i", mp4, "-c", "copy", "-bitexact", copy]
    subprocess.run(command, check=True)
    found = carried.read(copy)
    assert found.settings == carried.settings_of(request_, 7.5)
    assert found.request is None


def test_a_png_and_a_zip_give_back_the_request_exactly(tmp_path, source_frames, carry, request_):
    write_png(tmp_path / "picture.png", source_frames[0], carry)
    write_png_zip(tmp_path / "frames.zip", source_frames, carry)
    for name in ("picture.png", "frames.zip"):
        assert_same(carried.read(tmp_path / name).request, request_)
    np.testing.assert_array_equal(read_clip(tmp_path / "picture.png", num_frames=1).frames[0], source_frames[0])


def test_each_picture_of_a_zip_carries_the_settings_alone(tmp_path, source_frames, carry, request_):
    write_png_zip(tmp_path / "frames.zip", source_frames, carry)
    with zipfile.ZipFile(tmp_path / "frames.zip") as archive:
        archive.extract("frame_00002.png", tmp_path)
    found = carried.read(tmp_path / "frame_00002.png")
    assert found.settings == carried.settings_of(request_, 7.5)
    assert found.request is None


def test_a_gif_carries_the_settings_and_still_plays(tmp_path, source_frames, carry, request_):
    write_gif(tmp_path / "clip.gif", source_frames, 7.5, carry)
    assert carried.read(tmp_path / "clip.gif").settings == carried.settings_of(request_, 7.5)
    assert read_clip(tmp_path / "clip.gif", num_frames=4).frames.shape == source_frames.shape
    with Image.open(tmp_path / "clip.gif") as picture:
        assert picture.n_frames == 4


def test_a_comparison_travels_with_its_values(tmp_path, source_frames, request_):
    settings = carried.settings_of(request_, 8, {"mixing_ratio": (0, 0.5, 1.0), "mixing_rule": ("linear",)})
    write_png(tmp_path / "sheet.png", source_frames[0], carried.carry(settings))
    found = carried.read(tmp_path / "sheet.png").settings
    assert found["axes"] == {"mixing_ratio": [0, 0.5, 1.0], "mixing_rule": ["linear"]}


def test_names_of_models_come_back_as_they_are(tmp_path, source_frames, request_):
    foreign = replace(request_, base_model="/elsewhere/base.safetensors", loras="style:0.8", embeddings="a,b")
    write_png(tmp_path / "picture.png", source_frames[0], carried.carry(carried.settings_of(foreign, 8)))
    found = carried.read(tmp_path / "picture.png").settings
    assert [found[name] for name in ("base_model", "loras", "embeddings")] == [
        "/elsewhere/base.safetensors", "style:0.8", "a,b",
    ]  # fmt: skip


def test_pictures_that_are_too_large_stay_at_home(tmp_path, monkeypatch, source_frames, request_):
    pictures = carried.pack(request_)
    monkeypatch.setattr(carried, "MAX_BYTES", len(pictures))
    light = carried.carry(carried.settings_of(request_, 8), pictures)
    assert len(light.archive) < 10_000
    write_mp4(tmp_path / "clip.mp4", source_frames, 8, light)
    found = carried.read(tmp_path / "clip.mp4")
    assert found.request is None
    assert found.settings["prompt"] == request_.prompt


def test_pictures_of_too_many_pixels_stay_at_home_too(monkeypatch, request_):
    monkeypatch.setattr(carried, "MAX_PIXELS", 3 * 4 * 64 * 64 - 1)
    light = carried.carry(carried.settings_of(request_, 8), carried.pack(request_))
    assert zipfile.ZipFile(io.BytesIO(light.archive)).namelist() == ["settings.json"]


# What is refused


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\0\0\0\x08ftyp", b"\x89PNG\r\n\x1a\n", b"GIF89a;", b"a text", b"\x80\x04\x95pickle"]
)
def test_a_file_without_settings_says_so(tmp_path, data):
    refused(tmp_path / "file", data, "carries no settings")


def test_plain_clips_and_pictures_of_ours_say_so_too(tmp_path, source_frames):
    write_mp4(tmp_path / "clip.mp4", source_frames, 8)
    write_png_zip(tmp_path / "frames.zip", source_frames)
    write_gif(tmp_path / "clip.gif", source_frames, 8)
    write_png(tmp_path / "picture.png", source_frames[0])
    for path in tmp_path.iterdir():
        with pytest.raises(InputError, match="carries no settings"):
            carried.read(path)


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.mp4", tmp_path):
        with pytest.raises(InputError, match="could not be opened"):
            carried.read(path)


def test_an_mp4_that_was_cut_short_within_the_archive_is_refused(tmp_path, mp4):
    refused(tmp_path / "cut.mp4", mp4.read_bytes()[:-100], "damaged")


@pytest.mark.parametrize("size", [0, 1, 7, 8, 2**31, 2**63, 2**64 - 1])
@pytest.mark.parametrize("kind", [b"free", b"moov", b"uuid"])
def test_a_box_that_lies_about_its_size_leads_nowhere(tmp_path, size, kind):
    start = b"\0\0\0\x10ftypisom\0\0\0\0"
    short = [(size).to_bytes(4, "big") + kind] if size < 2**32 else []
    for box in (*short, b"\0\0\0\1" + kind + size.to_bytes(8, "big")):
        refused(tmp_path / "odd.mp4", start + box + box + b"\0" * 40, "carries no settings")


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_archive_gives_a_sentence_or_the_truth(tmp_path, mp4, request_, seed):
    data, random = bytearray(mp4.read_bytes()), np.random.default_rng(seed)
    start = data.find(b"uuid") + 20
    for place in random.integers(start, len(data), 5):
        data[place] ^= 1 << int(random.integers(8))
    (tmp_path / "bad.mp4").write_bytes(data)
    try:
        found = carried.read(tmp_path / "bad.mp4")
    except InputError:
        return
    # The bits that changed were of no meaning: a date, a flag.
    assert_same(found.request, request_)


def test_a_png_whose_check_sum_is_wrong_is_refused(tmp_path, source_frames, carry):
    write_png(tmp_path / "picture.png", source_frames[0], Carry(carry.text))
    data = (tmp_path / "picture.png").read_bytes()
    refused(tmp_path / "picture.png", data.replace(b'"fps": 7.5', b'"fps": 9.5'), "damaged")


def never(*_: object, **__: object) -> None:
    raise AssertionError("this should not have been reached")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch, carry):
    bomb = with_archive(carry, {"settings.json": b" " * 2**25}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**18
    monkeypatch.setattr(zipfile.ZipExtFile, "read", never)
    refused(tmp_path / "bomb.zip", bomb, "damaged")


def test_a_picture_larger_than_it_should_be_is_not_decoded(tmp_path, monkeypatch, carry):
    buffer = io.BytesIO()
    Image.new("RGB", (2500, 2500)).save(buffer, "PNG")
    bomb = with_archive(carry, {"pictures/frames-00000.png": buffer.getvalue()}, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(Image, "open", never)
    refused(tmp_path / "bomb.zip", bomb, "damaged")


def test_a_table_of_contents_that_is_too_long_is_not_read(tmp_path, monkeypatch, carry):
    monkeypatch.setattr(archives, "MAX_ENTRIES", 5)
    refused(tmp_path / "many.zip", carry.archive, "damaged")


def test_more_pixels_than_are_read_are_named(tmp_path, carry):
    index = json.dumps({"names": ["frames"], "count": 512, "width": 4096, "height": 4096}).encode()
    refused(tmp_path / "large.zip", with_archive(carry, {"pictures/index.json": index}), "8590 megapixels")


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["masks"]}, {"names": ["frames", "frames"]}, {"names": ["frames", "../x"]}, {"names": "frames"},
        {"names": [["frames"]]}, {"count": 5}, {"count": -1}, {"count": True}, {"count": 4.0}, {"width": 56},
        {"names": ["frames", "control-3"]},
    ],
)  # fmt: skip
def test_an_index_that_does_not_fit_is_refused(tmp_path, carry, change):
    index = {"names": ["frames", "masks", "control-2"], "count": 4, "width": 64, "height": 64, **change}
    refused(tmp_path / "bad.zip", with_archive(carry, {"pictures/index.json": json.dumps(index).encode()}), ".")


def test_a_mask_that_was_taken_out_is_missed(tmp_path, carry):
    refused(tmp_path / "bad.zip", with_archive(carry, {"pictures/masks-00000.png": None}), "damaged")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mixing_ratio": 7}, "mixing_ratio"),
        ({"mixing_ratio": float("nan")}, "mixing_ratio"),
        ({"seed": "1; DROP TABLE runs"}, "seed"),
        ({"prompt": None}, "prompt"),
        ({"prompt": "x" * 5000}, "characters"),
        ({"task": ["control"]}, "task"),
        ({"preserve_known": "yes"}, "preserve_known"),
        ({"mixing_rule": {}}, "mixing_rule"),
        ({"controls": {}}, "damaged"),
        ({"controls": [{}] * 17}, "damaged"),
        ({"controls": ["canny"]}, "control"),
        ({"controls": [{"frames": 1}]}, "newer|Update"),
        ({"fps": 0}, "damaged"),
        ({"fps": True}, "damaged"),
        ({"axes": {"seed": [[1]]}}, "damaged"),
        ({"sharpness_of_tomorrow": 1}, "sharpness_of_tomorrow.*Update"),
    ],
)
def test_settings_that_no_request_accepts_are_refused(tmp_path, source_frames, request_, change, words):
    settings = {**carried.settings_of(request_, 8), **change}
    write_png(tmp_path / "picture.png", source_frames[0], carried.carry(settings))
    with pytest.raises(InputError, match=words):
        carried.read(tmp_path / "picture.png")


def test_settings_that_an_older_version_did_not_have_keep_their_default(tmp_path, source_frames, request_):
    settings = carried.settings_of(request_, 8)
    del settings["feather"], settings["loras"]
    write_png(tmp_path / "picture.png", source_frames[0], carried.carry(settings))
    assert carried.read(tmp_path / "picture.png").settings["feather"] == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[" * 100_000, "damaged"),
        (b'{"bivdiff": 2, "settings": {}}', "newer version"),
        (b'{"bivdiff": true, "settings": {}}', "damaged"),
        (b'{"bivdiff": 1, "settings": []}', "damaged"),
        (b'{"bivdiff": 1}', "damaged"),
        (b"\xff\xfe", "damaged"),
    ],
)
def test_settings_that_are_not_ours_are_refused(tmp_path, carry, text, words):
    refused(tmp_path / "bad.zip", with_archive(carry, {"settings.json": text}), words)


def test_whole_numbers_that_came_as_fractions_are_whole_again(request_, source_frames):
    settings = {**request_.settings(), "num_inference_steps": 3.0, "seed": 5.0, "controls": []}
    made = GenerationRequest.from_settings(settings, source_frames)
    assert (made.num_inference_steps, type(made.num_inference_steps), made.seed) == (3, int, 5)
