"""Where the files of a component lie, and how they get there."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi, constants, errors, hf_hub_download
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

from bivdiff.catalog.specs import SAFETENSORS, TOYBOX_REPO, WEIGHT_FILES, ModelSpec
from bivdiff.errors import ModelUnavailableError
from bivdiff.models.loaders import CONFIG, KINDS, check_config
from bivdiff.models.loaders.kind import Source, Weights
from bivdiff.models.loaders.pipelines import INDEX, check_index
from bivdiff.models.loaders.schedules import SCHEDULER
from bivdiff.settings import Settings

if TYPE_CHECKING:
    import torch

Report = Callable[[int, int], None]

ADDITION = "addition"
"""The kind of component that a LoRA or a textual inversion is."""
_PEFT_CONFIG = "adapter_config.json"
_USUAL_LORA = "pytorch_lora_weights.safetensors"

# A set of files is complete when its last one is there: so an interrupted download never passes for a whole one.
_TOKENIZER_EXTRAS = ("special_tokens_map.json", "added_tokens.json", "tokenizer_config.json")
_VOCABULARY = ("vocab.json", "merges.txt")
_PIECES = "spiece.model"
_FAST_TOKENIZER = "tokenizer.json"


def choose_files(names: Sequence[str], spec: ModelSpec) -> list[str]:
    """The files that a component is read from, in the order they should arrive in.

    Args:
        names: the files of its repository, as POSIX paths from the root.
        spec: the component.

    Returns:
        Those of `names` that it needs; none if what it needs is not all there. Safetensors go before pickles, then the
        component's variant before plain weights before float16.
    """
    chosen: list[str] = []
    for part in _parts(spec):
        start = f"{part.folder}/" if part.folder and not _lies_alone(part, names) else ""
        found = _choose({name.removeprefix(start) for name in names if name.startswith(start)}, part)
        if not found:
            return []
        chosen += [start + name for name in found]
    return chosen


def _parts(spec: ModelSpec) -> list[ModelSpec]:
    """A component once for each folder that holds a part of it."""
    return [spec, *(replace(spec, folder=folder) for folder in spec.also)]


def weights_of(spec: ModelSpec, root: Path) -> Weights:
    """Which of the weights under `root`, as `find` gives it, are to be read."""
    if root.is_file():
        return Weights(None, use_safetensors=True)
    return _choose_weights(_names(_folder_of(spec, root), spec), spec)[1]


def source_of(spec: ModelSpec, root: Path, settings: Settings, dtype: torch.dtype, base: Any = None) -> Source:
    """What a component is read from, its additions included, which are downloaded where they are not there.

    Args:
        spec: the component.
        root: of its files, as `find` gives it.
        settings: say where files may lie.
        dtype: that its weights are to have.
        base: the loaded component of `spec.base`, if it has one.

    Raises:
        ModelUnavailableError: an addition is not there, and cannot be downloaded.
    """
    placed = replace(spec, folder="") if root.is_dir() and _folder_of(spec, root) == root else spec
    return Source(placed, root, weights_of(spec, root), dtype, base, pull_additions(spec, settings))


def find(spec: ModelSpec, settings: Settings) -> Path | None:
    """The root of the folder on this machine that holds all of a component's files, in its repository's layout.

    The app's own files, a path of one's own, the models folder and the hub library's cache are asked in this order.

    Returns:
        The root; the file itself where `spec.repo` is a file of weights; None if there is neither.
    """
    return next((root for root in _roots(spec, settings) if _holds(root, spec)), None)


def files_of(spec: ModelSpec, root: Path) -> list[Path]:
    """The files that a component is read from, under `root` as `find` gives it; empty where they are not all there."""
    if root.is_file():
        return [root] if spec.kind == ADDITION or (KINDS[spec.kind].alone and root.suffix in WEIGHT_FILES) else []
    chosen: list[Path] = []
    for part in _parts(spec):
        folder = _folder_of(part, root)
        found = _choose(_names(folder, part), part)
        if not found:
            return []
        chosen += [folder / name for name in found]
    return chosen


def _folder_of(spec: ModelSpec, root: Path) -> Path:
    """Where under `root` a component's files lie."""
    inside = root / spec.folder
    return inside if inside.is_dir() or not _lies_alone(spec, [path.name for path in root.iterdir()]) else root


