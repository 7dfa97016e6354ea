"""Everything bad that may be put in, through the doors people use: the library, the page's endpoints, the command line.

What must be refused is refused with a sentence that says what to do, and what only looks odd works. Faults from within
are here too: numbers that run over in any stage, and a disk that fills up. The models are a stand-in behind the page
(`fake_run.py`) and small real networks behind the pipeline.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
import struct
import threading
import zlib
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from clips import HEIGHT, LOSSY, WIDTH, counting_frames, encode, error, ffmpeg, numbers, smooth_frames
from fake_run import FakeRun, fake_context
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from paper import PAPER_BRIDGE, TWO_STEPS
from PIL import Image

from bivdiff.bridge.pipeline import run
from bivdiff.bridge.reuse import StageCache
from bivdiff.catalog.families import family_named
from bivdiff.catalog.requests import default_request
from bivdiff.catalog.tasks import TASKS
from bivdiff.cli import main as cli
from bivdiff.errors import BIVDiffError, InputError, ModelUnavailableError
from bivdiff.media import targets
from bivdiff.media.ffmpeg import encode as encode_fully
from bivdiff.media.reading import probe, read_clip
from bivdiff.media.source import LIMITS
from bivdiff.media.writing import write_mp4
from bivdiff.models.manager import ModelManager
from bivdiff.settings import Settings
from bivdiff.toybox.clips import load_index
from bivdiff.types import GenerationRequest, GenerationResult, StepEvent
from tabs.page import build_page, launch_options

ROOT = Path(__file__).resolve().parent.parent
NAN, INFINITY = float("nan"), float("inf")
FEW = ["--num-frames", "2", "--num-inference-steps", "1", "--num-inversion-steps", "1", "--num-smoothing-steps", "1"]
TEXT = "playlists and text are refused"


# Odd clips that work


def test_ten_bits_in_the_usual_codec(tmp_path):
    frames = smooth_frames()
    path = encode(tmp_path / "deep.mp4", frames, "10", "-pix_fmt", "yuv420p10le", "-crf", "10")
    assert error(read_clip(path, num_frames=8).frames, frames) < LOSSY


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_phone_on_its_side_shows_what_was_above_above(tmp_path, turn):
    """The file holds the picture turned, and says how to turn it back."""
    upright = np.zeros((3, 96, 64, 3), np.uint8)
    upright[:, :48, :32], upright[:, :48, 32:], upright[:, 48:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    stored = np.ascontiguousarray(np.rot90(upright, -turn // 90, axes=(1, 2)))
    flat = encode(tmp_path / "flat.mp4", stored, "10", "-pix_fmt", "yuv420p")
    path = tmp_path / "phone.mp4"
    ffmpeg("-display_rotation", str(turn), "-i", flat, "-c", "copy", path)
    shown = read_clip(path, num_frames=3).frames
    assert shown.shape == upright.shape
    centres = shown[:, [24, 24, 72], [16, 48, 32]].argmax(-1)
    assert (centres == [0, 1, 2]).all()


def test_a_portrait_clip_keeps_its_middle_or_all_of_it(tmp_path):
    frames = np.zeros((2, 96, 32, 3), np.uint8)
    frames[:, 32:64] = (0, 200, 0)
    path = encode(tmp_path / "tall.mp4", frames, "10", "-pix_fmt", "yuv444p", "-crf", "1")
    assert probe(path)[:2] == (32, 96)
    cropped = read_clip(path, num_frames=2, size=(64, 64)).frames
    assert np.abs(cropped[:, 4:-4].astype(int) - (0, 200, 0)).max() < 12
    padded = read_clip(path, num_frames=2, size=(64, 64), fit="pad").frames
    assert not padded[:, :, :20].any()
    assert not padded[:, :, -20:].any()
    assert padded[:, 26:38, 26:38, 1].mean() > 180


def test_a_variable_rate_in_an_mp4_is_read_at_its_mean(tmp_path):
    """As phones record: frames 0 to 9 last 0.1 s each, frames 10 to 19 last 0.3 s each."""
    timing = "settb=1/1000,setpts='if(lt(N,10),N*100,1000+(N-10)*300)'"
    options = ["-vf", timing, "-fps_mode", "passthrough", "-enc_time_base", "1/1000", "-pix_fmt", "yuv420p", "-bf", "0"]
    path = encode(tmp_path / "phone.mp4", counting_frames(20), "10", *options)
    clip = read_clip(path, num_frames=20)
    assert clip.fps == pytest.approx(19 / 3.7, rel=0.01)
    times = np.where(np.arange(20) < 10, np.arange(20) * 0.1, 1.0 + (np.arange(20) - 10) * 0.3)
    assert np.abs(times[numbers(clip.frames)] - np.arange(20) / clip.fps).max() <= 0.3
    assert numbers(read_clip(path, start=1.3, num_frames=1).frames) == [11]


@pytest.mark.parametrize("size", [(97, 63), (96, 63), (97, 64)])
def test_an_odd_size_in_the_usual_codec_shows_every_pixel(tmp_path, size):
    frames = counting_frames(3, *size)
    path = encode(tmp_path / "odd.mp4", frames, "10", "-pix_fmt", "yuv444p", "-crf", "1")
    assert probe(path)[:2] == size
    assert error(read_clip(path, num_frames=3).frames, frames) < LOSSY
    assert read_clip(path, num_frames=3, size=(64, 64)).frames.shape == (3, 64, 64, 3)


TRANSPARENT = {
    "vp9.webm": ["-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-b:v", "1M"],
    "vp8.webm": ["-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0", "-b:v", "1M"],
    "prores.mov": ["-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"],
    "animation.mov": ["-c:v", "qtrle"],
    "frames.apng": [],
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_what_is_transparent_shows_white_in_every_codec_that_has_it(tmp_path, name):
    rgba = np.zeros((4, HEIGHT, WIDTH, 4), np.uint8)
    rgba[..., 0], rgba[:, :, WIDTH // 2 :, 3] = 255, 255
    raw = ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{WIDTH}x{HEIGHT}", "-r", "10", "-i", "-"]
    ffmpeg(*raw, *TRANSPARENT[name], tmp_path / name, data=rgba.tobytes())
    frames = read_clip(tmp_path / name, num_frames=4).frames.astype(int)
    assert np.abs(frames[:, 8:-8, 8:40] - 255).max() < 8
    assert np.abs(frames[:, 8:-8, 56:-8] - (255, 0, 0)).max() < 16
    later = read_clip(tmp_path / name, start=0.2, num_frames=2).frames.astype(int)
    assert np.abs(later - frames[2:]).mean() < 2


def test_one_frame_is_a_clip_and_more_are_asked_for_in_vain(tmp_path):
    path = encode(tmp_path / "single.mp4", counting_frames(6)[5:], "25", "-pix_fmt", "yuv420p")
    clip = read_clip(path, num_frames=1)
    assert (numbers(clip.frames), clip.fps) == ([5], 25)
    with pytest.raises(InputError, match=r"has 1 frame .* Choose at most 1 "):
        read_clip(path, num_frames=8)


def test_an_hour_is_read_anywhere_and_three_are_too_long(tmp_path):
    hour = encode(tmp_path / "hour.mp4", np.tile(counting_frames(60), (3, 1, 1, 1)), "1/20", "-pix_fmt", "yuv420p")
    assert probe(hour).duration == pytest.approx(3600)
    assert numbers(read_clip(hour, start=20 * 130, num_frames=2).frames) == [10, 11]
    long = encode(tmp_path / "long.mp4", counting_frames(12), "1/1000", "-pix_fmt", "yuv420p")
    with pytest.raises(InputError, match=r"11000 seconds, more than the 7200 seconds .* Cut or shrink it"):
        read_clip(long)


# Bad files, through the library, the page and the command line


def png_that_claims(width: int, height: int) -> bytes:
    """A small file whose header promises a picture that fills the memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files by what is wrong with them, each with what is said of it."""
    good = encode(folder / "good.mp4", counting_frames(40), "10", "-pix_fmt", "yuv420p")
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", folder / "sound.mp4")
    ffmpeg("-i", good, "-vf", "select=0", folder / "no-frame.mp4")
    encode(folder / "one-frame.mp4", counting_frames(1), "10", "-pix_fmt", "yuv420p")
    ffmpeg(
        "-f", "lavfi", "-i", "color=s=9000x5000:d=0.1:r=10", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", folder / "9k.mkv"
    )
    encode(folder / "days.mp4", counting_frames(40), "1/3600", "-pix_fmt", "yuv420p")
    gif = bytearray(b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + bytes(6))
    gif += b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\x00;"
    contents = {
        "empty.mp4": b"",
        "truncated.mp4": good.read_bytes()[:2000],
        "diary.mp4": b"dear diary\n" * 50,
        "playlist.mp4": f"#EXTM3U\n#EXTINF:9,\nfile://{good}\n#EXT-X-ENDLIST\n".encode(),
        "address.mkv": b"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:1/secret.ts\n",
        "list.mov": f"ffconcat version 1.0\nfile '{good}'\n".encode(),
        "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "bomb.png": png_that_claims(60_000, 60_000),
        "bomb.gif": bytes(gif),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    said = {
        "empty.mp4": "is empty.*Upload it again", "truncated.mp4": "could not be decoded.*convert it to mp4",
        "sound.mp4": "only sound.*Choose a file", "no-frame.mp4": "could not be decoded|no picture",
        "one-frame.mp4": "has 1 frame.*Choose at most 1", "9k.mkv": "37.7 megapixels.*Shrink it",
        "days.mp4": "more than the 7200 seconds.*Cut", "diary.mp4": TEXT, "playlist.mp4": TEXT, "address.mkv": TEXT,
        "list.mov": TEXT, "drawing.png": TEXT, "bomb.png": "37.7 megapixels.*Shrink it",
        "bomb.gif": "37.7 megapixels.*Shrink it",
    }  # fmt: skip
    return {name: (folder / name, words) for name, words in said.items()}


BAD = (
    "empty.mp4", "truncated.mp4", "sound.mp4", "no-frame.mp4", "one-frame.mp4", "9k.mkv", "days.mp4", "diary.mp4",
    "playlist.mp4", "address.mkv", "list.mov", "drawing.png", "bomb.png", "bomb.gif",
)  # fmt: skip


@pytest.fixture(scope="module")
def bad(tmp_path_factory) -> dict[str, tuple[Path, str]]:
    return bad_files(tmp_path_factory.mktemp("bad"))


@pytest.fixture(scope="module")
def served():
    return FakeRun()


@pytest.fixture(scope="module")
def address(served, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        page = build_page(fake_context(served))
        _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
        yield url
        page.close()


@pytest.fixture(scope="module")
def client(address, tmp_path_factory):
    return Client(address, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.mark.parametrize("name", BAD)
def test_the_library_says_what_is_wrong_with_a_file(bad, name):
    path, words = bad[name]
    with pytest.raises(InputError, match=words):
        read_clip(path)


# All kinds of bad files are tried where they are read; at each other door one shows that the sentence comes through.


@pytest.mark.parametrize("name", ["playlist.mp4"])
def test_the_page_says_what_is_wrong_with_an_upload_and_runs_nothing(bad, client, served, name):
    path, words = bad[name]
    before = len(served.requests)
    with pytest.raises(AppError, match=words) as told:
        client.predict(video=handle_file(str(path)), api_name="/control")
    assert str(path.parent) not in str(told.value)
    assert get_upload_folder() not in str(told.value)
    assert len(served.requests) == before


@pytest.mark.parametrize("name", ["sound.mp4"])
@pytest.mark.parametrize(
    ("task", "field", "given"),
    [("inpaint", "mask_video", {"mask_source": "upload"}), ("control", "control_video", {"map_source": "upload"})],
)
def test_the_page_says_what_is_wrong_with_a_mask_or_a_map(bad, client, name, task, field, given):
    path, words = bad[name]
    with pytest.raises(AppError, match=words):
        client.predict(**given, **{field: handle_file(str(path))}, api_name=f"/{task}")


@pytest.mark.parametrize("name", ["truncated.mp4"])
def test_the_command_line_says_it_and_leaves_with_status_1(bad, tmp_path, capsys, name):
    path, words = bad[name]
    output = tmp_path / "out.mp4"
    assert cli.main(["run", "--video", str(path), "--prompt", "a red cube", "--output", str(output)]) == 1
    out, err = capsys.readouterr()
    assert re.search(words, err)
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert not out
    assert not list(tmp_path.iterdir())


def test_files_are_accepted_whatever_their_name(client, tmp_path):
    frames = smooth_frames(1, 128, 128)[0]
    for name in ("photo.jpg", "PHOTO.JPG", "photo.jpeg"):
        Image.fromarray(frames).save(tmp_path / name, format="JPEG")
        given = {"map_source": "upload", "control_video": handle_file(str(tmp_path / name))}
        assert client.predict(**given, api_name="/control")[-1]["settings"]["task"] == "control"
    clip = encode(tmp_path / "IMG_0001.MOV", counting_frames(8), "10", "-pix_fmt", "yuv420p")
    for name in ("IMG_0001.MOV", "clip.mpeg4", "blob"):  # the last is what JavaScript's clients send without a name
        clip = clip.rename(tmp_path / name)
        assert client.predict(video=handle_file(str(clip)), api_name="/smooth")[-1]["fps"] == 10


def test_a_mask_of_another_size_is_brought_to_size_and_one_of_another_length_is_refused(client, served, tmp_path):
    def mask(name: str, count: int, width: int, height: int) -> Path:
        pictures = np.zeros((count, height, width, 3), np.uint8)
        pictures[:, : height // 2] = 255
        write_mp4(tmp_path / name, pictures, 8)
        return tmp_path / name

    upload = {"mask_source": "upload", "grow": 0}
    for path in (mask("small.mp4", 8, 48, 48), mask("still.mp4", 1, 300, 300)):
        client.predict(**upload, mask_video=handle_file(str(path)), api_name="/inpaint")
        masks = served.requests[-1].masks
        assert masks.shape == served.requests[-1].frames.shape[:3]
        assert (masks[:, :56] == 255).all()
        assert not masks[:, 72:].any()
    short = handle_file(str(mask("short.mp4", 5, 128, 128)))
    with pytest.raises(AppError, match=r"frame by frame.*has 5 frames.*Choose"):
        client.predict(**upload, mask_video=short, api_name="/inpaint")


def test_masks_that_do_not_go_with_the_clip_are_told_on_the_command_line(tmp_path, capsys):
    clip = str(load_index()[0].file)
    write_mp4(tmp_path / "short.mp4", np.full((3, 128, 128, 3), 255, np.uint8), 8)
    write_mp4(tmp_path / "black.mp4", np.zeros((8, 128, 128, 3), np.uint8), 8)
    for name, words in (("short.mp4", "3 frames"), ("black.mp4", "nothing to make anew")):
        given = ["--task", "inpaint", "--video", clip, "--prompt", "", "--mask", str(tmp_path / name)]
        assert cli.main(["run", *given, "--output", str(tmp_path / "out.mp4")]) == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()


# What clients send straight to the endpoints


def ask(address: str, endpoint: str, **given: object) -> tuple[str, object]:
    """Send any JSON to an endpoint, as no client of Gradio's would; returns the last event and its data."""
    body = json.dumps(given)  # NaN and lone surrogates included
    headers = {"Content-Type": "application/json"}
    sent = httpx.post(f"{address}gradio_api/call/v2/{endpoint}", content=body, headers=headers, timeout=60)
    sent.raise_for_status()
    answer = httpx.get(f"{address}gradio_api/call/{endpoint}/{sent.json()['event_id']}", timeout=60).text
    event, _, data = answer.strip().split("\n\n")[-1].partition("\n")
    return event.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def refusal(address: str, endpoint: str, **given: object) -> str:
    """The sentence with which an endpoint refuses."""
    event, data = ask(address, endpoint, **given)
    assert event == "error", data
    assert data["error"], "refused without a word"
    return data["error"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mixing_ratio": NAN}, "mixing_ratio must be a number from 0 to 1"),
        ({"mixing_ratio": 1.5}, "“Mixing ratio” takes a number from 0 to 1, not 1.5"),
        ({"mixing_ratio": -INFINITY}, "“Mixing ratio” takes a number from 0 to 1, not -inf"),
        ({"mixing_ratio": "half"}, "“Mixing ratio” takes a number from 0 to 1, not 'half'"),
        ({"mixing_ratio": [0.5]}, "“Mixing ratio” takes a number"),
        ({"guidance_scale": NAN}, "guidance_scale must be a number"),
        ({"num_inference_steps": NAN}, "num_inference_steps must be a whole number"),
        ({"num_inference_steps": 10**9}, "“Image steps” takes a number from 1 to 200, not 1000000000"),
        ({"num_frames": NAN}, "“Frames” takes a whole number from 1 to 500,000, not nan"),
        ({"num_frames": 10**6}, "“Frames” takes a whole number from 1 to 500,000"),
        ({"start": NAN}, "The start must be a number of seconds"),
        ({"start": 10**6}, "“Start” takes a number from 0 to 7,200, not 1000000"),
        ({"start": 60}, "is past the end"),
        ({"start": 10**400}, "“Start” takes a number from 0 to 7,200"),
        ({"stride": INFINITY}, "“Every n-th frame” takes a whole number from 1 to 500,000, not inf"),
        ({"stride": 10**9}, "“Every n-th frame” takes a whole number from 1 to 500,000, not 1000000000"),
        ({"seed": NAN, "random_seed": False}, "“Seed” takes a whole number from 0 to 4,294,967,295, not nan"),
        ({"seed": {"a": 1}, "random_seed": False}, "“Seed” takes a whole number"),
        ({"window": 1}, "window must be a whole number from 2"),
        ({"sample": NAN}, "There are 10 sample clips"),
        ({"sample": "first"}, "There are 10 sample clips"),
        ({"control_type": "smell"}, "takes one of canny, depth, not 'smell'"),
        (
            {"mixing_rule": ["linear"]},
            "is not a valid value for mixing_rule. Use linear, variance_preserving, slerp or",
        ),
        ({"mixing_rule": "cubic"}, "takes one of linear, variance_preserving, slerp, capped, not 'cubic'"),
        ({"video": 5}, "takes an uploaded file, not 5"),
        ({"video": ["a.mp4"]}, r"takes an uploaded file, not \['a.mp4'\]"),
        ({"prompt": "x" * 10_000}, "prompt has 10000 characters; at most 2000 are read. Shorten it"),
        ({"prompt": "a\x00b"}, "control characters.*Remove them"),
        ({"prompt": "a\x1b[31mb"}, "control characters.*Remove them"),
        ({"prompt": "a\x7fb"}, "control characters.*Remove them"),
        ({"prompt": "a\x85b"}, "control characters.*Remove them"),
        ({"prompt": "half an emoji \ud83d"}, "control characters.*Remove them"),
        ({"video_prompt": "x" * 10_000}, "video_prompt has 10000 characters"),
        ({"negative_prompt": "\x02"}, "negative_prompt holds control characters"),
    ],
)
def test_a_value_sent_straight_to_the_page_is_refused_with_a_sentence(address, served, given, words):
    before = len(served.requests)
    assert re.search(words, refusal(address, "control", **given))
    assert len(served.requests) == before


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"feather": NAN}, "feather must be a whole number"),
        ({"grow": NAN}, "must be a whole number of pixels"),
        ({"mask_source": "color", "tolerance": NAN}, "tolerance must be a number"),
        ({"mask_source": "boxes", "boxes": "nan, 0, 1, 1"}, "neither pixels nor percent"),
        ({"mask_source": "boxes", "boxes": "0,0,1e999,1;" * 400}, "neither pixels nor percent"),
        ({"mask_source": "paint", "painted": "data:image/png;base64," + "A" * 5_000_000}, "Clear it and paint again"),
        ({"mask_source": "paint", "painted": {"paint": {"path": "/etc/passwd"}}}, "Clear it and paint again"),
    ],
)
def test_a_mask_sent_straight_to_the_page_is_refused_with_a_sentence(address, given, words):
    assert re.search(words, refusal(address, "inpaint", **given))


