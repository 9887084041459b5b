"""tokenizer.json and the files beside it, put together as transformers 5 does it.

tokenizer_config.json, special_tokens_map.json and added_tokens.json may name tokens and settings
that tokenizer.json doesn't have, or has otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.models.parts import read_json
from likewise.models.tokenizer_classes import REBUILT, UNKNOWN, Rebuilt, class_of, content

SPECIALS = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
"""Special tokens that have a name, in transformers' order."""
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_AGREED = "PreTrainedTokenizerFast"

Token = dict[str, Any]
"""An added token: `content` and its flags; `id` where it has one."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """A tokenizer.json as it is read."""

    written: Mapping[str, Any]
    """The file's own."""
    effective: Mapping[str, Any]
    """The same object where nothing differs; else with the parts that do."""
    splits_special: bool = False
    """Whether special tokens within a text are read as any other text."""

    @property
    def differs(self) -> bool:
        """Whether files beside tokenizer.json say otherwise."""
        return self.effective is not self.written

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of tokenizer.json that other files, or the class, have otherwise."""
        written = self.written
        return tuple(
            name for name in self.effective if self.effective[name] is not written.get(name)
        )

    def open(self, path: Path) -> tokenizers.Tokenizer:
        """The tokenizer; `path` is that of the file.

        Raises:
            ModelCorrupt: it isn't one.
        """
        inner = opened(path, json.dumps(self.effective) if self.differs else None)
        inner.encode_special_tokens = self.splits_special
        return inner

    def facts(self, *, pairs: bool) -> dict[str, Any]:
        """What decides the ids, as JSON: tokenizer.json as it was where nothing differs.

        Without `pairs` what stands around two texts doesn't count: only single ones are read.
        """
        found = dict(self.effective)
        if not pairs and "post_processor" in self.parts:
            ours, theirs = (each.get("post_processor") for each in (self.effective, self.written))
            if _framing(ours)[:1] == _framing(theirs)[:1]:
                found["post_processor"] = theirs
        if self.splits_special:
            found["split_special_tokens"] = True
        return found


def opened(path: Path, text: str | None = None) -> tokenizers.Tokenizer:
    """The tokenizer in the file at `path`; where `text` is given, the one that this describes.

    Raises:
        ModelCorrupt: it isn't one.
    """
    try:
        if text is not None:
            return tokenizers.Tokenizer.from_str(text)
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as broken:  # the library raises bare Exception
        raise ModelCorrupt(f"{path} isn't a tokenizer: {broken}") from broken


def assemble(transformer: Path, architecture: str) -> Assembled:
    """The tokenizer.json in `transformer` and what stands beside it.

    `architecture` counts as the model_type where there is no config.json.

    Raises:
        ModelUnsupported: the tokenizer's class isn't known, or the file doesn't suit it.
        ModelCorrupt: a file is damaged.
    """
    try:
        return _assembled(transformer, architecture)
    except (AttributeError, KeyError, TypeError, ValueError) as broken:
        raise ModelCorrupt(
            f"{transformer}: tokenizer.json, or a file beside it that says how texts are cut into "
            f"tokens, has a value of another kind than is read there: {broken}"
        ) from broken


def _assembled(transformer: Path, architecture: str) -> Assembled:
    path = transformer / "tokenizer.json"
    written = read_json(path)
    if not isinstance(written.get("model"), dict):
        raise ModelCorrupt(f"{path} isn't a tokenizer: it has no model")
    config = {"model_type": architecture, **read_json(transformer / "config.json", missing={})}
    settings = read_json(transformer / "tokenizer_config.json", missing={})
    _refuse_others(settings, transformer)
    name = class_of(settings, config, bytewise=_is_bytewise(written))
    if name in UNKNOWN:
        raise ModelUnsupported(
            f"{transformer}: the tokenizer_class {name}Tokenizer has rules of its own in "
            "transformers, which aren't followed here; to have tokenizer.json followed as it "
            f'stands, write "tokenizer_class": "{_AGREED}" into tokenizer_config.json'
        )
    rebuilt = REBUILT.get(name)
    tokens = _Tokens(transformer, settings, written, rebuilt)
    changed: dict[str, Any] = {}
    if rebuilt is not None:
        changed = _rebuilt(rebuilt, tokens.settings, written, path)
    added = tokens.added(dict(changed.get("model") or written["model"]))
    if rebuilt is not None and rebuilt.template is not None:
        changed["post_processor"] = _template(rebuilt, tokens.settings, added, changed, path)
    changed["added_tokens"] = added
    effective = _merged(written, changed)
    return Assembled(written, effective, bool(settings.get("split_special_tokens", False)))


def _refuse_others(settings: Mapping[str, Any], transformer: Path) -> None:
    """Raise ModelUnsupported for settings that would have another file read, or be patched."""
    for key in ("fast_tokenizer_files", "fix_mistral_regex"):
        if settings.get(key):
            raise ModelUnsupported(
                f"{transformer / 'tokenizer_config.json'}: {key} isn't followed here; save the "
                "tokenizer anew with transformers, which leaves it out"
            )


def _merged(written: Mapping[str, Any], changed: Mapping[str, Any]) -> Mapping[str, Any]:
    """`written` with those parts of `changed` that mean something else; itself if none does."""
    others = {
        name: value
        for name, value in changed.items()
        if _meaning(name, value, changed) != _meaning(name, written.get(name), written)
    }
    return {**written, **others} if others else written


def _rebuilt(
    rebuilt: Rebuilt, settings: Mapping[str, Any], written: Mapping[str, Any], path: Path
) -> dict[str, Any]:
    model = written["model"]
    vocab = model.get("vocab")
    is_list = isinstance(vocab, list)
    if is_list != (rebuilt.model == "Unigram"):
        raise ModelUnsupported(
            f"{path} holds a {model.get('type', 'model')} where the tokenizer_class wants a "
            f'{rebuilt.model}; to have the file followed as it stands, write "tokenizer_class": '
            f'"{_AGREED}" into tokenizer_config.json'
        )
    parts = rebuilt.parts(settings, written)
    made = {"type": rebuilt.model, **parts["model"], "vocab": vocab}
    if rebuilt.model == "BPE":
        made["merges"] = model.get("merges") or []
    return {**parts, "model": made}


class _Tokens:
    """Special and added tokens, from all files."""

    def __init__(
        self,
        transformer: Path,
        settings: Mapping[str, Any],
        written: Mapping[str, Any],
        rebuilt: Rebuilt | None,
    ) -> None:
        self._transformer = transformer
        self._rebuilt = rebuilt
        self._own = [dict(each) for each in written.get("added_tokens") or []]
        found = dict(settings)
        if rebuilt is None and isinstance(written.get("padding"), dict):
            found.setdefault("pad_token", written["padding"].get("pad_token"))
        if not found.get("extra_special_tokens") and "additional_special_tokens" in found:
            found["extra_special_tokens"] = found.pop("additional_special_tokens")
        listed = found.get("added_tokens_decoder")
        if listed is None:
            found |= self._mapped(found)
            self._listed = self._older(found)
        else:
            self._listed = self._decoded(listed)
        if rebuilt is not None:
            named = {
                name: _flagged(token, rebuilt, name) for name, token in rebuilt.specials.items()
            }
            found = {**named, **found}
        self.settings: Mapping[str, Any] = found

    def added(self, model: Mapping[str, Any]) -> list[Token]:
        """The added tokens of a tokenizer with this `model`, by their ids."""
        book = _Book(model, [] if self._rebuilt is not None else self._own)
        wanted: list[Token] = []
        for _, token in sorted(self._listed.items()):
            if token not in book.tokens:
                wanted.append(token)
        known = {each["content"] for each in (*book.tokens, *wanted)}
        for token in self._named():
            if token["content"] not in known:
                known.add(token["content"])
                wanted.append(token)
        named = {text for text in map(content, self._values()) if text}
        for token in wanted:
            book.add({**token, "special": token["special"] or token["content"] in named})
        if self._rebuilt is not None and self._rebuilt.readds:
            for token in self._named():
                book.add(_token(token["content"], special=True))
        return [{"id": index, **token} for index, token in sorted(book.by_id.items())]

    def _values(self) -> Iterator[Any]:
        yield from (self.settings.get(name) for name in SPECIALS)
        for name, value in self.settings.items():
            if name.endswith("_token") and name not in SPECIALS:
                yield value
        extra = self.settings.get("extra_special_tokens")
        if isinstance(extra, dict):
            yield from extra.values()

    def _named(self) -> Iterator[Token]:
        """Tokens with a name, then further special ones."""
        known = {token["content"]: token for token in self._listed.values()}
        for value in self._values():
            text = content(value)
            if text is not None:
                yield known.get(text) or _as_token(value)
        extra = self.settings.get("extra_special_tokens")
        if isinstance(extra, list):
            yield from (_as_token(value) for value in extra if content(value) is not None)
        elif extra is None and self._rebuilt is not None:
            yield from (_as_token(value) for value in self._rebuilt.extra)

    def _mapped(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What special_tokens_map.json says, which goes before tokenizer_config.json."""
        found = read_json(self._transformer / "special_tokens_map.json", missing={})
        further = found.pop("additional_special_tokens", None)
        if further and not settings.get("extra_special_tokens"):
            found.setdefault("extra_special_tokens", further)
        extra, before = found.get("extra_special_tokens"), settings.get("extra_special_tokens")
        if isinstance(extra, list) and isinstance(before, list):
            found["extra_special_tokens"] = before + [each for each in extra if each not in before]
        return {
            name: {**value, "special": True}
            if isinstance(value, dict) and "content" in value
            else value
            for name, value in found.items()
        }

    def _older(self, settings: Mapping[str, Any]) -> dict[int, Token]:
        """added_tokens.json, then those of tokenizer.json, where the settings list none."""
        path = self._transformer / "added_tokens.json"
        extra = settings.get("extra_special_tokens") or []
        special = {content(settings.get(name)) for name in SPECIALS} | {content(e) for e in extra}
        found: dict[int, Token] = {}
        for text, index in read_json(path, missing={}).items():
            if not isinstance(index, int):
                raise ModelCorrupt(f"{path}: {text!r} has no number")
            is_special = text in special
            found[index] = _token(text, special=is_special, normalized=not is_special)
        for each in self._own:
            found[int(each["id"])] = _as_token(each)
        return found

    def _decoded(self, listed: Any) -> dict[int, Token]:
        path = self._transformer / "tokenizer_config.json"
        if not isinstance(listed, dict):
            raise ModelCorrupt(f"{path}: added_tokens_decoder isn't a table")
        found = {}
        for index, value in listed.items():
            if content(value) is None or not str(index).isdigit():
                raise ModelCorrupt(f"{path}: added_tokens_decoder has {index!r}: {value!r}")
            found[int(index)] = _as_token(value)
        return found


