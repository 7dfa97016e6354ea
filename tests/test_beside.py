"""What lies beside a clip is held against it: paired by number, or by time where rates explain it, and of one shape."""

from pathlib import Path

import numpy as np
import pytest
from clips import counting_frames, encode, numbers
from PIL import Image

from bivdiff.errors import InputError
from bivdiff.media.reading import Clip, read_beside, read_clip, read_mask
from bivdiff.media.writing import write_png_zip

H264 = ["-pix_fmt", "yuv420p", "-crf", "10"]
VARIABLE = [
    "-vf", "settb=1/1000,setpts='if(lt(N,10),N*100,1000+(N-10)*300)'", "-fps_mode", "passthrough", "-enc_time_base",
    "1/1000", "-bf", "0",
]  # fmt: skip


@pytest.mark.parametrize("fps", ["24", "8", "30000/1001"])
@pytest.mark.parametrize("taken", [{"start": 1.0}, {"start": 0.5, "stride": 3}])
def test_clips_of_as_many_frames_are_paired_by_number_whatever_their_rates(
    tmp_path: Path, fps: str, taken: dict[str, float]
) -> None:
    clip = read_clip(encode(tmp_path / "clip.mp4", counting_frames(60), "24", *H264), num_frames=6, **taken)
    mask = encode(tmp_path / "mask.mp4", counting_frames(60), fps, *H264)
    beside = read_beside(mask, clip)
    assert numbers(beside.frames) == numbers(clip.frames)
    assert numbers(clip.frames)[0] == 24 * taken["start"]
    said = "the source at 24; both have 60 frames, so they are paired frame by frame."
    assert [said in note for note in beside.notes] == [True] * (fps != "24")


def test_a_variable_rate_is_paired_with_what_was_made_of_it_frame_by_frame(tmp_path: Path) -> None:
    clip = read_clip(encode(tmp_path / "phone.mp4", counting_frames(20), "10", *H264, *VARIABLE), num_frames=18)
    assert len(set(np.diff(numbers(clip.frames)))) > 1  # some frames twice, or some left out
    for fps in ("30", "8"):
        mask = encode(tmp_path / f"mask-{fps}.mp4", counting_frames(20), fps, *H264)
        assert numbers(read_beside(mask, clip).frames) == numbers(clip.frames)
    write_png_zip(tmp_path / "mask.zip", counting_frames(20))
    assert numbers(read_beside(tmp_path / "mask.zip", clip).frames) == numbers(clip.frames)


def test_a_clip_as_long_as_what_is_used_starts_with_it(tmp_path: Path) -> None:
    clip = read_clip(encode(tmp_path / "clip.mp4", counting_frames(40), "10", *H264), start=2, num_frames=8)
    mask = encode(tmp_path / "mask.mp4", counting_frames(8), "3", *H264)
    assert numbers(read_beside(mask, clip).frames) == list(range(8))


def test_half_the_rate_for_as_long_is_paired_by_time_and_said(tmp_path: Path) -> None:
    clip = read_clip(encode(tmp_path / "clip.mp4", counting_frames(60), "20", *H264), start=1, num_frames=8)
    beside = read_beside(encode(tmp_path / "half.mp4", counting_frames(30), "10", *H264), clip)
    assert numbers(beside.frames) == [10, 10, 11, 11, 12, 12, 13, 13]
    assert "30 frames of 96x64 at 10 a second (3 s), the source 60 frames" in beside.notes[0]


def test_the_same_rate_but_longer_is_paired_by_time(tmp_path: Path) -> None:
    clip = read_clip(encode(tmp_path / "clip.mp4", counting_frames(20), "10", *H264), start=1, num_frames=8)
    longer = encode(tmp_path / "longer.mp4", counting_frames(40), "10", *H264)
    assert read_beside(longer, clip).notes == ()
    assert numbers(read_beside(longer, clip).frames) == list(range(10, 18))


