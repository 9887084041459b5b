"""What other programs fetched into the Hugging Face cache is used where it is whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download, snapshot_download

from likewise.base.errors import AdminError, ModelNotFound
from likewise.models import fetch, hub_cache, shelf
from likewise.models.known import KNOWN, Known
from likewise.models.locate import DEFAULT_MODEL, cached_models, locate
from likewise.runtime.making import Options, Wanted
from likewise.runtime.registry import Registry
from tests.unit.models.hub import COMMIT, REPOSITORY, TAKEN, Hub, serving

NOWHERE = "http://127.0.0.1:9"
MORE = {
    "config_sentence_transformers.json": b"{}",
    "sentence_bert_config.json": b'{"max_seq_length": 8}',
    ".gitattributes": b"",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hugging Face cache, empty."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path / "hf"


Make = Callable[..., Path]


@pytest.fixture
def make(place: Path) -> Make:
    """Writes a repository into the cache as the hub's client lays it out."""

    def made(
        name: str = "acme/tiny",
        files: dict[str, bytes] | None = None,
        commit: str = COMMIT,
        ref: str | None = "main",
        absent: tuple[str, ...] = (),
    ) -> Path:
        root = place / f"models--{name.replace('/', '--')}"
        content = {**REPOSITORY, **MORE} if files is None else files
        for file, data in content.items():
            blob = root / "blobs" / hashlib.sha256(data).hexdigest()
            link = root / "snapshots" / commit / file
            for path in (blob, link):
                path.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(data)
            link.symlink_to(os.path.relpath(blob, link.parent))
        for file in absent:
            path = root / ".no_exist" / commit / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        if ref is not None:
            (root / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
            (root / "refs" / ref).write_text(commit)
        return root / "snapshots" / commit

    return made


def without(*names: str, also: dict[str, bytes] | None = None) -> dict[str, bytes]:
    every = {**REPOSITORY, **MORE, **(also or {})}
    # Whoever fetched single files has no such file.
    return {name: data for name, data in every.items() if name not in (*names, ".gitattributes")}


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("asked", ["acme/tiny", "hf.co/acme/tiny", "acme/tiny:latest"])
def test_it_is_used_where_it_lies(tmp_path: Path, make: Make, asked: str, offline: bool) -> None:
    snapshot = make()
    found = locate(asked, cache=tmp_path / "cache", offline=offline, endpoint=NOWHERE)
    assert (found.folder, found.name) == (snapshot, "acme/tiny")
    assert (found.origin, found.revision) == ("hub-cache", COMMIT)
    assert shelf.shelved(tmp_path / "cache") == []


def test_what_the_hubs_own_client_fetched_is_found(tmp_path: Path, hub: Hub, place: Path) -> None:
    hub.files |= MORE
    for file in hub.files:
        hf_hub_download("some/model", file, cache_dir=place, endpoint=hub.endpoint)
    asked = len(hub.asked)
    found = locate("some/model", cache=tmp_path / "cache", endpoint=hub.endpoint)
    assert (found.origin, found.revision) == ("hub-cache", COMMIT)
    assert len(hub.asked) == asked
    whole = snapshot_download(
        "some/model", cache_dir=place, endpoint=hub.endpoint, local_files_only=True
    )
    assert found.folder == Path(whole)


def test_our_own_cache_goes_first(tmp_path: Path, make: Make, hub: Hub) -> None:
    own = locate("some/model", cache=tmp_path / "cache", endpoint=hub.endpoint)
    make("some/model", commit="b" * 40)
    again = locate("some/model", cache=tmp_path / "cache", offline=True)
    assert (again.folder, again.origin) == (own.folder, "cache")


def test_a_revision_is_that_one_or_none(tmp_path: Path, make: Make) -> None:
    make()
    old = make(commit="c0ffee" * 6 + "abcd", ref="v1/stable")

    def at(revision: str) -> Path:
        return locate("acme/tiny", cache=tmp_path, offline=True, revision=revision).folder

    assert at("v1/stable") == old
    assert at(old.name) == old
    assert at(COMMIT).name == COMMIT
    for missing in ("v2", "d" * 40, "../main", "/etc", "refs/../main", ""):
        with pytest.raises(ModelNotFound):
            locate("acme/tiny2" if not missing else "acme/tiny", cache=tmp_path, offline=True,
                   revision=missing)  # fmt: skip


def test_the_only_commit_is_main_where_no_branch_was_fetched(tmp_path: Path, make: Make) -> None:
    one = make(ref=None)
    assert locate("acme/tiny", cache=tmp_path, offline=True).folder == one
    make(ref=None, commit="b" * 40)
    with pytest.raises(ModelNotFound):
        locate("acme/tiny", cache=tmp_path, offline=True)


INDEX = json.dumps(
    {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
)
SHARDED = {"model.safetensors.index.json": INDEX.encode(), "model-1-of-2.safetensors": b"1"}


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (without("model.safetensors", "onnx/model.onnx"), "model.safetensors"),
        (without("model.safetensors", also=SHARDED), "model-2-of-2.safetensors"),
        (without("model.safetensors", also={"model-1-of-2.safetensors": b"1"}), "index.json"),
        (without("1_Pooling/config.json"), "1_Pooling/config.json"),
        (without("tokenizer.json"), "tokenizer.json"),
        # It may have one, and then vectors are pooled otherwise.
        (without("modules.json"), "modules.json"),
    ],
)
def test_what_isnt_whole_isnt_used(
    tmp_path: Path, make: Make, files: dict[str, bytes], names: str
) -> None:
    make(files=files)
    with pytest.raises(ModelNotFound) as refused:
        locate("acme/tiny", cache=tmp_path, offline=True)
    assert "the Hugging Face cache" in str(refused.value)
    assert names in str(refused.value)


