"""Reading and writing media files: real files of every kind, good and bad, made here with ffmpeg and Pillow.

The clips count: frame k shows k in binary, as bars, so that a test reads off which frames it was given.
"""

import hashlib
import io
import math
import os
import shutil
import signal
import subprocess
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import BITS, HEIGHT, LOSSY, WIDTH, counting_frames, encode, error, ffmpeg, numbers, smooth_frames
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from bivdiff.errors import InputError
from bivdiff.media import effort, streams
from bivdiff.media import ffmpeg as media_ffmpeg
from bivdiff.media.reading import probe, read_clip, read_sound
from bivdiff.media.source import Limits
from bivdiff.media.writing import write_gif, write_mp4, write_png_zip
from bivdiff.pixels.fitting import FITS, fit_frames

PALETTE = 12.0
"""The same for 256 colours with ordered dither."""


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 counting frames at 10 fps in an mp4 with B-frames."""
    path = tmp_path_factory.mktemp("clips") / "counting.mp4"
    return encode(path, counting_frames(40), "10", "-pix_fmt", "yuv420p")


# Good clips

CONTAINERS = {
    "mp4": ["-pix_fmt", "yuv420p", "-g", "12"],
    "mov": ["-c:v", "mjpeg", "-q:v", "2"],
    "mkv": ["-pix_fmt", "yuv420p", "-bf", "3"],
    "webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M"],
    "avi": ["-c:v", "mpeg4", "-q:v", "2"],
    "gif": [],
    "ts": ["-q:v", "2", "-bf", "2"],
    "m2ts": ["-q:v", "2", "-mpegts_m2ts_mode", "1"],
    "mpg": ["-f", "dvd", "-q:v", "2", "-bf", "2"],
    "flv": ["-q:v", "2"],
    "ogv": ["-c:v", "libtheora", "-q:v", "8"],
    "wmv": ["-q:v", "2"],
    "apng": [],
}


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi", "ts", "flv"])
def test_what_lies_between_frames_that_are_far_apart_is_not_decoded(tmp_path, monkeypatch, kind):
    usual = ["-bf", "2", "-pix_fmt", "yuv420p"] if kind in ("mp4", "mkv") else ["-q:v", "2"]
    often, rare = [*usual, "-g", "4"], [*usual, "-g", "600", "-sc_threshold", "0" if "-bf" in usual else "1000000000"]
    begun, start = [], media_ffmpeg.streaming
    for options, parts in ((often, 3), (rare, 1)):
        path = encode(tmp_path / f"long{parts}.{kind}", counting_frames(60), "1/2", *options)
        with monkeypatch.context() as patch:
            patch.setattr(streams, "WORTH_A_JUMP", math.inf)
            whole = numbers(read_clip(path, start=4, num_frames=41).frames)
        with monkeypatch.context() as patch:
            patch.setattr(media_ffmpeg, "streaming", lambda command: begun.append(command) or start(command))
            assert numbers(read_clip(path, start=4, stride=20, num_frames=3).frames) == whole[::20]
            assert len(begun) == parts
            assert numbers(read_clip(path, start=4, num_frames=8).frames) == whole[:8]
            assert len(begun) == parts + 1
        begun.clear()


def test_what_decoding_may_take_is_bounded_in_all_and_told(tmp_path, counting):
    moving = tmp_path / "moving.webp"
    first, *others = map(Image.fromarray, counting_frames(40))
    first.save(moving, save_all=True, append_images=others, duration=100, lossless=True)
    for path in (counting, moving):
        read_clip(path, stride=5)
        with effort.bounded(1e-6), pytest.raises(InputError, match=r"more than the .* seconds .* Take fewer frames"):
            read_clip(path, stride=5)
    with effort.bounded(100), effort.bounded(1e-6):  # the one that holds already stays
        read_clip(counting)
        assert 90 < effort.left() < 100
        effort.took(effort.left() - 2.5)
        command = media_ffmpeg.reading_command(counting, "mov", 10**6)
        assert command[command.index("-timelimit") + 1] == "3"
    assert effort.left() == math.inf


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("fps", ["25", "30000/1001"])
def test_every_container_gives_the_frames_asked_for(tmp_path: Path, kind: str, fps: str) -> None:
    path = encode(tmp_path / f"clip.{kind}", counting_frames(24), fps, *CONTAINERS[kind])
    info = probe(path)
    rate = float(Fraction(fps))
    # A GIF counts hundredths of a second.
    assert info.fps == pytest.approx(rate, rel=0.01 if kind == "gif" else 1e-4)
    assert (info.width, info.height, info.num_frames) == (WIDTH, HEIGHT, 24)
    assert info.duration == pytest.approx(24 / info.fps)
    assert numbers(read_clip(path, num_frames=24).frames) == list(range(24))
    clip = read_clip(path, start=5 / info.fps, stride=3, num_frames=6)
    assert numbers(clip.frames) == [5, 8, 11, 14, 17, 20]
    assert clip.fps == pytest.approx(info.fps / 3)


@pytest.mark.parametrize("start", [0.0, 0.05, 0.1, 0.3, 0.7, 0.99, 2.0, 3.2])
def test_the_frame_on_screen_at_the_start_comes_first(counting: Path, start: float) -> None:
    assert numbers(read_clip(counting, start=start, num_frames=8).frames)[0] == int(start * 10 + 1e-6)


def test_the_last_frames_can_be_read(counting: Path) -> None:
    assert numbers(read_clip(counting, start=3.9, num_frames=1).frames) == [39]
    assert numbers(read_clip(counting, stride=13, num_frames=4).frames) == [0, 13, 26, 39]


def test_a_size_is_met_while_reading(counting: Path) -> None:
    clip = read_clip(counting, num_frames=3, size=(120, 80))
    assert clip.frames.shape == (3, 80, 120, 3)
    assert numbers(clip.frames) == [0, 1, 2]


def test_an_hour_is_read_from_near_its_end(tmp_path: Path) -> None:
    frames = counting_frames(60)
    path = encode(tmp_path / "hour.mp4", frames, "1/60", "-pix_fmt", "yuv420p")
    assert probe(path).duration == pytest.approx(3600)
    assert numbers(read_clip(path, start=3400, num_frames=3).frames) == [56, 57, 58]
    with pytest.raises(InputError, match="3540 seconds, more than the 1800 seconds"):
        probe(path, limits=Limits(seconds=1800))


def test_rotation_is_applied(tmp_path: Path) -> None:
    frames = np.zeros((4, HEIGHT, WIDTH, 3), np.uint8)
    frames[:, : HEIGHT // 2] = (255, 0, 0)
    upright = encode(tmp_path / "upright.mp4", frames, "10", "-pix_fmt", "yuv420p")
    rotated = tmp_path / "rotated.mp4"
    ffmpeg("-display_rotation", "90", "-i", upright, "-c", "copy", rotated)
    info = probe(rotated)
    assert (info.width, info.height) == (HEIGHT, WIDTH)
    shown = read_clip(rotated, num_frames=4).frames
    assert shown.shape == (4, WIDTH, HEIGHT, 3)
    # A quarter turn against the clock brings the red upper half to the left.
    assert shown[:, :, :24, 0].mean() > 220
    assert shown[:, :, -24:].mean() < 20


def test_pixels_are_made_square(tmp_path: Path) -> None:
    path = encode(tmp_path / "anamorphic.mp4", counting_frames(3), "10", "-vf", "setsar=2", "-pix_fmt", "yuv420p")
    info = probe(path)
    assert (info.width, info.height) == (2 * WIDTH, HEIGHT)
    assert numbers(read_clip(path, num_frames=3).frames) == [0, 1, 2]


def test_a_variable_rate_becomes_the_mean_rate(tmp_path: Path) -> None:
    # Frames 0 to 9 last 0.1 s each, frames 10 to 19 last 0.3 s each.
    timing = "settb=1/1000,setpts='if(lt(N,10),N*100,1000+(N-10)*300)'"
    options = ["-vf", timing, "-fps_mode", "passthrough", "-enc_time_base", "1/1000", "-pix_fmt", "yuv420p"]
    path = encode(tmp_path / "variable.mkv", counting_frames(20), "10", *options)
    info = probe(path)
    assert info.num_frames == 20
    assert info.fps == pytest.approx(19 / 3.7)
    shown = numbers(read_clip(path, num_frames=20).frames)
    # The frame shown at k / fps, give or take the half frame that rounding to the even pace may cost.
    times = np.where(np.arange(20) < 10, np.arange(20) * 0.1, 1.0 + (np.arange(20) - 10) * 0.3)
    assert shown == sorted(shown)
    assert np.abs(times[shown] - np.arange(20) / info.fps).max() <= 0.3
    assert (shown[0], shown[-1]) == (0, 19)
    assert numbers(read_clip(path, start=1.3, num_frames=1).frames) == [11]


def test_a_recording_without_duration_or_rate(tmp_path: Path) -> None:
    """What a browser's MediaRecorder makes: a live webm, whose header tells neither."""
    options = ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M", "-live", "1"]
    path = encode(tmp_path / "recording.webm", counting_frames(30), "30", *options)
    info = probe(path)
    assert (info.num_frames, info.fps) == (30, 30)
    assert numbers(read_clip(path, start=0.5, num_frames=5).frames) == [15, 16, 17, 18, 19]


