"""Films of clips side by side under captions, for people to post, and labelled grids: composed by moviepy.

moviepy composes and nothing else: it is given arrays, and gives back frames and samples. It opens no file, so it never
meets one of a stranger (a test holds it), and this is the only module that imports it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, cast

import numpy as np
from moviepy import (
    ColorClip,
    CompositeVideoClip,
    ImageClip,
    TextClip,
    VideoClip,
    clips_array,
    concatenate_videoclips,
)
from PIL import Image, ImageDraw, ImageFont

from bivdiff.errors import InputError
from bivdiff.media.sound import MAX_SECONDS, SAMPLE_RATE, Sound
from bivdiff.pixels.fitting import checked_frames, fit_frames
from bivdiff.units import say_number

SHAPES = {"wide": (1920, 1080), "square": (1080, 1080), "banner": (1280, 544)}
"""Width and height of a film, in pixels."""

MIN_SPEED, MAX_SPEED = 0.1, 1.0
SMOOTH = 24.0  # frames a second at least, for the wipe to glide
WIPE_SECONDS = 6.0  # at least
FADE_SECONDS = 0.5

BACKGROUND = (14, 14, 19)
TITLE, NOTE = (244, 244, 250), (154, 154, 170)
ACCENTS = ((148, 163, 184), (251, 146, 60), (167, 139, 250))
"""Colours of the captions: the source, the frames made one by one, the bridged clip."""

PAPER, INK = (250, 250, 250), (24, 24, 27)
GAP = 4  # pixels between the clips of a grid
SMALLEST_TEXT = 9
TITLE_LEAST = 0.75  # of the usual letters: a longer title is cut
ROW_WORTH = 1.2


@dataclass(frozen=True)
class FilmOptions:
    """How a film looks.

    Attributes:
        shape: of `SHAPES`: "wide" is 16:9, "square" 1:1, "banner" the height of one row of square clips.
        seconds: how long the clips are shown side by side, at least; they are repeated as a whole.
        speed: of the clips, from `MIN_SPEED` to 1; below 1 is slow motion, and without sound.
        wipe: whether a part follows in which a line wipes between the two last clips.

    Raises:
        InputError: a value cannot be used.
    """

    shape: str = "wide"
    seconds: float = 6.0
    speed: float = 1.0
    wipe: bool = True

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise InputError(f"'{self.shape}' is not a valid shape of a film. Use one of {', '.join(SHAPES)}.")
        if not 0 < self.seconds <= MAX_SECONDS:
            raise InputError(
                f"A film shows its clips for up to {MAX_SECONDS:g} seconds, not {say_number(self.seconds)}."
            )
        if not MIN_SPEED <= self.speed <= MAX_SPEED:
            bounds = f"from {MIN_SPEED:g} to {MAX_SPEED:g}"
            raise InputError(f"The speed of a film must be {bounds}; it is {say_number(self.speed)}.")


class Tile(NamedTuple):
    """A clip of a film: `frames` uint8 `(F, H, W, 3)`, what is written under it, and a smaller note beside that."""

    frames: np.ndarray
    caption: str
    note: str = ""


class Box(NamedTuple):
    """A place on the film, in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class Film:
    """A film that is ready to be written.

    Attributes:
        size: width and height in pixels, even.
        fps: a whole multiple of the rate at which the clips play, where that is below `SMOOTH`.
        num_frames: how many `frames` gives.
        sound: as long as the film, or None.
    """

    size: tuple[int, int]
    fps: float
    num_frames: int
    sound: Sound | None
    _clip: VideoClip

    def frames(self) -> Iterator[np.ndarray]:
        """The frames, uint8 `(H, W, 3)`, each composed when it is asked for."""
        for number in range(self.num_frames):
            yield self._clip.get_frame(number / self.fps)


def compose(
    tiles: Sequence[Tile], fps: float, title: str, options: FilmOptions, sound: Sound | None = None, *, says: str = ""
) -> Film:  # fmt: skip
    """Compose clips side by side, repeated until they have been seen, and then a wipe between the two last.

    Both parts last whole rounds of the clips, so that a film that is played again and again goes on without a jump.

    Args:
        tiles: two or three clips of one shape: what went in, what came out otherwise, what came out.
        fps: rate at which they play at full speed.
        title: one line above them; characters that the font does not have are written without their accents, or left
            out.
        options: how it looks.
        sound: of the first clip, at full speed; it is repeated with the clips. A slowed film has none.
        says: one line below the clips: what is to be seen.
    """
    shape = checked_frames(tiles[0].frames).shape
    if len(tiles) not in (2, 3) or any(tile.frames.shape != shape for tile in tiles):
        raise ValueError("a film needs two or three clips of one shape")
    pace = fps * options.speed
    once = shape[0] / pace
    lasts = min(_whole_rounds(options.seconds, once), max(MAX_SECONDS, options.seconds))
    texts = _Texts(title, says, SHAPES[options.shape])
    parts = [_side_by_side(tiles, pace, texts).with_duration(lasts)]
    if options.wipe:
        parts.append(_wipe(tiles[-2:], pace, texts, _whole_rounds(WIPE_SECONDS, once)))
    clip = concatenate_videoclips(parts)
    smooth = pace * math.ceil(SMOOTH / pace) if pace < SMOOTH else min(pace, 2 * SMOOTH)
    heard = _repeated(sound, once, clip.duration) if sound and options.speed == 1 else None
    return Film(SHAPES[options.shape], smooth, round(clip.duration * smooth), heard, clip)