def _lies_alone(spec: ModelSpec, names: Collection[str]) -> bool:
    """Whether these are the files of a U-Net that was saved by itself, as its `save_pretrained` does."""
    inside = any(name == spec.folder or name.startswith(f"{spec.folder}/") for name in names)
    return spec.kind == "unet" and CONFIG in names and INDEX not in names and not inside


def bytes_on_disk(spec: ModelSpec, root: Path) -> int:
    """How many bytes the files take that a component is read from, under `root` as `find` gives it."""
    return sum(path.stat().st_size for path in files_of(spec, root))


def addition(name: str) -> ModelSpec:
    """A LoRA or a textual inversion, as a component: a file, a folder or repository that holds one, or
    `owner/name/file` for one of a repository's several.
    """  # noqa: D205 - three ways to name one
    owner, _, rest = name.partition("/")
    repo, _, file = rest.partition("/")
    local = Path(name).expanduser().exists() or not owner or owner in {".", "..", "~"}
    if local or not file:
        return ModelSpec(key=name, kind=ADDITION, repo=name)
    folder, _, file = file.rpartition("/")
    return ModelSpec(key=name, kind=ADDITION, repo=f"{owner}/{repo}", folder=folder, file=file)


def additions(spec: ModelSpec) -> list[ModelSpec]:
    """What is added to a component after it was read: its LoRAs and its textual inversions."""
    return [addition(name) for name in (*(path for path, _ in spec.loras), *spec.embeddings)]


def pull_additions(spec: ModelSpec, settings: Settings) -> dict[str, Path]:
    """The file of each LoRA and textual inversion of a component, by the name that the component has for it.

    Raises:
        ModelUnavailableError: one is not there, and cannot be downloaded.
    """
    return {each.key: files_of(each, pull(each, settings))[-1] for each in additions(spec)}


def stamp(spec: ModelSpec, settings: Settings) -> str:
    """Size and date of each file that a component is read from, what is added to it and what it is built on included.

    Files of equal stamps are taken to hold the same: a file's date changes whenever it is written, while reading
    gigabytes of weights to hash them would take as long as the stage that is to be saved.
    """
    root = find(spec, settings)
    stats = [path.stat() for path in files_of(spec, root)] if root else []
    others = [*additions(spec), *([spec.base] if spec.base else [])]
    return " ".join([f"{[(stat.st_size, stat.st_mtime_ns) for stat in stats]}", *(stamp(o, settings) for o in others)])


def pull(spec: ModelSpec, settings: Settings, report: Report | None = None) -> Path:
    """Find a component's files, or download them into the hub library's cache.

    Tokens, endpoint, cache and offline mode are those of the hub library.

    Args:
        spec: the component.
        settings: say where the toybox and the models folder are.
        report: called with the bytes that have arrived and the bytes of all its files, maybe from another thread; not
            called if there is nothing to download.

    Returns:
        What `find` gives.

    Raises:
        ModelUnavailableError: the files are not there, and cannot be downloaded.
    """
    if root := find(spec, settings):
        return root
    sizes: dict[str, int] = {}
    try:
        _check_on_hub(spec, settings)
        sizes |= _sizes_on_hub(spec)
        _download(spec, sizes, report or (lambda _done, _total: None))
    except _FAILURES as error:
        raise ModelUnavailableError(_sentence(error, spec, settings, sum(sizes.values()))) from error
    if root := find(spec, settings):
        return root
    raise ModelUnavailableError(f"The repository '{spec.repo}' changed while it was fetched. Try again.")


def _choose(inside: set[str], spec: ModelSpec) -> list[str]:
    """What `choose_files` does, for names from the component's folder."""
    if spec.file:
        return [spec.file] if spec.file in inside else []
    if spec.kind == ADDITION:
        return _choose_addition(inside)
    if KINDS[spec.kind].holds == "tokenizer":
        chosen = [name for name in (*_TOKENIZER_EXTRAS, *_VOCABULARY, _PIECES, _FAST_TOKENIZER) if name in inside]
        return chosen if inside.intersection((_FAST_TOKENIZER, _PIECES)) or inside.issuperset(_VOCABULARY) else []
    if KINDS[spec.kind].holds == "schedule":
        return [SCHEDULER] if SCHEDULER in inside else []
    weights, _ = _choose_weights(inside, spec)
    if KINDS[spec.kind].holds == "pipeline":
        return _choose_pipeline(inside, weights)
    return [CONFIG, *weights] if weights and CONFIG in inside else []