def test_prompts_of_any_script_reach_the_run(address, served):
    for prompt in ("красный куб 赤い立方体", "مكعب أحمر लाल घन", "a 🟥 👩‍🚀\nand\ta line"):
        event, _ = ask(address, "smooth", prompt=prompt)
        assert event == "complete"
        assert served.requests[-1].prompt == prompt


# Files of the server, and of other visitors


class Neighbour(BaseHTTPRequestHandler):
    """A service that only this machine should reach; it counts who comes."""

    visits = 0

    def do_GET(self) -> None:
        type(self).visits += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(load_index()[0].file.read_bytes())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def neighbour():
    Neighbour.visits = 0
    server = HTTPServer(("127.0.0.1", 0), Neighbour)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/clip.mp4"
    server.shutdown()
    server.server_close()


SERVER_PATHS = (
    "/etc/passwd", "/proc/self/environ", "README.md", "assets/clips/bouncing-ball.mp4", "../../etc/passwd",
    str(ROOT / "assets/clips/bouncing-ball.mp4"), "file:///etc/passwd", "concat:/etc/passwd", "clip\x00.mp4", "",
)  # fmt: skip
FIELDS = {
    "video": ("control", {}),
    "control_video": ("control", {"map_source": "upload"}),
    "mask_video": ("inpaint", {"mask_source": "upload"}),
    "prompt": ("smooth", {}),
    "painted": ("inpaint", {"mask_source": "paint"}),
}