class _Texts(NamedTuple):
    """What is written above and below the clips of a film, and its size."""

    title: str
    says: str
    size: tuple[int, int]

    def room(self) -> int:
        """Pixels that the line below takes."""
        return round(2.2 * _text_size(self.size)) if self.says else 0

    def lines(self, boxes: Sequence[Box]) -> list[ImageClip]:
        """Both lines, around clips in these places."""
        lines = [_title(self.title, boxes[0], self.size)]
        if self.says:
            letters = round(1.15 * _text_size(self.size))
            line = _line(self.says, letters, self.size[0] - 4 * letters, TITLE)
            below = max(box.top + box.height for box in boxes) + round(2.1 * _text_size(self.size))
            lines.append(line.with_position(("center", below)))
        return lines


def _whole_rounds(seconds: float, once: float) -> float:
    """So many seconds at least, as often as a clip has to be played for that."""
    return max(1, math.ceil(seconds / once - 1e-6)) * once


def _repeated(sound: Sound, once: float, seconds: float) -> Sound:
    """A sound brought to the length of the clips, repeated for so many seconds, and faded out."""
    samples = np.zeros((round(once * SAMPLE_RATE), 2), np.int16)
    samples[: len(sound.samples)] = sound.samples[: len(samples)]
    # np.resize repeats; moviepy's AudioLoop takes 28 s of processor time to say the same of 12 s of sound.
    heard = np.resize(samples, (round(seconds * SAMPLE_RATE), 2))
    faded = min(round(FADE_SECONDS * SAMPLE_RATE), len(heard))
    heard[-faded:] = heard[-faded:] * np.linspace(1, 0, faded)[:, None]
    return Sound(heard)


def _side_by_side(tiles: Sequence[Tile], pace: float, written: _Texts) -> VideoClip:
    height, width = tiles[0].frames.shape[1:3]
    size = written.size
    boxes = places(len(tiles), width / height, size, written.room())
    texts = written.lines(boxes)
    for tile, box, accent in zip(tiles, boxes, _accents(tiles), strict=True):
        texts += _captions(tile, box, accent, size)
    clips = [_rounded(tile.frames, box) for tile, box in zip(tiles, boxes, strict=True)]
    still, count = _still(texts, size), len(tiles[0].frames)

    def composed(seconds: float) -> np.ndarray:
        index = _index(seconds, pace, count)
        return _pasted(still, [(frames[index], box) for frames, box in zip(clips, boxes, strict=True)])

    return _held(VideoClip(composed), pace)


def _held(clip: VideoClip, pace: float) -> VideoClip:
    """A clip that changes only at its own pace, composed once for each frame of that and not of the film."""
    last: dict[int, np.ndarray] = {}

    def frame_at(seconds: float) -> np.ndarray:
        number = int(seconds * pace + 1e-3)
        if number not in last:
            last.clear()
            last[number] = clip.get_frame(seconds)
        return last[number]

    return VideoClip(frame_at)


def _wipe(tiles: Sequence[Tile], pace: float, written: _Texts, lasts: float) -> VideoClip:
    """A line that goes from left to right and back; before it the first clip is seen, behind it the second."""
    height, width = tiles[0].frames.shape[1:3]
    size = written.size
    (box,) = places(1, width / height, size, written.room())
    before, after = (_rounded(tile.frames, box) for tile in tiles)
    first, second = _accents(tiles)
    margin = _text_size(size)
    half = (box.width - margin) // 2
    left, right = box._replace(width=half), box._replace(left=box.left + box.width - half, width=half)
    texts = [
        *written.lines([box]),
        *_captions(tiles[0], left, first, size),
        *_captions(tiles[1], right, second, size),
    ]

    still = _still(texts, size)

    def frame_at(seconds: float) -> np.ndarray:
        index = _index(seconds, pace, len(before))
        swing = (1 - math.cos(2 * math.pi * seconds / lasts)) / 2
        edge = round(box.width * (0.96 - 0.92 * swing))
        frame = after[index].copy()
        frame[:, :edge] = before[index][:, :edge]
        frame[:, max(edge - 1, 0) : edge + 2] = TITLE
        return _pasted(still, [(frame, box)])

    return VideoClip(frame_at, duration=lasts)