class _Book:
    """Added tokens as the tokenizers library keeps them."""

    def __init__(self, model: Mapping[str, Any], tokens: Sequence[Token]) -> None:
        self._model = model
        self._vocab: Mapping[str, int] | None = None
        self.by_id: dict[int, Token] = {int(each["id"]): _as_token(each) for each in tokens}

    @property
    def vocab(self) -> Mapping[str, int]:
        """The numbers of the model's tokens; large, and mostly not asked for."""
        if self._vocab is None:
            self._vocab = _numbers(self._model.get("vocab") or {})
        return self._vocab

    @property
    def tokens(self) -> list[Token]:
        """All of them."""
        return list(self.by_id.values())

    def add(self, token: Token) -> None:
        """Add `token` at its place in the vocabulary, or after all others."""
        if token in self.tokens or not token["content"]:
            return
        taken = {each["content"]: index for index, each in self.by_id.items()}
        index = taken.get(token["content"])
        if index is None:
            index = self.vocab.get(token["content"])
        if index is None:
            highest, size = max(self.by_id, default=-1), len(self.vocab)
            index = highest + 1 if highest >= size else size
        self.by_id[index] = token


def _numbers(vocab: Any) -> Mapping[str, int]:
    """A vocabulary as a table from tokens to their numbers, however its model writes it."""
    if isinstance(vocab, list):
        return {each[0]: index for index, each in enumerate(vocab)}
    found: Mapping[str, int] = vocab
    return found