def test_sound_longer_than_the_picture_does_not_count(tmp_path: Path, counting: Path) -> None:
    path = tmp_path / "sound.mp4"
    ffmpeg("-i", counting, "-f", "lavfi", "-i", "sine=d=9", "-c:v", "copy", path)
    info = probe(path)
    assert (info.num_frames, info.duration) == (40, pytest.approx(4.0))
    assert numbers(read_clip(path, start=2.0, num_frames=2).frames) == [20, 21]


def test_a_clip_that_a_phone_has_trimmed(tmp_path: Path, counting: Path) -> None:
    """Its file still holds the frames before the cut, for decoding, and an edit list that hides them."""
    path = tmp_path / "trimmed.mp4"
    ffmpeg("-ss", "1.25", "-i", counting, "-c", "copy", path)
    info = probe(path)
    assert (info.num_frames, info.fps) == (27, 10)
    assert numbers(read_clip(path, num_frames=27).frames) == list(range(13, 40))
    assert numbers(read_clip(path, start=0.5, num_frames=3).frames) == [18, 19, 20]


@pytest.mark.parametrize("kind", ["ts", "flv"])
def test_a_late_start_where_there_is_no_index(tmp_path: Path, kind: str) -> None:
    """One key frame in 25 s, so that a jump to the next one would miss the frame asked for."""
    numbered = counting_frames(600)
    options = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast"]
    path = encode(tmp_path / f"long.{kind}", numbered, "10", *options)
    assert numbers(read_clip(path, start=40, num_frames=3, stride=2).frames) == [400 % 64, 402 % 64, 404 % 64]