def _choose_pipeline(inside: set[str], weights: list[str]) -> list[str]:
    """The index first, so that what cannot be used costs no download, then all that is small, and the weights."""
    small = sorted(name for name in inside if "/" in name and name.endswith((".json", ".txt", ".model", ".jinja")))
    others = [name for name in small if ".index." not in name]
    return [INDEX, *others, *weights] if weights and INDEX in inside else []


def _choose_addition(inside: set[str]) -> list[str]:
    """The one file of weights that there is, or the one with the name that diffusers gives; none if one cannot tell.

    Where peft has written what belongs to it, that goes before.
    """
    beside = [_PEFT_CONFIG] if _PEFT_CONFIG in inside else []
    for ending in (SAFETENSORS, ".pt", ".bin"):
        found = [name for name in inside if name.endswith(ending)]
        if len(found) == 1:
            return beside + found
        if _USUAL_LORA in found:
            return [_USUAL_LORA]
    return []


def _choose_weights(inside: set[str], spec: ModelSpec) -> tuple[list[str], Weights]:
    for ending in ("safetensors", "bin"):
        # Some repositories, of one's own above all, have float16 weights alone, and nobody said so.
        for variant in dict.fromkeys((spec.variant, "", "fp16")):
            chosen = Weights(variant or None, use_safetensors=ending == "safetensors")
            if KINDS[spec.kind].holds == "pipeline":
                files = _weights_of_folders(inside, f".{variant}" if variant else "", ending)
            else:
                files = _weight_files(inside, _stem(spec, ending), f".{variant}" if variant else "", ending)
            if files:
                return files, chosen
    return [], Weights(None, use_safetensors=False)


def _weights_of_folders(inside: set[str], variant: str, ending: str) -> list[str]:
    """The weights of each folder of a pipeline that has a config; none if any of them lacks its own."""
    found: list[str] = []
    for folder in sorted(name.removesuffix("/config.json") for name in inside if name.endswith("/config.json")):
        if folder.startswith("tokenizer"):
            continue  # some bear the config of their text encoder
        names = {name.removeprefix(f"{folder}/") for name in inside if name.startswith(f"{folder}/")}
        stems = ("diffusion_pytorch_model", "model" if ending == "safetensors" else "pytorch_model")
        files = next(filter(None, (_weight_files(names, stem, variant, ending) for stem in stems)), [])
        if not files:
            return []
        found += [f"{folder}/{name}" for name in files]
    return found


def _stem(spec: ModelSpec, ending: str) -> str:
    if not KINDS[spec.kind].by_transformers:
        return "diffusion_pytorch_model"
    return "model" if ending == "safetensors" else "pytorch_model"


def _weight_files(inside: set[str], stem: str, variant: str, ending: str) -> list[str]:
    """One file, or an index and every shard; none if any of them is missing."""
    if f"{stem}{variant}.{ending}" in inside:
        return [f"{stem}{variant}.{ending}"]
    index = f"{stem}.{ending}.index{variant}.json"
    if index not in inside:
        return []
    # The libraries have put the variant on either side of the number.
    for before, after in ((stem + variant, f".{ending}"), (stem, f"{variant}.{ending}")):
        shard = re.compile(re.escape(before) + r"-\d{5}-of-(\d{5})" + re.escape(after))
        for count in sorted({match[1] for name in inside if (match := shard.fullmatch(name))}):
            shards = [f"{before}-{number:05}-of-{count}{after}" for number in range(1, int(count) + 1)]
            if inside.issuperset(shards):
                return [index, *shards]
    return []


def _roots(spec: ModelSpec, settings: Settings) -> Iterator[Path]:
    if spec.repo == TOYBOX_REPO:
        yield settings.toybox_folder
        return
    yield _own_path(spec)
    yield settings.models_folder / spec.repo
    cache = Path(constants.HF_HUB_CACHE, constants.REPO_ID_SEPARATOR.join(["models", *spec.repo.split("/")]))
    try:
        commit = (cache / "refs" / spec.revision).read_text("utf-8").strip()
    except (OSError, ValueError):
        commit = spec.revision  # only branches and tags have such a file
    yield cache / "snapshots" / commit