def test_a_link_to_a_file_that_is_still_fetched_is_no_file(tmp_path: Path, make: Make) -> None:
    snapshot = make()
    (snapshot / "model.safetensors").resolve().unlink()
    (snapshot / "onnx" / "model.onnx").unlink()
    with pytest.raises(ModelNotFound, match=r"model\.safetensors isn't in it"):
        locate("acme/tiny", cache=tmp_path, offline=True)


@pytest.mark.parametrize(
    ("files", "absent"),
    [
        (without("modules.json"), ("modules.json",)),
        ({**without("modules.json"), ".gitattributes": b""}, ()),
        (
            without("modules.json") | {
                "config.json": b'{"architectures": ["BertForSequenceClassification"]}',
            },
            (),
        ),
        (without("modules.json") | {"config.json": b'{"model_type": "model2vec"}'}, ()),
    ],
)  # fmt: skip
def test_no_modules_where_there_are_none(
    tmp_path: Path, make: Make, files: dict[str, bytes], absent: tuple[str, ...]
) -> None:
    snapshot = make(files=files, absent=absent)
    assert locate("acme/tiny", cache=tmp_path, offline=True).folder == snapshot


def test_what_may_be_missing_is_told_or_asked_of_the_hub(
    tmp_path: Path, make: Make, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = make("some/model", files=without(*MORE))
    # Offline it is used, and the log says what isn't there.
    assert locate("some/model", cache=tmp_path, offline=True).folder == snapshot
    assert "config_sentence_transformers.json" in caplog.text
    # The hub can't be asked: the same.
    assert locate("some/model", cache=tmp_path, endpoint=NOWHERE).folder == snapshot
    # The hub has no more than that: it is whole, and nothing is fetched.
    found = locate("some/model", cache=tmp_path, endpoint=hub.endpoint)
    assert (found.folder, found.origin) == (snapshot, "hub-cache")
    assert not any("/resolve/" in each for each in hub.asked)


def test_what_is_missing_is_fetched_and_the_rest_copied(
    tmp_path: Path, make: Make, hub: Hub
) -> None:
    hub.files["sentence_bert_config.json"] = b'{"max_seq_length": 8}'
    make("some/model", files=without(*MORE))
    found = locate("some/model", cache=tmp_path, endpoint=hub.endpoint)
    assert (found.origin, found.revision) == ("hub", COMMIT)
    fetched = {each.rpartition("/")[2] for each in hub.asked if "/resolve/" in each}
    assert fetched == {"sentence_bert_config.json"}
    for name in TAKEN:
        assert (found.folder / name).read_bytes() == hub.files[name]


def test_a_damaged_file_is_fetched_anew(tmp_path: Path, make: Make, hub: Hub) -> None:
    snapshot = make("some/model", files=without("tokenizer.json"))
    (snapshot / "model.safetensors").resolve().write_bytes(
        b"x" * len(hub.files["model.safetensors"])
    )
    found = locate("some/model", cache=tmp_path, endpoint=hub.endpoint)
    assert (found.folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_the_default_model_must_have_its_digest(tmp_path: Path, make: Make) -> None:
    make(DEFAULT_MODEL)
    with pytest.raises(ModelNotFound, match=f"isn't the one with sha256 {SHA}"):
        locate(DEFAULT_MODEL, cache=tmp_path, offline=True)


SHA = KNOWN[0].sha256["model.safetensors"]


def test_the_default_model_is_taken_from_there(
    tmp_path: Path, place: Path, model_folder: Path
) -> None:
    root = place / "models--sentence-transformers--all-MiniLM-L6-v2"
    entry: Known = KNOWN[0]
    shutil.copytree(model_folder, root / "snapshots" / entry.revision)
    (root / "snapshots" / entry.revision / shelf.RECORD).unlink()
    for asked in ("all-minilm", "all-MiniLM-L6-v2", DEFAULT_MODEL):
        found = locate(asked, cache=tmp_path, offline=True)
        assert (found.name, found.origin) == (DEFAULT_MODEL, "hub-cache")


def test_it_is_never_written_to(tmp_path: Path, make: Make) -> None:
    root = make().parents[1]
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    locate("acme/tiny", cache=tmp_path, offline=True)
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("models--acme--tiny/snapshots/abc", "acme/tiny"),
        ("models--acme--a--b/snapshots/abc", "acme/a--b"),
        ("models--gpt2/snapshots/abc", "gpt2"),
        ("models--acme--tiny/abc", None),
        ("acme/snapshots/abc", None),
        ("datasets--a--b/snapshots/abc", None),
    ],
)
def test_a_snapshot_is_of_a_repository(path: str, name: str | None) -> None:
    assert hub_cache.repository_of(Path("/cache") / path) == name