def test_ten_bits(tmp_path: Path) -> None:
    frames = smooth_frames()
    options = ["-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-crf", "10", "-x265-params", "log-level=none"]
    path = encode(tmp_path / "deep.mkv", frames, "10", *options)
    assert error(read_clip(path, num_frames=8).frames, frames) < LOSSY


def test_odd_and_tiny_sizes(tmp_path: Path) -> None:
    frames = counting_frames(3, 97, 63)
    path = encode(tmp_path / "odd.mkv", frames, "10", "-c:v", "ffv1")
    assert np.array_equal(read_clip(path, num_frames=3).frames, frames)
    dots = np.arange(6, dtype=np.uint8).reshape(2, 1, 1, 3) * 40
    path = encode(tmp_path / "dots.mkv", dots, "10", "-c:v", "ffv1")
    assert np.array_equal(read_clip(path, num_frames=2).frames, dots)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    pictures = []
    for left in (0, 16):
        picture = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
        picture.paste((0, 0, 255, 255), (left, 0, left + 16, 32))
        pictures.append(picture)
    path = tmp_path / "clear.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, disposal=2)
    clip = read_clip(path, num_frames=2)
    assert clip.fps == 10
    for frame, left in zip(clip.frames, (0, 16), strict=True):
        assert (frame[:, left : left + 16] == (0, 0, 255)).all()
        assert (frame[:, 16 - left : 32 - left] == 255).all()
    half = tmp_path / "half.png"
    Image.new("RGBA", (8, 8), (200, 0, 0, 128)).save(half)
    assert (read_clip(half, num_frames=1).frames == (227, 127, 127)).all()


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_picture_is_a_clip_of_one_frame(tmp_path: Path, kind: str) -> None:
    frames = smooth_frames(1)
    path = tmp_path / f"picture.{kind}"
    Image.fromarray(frames[0]).save(path, quality=95)
    assert probe(path) == (WIDTH, HEIGHT, 1.0, 1.0, 1)
    assert error(read_clip(path, num_frames=1).frames, frames) < LOSSY
    with pytest.raises(InputError, match="has 1 frame from 0 s on, but 8 frames"):
        read_clip(path)


