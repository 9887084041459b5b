"""Names to objects: unknown names, missing extras, and a broken dependency told apart."""

from pathlib import Path

import pytest

from likewise.base.errors import MissingExtra, ModelUnsupported, SettingsError
from likewise.base.names import nearest, resolve

TABLE = {"space": "likewise.base.space:Space", "torch": "no_such_package_abc.inner:Thing"}


def test_resolves() -> None:
    from likewise.base.space import Space

    assert resolve("space", TABLE, what="thing") is Space


def test_unknown_names_say_what_is_known() -> None:
    with pytest.raises(SettingsError, match=r"unknown thing 'spce' \(did you mean 'space'\?\)"):
        resolve("spce", TABLE, what="thing")
    with pytest.raises(ModelUnsupported, match="known: space, torch"):
        resolve("zzz", TABLE, what="thing", error=ModelUnsupported)


def test_a_missing_extra_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "absentpart.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'torch.nn'\", name='torch.nn')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for extras, extra in (({"x": "torch-any"}, "torch-any"), ({}, "torch")):
        with pytest.raises(MissingExtra, match=rf"pip install 'likewise\[{extra}\]'") as caught:
            resolve("x", {"x": "absentpart:Y"}, what="engine", extras=extras)
        assert isinstance(caught.value, ImportError)
        assert "engine 'x' needs the package torch, which isn't installed" in str(caught.value)


def test_a_broken_part_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brokenpart.py").write_text("import another_absent_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="another_absent_package") as caught:
        resolve("x", {"x": "brokenpart:Y"}, what="engine", extras={"x": "torch"})
    assert not isinstance(caught.value, MissingExtra)


def test_nearest() -> None:
    assert nearest("tempalte", ["template", "table"]) == " (did you mean 'template'?)"
    assert nearest("qqqq", ["template"]) == ""