@pytest.mark.parametrize("field", FIELDS)
def test_no_file_of_the_server_and_no_address_passes_for_an_upload(address, neighbour, served, field):
    endpoint, given = FIELDS[field]
    before = len(served.requests)
    others = (neighbour, neighbour.replace("127.0.0.1", "localhost"), "https://example.org/clip.mp4")
    for path in (*SERVER_PATHS, *others) if field == "video" else (SERVER_PATHS[0], SERVER_PATHS[3], neighbour):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "clip.mp4"}
        for sent in (file, {"sheet": None, "paint": file} if field == "painted" else file):
            told = refusal(address, endpoint, **given, **{field: sent})
            assert "Upload the file" in told
            assert str(ROOT) not in told
    assert Neighbour.visits == 0
    assert len(served.requests) == before


def test_a_file_in_the_uploads_that_is_not_there_is_told(address):
    file = {"path": f"{get_upload_folder()}/nowhere/clip.mp4", "meta": {"_type": "gradio.FileData"}}
    assert "is not there" in refusal(address, "control", video=file)
    assert "is not there" in refusal(address, "control", video={**file, "path": file["path"] + ".txt"})


def test_no_address_of_the_page_leads_to_a_file_of_the_server(address, neighbour):
    paths = [
        "/etc/passwd", "/proc/self/environ", str(ROOT / "app.py"), "app.py", "assets/style.css", "../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", get_upload_folder(), get_upload_folder() + "/",
        get_upload_folder() + "/*", str(Path(get_upload_folder()).parent), neighbour, "file:///etc/passwd",
    ]  # fmt: skip
    for door in ("gradio_api/file=", "gradio_api/file/", "gradio_api/proxy=", "static/", "assets/", "svelte/"):
        for path in paths:
            answer = httpx.get(f"{address}{door}{path}")
            assert answer.status_code >= 400, (door, path)
            assert "root:" not in answer.text
    assert Neighbour.visits == 0


