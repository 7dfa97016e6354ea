"""Films: where the clips stand, when which frame is seen, how long it lasts, and what can be read on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bivdiff.errors import InputError
from bivdiff.media import film
from bivdiff.media.film import ACCENTS, BACKGROUND, SHAPES, FilmOptions, Tile, compose, drawable, places
from bivdiff.media.reading import probe, read_clip, read_sound
from bivdiff.media.sound import SAMPLE_RATE, Sound
from bivdiff.media.writing import write_film

COUNT, FPS = 4, 8.0
ROOT = Path(__file__).resolve().parent.parent
WATCHED = """
import sys
import numpy as np
from bivdiff.media import film
from bivdiff.media.sound import Sound

def compose():
    tiles = [film.Tile(np.zeros((2, 8, 8, 3), np.uint8), "a clip", "a note")] * 3
    sound = Sound(np.zeros((4410, 2), np.int16))
    list(film.compose(tiles, 8, "a title", film.FilmOptions(seconds=0.2), sound).frames())
    film.labelled_grid([[("a label", tiles[0].frames)]])

compose()  # by now all modules are there
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event in {"open", "os.listdir", "subprocess.Popen"} else None)
open(__import__("os").devnull).close()
print(*("watching" for _ in seen))
seen.clear()
compose()
print(*seen)
"""


def clip(channel, height=48, width=64):
    """Frames of one colour that grows brighter: 60, 100, 140, 180 in one channel."""
    frames = np.zeros((COUNT, height, width, 3), np.uint8)
    frames[..., channel] = 60 + 40 * np.arange(COUNT)[:, None, None]
    return frames


@pytest.fixture(scope="module")
def tiles():
    return [
        Tile(clip(0), "Source"),
        Tile(clip(1), "Frame by frame", "ControlNet"),
        Tile(clip(2), "BIVDiff", "ratio 0.1"),
    ]


def middles(frame, boxes):
    return [frame[box.top + box.height // 2, box.left + box.width // 2].tolist() for box in boxes]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("aspect", [9 / 16, 1, 1.6, 3])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_clips_keep_their_shape_and_stay_apart_and_inside(shape, aspect, count):
    width, height = SHAPES[shape]
    boxes = places(count, aspect, (width, height))
    assert len(boxes) == count
    taken = np.zeros((height, width), int)
    for box in boxes:
        assert box.left > 0
        assert box.top > 0
        assert box.left + box.width < width
        assert box.top + box.height < height
        assert box.width / box.height == pytest.approx(aspect, rel=0.02)
        taken[box.top : box.top + box.height, box.left : box.left + box.width] += 1
    assert taken.max() == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_every_clip_plays_at_its_own_pace_at_its_place_until_all_were_seen(tiles, shape):
    made = compose(tiles, FPS, "a title", FilmOptions(shape=shape, seconds=1.2, wipe=False))
    boxes = places(3, 64 / 48, SHAPES[shape])
    assert made.size == SHAPES[shape]
    assert (made.fps, made.num_frames) == (24, 36)  # half a second, three times: at least the 1.2 that were asked for
    for number, frame in enumerate(made.frames()):
        level = 60 + 40 * (number // 3 % COUNT)
        assert middles(frame, boxes) == [[level, 0, 0], [0, level, 0], [0, 0, level]]
        assert frame[2, 2].tolist() == list(BACKGROUND)


def test_slow_motion_holds_every_frame_longer_and_is_silent(tiles):
    sound = Sound(np.ones((SAMPLE_RATE, 2), np.int16))
    made = compose(tiles, FPS, "", FilmOptions(seconds=1, speed=0.5, wipe=False), sound)
    (box, *_) = places(3, 64 / 48, SHAPES["wide"])
    levels = [middles(frame, [box])[0][0] for frame in made.frames()]
    assert levels == [level for level in (60, 100, 140, 180) for _ in range(6)]
    assert made.sound is None


def test_the_wipe_shows_the_one_before_the_line_and_the_other_behind_it(tiles):
    made = compose(tiles, FPS, "", FilmOptions(seconds=0.5))
    wiping = list(made.frames())[12:]
    assert len(wiping) == 24 * film.WIPE_SECONDS
    (box,) = places(1, 64 / 48, SHAPES["wide"])
    row, left, right = box.top + box.height // 2, box.left, box.left + box.width
    shares = []
    for frame in wiping:
        inside = frame[row, left:right].astype(int)
        green, blue = inside[:, 1] > inside[:, 2], inside[:, 2] > inside[:, 1]
        assert green[: green.sum()].all()
        assert blue[-blue.sum() :].all()
        shares.append(green.mean())
    assert shares[0] > 0.9
    assert min(shares) < 0.1
    assert shares[-1] > 0.9


@pytest.mark.parametrize("fps", [5.0, 8.0, 3.0])
def test_a_film_that_is_played_again_goes_on_without_a_jump(tiles, fps):
    made = compose(tiles, fps, "", FilmOptions(seconds=1))
    frames = list(made.frames())
    rounds = made.num_frames / made.fps / (COUNT / fps)
    assert rounds == pytest.approx(round(rounds))
    wiped, row = places(1, 64 / 48, SHAPES["wide"]), places(3, 64 / 48, SHAPES["wide"])
    assert middles(frames[-1], wiped) == [[0, 180, 0]]  # the clips' last frame
    assert middles(frames[0], row) == [[60, 0, 0], [0, 60, 0], [0, 0, 60]]  # and their first


def test_what_is_to_be_seen_is_written_below_the_clips(tiles):
    options = FilmOptions(shape="square", wipe=False)
    for says, lines in (("Flicker at rest: 64% less", ["captions", "what is seen"]), ("", ["captions"])):
        frame = next(compose(tiles[1:], FPS, "", options, says=says).frames())
        written = (frame.min(2) > 200).any(1)
        assert (np.diff(written.astype(int)) == 1).sum() == len(lines)
        clips = np.flatnonzero((frame.max(2) == 60).sum(1) > 400)
        assert clips.max() < np.flatnonzero(written).min()


def test_captions_are_written_beside_dots_of_their_colours(tiles):
    made = compose(tiles, FPS, "a title", FilmOptions(wipe=False))
    frame = next(made.frames())
    for box, accent in zip(places(3, 64 / 48, SHAPES["wide"]), ACCENTS, strict=True):
        below = frame[box.top + box.height :, box.left : box.left + box.width]
        assert (below == accent).all(2).any()
        assert (below.min(2) > 200).sum() > 100  # the letters of the caption
    above = frame[: places(3, 64 / 48, SHAPES["wide"])[0].top]
    assert (above.min(2) > 200).sum() > 100  # and of the title


def test_a_long_title_stays_on_the_film(tiles):
    frame = next(compose(tiles, FPS, "a very long title " * 20, FilmOptions(shape="square", wipe=False)).frames())
    assert (frame[:, :16] == BACKGROUND).all()
    assert (frame[:, -16:] == BACKGROUND).all()


def test_only_letters_of_the_font_are_drawn():
    assert drawable("Märchen — über 3\u00d74 中文 cafés") == "Marchen - uber 3x4 cafes"
    assert drawable("日本語") == ""


def test_the_sound_is_repeated_with_the_clips_and_fades_out(tiles, tmp_path):
    once = round(SAMPLE_RATE * COUNT / FPS)
    samples = np.repeat(np.linspace(-9000, 9000, once)[:, None], 2, axis=1).astype(np.int16)
    made = compose(tiles, FPS, "", FilmOptions(seconds=2, wipe=False), Sound(samples))
    heard = made.sound.samples
    assert heard.shape == (2 * SAMPLE_RATE, 2)
    assert np.array_equal(heard[:once], samples)
    assert np.array_equal(heard[once : 2 * once], samples)
    assert abs(int(heard[-1, 0])) < 10
    write_film(tmp_path / "film.mp4", made)
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]  # and no WAV file beside it
    found = read_sound(tmp_path / "film.mp4", start=0, seconds=2)
    assert found.seconds == pytest.approx(2, abs=0.01)
    loudest = np.abs(np.fft.rfft(found.samples[: 3 * once, 0].astype(float)))
    assert np.argmax(loudest[1:]) + 1 == 3  # three times the same half second


def test_a_film_is_written_as_it_is_composed(tiles, tmp_path):
    made = compose(tiles, FPS, "", FilmOptions(shape="square", seconds=0.5, wipe=False))
    write_film(tmp_path / "film.mp4", made)
    info = probe(tmp_path / "film.mp4")
    assert (info.width, info.height, info.fps, info.num_frames) == (1080, 1080, 24, 12)
    read = read_clip(tmp_path / "film.mp4", num_frames=12).frames
    for frame, want in zip(read, made.frames(), strict=True):
        assert np.abs(frame.astype(int) - want).mean() < 2


def test_composing_opens_no_file_and_starts_no_process():
    """Moviepy never meets a file: the interpreter itself tells of every one that is opened."""
    done = subprocess.run([sys.executable, "-c", WATCHED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["watching"]


@pytest.mark.parametrize(
    "wrong",
    [{"shape": "round"}, {"seconds": 0}, {"seconds": 1e6}, {"speed": 0}, {"speed": 2}, {"seconds": float("nan")}],
)
def test_options_that_cannot_be_used_are_refused(wrong):
    with pytest.raises(InputError):
        FilmOptions(**wrong)