@pytest.mark.parametrize(("count", "fps"), [(70, "8"), (12, "24"), (50, "30")])
def test_what_no_rate_explains_is_refused_with_both_lengths(tmp_path: Path, count: int, fps: str) -> None:
    clip = read_clip(encode(tmp_path / "clip.mp4", counting_frames(60), "24", *H264), start=1, num_frames=8)
    mask = encode(tmp_path / "mask.mp4", np.tile(counting_frames(35), (2, 1, 1, 1))[:count], fps, *H264)
    for read in (read_beside, read_mask):
        with pytest.raises(InputError) as told:
            read(mask, clip)
        assert f"{count} frames of 96x64 at {fps} a second" in str(told.value)
        assert "60 frames of 96x64 at 24 a second (2.5 s)" in str(told.value)


def test_pictures_have_no_rate_that_could_explain_another_number(tmp_path: Path) -> None:
    clip = read_clip(encode(tmp_path / "clip.mp4", counting_frames(40), "8", *H264), num_frames=8)
    write_png_zip(tmp_path / "mask.zip", counting_frames(39))
    with pytest.raises(InputError, match=r"39 frames of 96x64, the source 40 frames"):
        read_beside(tmp_path / "mask.zip", clip)


def test_a_picture_goes_with_every_frame(tmp_path: Path) -> None:
    Image.fromarray(counting_frames(6)[5]).save(tmp_path / "still.png")
    clip = read_clip(encode(tmp_path / "clip.mp4", counting_frames(40), "8", *H264), start=1, num_frames=3)
    assert numbers(read_beside(tmp_path / "still.png", clip).frames) == [5, 5, 5]


def test_frames_of_an_earlier_run_are_a_clip_of_their_own(tmp_path: Path) -> None:
    clip = Clip(counting_frames(8), 8)
    mask = encode(tmp_path / "mask.mp4", counting_frames(8), "25", *H264)
    assert numbers(read_beside(mask, clip).frames) == list(range(8))
    with pytest.raises(InputError, match="the source 8 frames of 96x64"):
        read_beside(encode(tmp_path / "other.mp4", counting_frames(9), "25", *H264), clip)


# Shapes


def beside_of(
    folder: Path, size: tuple[int, int], source: tuple[int, int] = (160, 90), fit: str = "crop"
) -> np.ndarray:
    """A mask of a size, whose left quarter is white, beside the middle of a source of 160x90 that is made 64x64."""
    clip = read_clip(
        encode(folder / "clip.mp4", np.zeros((2, *source[::-1], 3), np.uint8), "8", *H264), num_frames=2, size=(64, 64),
        fit=fit,
    )  # fmt: skip
    picture = np.zeros((*size[::-1],), np.uint8)
    picture[:, : size[0] // 4] = 255
    Image.fromarray(picture).save(folder / "mask.png")
    return read_mask(folder / "mask.png", clip, fit=fit).frames[0]


@pytest.mark.parametrize("size", [(160, 90), (320, 180), (848, 480), (896, 512), (1920, 1088)])
def test_a_mask_of_the_sources_shape_is_cut_as_the_source_is(tmp_path: Path, size: tuple[int, int]) -> None:
    mask = beside_of(tmp_path, size)
    # A quarter of the width is 40 of 160 pixels; the middle begins at 35.
    assert (mask.mean(0) > 127).sum() == pytest.approx((40 - 35) * 64 / 90, abs=1)
    padded = beside_of(tmp_path, size, fit="pad")
    assert (padded.mean(0) > 0).sum() == pytest.approx(16, abs=1)
    assert not padded[:13].any()


def test_a_mask_of_the_clips_own_shape_is_laid_over_it_as_it_is(tmp_path: Path) -> None:
    assert (beside_of(tmp_path, (128, 128)).mean(0) > 127).sum() == 16


@pytest.mark.parametrize(
    ("size", "hint"),
    [((90, 160), "Turn it by 90 degrees"), ((1080, 1920), "Turn it"), ((400, 300), "Cut it as the source")],
)
def test_a_mask_of_another_shape_is_refused_with_both(tmp_path: Path, size: tuple[int, int], hint: str) -> None:
    with pytest.raises(InputError, match=rf"is {size[0]}x{size[1]} and the source 160x90.*{hint}"):
        beside_of(tmp_path, size)