def test_what_everyone_may_read_names_no_folder_of_the_server(address):
    for page in ("", "config", "gradio_api/info", "gradio_api/openapi.json", "monitoring/summary"):
        text = httpx.get(address + page).text
        assert str(ROOT) not in text, page
        assert get_upload_folder() not in text, page


def test_what_one_visitor_made_is_reached_only_by_an_address_that_cannot_be_guessed(address, tmp_path):
    one, other = (Client(address, verbose=False, download_files=False) for _ in range(2))
    clip = encode(tmp_path / "mine.mp4", counting_frames(9), "10", "-pix_fmt", "yuv420p")
    files = one.predict(video=handle_file(str(clip)), api_name="/smooth")
    paths = [Path(file["path"] if isinstance(file, dict) else file) for file in (*files[:2], *files[3:5])]
    secrets = {path.parent.name for path in paths}
    assert all(re.fullmatch("[0-9a-f]{32,}", secret) for secret in secrets)
    for path in paths:
        folder = path.parent
        assert httpx.get(f"{address}gradio_api/file={path}").status_code == 200  # to those who know it
        wrong = folder.name[:-1] + ("0" if folder.name[-1] != "0" else "1")
        for guess in (
            folder,
            f"{folder}/",
            folder / "*",
            folder.with_name("*") / path.name,
            folder.with_name(wrong) / path.name,
        ):
            assert httpx.get(f"{address}gradio_api/file={guess}").status_code >= 400
    everything = [httpx.get(address + page).text for page in ("", "config", "gradio_api/info", "monitoring/summary")]
    everything += [json.dumps(other.predict(api_name=name), default=str) for name in ("/smooth_page", "/smooth")]
    assert not [secret for secret in secrets if any(secret in text for text in everything)]