# What the hub says when it doesn't let somebody in.


@pytest.mark.parametrize("refuses_files", [False, True])
@pytest.mark.parametrize(
    ("status", "code", "said", "advised"),
    [
        (401, "GatedRepo", "Access to model some/model is restricted.", "ask for access at"),
        (403, "GatedRepo", "Your request awaits a review.", "ask for access at"),
        (404, "RepoNotFound", "Repository not found", "is the name right"),
        (401, "", "Invalid credentials in Authorization header", "a token that is valid"),
        (403, "", "This token may not read gated repositories.", "a token that is valid"),
    ],
)
def test_a_refusal_keeps_the_hubs_words_and_says_what_to_do(
    tmp_path: Path, hub: Hub, status: int, code: str, said: str, advised: str, refuses_files: bool
) -> None:
    hub.refusal, hub.refuses_files = (status, code, said), refuses_files
    with pytest.raises(ModelNotFound) as refused:
        locate("some/model", cache=tmp_path, endpoint=hub.endpoint)
    words = str(refused.value)
    assert advised in words
    assert "HF_TOKEN" in words
    assert f"{hub.endpoint}/some/model" in words
    if code != "RepoNotFound":
        assert said in words


def test_a_hub_that_isnt_there_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound) as refused:
        locate("some/model", cache=tmp_path, endpoint="http://127.0.0.1:9")
    assert str(refused.value).count("refused") == 1


