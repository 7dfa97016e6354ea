"""How the colours of a video are meant, and the filters of ffmpeg that bring them to sRGB."""

from __future__ import annotations

from bivdiff.errors import InputError
from bivdiff.media import ffmpeg
from bivdiff.media.ffmpeg import SCALER_FLAGS
from bivdiff.media.heads import Head

HDR = {"arib-std-b67": "HLG", "smpte2084": "PQ"}
_WIDE = {"bt2020": "BT.2020", "smpte432": "Display P3", "smpte431": "DCI-P3"}
_TRANSFERS = (*HDR, "bt470m", "bt470bg", "smpte170m", "linear", "log100", "log316", "iec61966-2-1", "iec61966-2-4")
"""Those that zscale knows by ffmpeg's names, beside BT.709 and what equals it."""
_UNKNOWN = ("unknown", "reserved", "unspecified")
_HD = (1280, 577)
"""From which width or height on players take BT.709 where a file does not say; below, BT.601."""

_PRIMARIES = {1: "bt709", 9: "bt2020", 11: "smpte431", 12: "smpte432"}
_TRANSFER = {1: "bt709", 13: "iec61966-2-1", 16: "smpte2084", 18: "arib-std-b67"}
"""ffmpeg's names of the codes by which pictures say how their colours are meant (ITU-T H.273)."""

_WHITE = 203
"""Nits of white in HDR (ITU-R BT.2408); brighter is a light or a reflection."""


def matrix_of(head: Head) -> str:
    """What to take for the matrix of colours where a file of brightness and colour differences does not say."""
    differences = head.pixel_format.startswith(("yuv", "nv", "p0", "p2", "p4", "y2", "uyvy", "yvyu", "vyu", "xv"))
    if not differences or head.matrix not in _UNKNOWN:
        return ""
    if head.primaries == "bt2020" or head.transfer in HDR:
        return "bt2020"
    return "bt709" if head.width >= _HD[0] or head.height >= _HD[1] else "bt601"


def coded_in(content: bytes) -> tuple[str, str]:
    """Primaries and transfer that the first bytes of an AVIF, HEIF or PNG state, by ffmpeg's names, or "unknown"."""
    for mark, size in ((b"colrnclx", 2), (b"\0\0\0\4cICP", 1)):
        place = content.find(mark) + len(mark)
        if place >= len(mark):
            codes = [int.from_bytes(content[at : at + size], "big") for at in (place, place + size)]
            return _PRIMARIES.get(codes[0], "unknown"), _TRANSFER.get(codes[1], "unknown")
    return "unknown", "unknown"


def filters_of(head: Head, name: str) -> tuple[str, str]:
    """The filters that bring the colours of HDR, or of a wide range of colours, to sRGB; and how colours are meant."""
    words = "unlabelled" if head.matrix in _UNKNOWN else head.matrix
    hdr, wide = head.transfer in HDR, head.primaries in _WIDE
    if not hdr and not wide:
        return "", words
    words = ", ".join(filter(None, (HDR.get(head.transfer, ""), _WIDE.get(head.primaries, ""))))
    if not {"zscale", "tonemap"} <= ffmpeg.filters():
        raise InputError(
            f"{name} is HDR or has a wide range of colours ({words}), and the ffmpeg of this machine cannot bring it "
            "into the usual one. Convert it to SDR, BT.709, and try again."
        )
    matrix = matrix_of(head)
    transfer = head.transfer if head.transfer in _TRANSFERS else "bt709"
    primaries = head.primaries if head.primaries not in _UNKNOWN else "bt2020"
    # First to RGB, which knows no half-size colour and no odd side.
    steps = [f"scale=flags={SCALER_FLAGS}{f':in_color_matrix={matrix}' if matrix else ''}", "format=gbrp16le"]
    into = f"zscale=min=gbr:m=gbr:rin=full:r=full:tin={transfer}:pin={primaries}"
    if hdr:
        light = f"{into}:p={primaries}:t=linear:npl={_WHITE}"
        steps += [light, "format=gbrpf32le", "zscale=p=bt709", "tonemap=mobius:desat=0", "zscale=t=bt709:r=full"]
    else:
        steps.append(f"{into}:p=bt709:t={transfer}")
    return ",".join([*steps, "format=gbrp16le"]), words