def places(count: int, aspect: float, size: tuple[int, int], below: int = 0) -> list[Box]:
    """Where so many clips are largest on a film: in a row, in a column, or three of them in two rows.

    Args:
        count: of clips, 1 to 3.
        aspect: width of a clip by its height.
        size: width and height of the film.
        below: pixels that are to stay free below them.
    """
    candidates = {1: ((1,),), 2: ((2,), (1, 1)), 3: ((3,), (1, 1, 1), (1, 2))}[count]
    arranged = [_arranged(rows, aspect, size, below) for rows in candidates]
    # A row is read at once, so it may be somewhat smaller.
    return max(arranged, key=lambda boxes: boxes[0].width * (ROW_WORTH if boxes is arranged[0] else 1))


def _arranged(rows: Sequence[int], aspect: float, size: tuple[int, int], below: int) -> list[Box]:
    """Rows of so many boxes, as large as all fit, in the middle of what the title leaves."""
    text = _text_size(size)
    gap, under, above = text, round(1.9 * text), round(2.6 * text)
    room = size[1] - above - below - 2 * gap - len(rows) * under - (len(rows) - 1) * gap // 2
    width = min((size[0] - (max(rows) + 1) * gap) / max(rows), room / len(rows) * aspect)
    wide, tall = max(int(width), 2), max(int(width / aspect), 2)
    used = above + below + len(rows) * (tall + under) + (len(rows) - 1) * gap // 2
    top = above + (size[1] - used) // 2
    boxes = []
    for number in rows:
        left = (size[0] - number * wide - (number - 1) * gap) // 2
        boxes += [Box(left + column * (wide + gap), top, wide, tall) for column in range(number)]
        top += tall + under + gap // 2
    return boxes


def _pasted(still: np.ndarray, pictures: Sequence[tuple[np.ndarray, Box]]) -> np.ndarray:
    """Pictures at their places on what does not move, uint8 `(H, W, 3)`: moviepy's own way takes ten times as long."""
    frame = still.copy()
    for picture, box in pictures:
        frame[box.top : box.top + box.height, box.left : box.left + box.width] = picture
    return frame


def _index(seconds: float, pace: float, count: int) -> int:
    # A thousandth more: the third frame at 7.5 a second is at 0.4 s, whatever the last binary digit says.
    return int(seconds * pace + 1e-3) % count


