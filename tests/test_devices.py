"""Clips as devices write them: frames counted as a decoder shows them, and colours as they are meant."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from clips import HEIGHT, WIDTH, counting_frames, encode, error, ffmpeg, numbers, smooth_frames
from PIL import Image, ImageCms

from bivdiff.errors import InputError
from bivdiff.media import ffmpeg as program
from bivdiff.media.reading import Clip, open_source, probe, read_clip
from bivdiff.media.source import LIMITS

H264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "3", "-g", "12"]
OPEN = [*H264, "-x264-params", "open-gop=1"]
MPEG2 = ["-c:v", "mpeg2video", "-q:v", "2", "-bf", "2", "-g", "12"]
REORDERED = {
    "h264.avi": H264, "mpeg4.avi": ["-c:v", "mpeg4", "-q:v", "2", "-bf", "2", "-g", "12"], "open.mkv": OPEN,
    "mpeg2.mov": MPEG2, "open.ts": OPEN, "clip.flv": H264, "dvd.mpg": ["-f", "dvd", *MPEG2],
}  # fmt: skip


@pytest.mark.parametrize("name", REORDERED)
def test_frames_that_are_coded_in_another_order_are_counted_as_shown(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, counting_frames(60), "25", *REORDERED[name])
    assert probe(path).num_frames == 60
    assert numbers(read_clip(path, num_frames=60).frames) == list(range(60))
    for first in (1, 11, 12, 23, 47, 58):
        assert numbers(read_clip(path, start=first / 25, num_frames=2).frames) == [first, first + 1]
    assert numbers(read_clip(path, start=0.2, stride=9, num_frames=6).frames) == [5, 14, 23, 32, 41, 50]


@pytest.mark.parametrize("name", ["open.ts", "mpeg2.ts", "closed.m2ts"])
@pytest.mark.parametrize("within_a_packet", [False, True])
def test_a_recording_that_was_cut_begins_where_it_can_be_decoded(
    tmp_path: Path, name: str, within_a_packet: bool
) -> None:
    options = {"open.ts": OPEN, "mpeg2.ts": MPEG2, "closed.m2ts": [*H264, "-mpegts_m2ts_mode", "1"]}[name]
    whole = encode(tmp_path / name, counting_frames(60), "25", *options).read_bytes()
    packet = 192 if name.endswith("m2ts") else 188
    path = tmp_path / f"cut-{name}"
    path.write_bytes(whole[len(whole) // 3 // packet * packet + 77 * within_a_packet :])
    count = probe(path).num_frames
    shown = numbers(read_clip(path, num_frames=count).frames)
    assert shown == list(range(60 - count, 60))
    assert 20 < count < 50
    assert numbers(read_clip(path, start=10 / 25, num_frames=3).frames) == shown[10:13]


# Colours

PATCHES = np.array(
    [(255, 255, 255), (128, 128, 128), (200, 30, 30), (30, 160, 40), (40, 60, 200), (220, 180, 140), (0, 0, 0)],
    np.uint8,
)


def patches(width: int, height: int) -> np.ndarray:
    return np.broadcast_to(PATCHES[np.arange(width) * len(PATCHES) // width], (2, height, width, 3)).copy()


def worst(path: Path) -> int:
    """By how many levels a patch is off, at most."""
    frame = read_clip(path, num_frames=1).frames[0].astype(int)
    centres = (np.arange(len(PATCHES)) * 2 + 1) * frame.shape[1] // (2 * len(PATCHES))
    return int(np.abs(frame[frame.shape[0] // 2, centres] - PATCHES).max())


@pytest.mark.parametrize(
    ("size", "matrix"),
    [
        ((1280, 720), "bt709"),
        ((1920, 1080), "bt709"),
        ((720, 1280), "bt709"),
        ((720, 576), "bt601"),
        ((640, 480), "bt601"),
    ],
)
def test_unlabelled_colours_are_read_as_players_read_them(tmp_path: Path, size: tuple[int, int], matrix: str) -> None:
    into = ["-vf", f"scale=out_color_matrix={matrix},format=yuv420p,setparams=colorspace=unknown", "-crf", "8"]
    into += ["-preset", "ultrafast"]
    path = encode(tmp_path / "plain.mp4", patches(*size), "8", *into)
    assert open_source(path, LIMITS).facts["colour"] == "unlabelled"
    assert worst(path) <= 4


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
@pytest.mark.parametrize("size", [(1280, 720), (320, 240)])
def test_labelled_colours_are_read_as_labelled(tmp_path: Path, size: tuple[int, int], matrix: str) -> None:
    into = ["-vf", f"scale=out_color_matrix={matrix},format=yuv420p,setparams=colorspace={matrix}", "-crf", "8"]
    assert worst(encode(tmp_path / "plain.mp4", patches(*size), "8", *into, "-preset", "ultrafast")) <= 4


def hdr(path: Path, transfer: str, size: tuple[int, int] = (210, 64), pixels: str = "yuv420p10le") -> Path:
    """Patches as a phone or a camera writes them in HDR, with white at 203 nits."""
    light = [
        "format=gbrp", "zscale=tin=709:min=gbr:pin=709:rin=full:t=linear:p=709:m=gbr:npl=203", "format=gbrpf32le",
        f"zscale=p=2020:t={transfer}:m=2020_ncl:r=limited:npl=203", f"format={pixels}",
    ]  # fmt: skip
    options = ["-c:v", "libx265", "-x265-params", "log-level=none", "-crf", "8"]
    tags = ["-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc"]
    return encode(path, patches(*size), "8", "-vf", ",".join(light), *options, *tags)


@pytest.mark.parametrize("name", ["arib-std-b67.mov", "smpte2084.mkv", "arib-std-b67.mp4"])
def test_hdr_comes_into_the_usual_range_with_its_colours(tmp_path: Path, name: str) -> None:
    check_hdr(read_clip(hdr(tmp_path / name, Path(name).stem), num_frames=2))


def check_hdr(clip: Clip) -> None:
    """That patches in HDR came into the usual range."""
    white, grey, red, *_, black = clip.frames[0, 32, 15::30].astype(int)
    assert white.min() >= 205
    assert red[0] - red[1] >= 130
    assert 110 <= grey[0] <= 150
    assert black.max() <= 4
    assert "is HDR" in clip.notes[0]


@pytest.mark.parametrize("name", ["still.avif", "animation.avif", "still.png", "stills.zip"])
def test_pictures_in_hdr_come_into_the_usual_range_too(tmp_path: Path, name: str) -> None:
    clip, path = hdr(tmp_path / "clip.mkv", "smpte2084"), tmp_path / name
    if path.suffix == ".avif":
        ffmpeg("-i", clip, "-frames:v", "2" if name == "animation.avif" else "1", "-cpu-used", "8", "-crf", "8", path)
    else:
        still = tmp_path / "still.png"
        ffmpeg("-i", clip, "-frames:v", "1", "-pix_fmt", "rgb48be", "-update", "1", still)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(still, "1.png")
    check_hdr(read_clip(path, num_frames=1))


def test_hdr_of_an_odd_size(tmp_path: Path) -> None:
    path = hdr(tmp_path / "odd.mkv", "arib-std-b67", (211, 65), "yuv444p10le")
    assert read_clip(path, num_frames=1).frames.shape == (1, 65, 211, 3)


def test_hdr_is_refused_where_ffmpeg_cannot_bring_it_into_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hdr(tmp_path / "phone.mov", "arib-std-b67")
    monkeypatch.setattr(program, "filters", lambda: frozenset({"scale"}))
    with pytest.raises(InputError, match=r"is HDR or has a wide range of colours .*Convert it to SDR"):
        read_clip(path, num_frames=1)


def test_a_wide_range_of_colours_comes_into_the_usual_one(tmp_path: Path) -> None:
    wide = "format=gbrp,zscale=tin=709:min=gbr:pin=709:rin=full:p=2020:t=709:m=2020_ncl:r=limited,format=yuv420p"
    tags = ["-color_primaries", "bt2020", "-color_trc", "bt709", "-colorspace", "bt2020nc"]
    assert worst(encode(tmp_path / "wide.mp4", patches(210, 64), "8", "-vf", wide, *tags, "-crf", "8")) <= 5


def test_a_photo_with_a_profile_of_its_own_is_brought_to_srgb(tmp_path: Path) -> None:
    """The profile has red and blue change places, so that nobody can overlook whether it is followed."""
    profile = ImageCms.createProfile("sRGB")
    content = bytearray(ImageCms.ImageCmsProfile(profile).tobytes())
    red, blue = content.find(b"rXYZ"), content.find(b"bXYZ")
    content[red : red + 4], content[blue : blue + 4] = b"bXYZ", b"rXYZ"
    picture = Image.new("RGB", (8, 8), (200, 30, 30))
    picture.save(tmp_path / "photo.png", icc_profile=bytes(content))
    shown = read_clip(tmp_path / "photo.png", num_frames=1).frames[0, 4, 4].astype(int)
    assert np.abs(shown - (30, 30, 200)).max() < 12


# Fields


def bar(count: int = 40, width: int = 176, height: int = 144) -> np.ndarray:
    """A white bar that moves 4 pixels a field."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[:, (4 * number) % (width - 24) :][:, :24] = 255
    return frames