def test_a_copy_in_gguf_names_what_it_was_made_from(tmp_path: Path, hub: Hub) -> None:
    hub.files = {"nomic-embed-text-v1.5.Q8_0.gguf": b"GGUF", "README.md": b""}
    with pytest.raises(Exception, match="is a copy in GGUF"):
        locate("some/model", cache=tmp_path, endpoint=hub.endpoint)


def test_a_slow_hub_is_waited_for_where_that_is_asked(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "ANSWER_SECONDS", 0.1)
    hub.answers = threading.Event()
    with pytest.raises(ModelNotFound, match="Timeout|no answer within"):
        locate("some/model", cache=tmp_path, endpoint=hub.endpoint)
    timer = threading.Timer(0.5, hub.answers.set)
    timer.start()
    try:
        found = locate("some/model", cache=tmp_path, endpoint=hub.endpoint, answer_s=60)
    finally:
        timer.join()
    assert found.origin == "hub"


_ASK = """
import sys
from pathlib import Path
from likewise.cli import resolve
from likewise.models.locate import locate
place = resolve.place()
found = locate("some/model", cache=place.cache, offline=place.offline, answer_s=place.hub_answer_s)
print(found.origin, found.folder)
"""


def _asked(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "HUGGING", "LIKEWISE", "TRANSFORMERS"))
    }
    return subprocess.run(
        [sys.executable, "-c", _ASK], env={**clean, **environment}, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip


def test_the_variables_of_the_hubs_client_are_followed(tmp_path: Path, hub: Hub) -> None:
    home = {"LIKEWISE_HOME": str(tmp_path / "one"), "HF_HOME": str(tmp_path / "hf")}
    (tmp_path / "token").write_text("hf_from_a_file\n")
    got = _asked(
        {**home, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN_PATH": str(tmp_path / "token"),
         "HF_HUB_ETAG_TIMEOUT": "50", "HF_HUB_DOWNLOAD_TIMEOUT": "50"}
    )  # fmt: skip
    assert got.stdout.startswith("hub "), got.stderr
    assert hub.tokens == {"Bearer hf_from_a_file"}
    hub.tokens.clear()
    got = _asked(
        {**home, "LIKEWISE_HOME": str(tmp_path / "two"), "HF_ENDPOINT": hub.endpoint,
         "HF_TOKEN": "hf_x", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    )  # fmt: skip
    assert got.stdout.startswith("hub "), got.stderr
    assert hub.tokens == set()


@pytest.mark.parametrize(
    ("cache", "below"),
    [("HF_HUB_CACHE", ""), ("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")],
)
def test_the_cache_is_where_the_hubs_client_has_it(
    tmp_path: Path, make: Make, place: Path, cache: str, below: str
) -> None:
    make("some/model")
    (tmp_path / "there" / below).parent.mkdir(parents=True, exist_ok=True)
    place.rename(tmp_path / "there" / below)
    got = _asked(
        {cache: str(tmp_path / "there"), "LIKEWISE_HOME": str(tmp_path / "home"),
         "TRANSFORMERS_OFFLINE": "1"}
    )  # fmt: skip
    assert got.stdout.startswith(f"hub-cache {tmp_path / 'there' / below}"), got.stderr


def test_it_is_never_deleted_from(tmp_path: Path, make: Make) -> None:
    snapshot = make()
    with pytest.raises(ModelNotFound, match="is the Hugging Face cache's, and stays"):
        cached_models("acme/tiny", cache=tmp_path)
    registry = Registry(Options(tmp_path, offline=True))
    try:
        registry.add("acme/tiny", Wanted("acme/tiny"))
        with pytest.raises(AdminError, match="is never deleted from here"):
            registry.remove("acme/tiny")
    finally:
        registry.close()
    assert (snapshot / "model.safetensors").is_file()
