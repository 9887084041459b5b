"""Conversations: the tokens that transformers makes of them, and the vectors of those tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import InputError, ModelUnsupported
from likewise.models.chat import read_chat_template
from likewise.models.tokenize import Cut
from likewise.runtime import service
from likewise.runtime.service import Service
from tests.conformance.folders import write_folder
from tests.conformance.tiny import write_json

pytestmark = pytest.mark.filterwarnings("ignore")

FLAT = (
    "{% for m in messages %}[CLS]{{ m.role }} {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}w9{% endif %}"
    "{% if extra is defined %}{{ extra }}{% endif %}[SEP]"
)
PARTS = (
    "{% for m in messages %}{% for part in m.content %}{% if part.type == 'text' %}"
    "({{ part.text }}){% endif %}{% endfor %}{% endfor %}"
)
BOTH = (
    "{% for m in messages %}{% if m.content is string %}({{ m.content }}){% else %}"
    "{% for part in m.content %}({{ part.text }}){% endfor %}{% endif %}{% endfor %}"
)
TURNS: list[Any] = [("system", "w1 w2"), ("user", "w3"), ("assistant", "w4 w5")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer

    made = write_folder(tmp_path_factory.mktemp("chat"))
    inner = Tokenizer.from_file(str(made / "tokenizer.json"))
    inner.add_special_tokens(["[CLS]", "[SEP]"])
    inner.save(str(made / "tokenizer.json"))
    (made / "chat_template.jinja").write_text(FLAT)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Service]:
    loaded = service.load(folder, precision="f32", threads=1)
    yield loaded
    loaded.close()


@pytest.mark.torch
@pytest.mark.parametrize("generation_prompt", [False, True])
def test_tokens_and_vector_are_those_of_transformers(
    folder: Path, model: Service, generation_prompt: bool
) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(folder))
    messages = [{"role": role, "content": text} for role, text in TURNS]
    ids = theirs.apply_chat_template(
        messages, add_generation_prompt=generation_prompt, return_dict=False
    )
    written = model.chat_text(TURNS, generation_prompt=generation_prompt)
    assert [token.id for token in model.tokens(written, special=False)] == ids
    got = model.submit([written], special=False, prompt="").result()
    assert got.tokens == (len(ids),)
    want = model.submit([ids], special=False).result().vectors
    np.testing.assert_allclose(got.vectors, want, atol=1e-6)


def test_special_tokens_arent_added_twice(model: Service) -> None:
    written = model.chat_text([("user", "w3")])
    once = model.submit([written], special=False).result()
    twice = model.submit([written]).result()
    assert twice.tokens[0] == once.tokens[0] + 2
    assert np.abs(twice.vectors - once.vectors).max() > 1e-3


def test_variables_reach_the_template(model: Service) -> None:
    assert model.chat_text([("user", "a")], variables={"extra": "w7"}).endswith("w7[SEP]")
    # Nobody but the messages says what the messages are.
    assert "[CLS]user a" in model.chat_text([("user", "a")], variables={"messages": []})


@pytest.mark.parametrize("side", ["left", "right"])
def test_without_special_tokens_cutting_adds_none(model: Service, side: Any) -> None:
    ids = list(range(4, 24))
    for given in ([ids], [" ".join(f"w{n - 4}" for n in ids)]):
        (one,) = model._tokenizer.encode_inputs(given, cut=Cut(5, side, special=False))
        assert one.ids.tolist() == (ids[:5] if side == "right" else ids[-5:])
        assert one.total == 20
    (one,) = model._tokenizer.encode_inputs([ids], cut=Cut(1, side, special=False))
    assert len(one.ids) == 1


def test_without_special_tokens_a_prompt_goes_before_texts_and_not_before_ids(
    model: Service,
) -> None:
    cut = Cut(special=False)
    (text,) = model._tokenizer.encode(["w3"], prompt="w1 w2 ", cut=cut)
    assert (text.ids.tolist(), text.prompt) == ([5, 6, 7], 2)
    (ids,) = model._tokenizer.encode_ids([[7]], prompt="w1 w2 ", cut=cut)
    assert ids.ids.tolist() == [7]


def template(tmp_path: Path, value: Any) -> Any:
    write_json(tmp_path / "tokenizer_config.json", {"chat_template": value, "sep_token": "[SEP]"})
    return read_chat_template(tmp_path)


def test_parts_go_where_the_template_reads_them(tmp_path: Path) -> None:
    several = [("user", ["a", "b"])]
    for text, one, both in (
        ("{{ messages[0].content }}", "x", "a\nb"),
        (PARTS, "(x)", "(a)(b)"),
        (BOTH, "(x)", "(a)(b)"),
    ):
        made = template(tmp_path, text)
        assert made.write([("user", "x")]) == one
        assert made.write(several) == both


def test_of_several_templates_the_default_counts(tmp_path: Path) -> None:
    named = [
        {"name": "tool_use", "template": "no"},
        {"name": "default", "template": "{{ messages[0].content }}{{ sep_token }}"},
    ]
    assert template(tmp_path, named).write([("user", "x")]) == "x[SEP]"
    with pytest.raises(ModelUnsupported, match="tool_use, and none called 'default'"):
        template(tmp_path, named[:1])


def test_a_template_that_shows_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match="doesn't show the text"):
        template(tmp_path, "hello")


def test_messages_that_the_template_refuses(tmp_path: Path) -> None:
    made = template(
        tmp_path,
        "{{ messages[0].content }}{% if messages[0].role == 'x' %}"
        "{{ raise_exception('who is x?') }}{% endif %}",
    )
    with pytest.raises(InputError, match="who is x"):
        made.write([("x", "a")])


def test_a_model_without_a_template_says_so(tmp_path: Path) -> None:
    loaded = service.load(write_folder(tmp_path / "plain"), precision="f32", threads=1)
    with pytest.raises(ModelUnsupported, match="has no chat template"):
        loaded.chat_text([("user", "a")])
    loaded.close()
