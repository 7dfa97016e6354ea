"""What a TIFF holds: one picture, several that are one clip, or something that is not to be read."""

from __future__ import annotations

import struct
from typing import IO, Any

from PIL import Image

from bivdiff.errors import InputError
from bivdiff.media.source import Limits

_COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "jpeg")
"""By Pillow's names. What else there is, nobody paints or renders in, and every decoder more is one to be attacked."""

_SUBFILE, _TILE_WIDTH, _TILE_HEIGHT, _RAW = 254, 322, 323, 50706  # numbers of tags; the last is the version of a DNG
_SMALLER = 1  # the bit of the first that says: a small version of another picture of this file
_MAX_PAGES, _MAX_TAGS, _MAX_NUMBERS = 2**14, 2**8, 2**20
"""Of a file, of a page and of a tag: Pillow makes numbers of all that a file says there are."""

_BYTES = (1, 2, 6, 7)  # types of tags whose values are no numbers, or are kept as bytes
_CANON = (8, b"CR")  # what stands in a CR2, and where


def check_directories(file: IO[bytes]) -> None:
    """Look at a file's tables of contents before anything that they announce is made room for.

    Raises:
        ValueError, struct.error: they announce more than a picture has.
    """
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:1] == b"I" else ">"
    big = 43 in head[2:4]
    counter, entry, link = (f"{order}{form}" for form in (("Q", "HHQ8x", "Q") if big else ("H", "HHI4x", "I")))
    place = struct.unpack_from(link, head, 8 if big else 4)[0]
    seen: set[int] = set()
    while place and place not in seen:
        seen.add(place)
        file.seek(place)
        (count,) = struct.unpack(counter, file.read(struct.calcsize(counter)))
        if count > _MAX_TAGS or len(seen) > _MAX_PAGES:
            raise ValueError
        tags = file.read(count * struct.calcsize(entry))
        if any(kind not in _BYTES and numbers > _MAX_NUMBERS for _, kind, numbers in struct.iter_unpack(entry, tags)):
            raise ValueError
        (place,) = struct.unpack(link, file.read(struct.calcsize(link)).ljust(struct.calcsize(link), b"\0"))


def check_page(picture: Any, name: str, limits: Limits) -> None:
    """Refuse a page that cannot be read safely, or would be read as something else than it is.

    Raises:
        InputError: it is.
        Image.DecompressionBombError: it is larger than is accepted.
    """
    tags = picture.tag_v2
    if _RAW in tags or int(tags.get(_SUBFILE, 0)) & _SMALLER or _is_canons(picture.fp):
        raise InputError(
            f"{name} is a camera's raw file, of which only a small preview could be read here. Develop it, save it as "
            "JPEG, PNG or TIFF, and try again."
        )
    compression = picture.info.get("compression", "raw")
    if compression not in _COMPRESSIONS or picture.mode == "F":
        what = "fractions for its levels" if picture.mode == "F" else f"the compression {compression!r:.20}"
        raise InputError(f"{name} has {what}, which is not read. Save it with 8 or 16 bits and LZW, and try again.")
    if int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_HEIGHT, 0)) > limits.pixels:
        raise Image.DecompressionBombError


def pages_of(picture: Any, name: str, limits: Limits) -> tuple[int, tuple[str, ...]]:
    """How many pages are a clip: all, if they have one size, or else the first; and what is to be said of that.

    Raises:
        InputError, Image.DecompressionBombError: see `check_page`.
    """
    size, count = picture.size, 1
    notes: tuple[str, ...] = ()
    while not notes:
        try:
            picture.seek(count)
        except EOFError:
            break
        if picture.size == size:
            check_page(picture, name, limits)
            count += 1
        else:
            count = 1
            notes = (f"{name} has pages of different sizes, which are no clip: the first of them is used.",)
    picture.seek(0)
    return count, notes


def _is_canons(file: Any) -> bool:
    start, sign = _CANON
    file.seek(start)
    return bool(file.read(len(sign)) == sign)
