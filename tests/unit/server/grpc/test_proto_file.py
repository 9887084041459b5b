"""Our reading of a `.proto` file against protoc's."""

import importlib.resources
from pathlib import Path

import grpc_tools
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from likewise.server import grpc as folder
from likewise.server.grpc.proto_file import load, parse

PROTO = Path(folder.__file__).with_name("tei.proto")


def compiled(path: Path, out: Path) -> FileDescriptorSet:
    """What protoc makes of the file."""
    include = importlib.resources.files(grpc_tools) / "_proto"
    arguments = [
        "protoc",
        f"-I{path.parent}",
        f"-I{include}",
        f"--descriptor_set_out={out}",
        path.name,
    ]
    assert protoc.main(arguments) == 0
    return FileDescriptorSet.FromString(out.read_bytes())


def test_the_file_is_read_as_protoc_reads_it(tmp_path: Path) -> None:
    theirs = compiled(PROTO, tmp_path / "set").file[0]
    for message in theirs.message_type:
        for field in message.field:
            field.ClearField("json_name")
    assert parse(PROTO.read_text(encoding="utf-8"), PROTO.name) == theirs


def test_every_call_is_there() -> None:
    named = {(method.service, method.name) for method in load(PROTO).methods}
    assert len(named) == 17
    assert ("tei.v1.Embed", "EmbedSparseStream") in named


@pytest.mark.parametrize(
    "text",
    [
        'import "x.proto";',
        "message A { B b = 1; }",
        "message A { oneof x { int32 a = 1; } }",
        "service S { option x = 1; }",
        "service S { rpc A (B) returns (C); }",
    ],
)
def test_what_it_does_not_read_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text, "x.proto")