def _rounded(frames: np.ndarray, box: Box) -> np.ndarray:
    """Frames at the size of a box, with round corners through which the background is seen."""
    larger = fit_frames(frames, (box.width, box.height), "crop").copy()
    mask = Image.new("L", (4 * box.width, 4 * box.height))
    drawn = ImageDraw.Draw(mask)
    drawn.rounded_rectangle((0, 0, 4 * box.width - 1, 4 * box.height - 1), 4 * min(14, box.height // 8), 255)
    alpha = np.asarray(mask.resize((box.width, box.height), Image.Resampling.BOX))
    rows, columns = np.nonzero(alpha < 255)
    weight = alpha[rows, columns, None] / 255
    larger[:, rows, columns] = larger[:, rows, columns] * weight + (1 - weight) * BACKGROUND + 0.5
    return larger


def _still(texts: Sequence[ImageClip], size: tuple[int, int]) -> np.ndarray:
    """All that does not move, as one picture, uint8 `(H, W, 3)`, so that it is composed once."""
    return np.asarray(CompositeVideoClip([ColorClip(size, BACKGROUND), *texts], size).get_frame(0), np.uint8)


def _accents(tiles: Sequence[Tile]) -> Sequence[tuple[int, int, int]]:
    return ACCENTS[-len(tiles) :]


def _text_size(size: tuple[int, int]) -> int:
    return round(min(size) / 29)


def _title(text: str, below: Box, size: tuple[int, int]) -> ImageClip:
    letters = round(1.3 * _text_size(size))
    top = below.top - round(1.9 * letters)
    shown, least = drawable(text), TITLE_LEAST * _text_size(size)
    while letters > least and ImageFont.load_default(letters).getlength(shown) > size[0] - 4 * letters:
        letters -= 1
    return _line(text, letters, size[0] - 4 * letters, TITLE).with_position(("center", top))


def _captions(tile: Tile, box: Box, accent: tuple[int, int, int], size: tuple[int, int]) -> list[ImageClip]:
    """A coloured dot, the caption, and the note at the right if there is room for both, in the line under a box."""
    letters = _text_size(size)
    top, dot = box.top + box.height + round(0.45 * letters), round(0.5 * letters)
    caption = _line(tile.caption, letters, box.width - 2 * dot, TITLE)
    clips = [_dot(dot, accent).with_position((box.left + 2, top + round(0.42 * letters)))]
    clips.append(caption.with_position((box.left + 2 + 2 * dot, top)))
    left = box.width - 3 * dot - caption.w
    small = ImageFont.load_default(round(0.8 * letters))
    if tile.note and small.getlength(drawable(tile.note)) <= left:
        note = _line(tile.note, round(0.8 * letters), left, NOTE)
        clips.append(note.with_position((box.left + box.width - note.w, top + round(0.17 * letters))))
    return clips


def _dot(diameter: int, color: tuple[int, int, int]) -> ImageClip:
    picture = Image.new("RGBA", (4 * diameter, 4 * diameter))
    ImageDraw.Draw(picture).ellipse((0, 0, 4 * diameter - 1, 4 * diameter - 1), (*color, 255))
    return ImageClip(np.asarray(picture.resize((diameter, diameter), Image.Resampling.LANCZOS)))


def _line(text: str, letters: int, width: int, color: tuple[int, int, int]) -> TextClip:
    """One line of text, cut where it is longer than so many pixels."""
    shown = drawable(text)
    font = ImageFont.load_default(letters)
    if font.getlength(shown) > width:
        while shown and font.getlength(f"{shown.rstrip()}...") > width:
            shown = shown[:-1]
        shown = f"{shown.rstrip()}..."
    return _text(shown, letters, color)


def _text(text: str, letters: int, color: tuple[int, int, int]) -> TextClip:
    """Text in Pillow's own font, its height that of the font whatever letters are in it, so that baselines agree."""
    font = cast("ImageFont.FreeTypeFont", ImageFont.load_default(letters))  # as it is where a size is asked for
    size = (math.ceil(font.getlength(text)) + 2, sum(font.getmetrics()))
    return TextClip(text=text or " ", font_size=letters, color=color, size=size, vertical_align="top")


def drawable(text: str) -> str:
    """Text in the letters that Pillow's own font has: accents are dropped, and so is what has no letter there."""
    plain = unicodedata.normalize("NFKD", text.translate({0x2013: "-", 0x2014: "-", 0x2212: "-", 0xD7: "x"}))
    return " ".join("".join(letter for letter in plain if _has_glyph(letter) or letter.isspace()).split())


@cache
def _has_glyph(letter: str) -> bool:
    font = ImageFont.load_default(20)
    return bytes(font.getmask(letter)) != bytes(font.getmask("\uffff"))


# Grids


def label(text: str, width: int, height: int) -> np.ndarray:
    """One dark line on paper, uint8 `(height, width, 3)`, as large as fits."""
    letters = max(SMALLEST_TEXT, int(height * 0.72))
    while letters > SMALLEST_TEXT and ImageFont.load_default(letters).getlength(text) > width - 2:
        letters -= 1
    line = _text(text, letters, INK)
    placed = line.with_position((1, (height - line.h) // 2))
    return CompositeVideoClip([ColorClip((width, height), PAPER), placed], (width, height)).get_frame(0)


def header_height(width: int) -> int:
    """Pixels of the line over a clip of this width."""
    return max(16, width // 10)


def labelled_grid(cells: Sequence[Sequence[tuple[str, np.ndarray] | None]]) -> np.ndarray:
    """Clips in rows and columns, each under its label, on paper.

    Args:
        cells: rows of labels with frames, uint8 `(F, H, W, 3)`, all of one shape; the places of None stay empty.

    Returns:
        uint8 `(F, rows * (H + header + GAP) + GAP, columns * (W + GAP) + GAP, 3)`.
    """
    count, height, width = next(frames for row in cells for _, frames in filter(None, row)).shape[:3]
    header = header_height(width)
    size = (width + GAP, height + header + GAP)
    grid = clips_array([[_cell(cell, header, size) for cell in row] for row in cells], bg_color=PAPER)
    page = CompositeVideoClip([grid], (grid.w + GAP, grid.h + GAP), bg_color=PAPER)
    return np.stack([page.get_frame(number) for number in range(count)])


def _cell(cell: tuple[str, np.ndarray] | None, header: int, size: tuple[int, int]) -> VideoClip:
    """One clip under its label, a frame a second, with the gap that is left of and above it."""
    if cell is None:
        return ColorClip(size, PAPER)
    text, frames = cell
    strip = ImageClip(label(text, size[0] - GAP, header)).with_position((GAP, GAP))
    clip = VideoClip(lambda seconds: frames[int(seconds)]).with_position((GAP, GAP + header))
    return CompositeVideoClip([strip, clip], size, bg_color=PAPER)