INTERLACED = {
    "camcorder.mts": ["-c:v", "libx264", "-flags", "+ildct+ilme", "-x264opts", "tff=1"],
    "dvd.mpg": ["-f", "dvd", "-flags", "+ildct+ilme", "-q:v", "2"],
    "tape.avi": ["-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-q:v", "2"],
    "no-flag.mp4": ["-c:v", "libx264", "-crf", "8"],
}


def comb(frames: np.ndarray) -> float:
    """How much lines differ from those above and below."""
    lines = frames.astype(float)
    return float(np.abs(lines[:, 2:] - 2 * lines[:, 1:-1] + lines[:, :-2]).mean())


@pytest.mark.parametrize("name", INTERLACED)
@pytest.mark.parametrize("first", ["top", "bottom"])
def test_fields_are_made_whole_frames_and_it_is_said(tmp_path: Path, name: str, first: str) -> None:
    flags = f"setfield={first[0]}ff" if name != "no-flag.mp4" else "setfield=prog"
    weave = f"tinterlace=interleave_{first},{flags},format=yuv420p"
    path = encode(tmp_path / name, bar(), "50", "-vf", weave, *INTERLACED[name])
    clip = read_clip(path, num_frames=16)
    assert comb(clip.frames) < 2
    assert clip.notes == (f'"{name}" is interlaced: whole frames were made of its fields (bwdif).',)
    # The bar goes on from frame to frame: no field is out of turn.
    places = [np.flatnonzero(frame[:, :, 0].mean(0) > 127)[0] for frame in clip.frames]
    assert set(np.diff(places)) <= {7, 8, 9}


