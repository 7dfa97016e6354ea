"""What a file is, by its first bytes and never by its name: the one list of what is read."""

from __future__ import annotations

HEAD = 4096  # bytes of a file that tell its kind

KNOWN_KINDS = (
    "mp4, m4v, mov, 3gp, webm, mkv, avi, gif, apng, ts, mts, m2ts, mpg, mpeg, flv, ogv, wmv, png, jpg, webp, avif, "
    "heic, tif, bmp, and a zip of pictures"
)
"""In the words by which people know them."""

PICTURES = ("PNG", "JPEG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP")
"""What Pillow reads, by its names."""

ZIP = "zip"

_PACK = b"\x00\x00\x01\xba"  # of an MPEG program stream
_SIGNATURES: dict[str, tuple[tuple[int, bytes], ...]] = {
    "gif": ((0, b"GIF87a"), (0, b"GIF89a")),
    "matroska": ((0, b"\x1a\x45\xdf\xa3"),),
    "flv": ((0, b"FLV\x01"),),
    "ogg": ((0, b"OggS"),),
    "asf": ((0, bytes.fromhex("3026b2758e66cf11")),),
    "mpeg": ((0, _PACK),),
    "mov": tuple((4, kind) for kind in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
    "PNG": ((0, b"\x89PNG\r\n\x1a\n"),),
    "JPEG": ((0, b"\xff\xd8\xff"),),
    "TIFF": tuple((0, start) for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ZIP: ((0, b"PK\x03\x04"), (0, b"PK\x05\x06")),
}
"""First bytes of what is read, by the name ffmpeg (or, for pictures, Pillow) has for it."""

_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes of the second header of a BMP
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1"}


def kind_of(head: bytes) -> str | None:
    """The container that the first bytes of a file belong to, by ffmpeg's or Pillow's name; None for any other."""
    for container, signatures in _SIGNATURES.items():
        if any(head[offset : offset + len(magic)] == magic for offset, magic in signatures):
            return _picture_in_boxes(head) or container if container == "mov" else container
    if head[:4] == b"RIFF":
        return {b"AVI ": "avi", b"WEBP": "WEBP"}.get(head[8:12])
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if _is_transport_stream(head):
        return "mpegts"
    return "mpeg" if _PACK in head else None  # a program stream that was cut anywhere


def _picture_in_boxes(head: bytes) -> str | None:
    """AVIF or HEIF, which have the boxes of an mp4, by the brands in the first of them."""
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4], "big"), len(head))
    major, *others = [head[8:12], *(head[start : start + 4] for start in range(16, end, 4))]
    if major in _AVIF_BRANDS or (major in _HEIF_BRANDS and _AVIF_BRANDS & set(others)):
        return "AVIF"
    return "HEIF" if major in _HEIF_BRANDS else None


def _is_transport_stream(head: bytes) -> bool:
    """Transport streams have no header, but a sync byte every 188 bytes; cameras put 4 before each.

    One that was cut anywhere begins within a packet.
    """
    return any(
        head[first : first + 5 * packet : packet] == b"GGGGG" for packet in (188, 192) for first in range(packet)
    )
