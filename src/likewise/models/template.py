"""The chat templates that models bring: filled in safely, and those that a pair is written into."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from likewise.base.errors import MissingExtra, ModelCorrupt, ModelUnsupported
from likewise.base.extras import install, needed
from likewise.models.parts import read_json

_FORMATS = ("flat", "structured")
_SAFE_JINJA = (3, 1, 6)


@dataclass(frozen=True, slots=True)
class Template:
    """A Jinja template over messages of the roles `system`, `query` and `document`."""

    text: str
    form: Literal["flat", "structured"] = "flat"
    """Whether a message's content is its text, or a list of parts with a text."""
    variables: dict[str, Any] = field(default_factory=dict)
    """What else the template may ask for: special tokens, and settings of the model's own."""
    where: str = "chat template"

    def write(self, query: str, document: str, instruction: str = "") -> str:
        """The text for one pair.

        Raises:
            ModelCorrupt: the template can't be filled in.
        """
        pairs = [("query", query), ("document", document)]
        if instruction:
            pairs.insert(0, ("system", instruction))
        messages = [{"role": role, "content": self._content(text)} for role, text in pairs]
        made = compiled(self.text, self.where)
        try:
            return str(made.render(messages=messages, **self.variables))
        except Exception as broken:  # a template may raise anything
            raise ModelCorrupt(f"{self.where} can't be filled in: {broken}") from broken

    def check(self) -> None:
        """Whether both texts come out of it.

        Raises:
            ModelUnsupported: one doesn't.
            MissingExtra: Jinja isn't installed.
        """
        written = self.write("alpha", "bravo")
        if "alpha" not in written or "bravo" not in written:
            raise ModelUnsupported(
                f"{self.where} has no place for a query and a document; a reranker's must render "
                "messages of the roles 'query' and 'document'"
            )

    def _content(self, text: str) -> Any:
        return text if self.form == "flat" else [{"type": "text", "text": text}]


# Layouts whose files say what they are in words alone: where `architectures` is the first and the
# model's own README.md has the second in it, and says `pipeline_tag: text-ranking`, pairs are
# written as the third. The text is the model's documented one, with its default instruction.
_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        "Qwen3ForCausalLM",
        "Judge whether the Document meets the requirements based on the Query and the Instruct",
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
        'and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
        "<|im_start|>user\n<Instruct>: {{ messages[0].content if messages | length == 3 else "
        "'Given a web search query, retrieve relevant passages that answer the query' }}\n"
        "<Query>: {{ messages[-2].content }}\n<Document>: {{ messages[-1].content }}<|im_end|>\n"
        # Jinja drops a template's last line end, so there is one more.
        "<|im_start|>assistant\n<think>\n\n</think>\n\n\n",
    ),
)


def known_template(transformer: Path, architecture: str) -> Template | None:
    """The template of a decoder reranker whose files don't carry it; None when it isn't one."""
    path = transformer / "README.md"
    if not path.is_file():
        return None
    readme = path.read_text(encoding="utf-8", errors="replace")
    if "pipeline_tag: text-ranking" not in readme:
        return None
    for name, mark, text in _KNOWN:
        if architecture == name and mark in readme:
            return Template(text, where=f"the known layout of {name} rerankers")
    return None


def refuse_chat_template(transformer: Path, remedy: str) -> None:
    """Raise `ModelUnsupported` if the tokenizer of a folder without modules.json has a template.

    sentence-transformers puts every text of such a folder into it; `remedy` says how to have plain
    texts read.
    """
    settings = read_json(transformer / "tokenizer_config.json", missing={})
    files = [transformer / "chat_template.jinja", *transformer.glob("additional_chat_templates/*")]
    found = next((path for path in files if path.is_file()), None)
    if found is None and settings.get("chat_template"):
        found = transformer / "tokenizer_config.json"
    if found is not None:
        raise ModelUnsupported(
            f"{transformer} has no modules.json, and {found.name} has a chat template: "
            "sentence-transformers would write every text into it, which isn't done here. To have "
            f"plain texts read, {remedy}"
        )


def read_template(transformer: Path) -> Template | None:
    """The template that pairs go through; None when the tokenizer joins them itself.

    The transformer's settings (sentence_bert_config.json) say which: `modality_config` has an
    entry `message` when texts go through the chat template.

    Raises:
        ModelUnsupported: it has no place for a query and a document, or isn't to be found.
        ModelCorrupt: a file is damaged.
        MissingExtra: Jinja isn't installed.
    """
    own = read_json(transformer / "sentence_bert_config.json", missing={})
    message = (own.get("modality_config") or {}).get("message")
    if message is None:
        return None
    form = message.get("format", "flat")
    if form not in _FORMATS:
        raise ModelUnsupported(
            f"{transformer / 'sentence_bert_config.json'}: messages of format {form!r} aren't "
            f"written here; known: {', '.join(_FORMATS)}"
        )
    tokenizer = read_json(transformer / "tokenizer_config.json", missing={})
    path = transformer / "chat_template.jinja"
    text = path.read_text(encoding="utf-8") if path.is_file() else tokenizer.get("chat_template")
    if not isinstance(text, str):
        raise ModelUnsupported(
            f"{transformer}: texts go through a chat template, and there is none: no "
            f"{path.name}, and chat_template of tokenizer_config.json is a {type(text).__name__}"
        )
    variables: dict[str, Any] = {
        "tools": None,
        "documents": None,
        "add_generation_prompt": False,
        **special_tokens(tokenizer),
    }
    variables |= (own.get("processing_kwargs") or {}).get("chat_template") or {}
    variables.pop("restore_suffix", None)
    template = Template(text, form, variables, where=str(path if path.is_file() else transformer))
    template.check()
    return template


def special_tokens(tokenizer: dict[str, Any]) -> dict[str, str]:
    """The special tokens of tokenizer_config.json, by the names that templates have for them."""
    found = {}
    for key, value in tokenizer.items():
        if key.endswith("_token"):
            token = value.get("content") if isinstance(value, dict) else value
            if isinstance(token, str):
                found[key] = token
    return found


@functools.lru_cache(maxsize=8)
def compiled(text: str, where: str) -> Any:
    """The template `text`, ready to be rendered in a sandbox.

    Raises:
        ModelCorrupt: it isn't a template.
        MissingExtra: Jinja isn't installed, or can be left by a template.
    """
    with needed("a chat template", extra="rerank"):
        from importlib.metadata import version

        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    # A template comes with the model; earlier sandboxes could be left.
    if tuple(int(part) for part in version("jinja2").split(".")[:3]) < _SAFE_JINJA:
        raise MissingExtra(
            f"a chat template needs Jinja 3.1.6 or newer, and there is {version('jinja2')}; "
            f"install it with: {install('likewise[rerank]')}"
        )
    # As transformers sets it up: templates are written for these options.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise
    environment.filters["tojson"] = functools.partial(json.dumps, ensure_ascii=False)
    try:
        return environment.from_string(text)
    except TemplateError as broken:
        raise ModelCorrupt(f"{where} isn't a template: {broken}") from broken


def _raise(message: str) -> None:
    raise ValueError(message)
