"""Which reader reads which file, by its name; a reader is imported only when it is needed."""

from __future__ import annotations

import posixpath

from likewise.base.errors import MissingExtra
from likewise.base.names import resolve
from likewise.sources.readers.items import Reader, Reading, ReadOptions, too_large

_HERE = "likewise.sources.readers"

READERS = {
    "text": f"{_HERE}.plain:read_text",
    "code": f"{_HERE}.plain:read_code",
    "markdown": f"{_HERE}.markdown:read",
    "html": f"{_HERE}.html:read",
    "pdf": f"{_HERE}.pdf:read",
    "csv": f"{_HERE}.delimited:read_csv",
    "tsv": f"{_HERE}.delimited:read_tsv",
    "jsonl": f"{_HERE}.jsonl:read",
    "parquet": f"{_HERE}.parquet:read",
}
"""Readers by the kind of file that they read."""

EXTRAS = dict.fromkeys(READERS, "files")
"""The extra that brings what readers import."""

_CODE = """
ada adb ads asm astro awk bash bat bib c cc cfg cjs clj cljs cmake cmd conf coffee cpp cs css cu
cuh cxx d dart diff editorconfig el elm erl ex exs f f90 f95 fish for fs fsx gd glsl go gql
gradle graphql groovy h hcl hh hlsl hpp hrl hs hxx ini ipp java jl js json json5 jsonc jsx kt kts
less lisp lua m mjs mk ml mli mm nim nix pas patch php pl pm proto ps1 psm1 py pyi pyx r rake rb
rkt rs s sass sbt scala scm scss sh sol sql ss sv svelte svh swift tcl tex tf thrift toml ts tsx
v vb vbs vhd vhdl vim vue wgsl wit xml xsd xsl xslt yaml yml zig zsh
""".split()

EXTENSIONS = {
    **dict.fromkeys(_CODE, "code"),
    **dict.fromkeys(("txt", "text", "log", "rst", "rest", "org", "adoc", "asciidoc"), "text"),
    **dict.fromkeys(("md", "markdown", "mdown", "mkd", "mdx"), "markdown"),
    **dict.fromkeys(("html", "htm", "xhtml"), "html"),
    "pdf": "pdf",
    "csv": "csv",
    **dict.fromkeys(("tsv", "tab"), "tsv"),
    **dict.fromkeys(("jsonl", "ndjson"), "jsonl"),
    **dict.fromkeys(("parquet", "pq"), "parquet"),
}
"""Kinds by extension, in lower case and without the dot."""

FILE_NAMES = {
    **dict.fromkeys(("readme", "license", "licence", "notice", "authors", "changelog"), "text"),
    **dict.fromkeys(("makefile", "dockerfile", "rakefile", "gemfile", "justfile"), "code"),
}
"""Kinds of files that have no extension, by their whole name in lower case."""


def kind_of(path: str) -> str | None:
    """The kind of the file at `path` by its name, in upper or lower case; None if unknown."""
    name = posixpath.basename(path).lower()
    extension = posixpath.splitext(name)[1][1:]
    return EXTENSIONS.get(extension) if extension else FILE_NAMES.get(name)


def read(data: bytes, path: str, options: ReadOptions | None = None) -> Reading:
    """What the file at `path`, whose bytes are `data`, says.

    A name that no table knows is read as plain text: somebody asked for it by a pattern.

    Raises:
        FileUnreadable: it can't be read; the message says why and what to do.
        MissingExtra: its kind needs a package that isn't installed.
    """
    options = options or ReadOptions()
    if len(data) > options.max_bytes:
        raise too_large(path, len(data), options.max_bytes)
    kind = kind_of(path) or "text"
    try:
        reader: Reader = resolve(kind, READERS, what="reader", extras=EXTRAS)
    except MissingExtra as missing:
        raise MissingExtra(f"{path}: {missing}") from missing
    return reader(data, path, options)