def test_an_upright_photo(tmp_path: Path) -> None:
    photo = np.zeros((40, 60, 3), np.uint8)
    photo[:20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "photo.jpg"
    Image.fromarray(photo).save(path, exif=exif)
    frame = read_clip(path, num_frames=1).frames[0]
    assert frame.shape == (60, 40, 3)
    assert frame[:, 24:].mean() > 250
    assert frame[:, :16].mean() < 5


def test_sixteen_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 64).astype(np.uint16).reshape(1, 64).repeat(4, axis=0)
    path = tmp_path / "grey.png"
    Image.fromarray(grey).save(path)
    assert np.array_equal(read_clip(path, num_frames=1).frames[0, :, :, 1], (grey >> 8).astype(np.uint8))


# Bad files


def make_bad(kind: str, folder: Path, counting: Path) -> Path:
    """Write one of the files that nobody should be able to hurt the program with."""
    path = folder / f"{kind}.mp4"
    texts = {
        "text": "dear diary\n" * 50,
        "playlist": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{counting}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{counting}'\n",
        "dash": f"<?xml version='1.0'?><MPD><BaseURL>{counting}</BaseURL></MPD>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "empty": "",
        "noise": "\x00\x01" * 4000,
    }
    if kind in texts:
        path.write_text(texts[kind])
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "sound":
        ffmpeg("-f", "lavfi", "-i", "sine=d=1", path)
    elif kind == "headless":
        # An mp4 keeps its index at the end; without it nothing can be found.
        path.write_bytes(counting.read_bytes()[:1500])
    elif kind == "cut":
        path.write_bytes(counting.read_bytes()[:-1050])  # before its index says of what kind the frames are
    elif kind == "magic":
        path.write_bytes(b"\x00\x00\x00\x20ftypisom" + b"#EXTM3U\nhttp://127.0.0.1/\n" * 99)
    elif kind == "zero":
        ffmpeg("-i", counting, "-vf", "select=0", path)
    elif kind == "png":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"nothing")
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("text", "playlists and text are refused"),
        ("playlist", "playlists and text are refused"),
        ("concat", "playlists and text are refused"),
        ("dash", "playlists and text are refused"),
        ("sdp", "playlists and text are refused"),
        ("noise", "is not a video or a picture"),
        ("empty", "is empty"),
        ("folder", "holds no pictures"),
        ("pipe", "is not a regular file"),
        ("missing", "is not there"),
        ("sound", "only sound"),
        ("headless", "could not be decoded"),
        ("cut", "could not be decoded"),
        ("magic", "could not be decoded"),
        ("zero", "could not be decoded|no picture"),
        ("png", "could not be decoded"),
    ],
)
def test_a_bad_file_is_refused_with_a_sentence(tmp_path: Path, counting: Path, kind: str, reason: str) -> None:
    path = make_bad(kind, tmp_path, counting)
    for use in (probe, read_clip):
        with pytest.raises(InputError, match=reason) as caught:
            use(path)
        assert f'"{kind}.mp4"' in str(caught.value)
        assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("kind", ["text", "playlist", "concat", "dash", "sdp"])