def woven(frames: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Frames with the lower fields of others."""
    made = frames.copy()
    made[:, 1::2] = others[:, 1::2]
    return made


@pytest.mark.parametrize("name", ["camcorder.mts", "no-flag.mp4"])
def test_fields_are_found_where_they_begin_late_and_in_films_for_tv(tmp_path: Path, name: str) -> None:
    """Two in five frames of a film that TV has stretched from 24 frames to 30 are woven of two of its own."""
    fields = bar(220)
    late = np.concatenate([fields[:120:2], woven(fields[120::2], fields[121::2])])
    first, second, third, fourth = (fields[:200:2][number::4] for number in range(4))
    stretched = [first, second, woven(second, third), woven(third, fourth), fourth]
    film = np.stack(stretched, 1).reshape(-1, *fields.shape[1:])
    for content in (late, film):
        path = encode(tmp_path / name, content, "25", "-pix_fmt", "yuv420p", *INTERLACED[name])
        clip = read_clip(path, num_frames=len(content))
        assert comb(clip.frames) < 2
        assert clip.notes == (f'"{name}" is interlaced: whole frames were made of its fields (bwdif).',)
        places = [np.flatnonzero(frame[:, :, 0].mean(0) > 127)[0] for frame in clip.frames]
        assert set(np.diff(places) % 152) <= {0, 7, 8, 9, 12}  # at most the field where they begin is lost
    late_again = encode(tmp_path / name, late, "25", "-pix_fmt", "yuv420p", *INTERLACED[name])
    assert read_clip(late_again, num_frames=16).notes == ()
    assert read_clip(late_again, start=3).notes != ()


@pytest.mark.parametrize("content", ["bar", "counting", "smooth", "stripes", "noise"])
def test_whole_frames_are_left_as_they_are(tmp_path: Path, content: str) -> None:
    rows, times = np.arange(HEIGHT)[None, :, None, None], np.arange(30)[:, None, None, None]
    frames = {
        "bar": bar(), "counting": counting_frames(30), "smooth": smooth_frames(30),
        "stripes": np.broadcast_to((rows + times) // 3 % 2 * 255, (30, HEIGHT, WIDTH, 3)),
        "noise": np.random.default_rng(0).integers(0, 256, (30, HEIGHT, WIDTH, 3)),
    }[content].astype(np.uint8)  # fmt: skip
    path = encode(tmp_path / "clip.mkv", np.ascontiguousarray(frames), "25", "-c:v", "ffv1")
    clip = read_clip(path, num_frames=len(frames))
    assert clip.notes == ()
    assert error(clip.frames, frames) < 1


def test_whole_frames_in_an_interlaced_stream_are_left_as_they_are(tmp_path: Path) -> None:
    path = encode(tmp_path / "25p.mts", bar(), "25", "-pix_fmt", "yuv420p", *INTERLACED["camcorder.mts"])
    assert read_clip(path, num_frames=8).notes == ()


# Drawn pictures


@pytest.mark.parametrize("kind", ["gif", "apng", "webp"])
def test_a_title_that_is_held_is_one_picture_and_not_many(tmp_path: Path, kind: str) -> None:
    pictures = [Image.fromarray(frame) for frame in counting_frames(12)]
    path = tmp_path / f"drawn.{kind}"
    form = {"apng": "PNG"}.get(kind, kind)
    options = {"lossless": True} if kind == "webp" else {}
    pictures[0].save(path, form, save_all=True, append_images=pictures[1:], duration=[2000] + [100] * 11, **options)
    clip = read_clip(path, num_frames=8)
    assert numbers(clip.frames) == list(range(8))
    assert clip.fps == pytest.approx(10)
    assert probe(path).num_frames == 12
    assert numbers(read_clip(path, start=2.1, num_frames=3).frames) == [2, 3, 4]


DRAWN = {"gif": {}, "apng": {"format": "PNG"}, "webp": {"lossless": True}, "avif": {"quality": 90}}


def drawn(path: Path, lasts: int | list[int], count: int = 24) -> Path:
    """Counting pictures, each shown for so many milliseconds."""
    first, *others = (Image.fromarray(frame) for frame in counting_frames(count))
    first.save(path, save_all=True, append_images=others, duration=lasts, **DRAWN[path.suffix[1:]])
    return path


@pytest.mark.parametrize("kind", DRAWN)
def test_pictures_that_are_drawn_are_shown_as_in_browsers(tmp_path: Path, kind: str) -> None:
    """A hundredth of a second or less is taken for no time, which is a tenth; other times are told where they vary."""
    quick = read_clip(drawn(tmp_path / f"quick.{kind}", 10), start=0.5, num_frames=3)
    assert quick.fps == pytest.approx(10)
    assert numbers(quick.frames) == [5, 6, 7]
    (told,) = quick.notes
    assert 'The pictures of "quick.' in told
    assert "As in browsers, each of these is shown for a tenth" in told
    mixed = read_clip(drawn(tmp_path / f"mixed.{kind}", [10, 100, 50, 50] * 6), start=0.9)
    assert numbers(mixed.frames) == list(range(12, 20))  # four take 0.3 s
    assert mixed.fps == pytest.approx(20)
    assert "6 of the pictures of" in mixed.notes[0]
    assert "are shown for different times" in mixed.notes[1]
    assert probe(drawn(tmp_path / f"ntsc.{kind}", [30, 30, 40] * 8)).fps == pytest.approx(30)
    assert read_clip(tmp_path / f"ntsc.{kind}").notes == ()


@pytest.mark.parametrize("start", ["", "x\n", "x\r"])
def test_what_a_files_text_says_of_its_colours_is_no_fact(tmp_path: Path, start: str) -> None:
    """Texts of a file are printed among what ffmpeg says itself."""
    said = "[Parsed_showinfo_0 @ 0x0] color_range:tv color_space:gbr color_primaries:bt2020 color_trc:smpte2084"
    options = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-metadata", f"comment={start}{said}"]
    source = open_source(encode(tmp_path / "a.mkv", smooth_frames(), "10", *options), LIMITS)
    assert source.facts["colour"] == "unlabelled"
    assert source.notes == ()