def test_uploads_are_bounded_in_bytes_with_a_sentence_and_nothing_is_kept(tmp_path, monkeypatch):
    assert launch_options()["max_file_size"] == LIMITS.file_bytes
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    page = build_page(fake_context(FakeRun()))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **{**launch_options(), "max_file_size": 10_000})
    try:
        answer = httpx.post(f"{url}gradio_api/upload", files={"files": ("large.mp4", bytes(20_000))})
        assert answer.status_code == 413
        assert "maximum allowed size of 10000 bytes" in answer.text
        assert not list((tmp_path / "uploads").rglob("*.mp4"))
    finally:
        page.close()


def test_all_uploads_together_are_bounded_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    page = build_page(fake_context(FakeRun()))
    _, url, _ = page.launch(
        prevent_thread_lock=True, quiet=True, **launch_options(replace(Settings(), uploads_size="60kB"))
    )
    try:
        first, second, small = (
            httpx.post(f"{url}gradio_api/upload", files={"files": (f"{size}.mp4", bytes(size))})
            for size in (30_000, 30_001, 5_000)
        )
        assert (first.status_code, second.status_code, small.status_code) == (200, 507, 200)
        assert "no room for more uploads" in second.text
        assert httpx.get(url).status_code == 200
    finally:
        page.close()
    with pytest.raises(InputError, match="is not a valid amount of memory"):
        launch_options(replace(Settings(), uploads_size="much"))