def test_ffmpeg_never_sees_a_disguised_text(
    tmp_path: Path, counting: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_bad(kind, tmp_path, counting)
    monkeypatch.setattr("bivdiff.media.ffmpeg.subprocess", None)
    with pytest.raises(InputError, match="playlists and text are refused"):
        read_clip(path)


def test_a_name_is_only_a_name(tmp_path: Path, counting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a protocol nor an option nor a pattern of other files."""
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a.mp4", "-y", "frame%03d.png", "*.png", "a b'c.mp4", "クリップ.mp4"):
        shutil.copy(counting, tmp_path / name)
        assert numbers(read_clip(name, start=1.2, num_frames=2).frames) == [12, 13]


def test_a_clip_cut_short_gives_what_is_there(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mkv", counting_frames(40), "10", "-c:v", "mjpeg", "-q:v", "2")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    count = probe(cut).num_frames
    assert 5 < count < 35
    assert numbers(read_clip(cut, num_frames=count - 1).frames) == list(range(count - 1))
    with pytest.raises(InputError, match=rf"has {count} frames from 0 s on, but 40 frames .* need 40"):
        read_clip(cut, num_frames=40)


def test_a_damaged_middle_ends_in_frames_or_a_sentence(tmp_path: Path, counting: Path) -> None:
    data = bytearray(counting.read_bytes())
    data[200 : len(data) // 2] = bytes(len(data) // 2 - 200)
    path = tmp_path / "hole.mp4"
    path.write_bytes(data)
    try:
        assert len(read_clip(path, num_frames=40).frames) == 40
    except InputError as refusal:
        assert "hole.mp4" in str(refusal)  # noqa: PT017


def test_too_short_says_how_many_there_are(counting: Path) -> None:
    with pytest.raises(InputError, match=r"has 40 frames from 0 s on, but 8 frames at a stride of 6 need 43.*most 7 "):
        read_clip(counting, stride=6)
    with pytest.raises(InputError, match=r"has 3 frames from 3.7 s on"):
        read_clip(counting, start=3.7)
    assert numbers(read_clip(counting, stride=6, num_frames=7).frames) == [0, 6, 12, 18, 24, 30, 36]


@pytest.mark.parametrize(
    "arguments",
    [
        {"start": float("nan")},
        {"start": -1},
        {"start": float("inf")},
        {"start": "1"},
        {"start": 4.0},
        {"stride": 0},
        {"stride": 1.5},
        {"stride": float("nan")},
        {"num_frames": 0},
        {"num_frames": 10**9},
        {"size": (0, 64)},
        {"size": (64, 10**6)},
        {"size": (64, 64), "fit": "stretch"},
    ],
)
def test_arguments_out_of_range(counting: Path, arguments: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"must be|past the end"):
        read_clip(counting, **arguments)


def test_a_clip_may_have_as_many_frames_as_its_source(tmp_path: Path) -> None:
    path = encode(tmp_path / "long.mp4", counting_frames(600), "10", "-c:v", "libx264", "-crf", "0")
    assert numbers(read_clip(path, num_frames=600).frames) == [number % 2**BITS for number in range(600)]


def test_limits_are_named(tmp_path: Path, counting: Path) -> None:
    with pytest.raises(InputError, match="at most 0 MiB are accepted"):
        probe(counting, limits=Limits(file_bytes=100))
    with pytest.raises(InputError, match="more than the 39 frames"):
        probe(counting, limits=Limits(source_frames=39))
    with pytest.raises(InputError, match="megapixels"):
        probe(counting, limits=Limits(pixels=WIDTH * HEIGHT - 1))
    with pytest.raises(InputError, match="Choose fewer frames or a smaller size"):
        read_clip(counting, limits=Limits(clip_pixels=8 * WIDTH * HEIGHT - 1))
    picture = tmp_path / "picture.png"
    Image.new("RGB", (20, 20)).save(picture)
    with pytest.raises(InputError, match="megapixels"):
        probe(picture, limits=Limits(pixels=399))


def test_8k_is_read_and_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "8k.mkv"
    ffmpeg("-f", "lavfi", "-i", "color=c=red:s=7680x4320:d=0.1:r=10", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", path)
    frames = read_clip(path, num_frames=1, size=(64, 36)).frames
    assert error(frames, np.broadcast_to(np.uint8([255, 0, 0]), frames.shape)) < LOSSY
    poster = tmp_path / "poster.png"
    Image.new("1", (12000, 7000)).save(poster)
    with pytest.raises(InputError, match=r"more than the 37\.7 megapixels"):
        read_clip(poster, num_frames=1)


def test_no_process_and_no_frame_is_left_behind(counting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    monkeypatch.setattr("bivdiff.media.reading.fit_frames", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        read_clip(counting, num_frames=24, size=(8, 8))
    assert len(started) == 2  # for packets and first frames, and for all frames
    assert all(process.returncode is not None for process in started)


# Fitting


def test_crop_cuts_both_sides_evenly() -> None:
    frames = np.zeros((2, 40, 120, 3), np.uint8)
    frames[:, :, 40:80] = (10, 200, 30)
    cropped = fit_frames(frames, (80, 80), "crop")
    # Lanczos looks three pixels beyond the cut.
    assert (cropped[:, :, 6:-6] == (10, 200, 30)).all()
    assert np.array_equal(cropped, cropped[:, :, ::-1])
    tall = fit_frames(frames.transpose(0, 2, 1, 3), (40, 40), "crop")
    assert (tall == (10, 200, 30)).all()


def test_pad_keeps_everything_between_black_bars() -> None:
    frames = np.full((2, 40, 120, 3), 200, np.uint8)
    padded = fit_frames(frames, (60, 60), "pad")
    assert (padded[:, 20:40] == 200).all()
    assert (padded[:, :20] == 0).all()
    assert (padded[:, 40:] == 0).all()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(96, 64), (33, 17), (1, 1), (200, 3), (3, 200)])
def test_fit_meets_any_size(fit: str, size: tuple[int, int]) -> None:
    frames = smooth_frames(2)
    fitted = fit_frames(frames, size, fit)
    assert fitted.shape == (2, size[1], size[0], 3)
    assert fitted.dtype == np.uint8
    if size == (96, 64):
        assert fitted is frames


def test_fit_resamples_well() -> None:
    """Down and up again loses little of a smooth picture; fine stripes turn into grey, not into false stripes."""
    frames = smooth_frames(1)
    assert error(fit_frames(fit_frames(frames, (48, 32), "crop"), (96, 64), "crop"), frames) < 1.5
    stripes = np.zeros((1, 64, 96, 3), np.uint8)
    stripes[:, :, ::2] = 255
    assert np.abs(fit_frames(stripes, (30, 20), "crop")[:, 2:-2, 2:-2].astype(int) - 128).max() < 16


# Writing


@pytest.mark.parametrize("size", [(96, 64), (97, 64), (96, 63), (97, 63), (1, 1)])
def test_mp4_round_trip(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = smooth_frames(8, *size)
    path = tmp_path / "clip.mp4"
    write_mp4(path, frames, 12)
    clip = read_clip(path, num_frames=8)
    assert clip.fps == 12
    assert clip.frames.shape == (8, size[1] + size[1] % 2, size[0] + size[0] % 2, 3)
    assert error(clip.frames[:, : size[1], : size[0]], frames) < LOSSY
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]


def test_mp4_is_what_browsers_play(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_mp4(path, smooth_frames(), 30000 / 1001)
    report = subprocess.run([get_ffmpeg_exe(), "-i", path], capture_output=True, text=True, check=False).stderr
    assert "Video: h264 (High)" in report
    assert "yuv420p(tv, bt709" in report
    assert "29.97 fps" in report
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert probe(path).fps == pytest.approx(30000 / 1001)


def test_primary_colours_survive_mp4(tmp_path: Path) -> None:
    colours = np.uint8([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [128, 64, 200]])
    frames = np.broadcast_to(colours[:, None, None], (6, 32, 32, 3))
    path = tmp_path / "clip.mp4"
    write_mp4(path, frames, 6)
    back = read_clip(path, num_frames=6).frames
    assert np.abs(back.astype(int) - frames).max() <= 6


def test_gif_round_trip(tmp_path: Path) -> None:
    frames = smooth_frames()
    path = tmp_path / "clip.gif"
    write_gif(path, frames, 10)
    clip = read_clip(path, num_frames=8)
    assert clip.fps == 10
    assert error(clip.frames, frames) < PALETTE
    assert b"NETSCAPE2.0" in path.read_bytes()


@pytest.mark.parametrize("fps", [8, 12.5, 24, 30, 50])
def test_gif_keeps_every_frame_and_the_mean_rate(tmp_path: Path, fps: float) -> None:
    path = tmp_path / "clip.gif"
    frames = counting_frames(20)
    frames[5:8] = frames[5]
    write_gif(path, frames, fps)
    with Image.open(path) as picture:
        total = sum((picture.seek(index), picture.info["duration"])[1] for index in range(picture.n_frames))
    assert total / 1000 == pytest.approx(20 / fps, abs=0.02)
    assert numbers(read_clip(path, start=10 / fps, num_frames=1).frames) == [10]


def test_png_zip_is_exact(tmp_path: Path) -> None:
    frames = smooth_frames(3, 97, 63)
    path = tmp_path / "clip.zip"
    write_png_zip(path, frames)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["frame_00000.png", "frame_00001.png", "frame_00002.png"]
        back = [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()]
    assert np.array_equal(np.stack(back), frames)


WRITERS = {
    "mp4": lambda path, frames: write_mp4(path, frames, 10),
    "gif": lambda path, frames: write_gif(path, frames, 10),
    "zip": write_png_zip,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_same_frames_same_bytes(tmp_path: Path, kind: str) -> None:
    digests = []
    for name in ("first", "second"):
        path = tmp_path / name / f"{name}.{kind}"
        path.parent.mkdir()
        WRITERS[kind](path, smooth_frames())
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    assert digests[0] == digests[1]


@pytest.mark.parametrize("kind", WRITERS)
def test_writing_takes_any_array_layout_and_leaves_it_alone(tmp_path: Path, kind: str) -> None:
    frames = smooth_frames()
    mirrored = frames[:, :, ::-1]
    WRITERS[kind](tmp_path / f"view.{kind}", mirrored)
    WRITERS[kind](tmp_path / f"copy.{kind}", mirrored.copy())
    assert (tmp_path / f"view.{kind}").read_bytes() == (tmp_path / f"copy.{kind}").read_bytes()
    assert np.array_equal(frames, smooth_frames())


@pytest.mark.parametrize("kind", WRITERS)
def test_no_folder_to_write_to(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    for folder in ("nowhere", "file"):
        with pytest.raises(InputError, match=r"could not be written: .* Check that its folder exists"):
            WRITERS[kind](tmp_path / folder / f"clip.{kind}", smooth_frames(1))


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.skipif(os.name != "posix", reason="limits the size of files with POSIX's setrlimit")
def test_a_full_disk_keeps_the_old_file_and_leaves_no_half(tmp_path: Path, kind: str) -> None:
    import resource

    path = tmp_path / f"clip.{kind}"
    path.write_bytes(b"the old one")
    noise = np.random.default_rng(0).integers(0, 256, (8, HEIGHT, WIDTH, 3), np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(InputError, match=rf'"clip\.{kind}" could not be written'):
            WRITERS[kind](path, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"the old one"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write to any folder")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        write_png_zip(tmp_path / "clip.zip", smooth_frames(1))


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), "8", 1001])
def test_a_rate_out_of_range(tmp_path: Path, fps: float) -> None:
    for write in (write_mp4, write_gif):
        with pytest.raises(InputError, match="playback rate"):
            write(tmp_path / "clip", smooth_frames(1), fps)
    with pytest.raises(InputError, match="at most 50"):
        write_gif(tmp_path / "clip.gif", smooth_frames(1), 60)


def test_frames_of_another_kind_are_a_programming_mistake(tmp_path: Path) -> None:
    for frames in (smooth_frames().astype(float), smooth_frames()[0], smooth_frames()[:0], smooth_frames()[..., :1]):
        with pytest.raises(ValueError, match="frames must be uint8"):
            write_mp4(tmp_path / "clip.mp4", frames, 8)


# Sound


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of counting frames; the first is silent, and in the second there is a tone."""
    path = tmp_path_factory.mktemp("heard") / "heard.mp4"
    tone = "aevalsrc='0.5*sin(880*PI*t)*gte(t,1)':d=2:s=44100"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", "10", "-i", "-"]
    ffmpeg(*raw, "-f", "lavfi", "-i", tone, "-pix_fmt", "yuv420p", path, data=counting_frames(20).tobytes())
    return path


def test_sound_goes_with_the_frames(heard: Path) -> None:
    quiet, loud = (read_sound(heard, start=start, seconds=0.5) for start in (0.2, 1.2))
    assert quiet.samples.dtype == np.int16
    assert quiet.samples.shape == loud.samples.shape == (22050, 2)
    assert np.abs(quiet.samples).max() < 300
    # Half of full scale, shared between two loudspeakers of equal power.
    assert np.abs(loud.samples).max() == pytest.approx(0.5 * 32768 / math.sqrt(2), rel=0.02)
    assert read_sound(heard, start=1.5, seconds=9).seconds == pytest.approx(0.5, abs=0.05)  # to the end


def test_what_has_no_sound_gives_none(counting: Path, tmp_path: Path) -> None:
    assert read_sound(counting, seconds=1) is None
    Image.new("RGB", (32, 32)).save(tmp_path / "picture.png")
    assert read_sound(tmp_path / "picture.png", seconds=1) is None


def test_sound_of_a_disguised_text_is_refused(tmp_path: Path, counting: Path) -> None:
    with pytest.raises(InputError, match="playlists and text are refused"):
        read_sound(make_bad("playlist", tmp_path, counting), seconds=1)
