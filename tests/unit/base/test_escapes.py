r"""Escapes in templates: `\n`, `\t`, `\\` mean what people mean, everything else stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.base.errors import SettingsError
from likewise.base.escapes import has_escapes, meant, typed
from likewise.base.spec import BindingSpec
from likewise.text.template import Template

TYPED = {
    r"{title}\n{body}": "{title}\n{body}",
    r"{title}\t{body}\n": "{title}\t{body}\n",
    r"{a}\\n{b}": r"{a}\n{b}",
    r"{a}\\\n{b}": "{a}\\\n{b}",
    r"{a}\\\\{b}": r"{a}\\{b}",
    r"\n{a}": "\n{a}",
    # A real line end is one already.
    "{a}\n{b}": "{a}\n{b}",
    # Any other backslash stays: paths, patterns, LaTeX, Unicode escapes, a lone one at the end.
    r"C:\docs\{file}": r"C:\docs\{file}",
    r"\d+ \{a\} \r \x41 \u0041 \0 \'": r"\d+ \{a\} \r \x41 \u0041 \0 \'",
    "{a}\\": "{a}\\",
    # Doubled braces are the template's own; escapes between them are read.
    r"{{\n}} {a}": "{{\n}} {a}",
    r"{{{a}\n}}": "{{{a}\n}}",
    r"{{\\n}}": r"{{\n}}",
    # The name of a column is a name.
    r"{dir\name}\n{a\\b}": "{dir\\name}\n{a\\\\b}",
}


@pytest.mark.parametrize(("written", "template"), TYPED.items())
def test_what_is_typed_and_what_it_means(written: str, template: str) -> None:
    assert meant(written) == template
    assert has_escapes(written) == (written != template)


@given(st.text(st.sampled_from("\\nt{}ab \n\t\r")))
def test_what_is_to_be_typed_means_the_template(template: str) -> None:
    assert meant(typed(template)) == template


@given(st.lists(st.sampled_from(["\\n", "\\t", "\\\\", "\\q", "{{", "}}", "{a}", "x", "\n"])))
def test_braces_and_columns_are_those_of_the_template(parts: list[str]) -> None:
    written = "".join(["{a}", *parts])
    read = Template(meant(written))
    assert read.columns == ("a",)
    shown = {"\\n": "\n", "\\t": "\t", "\\\\": "\\", "{{": "{", "}}": "}", "{a}": "1"}
    assert read.render({"a": 1}) == "1" + "".join(shown.get(part, part) for part in parts)


def test_a_spec_reads_them_once_and_only_when_told() -> None:
    spec = BindingSpec("docs", "sqlite:a.db", "docs", r"{a}\\n{b}", chunk="tokens:0128/016")
    assert spec.text == r"{a}\\n{b}"
    read = spec.as_typed()
    assert (read.text, read.chunk) == (r"{a}\n{b}", "tokens:128/16")
    stored = BindingSpec.from_json(read.to_json(), "sqlite:a.db")
    assert stored.text == read.text


def test_a_template_that_is_wrong_is_refused_as_before() -> None:
    with pytest.raises(SettingsError, match="literal brace twice"):
        Template(meant(r"{a}\n{"))