def test_the_bounds_are_stated_on_the_page(address):
    """Bytes, seconds and pixels of what may be uploaded, beside every place for a clip."""
    limits = LIMITS
    config = httpx.get(f"{address}config").json()
    labels = [part["props"].get("label") or "" for part in config["components"] if part["type"] == "file"]
    own = [label for label in labels if label.startswith("Or a clip of your own")]
    assert len(own) == len(TASKS)
    for label in own:
        assert f"{limits.file_bytes // 2**30} GB" in label
        assert f"{limits.seconds / 3600:g} hours" in label
        assert "8K" in label
    # Who sits at the machine may take as many frames as there are; visitors have a slider to their bound.
    frames = [part for part in config["components"] if part["props"].get("label") == "Frames"]
    assert {part["props"]["maximum"] for part in frames if part["type"] == "number"} == {limits.source_frames}
    assert not [part for part in frames if part["type"] == "slider"]


# The command line


@pytest.fixture
def random_toybox(monkeypatch, toybox_folder):
    monkeypatch.setenv("BIVDIFF_TOYBOX_FOLDER", str(toybox_folder))
    monkeypatch.setenv("BIVDIFF_DEVICE", "cpu")
    return ["run", "--video", str(load_index()[0].file), "--prompt", "a red cube", *FEW]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mixing-ratio", "nan"], "mixing_ratio must be a number from 0 to 1; got nan"),
        (["--guidance-scale", "inf"], "guidance_scale must be a number from 1 to 30"),
        (["--start", "nan"], "start must be a number of seconds"),
        (["--frame-stride", "0"], "stride must be a whole number"),
        (["--num-frames", "-3"], "num_frames must be a whole number"),
        (["--seed", "-1"], "seed must be a whole number"),
        (["--control-end", "nan"], "control end must be a number"),
        (["--prompt", "x" * 10_000], "prompt has 10000 characters"),
        (["--prompt", "a\x07b"], "control characters"),
        (["--size", "nan"], "size"),
        (["--task", "inpaint", "--color-key", "#00ff00", "--tolerance", "nan"], "tolerance must be a number"),
        (["--task", "outpaint", "--extend", "nan"], "nan"),
        (["--video", "http://127.0.0.1:1/clip.mp4"], "is not there"),
        (["--video", "concat:/etc/passwd"], "is not there"),
        (["--video", "/etc/passwd"], TEXT),
        (["--video", "/dev/zero"], "not a regular file"),
    ],
)
def test_values_that_cannot_be_used_end_the_command_with_a_sentence(random_toybox, capsys, tmp_path, arguments, words):
    assert cli.main([*random_toybox, *arguments, "--output", str(tmp_path / "out.mp4")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert words in err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_written_to_is_told_before_anything_runs(random_toybox, capsys, tmp_path, monkeypatch):
    """Whatever the rights of who runs the tests, the system is made to refuse."""
    writes = targets.tempfile.TemporaryDirectory

    def refuses(*given, **options):
        if options.get("dir") == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))
        return writes(*given, **options)

    monkeypatch.setattr(targets.tempfile, "TemporaryDirectory", refuses)
    assert cli.main([*random_toybox, "--output", str(tmp_path / "out.mp4")]) == 1
    err = capsys.readouterr().err
    assert "may not be written to: Permission denied. Choose another" in err
    assert "Loading" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder in which nobody can make a file is Linux's own")