def _own_path(spec: ModelSpec) -> Path:
    # Absolute, or the libraries may take it for a repository. Python refuses homes of users whom it does not know.
    return (Path(spec.repo).expanduser() if spec.repo.startswith("~/") else Path(spec.repo)).absolute()


def _holds(root: Path, spec: ModelSpec) -> bool:
    try:
        return bool(files_of(spec, root))
    except (OSError, ValueError):  # not a folder, not to be read by us, not even a path
        return False


def _names(folder: Path, spec: ModelSpec) -> set[str]:
    """The files in a folder that may be a component's, a pipeline's in its folders included, as POSIX paths."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    if spec.kind != ADDITION and KINDS[spec.kind].holds == "pipeline" and INDEX in names:
        names |= {path.relative_to(folder).as_posix() for path in folder.glob("*/*") if path.is_file()}
    return names


def _check_on_hub(spec: ModelSpec, settings: Settings) -> None:
    """Refuse what no hub could be asked for.

    Raises:
        ModelUnavailableError: the component is a part of the toybox, a path of one's own, or only to be had by hand.
    """
    if spec.repo == TOYBOX_REPO:
        raise ModelUnavailableError(
            f"The toybox's model '{spec.folder}' is not among the app's files. Choose another image model, or fetch "
            "the app's assets folder again; assets/toybox/README.md lists what it holds."
        )
    if not spec.on_hub:
        raise ModelUnavailableError(
            f"The file '{spec.file}' of {spec.repo} is not on the model hub. Download it by hand ({spec.checked}) and "
            f"put it at {settings.models_folder / spec.place}."
        )
    if spec.repo.endswith(WEIGHT_FILES) and not _own_path(spec).exists():
        raise ModelUnavailableError(f"There is no file '{spec.repo}'. Check the path; it is one on the app's machine.")
    if _own_path(spec).is_file():
        raise ModelUnavailableError(
            f"The file '{spec.repo}' is none that can stand for '{spec.key}'. Give a folder in diffusers' layout, or a "
            f"file of weights ({', '.join(WEIGHT_FILES)}) of a checkpoint, ControlNet, T2I-Adapter or motion module."
        )
    if _own_path(spec).exists():
        raise ModelUnavailableError(f"The folder '{spec.repo}' {_lacks(spec)} Fetch its files again.")


def _lacks(spec: ModelSpec) -> str:
    if spec.kind == ADDITION:
        if spec.file:
            return f"holds no file '{spec.place.removeprefix(f'{spec.repo}/')}'."
        return "does not hold exactly one file of weights. Name the one you mean, as in owner/name/file.safetensors."
    weights = f"{CONFIG}, and all of {_stem(spec, 'safetensors')}.safetensors or {_stem(spec, 'bin')}.bin,"
    others = {
        "tokenizer": f"{_FAST_TOKENIZER}, {_PIECES}, or {' and '.join(_VOCABULARY)}", "schedule": SCHEDULER,
        "pipeline": f"{INDEX}, and the weights of every folder with a {CONFIG},",
    }  # fmt: skip
    place = f"its folder '{spec.folder}'" if spec.folder else "it"
    needed = spec.file or others.get(KINDS[spec.kind].holds, weights)
    return f"does not hold '{spec.key}', which needs {needed} in {place}."


def _sizes_on_hub(spec: ModelSpec) -> dict[str, int]:
    """The files to download, in that order, each with its bytes."""
    info = HfApi().model_info(
        spec.repo, revision=spec.revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
    )
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    if chosen := choose_files(list(sizes), spec):
        return {name: sizes[name] for name in chosen}
    raise ModelUnavailableError(
        f"The repository '{spec.repo}' {_lacks(spec)} Choose another repository or revision; "
        f"https://huggingface.co/{spec.repo}/tree/{spec.revision} lists its files."
    )


def _download(spec: ModelSpec, sizes: dict[str, int], report: Report) -> None:
    finished, total = 0, sum(sizes.values())
    report(finished, total)
    for name, size in sizes.items():
        # By the revision, not by its commit: only so does the cache note which commit the revision is.
        bar = _bar(finished, size, total, report)
        path = hf_hub_download(spec.repo, name, revision=spec.revision, tqdm_class=bar)
        finished += size
        report(finished, total)
        if name.rpartition("/")[2] == INDEX:
            check_index(Path(path), spec)
        folder = f"{spec.folder}/" if spec.folder else ""
        if spec.kind in KINDS and name in (f"{folder}{CONFIG}", f"{folder}{SCHEDULER}"):  # before the weights
            check_config(spec, Path(path).parents[name.count("/")])


def _bar(finished: int, size: int, total: int, report: Report) -> type[tqdm]:
    """A progress bar for a file of `size` bytes that draws nothing, and reports."""

    class Bar(tqdm):
        arrived = 0

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.arrived += int(n or 0)
            report(finished + min(self.arrived, size), total)

        # The library also counts what passes the network, which is less than the file where parts of it are known.
        # It takes these two for a sign that one bar is told of both.
        def update_transfer(self, n: float | None = 1) -> None: ...

        def set_transfer_postfix_str(self, *args: Any, **options: Any) -> None: ...

    return Bar


_FAILURES = (OSError, errors.HTTPError, ValueError, RuntimeError)  # type: ignore[attr-defined]
"""What the library and its downloader in native code raise. HTTPError is the base of all that its HTTP client raises;
which client that is differs between its versions."""
_TOKEN = "set a token with `hf auth login` or HF_TOKEN"  # noqa: S105 - a sentence on one
_UNREACHABLE = (
    "The model hub could not be reached for '{repo}', or the connection broke. Check the connection and try again, or "
    "put the repository's files into {folder}, a place in BIVDIFF_MODELS_FOLDER."
)
_FULL = "The disk is full: '{repo}' needs {needed:,} bytes. Make room, or move the cache with HF_HOME."
_NOT_OURS = "The files of '{repo}' cannot be written: {reason} Allow the app to, or move the cache with HF_HOME."
_BY_ERRNO = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EACCES: _NOT_OURS, errno.EROFS: _NOT_OURS}
_BY_TYPE: dict[type[Exception], str] = {
    errors.GatedRepoError: (
        f"The repository '{{repo}}' is gated. Accept its terms at https://huggingface.co/{{repo}} and {_TOKEN}."
    ),
    errors.RevisionNotFoundError: (
        "The repository '{repo}' has no revision '{revision}'. Name a branch, tag or commit that is on "
        "https://huggingface.co/{repo}."
    ),
    errors.RepositoryNotFoundError: (
        "The model hub has no repository '{repo}', or it was renamed or is private. Check its name at "
        f"https://huggingface.co/{{repo}}; for a private one, {_TOKEN}."
    ),
    errors.HFValidationError: (
        "'{repo}' is neither a folder nor a .safetensors file on the app's machine, nor the name of a repository. "
        "Check the path; repositories are named as in owner/name."
    ),
    errors.OfflineModeIsEnabled: (
        "The files of '{repo}' are not on this machine, and HF_HUB_OFFLINE=1 forbids to download them. Unset it, or "
        "put the repository's files into {folder}, a place in BIVDIFF_MODELS_FOLDER."
    ),
    errors.HfHubHTTPError: (
        "The model hub refused '{repo}': {reason} Try again later; check the token, if one is set, with "
        "`hf auth whoami`."
    ),
    errors.HTTPError: _UNREACHABLE,  # type: ignore[attr-defined]
    errors.LocalEntryNotFoundError: _UNREACHABLE,
    JSONDecodeError: _UNREACHABLE,  # a page to log in to the network answered
    Exception: "The files of '{repo}' did not arrive whole: {reason} Try again; those that did are kept.",
}
"""Special ones first. The library wraps some of them in others, so causes count, too."""


def _sentence(error: Exception, spec: ModelSpec, settings: Settings, needed: int) -> str:
    """What happened, and what to do; `needed` is in bytes."""
    causes = list(_causes(error))
    template = next(text for kind, text in _BY_TYPE.items() if any(isinstance(cause, kind) for cause in causes))
    # The downloader in native code has the error's number in its text alone.
    number: int = errno.ENOSPC if os.strerror(errno.ENOSPC) in str(error) else getattr(error, "errno", None) or 0
    reason = (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".") + "."
    return _BY_ERRNO.get(number, template).format(
        repo=spec.repo, revision=spec.revision, folder=settings.models_folder / spec.repo, needed=needed, reason=reason
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
