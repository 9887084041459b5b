"""Reads a `.proto` file into message classes, so that the file is the one definition there is.

Generated Python code would be tied to one version of protobuf's runtime; descriptors aren't. What
is read is what `tei.proto` uses of proto3: messages of scalar, enum and message fields, `optional`
and `repeated`, enums, and services. Anything else is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool

_COMMENT = re.compile(r"//[^\n]*")
_TOKEN = re.compile(r'"[^"]*"|[\w.]+|[{}();=]')
_SCALARS = ("bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64")


@dataclass(frozen=True)
class Method:
    """One call of a service."""

    service: str
    """Its full name, such as `tei.v1.Embed`."""
    name: str
    request: type[Any]
    response: type[Any]
    is_client_streaming: bool
    is_server_streaming: bool


@dataclass(frozen=True)
class ProtoFile:
    """A file's calls and message classes."""

    pool: DescriptorPool
    """Holds the file's descriptors and nothing else."""
    methods: tuple[Method, ...]
    messages: dict[str, type[Any]]
    """By their names within the package."""


def load(path: Path) -> ProtoFile:
    """The calls and messages that the file defines.

    Raises:
        ValueError: the file holds something that isn't read here.
    """
    from google.protobuf import descriptor_pool, message_factory

    written = parse(path.read_text(encoding="utf-8"), path.name)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(written.SerializeToString())
    described = pool.FindFileByName(path.name)
    messages = {
        name: message_factory.GetMessageClass(each)
        for name, each in described.message_types_by_name.items()
    }
    methods = tuple(
        Method(
            service.full_name,
            method.name,
            messages[method.input_type.name],
            messages[method.output_type.name],
            method.client_streaming,
            method.server_streaming,
        )
        for service in described.services_by_name.values()
        for method in service.methods
    )
    return ProtoFile(pool, methods, messages)


def parse(text: str, name: str) -> FileDescriptorProto:
    """The descriptor of a file called `name` that holds `text`.

    Raises:
        ValueError: `text` holds something that isn't read here.
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    written = FileDescriptorProto(name=name)
    tokens = iter(_TOKEN.findall(_COMMENT.sub("", text)))
    for word in tokens:
        if word == "syntax":
            _expect(tokens, "=")
            written.syntax = next(tokens).strip('"')
            _expect(tokens, ";")
        elif word == "package":
            written.package = next(tokens)
            _expect(tokens, ";")
        elif word == "service":
            _service(tokens, written)
        elif word == "enum":
            _enum(tokens, written)
        elif word == "message":
            _message(tokens, written)
        else:
            raise ValueError(f"{name}: {word!r} isn't read here")
    _resolve(written)
    return written


def _expect(tokens: Iterator[str], wanted: str) -> None:
    found = next(tokens, "the end")
    if found != wanted:
        raise ValueError(f"{found!r} where {wanted!r} should be")


def _service(tokens: Iterator[str], written: FileDescriptorProto) -> None:
    service = written.service.add(name=next(tokens))
    _expect(tokens, "{")
    while (word := next(tokens)) != "}":
        if word != "rpc":
            raise ValueError(f"{word!r} in a service isn't read here")
        method = service.method.add(name=next(tokens))
        method.input_type, is_stream = _of_call(tokens)
        if is_stream:
            method.client_streaming = True
        _expect(tokens, "returns")
        method.output_type, is_stream = _of_call(tokens)
        if is_stream:
            method.server_streaming = True
        _expect(tokens, ";")


def _of_call(tokens: Iterator[str]) -> tuple[str, bool]:
    """What stands in brackets: a message's name, and whether it is a stream of them."""
    _expect(tokens, "(")
    word = next(tokens)
    is_stream = word == "stream"
    message = next(tokens) if is_stream else word
    _expect(tokens, ")")
    return message, is_stream


def _enum(tokens: Iterator[str], written: FileDescriptorProto) -> None:
    enum = written.enum_type.add(name=next(tokens))
    _expect(tokens, "{")
    while (word := next(tokens)) != "}":
        _expect(tokens, "=")
        enum.value.add(name=word, number=int(next(tokens)))
        _expect(tokens, ";")


def _message(tokens: Iterator[str], written: FileDescriptorProto) -> None:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

    message = written.message_type.add(name=next(tokens))
    _expect(tokens, "{")
    while (word := next(tokens)) != "}":
        label = word if word in ("optional", "repeated") else ""
        kind = next(tokens) if label else word
        field = message.field.add(name=next(tokens))
        _expect(tokens, "=")
        field.number = int(next(tokens))
        _expect(tokens, ";")
        field.label = Field.LABEL_REPEATED if label == "repeated" else Field.LABEL_OPTIONAL
        if kind in _SCALARS:
            field.type = Field.Type.Value(f"TYPE_{kind.upper()}")
        else:
            field.type_name = kind
        if label == "optional":
            # Whether such a field was set is kept as a oneof of its own (proto3's field presence).
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field.name}")


def _resolve(written: FileDescriptorProto) -> None:
    """Full names of the types that fields and calls name."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

    kinds = {each.name: Field.TYPE_MESSAGE for each in written.message_type}
    kinds |= {each.name: Field.TYPE_ENUM for each in written.enum_type}

    def full(name: str) -> str:
        if name not in kinds:
            raise ValueError(f"{written.name}: the type {name!r} isn't defined")
        return f".{written.package}.{name}"

    for message in written.message_type:
        for field in message.field:
            if field.type_name:
                name = field.type_name
                field.type_name = full(name)
                field.type = kinds[name]
    for service in written.service:
        for method in service.method:
            method.input_type = full(method.input_type)
            method.output_type = full(method.output_type)