def _token(text: str, *, special: bool, normalized: bool | None = None) -> Token:
    flags = dict.fromkeys(_FLAGS, False)
    is_normalized = not special if normalized is None else normalized
    return {"content": text, **flags, "normalized": is_normalized, "special": special}


def _as_token(value: Any) -> Token:
    """A token as a file writes it; a bare text is a special one."""
    if isinstance(value, str):
        return _token(value, special=True)
    plain = _token(
        str(value["content"]),
        special=bool(value.get("special", False)),
        normalized=value.get("normalized"),
    )
    return {**plain, **{flag: bool(value[flag]) for flag in _FLAGS[:3] if flag in value}}


def _flagged(text: str | None, rebuilt: Rebuilt, name: str) -> Any:
    """A special token of the class's own, with the flags that it has there."""
    if text is None or not (rebuilt.normalised or name in rebuilt.spaced):
        return text
    flags = {"special": not rebuilt.normalised, "normalized": rebuilt.normalised}
    return {"content": text, **flags, "lstrip": name in rebuilt.spaced}


def _template(
    rebuilt: Rebuilt,
    settings: Mapping[str, Any],
    added: Sequence[Token],
    changed: Mapping[str, Any],
    path: Path,
) -> Any:
    ids = {each["content"]: each["id"] for each in added}
    names = [content(settings.get(end)) if end else None for end in rebuilt.ends]
    if any(name is not None and name not in ids for name in names):
        ids = {**_numbers(changed["model"]["vocab"]), **ids}
    places = [None if name is None else ids.get(name) for name in names]
    if any(name and place is None for name, place in zip(names, places, strict=True)):
        raise ModelCorrupt(f"{path} doesn't hold the special tokens {names}")
    (first, last), (head, tail) = names, places
    if rebuilt.template == "roberta":
        spaced = bool(settings.get("add_prefix_space", False)) if rebuilt.model == "BPE" else False
        return {
            "type": "RobertaProcessing",
            "sep": [last, tail],
            "cls": [first, head],
            "trim_offsets": True,
            "add_prefix_space": spaced,
        }
    two = 1 if rebuilt.template == "bert" else 0
    begin, end = ([_special(each, 0)] if each else [] for each in names)
    between = end if rebuilt.template == "xlm-roberta" else []
    one: Any = {"Sequence": {"id": "A", "type_id": 0}}
    other: Any = {"Sequence": {"id": "B", "type_id": two}}
    closing = [_special(last, two)] if last else []
    return {
        "type": "TemplateProcessing",
        "single": [*begin, one, *end],
        "pair": [*begin, one, *end, *between, other, *closing],
        "special_tokens": {
            name: {"id": name, "ids": [place], "tokens": [name]}
            for name, place in zip(names, places, strict=True)
            if name
        },
    }