def test_a_folder_that_refuses_at_the_end_is_told(random_toybox, capsys):
    assert cli.main([*random_toybox, "--output", "/proc/self/out.mp4"]) == 1
    assert re.search(
        r'"out\.mp4" could not be written: .*may be written to|may not be written to', capsys.readouterr().err
    )


def test_a_disk_that_fills_up_ends_the_command_with_a_sentence_and_no_half_file(
    random_toybox, capsys, tmp_path, monkeypatch
):
    written = []

    def encode_one(frames, rate, path, options, heard):
        written.append(path)
        if len(written) > 1:
            path.write_bytes(b"the first half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        encode_fully(frames, rate, path, options, heard)

    monkeypatch.setattr("bivdiff.media.ffmpeg.encode", encode_one)
    assert cli.main([*random_toybox, "--output", str(tmp_path / "out.mp4")]) == 1
    err = capsys.readouterr().err
    assert "could not be written: No space left on device" in err
    assert "has free space" in err
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]  # what was whole by then
    assert probe(tmp_path / "out.mp4").num_frames == 2


def test_a_disk_that_fills_up_is_told_on_the_page_and_nothing_is_left(client, monkeypatch):
    def full(_frames, _rate, path, *_):
        path.write_bytes(b"the first half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folders = set(Path(get_upload_folder()).iterdir())
    monkeypatch.setattr("bivdiff.media.ffmpeg.encode", full)
    with pytest.raises(AppError, match=r"No space left on device.*has free space"):
        client.predict(api_name="/smooth")
    panel, shown, *_ = client.predict(api_name="/smooth_page")
    assert panel["state"] == "done"
    assert "No space left" in panel["detail"]
    assert all(tile["sheet"] for tile in shown["tiles"])
    assert [
        path for path in set(Path(get_upload_folder()).iterdir()) - folders if path.is_dir() and any(path.iterdir())
    ] == []


# Checkpoints


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("component", ["vae", "unet", "text_encoder", "controlnet-canny"])
@pytest.mark.parametrize("plain", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(settings, tmp_path, component, plain):
    folder, trace = tmp_path / "toybox", tmp_path / "ran"
    shutil.copytree(settings.toybox_folder, folder)
    (weights,) = (folder / component).glob("*.safetensors")
    weights.unlink()
    pickled = weights.with_name("pytorch_model.bin" if component == "text_encoder" else "diffusion_pytorch_model.bin")
    if plain:
        pickled.write_bytes(pickle.dumps({"weight": Bomb(trace)}))
    else:
        torch.save({"weight": torch.zeros(2), "callbacks": Bomb(trace)}, pickled)
    family = family_named("toybox")
    spec = family.networks["controlnet"]["canny"] if component.startswith("controlnet") else getattr(family, component)
    manager = ModelManager(replace(settings, toybox_folder=folder))
    with pytest.raises(ModelUnavailableError, match=r"fetch them again|run code"), manager.use(spec):
        pass
    assert not trace.exists()
    assert manager.held() == []


@pytest.mark.parametrize("given", ["nowhere.safetensors", "bomb.safetensors", "text.safetensors", "bomb.ckpt"])
def test_a_base_model_of_ones_own_that_is_none_ends_with_a_sentence(
    random_toybox, capsys, tmp_path, monkeypatch, given
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("BIVDIFF_HOST_MEMORY", "64GB")  # whatever else runs on this machine
    trace = tmp_path / "ran"
    contents = {"bomb": pickle.dumps(Bomb(trace)), "text": b"no weights at all"}
    if given.partition(".")[0] in contents:
        (tmp_path / given).write_bytes(contents[given.partition(".")[0]])
    arguments = ["--family", "sd15", "--base-model", str(tmp_path / given), "--output", str(tmp_path / "out.mp4")]
    assert cli.main([*random_toybox, *arguments]) == 1
    err = capsys.readouterr().err
    assert "error: " in err
    assert ("cannot be read" in err) == (given != "nowhere.safetensors")
    assert ("holds more than tensors" in err) == given.endswith(".ckpt")
    assert "Traceback" not in err
    assert not trace.exists()
    assert not (tmp_path / "out.mp4").exists()


# Numbers that run over


STAGES = {
    "framewise": ("unet", 1, "“Frame by frame”"),
    "framewise, at its end": ("unet", 2, "step 2 of 2 of “Frame by frame”"),
    "control network": ("controlnet", 1, "“Frame by frame”"),
    "words": ("text_encoder", 1, "“Frame by frame”"),
    "decoding": ("decoder", 1, "while the frames were decoded"),
    "encoding": ("encoder", 1, "while the frames were encoded"),
    "image inversion": ("unet", 4, "step 2 of 2 of “Inverting with the image model”"),
    "video inversion": ("video", 1, "step 1 of 2 of “Inverting with the video model”"),
    "smoothing": ("video", 3, "step 1 of 2 of “Smoothing”"),
    "smoothing, at its end": ("video", 4, "step 2 of 2 of “Smoothing”"),
    "decoding the result": ("decoder", 4, "while the frames were decoded"),
}


def parts_of(models: list) -> dict[str, torch.nn.Module]:
    vae, text_encoder, unet, video, controlnet = models
    return {"unet": unet, "video": video, "controlnet": controlnet, "text_encoder": text_encoder,
            "decoder": vae.decoder, "encoder": vae.encoder}  # fmt: skip


def spoiled(output: object, value: float) -> object:
    """The same output with one number replaced, wherever a network keeps its numbers."""
    if isinstance(output, torch.Tensor):
        output = output.clone(memory_format=torch.contiguous_format)
        output.view(-1)[0] = value
        return output
    if isinstance(output, list | tuple):
        return type(output)(spoiled(part, value) for part in output)
    for name, part in output.items():
        output[name] = spoiled(part, value)
    return output


@pytest.fixture(scope="module")
def clean(manager, source_frames):
    """A request that runs every stage, and its clip where nothing runs over."""
    few = {"mixing_ratio": 0.5, "guidance_scale": 1.0, "smoothing_guidance_scale": 1.0, "seed": 1}
    few |= {**PAPER_BRIDGE, **TWO_STEPS}
    request = default_request("control", "toybox", source_frames, "a red cube on a green floor at noon", **few)
    *_, result = run(request, manager)
    return result


@pytest.mark.parametrize(
    ("stage", "value"), [*((stage, NAN) for stage in STAGES), ("framewise", INFINITY), ("decoding", INFINITY)]
)
def test_a_number_that_runs_over_is_caught_and_named_in_every_stage(clean, manager, stage, value):
    """One number of one evaluation is enough: no frame of it is shown, kept or handed on."""
    name, at, words = STAGES[stage]
    family = family_named("toybox")
    specs = (family.vae, family.text_encoder, family.unet, family.video_models["toybox-video"].unet)
    cache, calls, seen = StageCache(), [], []

    def spoil(_module, _inputs, output):
        calls.append(1)
        return spoiled(output, value) if len(calls) == at else None

    with manager.use(*specs, family.networks["controlnet"]["canny"]) as models:
        hook = parts_of(models)[name].register_forward_hook(spoil)
        with pytest.raises(BIVDiffError, match=r"ran over \(NaN\).*Lower the guidance scale.*full precision") as told:
            seen.extend(run(clean.request, manager, cache))
        hook.remove()
    assert words in str(told.value)
    assert not any(isinstance(event, GenerationResult) for event in seen)
    previews = [event.preview for event in seen if isinstance(event, StepEvent) and event.preview is not None]
    assert all(preview.any() for preview in previews)
    *_, again = run(clean.request, manager, cache)
    assert np.array_equal(again.frames, clean.frames)  # nothing spoiled was kept for later runs


def test_a_run_that_runs_over_is_told_on_the_page():
    error = BIVDiffError("A model's numbers ran over (NaN) in step 2 of 4. Lower the guidance scale.")
    page = build_page(fake_context(FakeRun(error=error)))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    try:
        assert "ran over (NaN)" in refusal(url, "control")
        panel, player, *_ = Client(url, verbose=False).predict(api_name="/control_page")
        assert panel["state"] == "failed"
        assert "ran over (NaN)" in panel["headline"]
        bridged = next(tile for tile in player["tiles"] if tile["label"] == "Bridged")
        assert not bridged["sheet"]
    finally:
        page.close()


# The request


@pytest.mark.parametrize("text", ["a\x7fb", "a\x85b", "a\x9bb", "\ud800", "a\x00"])
def test_characters_that_no_model_reads_are_refused(request_of, text):
    for field in ("prompt", "video_prompt", "negative_prompt", "inversion_prompt", "source_prompt"):
        with pytest.raises(InputError, match=rf"{field} holds control characters.*Remove them"):
            request_of(**{field: text})


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY, None, "1", [1], 1e400, 10**400, True])
def test_no_number_of_a_request_may_be_anything_else(source_frames, value):
    optional = {"seed", "window"} if value is None else set()
    names = [name for name, kind in GenerationRequest.__annotations__.items() if kind.split(" ")[0] in {"int", "float"}]
    assert len(names) > 12
    for name in set(names) - optional:
        with pytest.raises(InputError, match=f"{name} must be a (whole )?number"):
            default_request("control", "toybox", source_frames, "").__class__(
                frames=source_frames, prompt="", task="control", family="toybox", image_model="controlnet",
                video_model="toybox-video", **{name: value},
            )  # fmt: skip