def _special(token: str, side: int) -> dict[str, Any]:
    return {"SpecialToken": {"id": token, "type_id": side}}


def _is_bytewise(written: Mapping[str, Any]) -> bool:
    return any(
        each.get("type") == "ByteLevel"
        for name, inside in (("pre_tokenizer", "pretokenizers"), ("decoder", "decoders"))
        for each in _flat(written.get(name), inside)
    )


def _flat(part: Any, inside: str) -> list[dict[str, Any]]:
    """A part of tokenizer.json as a list, a sequence's parts one after the other."""
    if not isinstance(part, dict):
        return []
    if part.get("type") == "Sequence":
        return [one for each in part.get(inside) or [] for one in _flat(each, inside)]
    return [part]


_INSIDE = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers"}
_NO_MATTER = ("trim_offsets", "str_rep")
_USUAL: Mapping[str, Mapping[str, Any]] = {
    "ByteLevel": {"use_regex": True, "add_prefix_space": True},
    "Metaspace": {"split": True},
    "Split": {"invert": False},
}


def _meaning(name: str, part: Any, whole: Mapping[str, Any]) -> Any:
    """A part of tokenizer.json in one spelling: what doesn't change ids is left out."""
    if name in _INSIDE:
        return [_plain(each) for each in _flat(part, _INSIDE[name])]
    if name == "added_tokens":
        return {int(each["id"]): _as_token(each) for each in part or []}
    if name == "post_processor":
        return _framing(part)
    kept = {key: value for key, value in part.items() if key not in ("type", "vocab", "merges")}
    # Off, empty and missing mean the same for all settings of a model but these.
    model = {key: value for key, value in kept.items() if value or key == "unk_id"}
    if model.get("max_input_chars_per_word") == 100:
        del model["max_input_chars_per_word"]
    return {**model, "type": part.get("type") or ("Unigram" if "unk_id" in part else None)}


def _plain(part: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in part.items() if key not in _NO_MATTER}
    if part.get("type") == "Metaspace" and "prepend_scheme" not in kept:
        kept["prepend_scheme"] = "always" if kept.get("add_prefix_space", True) else "never"
    if part.get("type") == "Metaspace":
        kept.pop("add_prefix_space", None)
    return {**_USUAL.get(str(part.get("type")), {}), **kept}


def _framing(part: Any) -> Any:
    """What stands around one text and around two, whatever spells it."""
    parts = _flat(part, "processors")
    framing: Any = ([("A", 0)], [("A", 0), ("B", 1)])
    for each in parts:
        kind = each.get("type")
        if kind in ("BertProcessing", "RobertaProcessing"):
            two = 1 if kind == "BertProcessing" else 0
            (cls, head), (sep, tail) = each["cls"], each["sep"]
            first, last = ((cls, head), 0), ((sep, tail), 0)
            between = [] if two else [last]
            one = [first, ("A", 0), last]
            framing = (one, [*one, *between, ("B", two), ((sep, tail), two)])
        elif kind == "TemplateProcessing":
            ids = each.get("special_tokens") or {}
            framing = tuple(_pieces(each.get(side) or [], ids) for side in ("single", "pair"))
        elif kind != "ByteLevel":
            return parts
    return framing


def _pieces(listed: Sequence[Any], ids: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = []
    for each in listed:
        if "Sequence" in each:
            found.append((each["Sequence"]["id"], each["Sequence"]["type_id"]))
            continue
        token = each["SpecialToken"]
        of = ids[token["id"]]
        found += [
            ((text, index), token["type_id"])
            for text, index in zip(of["tokens"], of["ids"], strict=True)
        ]
    return found
