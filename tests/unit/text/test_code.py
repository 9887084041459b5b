"""Where source code is cut: Python, a language with braces, and others, without knowing them."""

from itertools import pairwise

from tests.unit.text.test_passages import texts_of

PYTHON = '''"""Module."""

import a
import b

LIMIT = 3


@decorated
def one(x):
    if x:
        return 1
    else:
        return 2


# Why two is needed:
# it is the next.
@decorated
class Two:
    """Doc."""

    def first(self):
        return self.a

    def second(self):
        return self.b
'''

BRACES = """// What it is for.
int one(int x)
{
    if (x) {
        return 1;
    } else {
        return 2;
    }
}
/* The other. */
static int two(void) {
    while (1) {
        call();
    }
    return 3;
}
int three(void) {
    return 1 + 2 + 3;
}
"""


def firsts(passages: list[str]) -> list[str]:
    return [passage.split("\n")[0] for passage in passages]


def test_definitions_begin_a_passage() -> None:
    for size in (36, 50):
        passages = texts_of("code", PYTHON, size=size)
        assert firsts(passages)[:2] == ['"""Module."""', "# Why two is needed:"]
        assert firsts(passages)[2:] == (["def first(self):"] if size == 36 else [])
    assert passages[0].endswith("return 2") and passages[1].endswith("return self.b")


def test_the_less_indented_the_sooner() -> None:
    assert firsts(texts_of("code", PYTHON, size=24)) == [
        '"""Module."""',
        "@decorated",
        "# Why two is needed:",
        '"""Doc."""',
        "def first(self):",
    ]


def test_braces_stay_with_their_block() -> None:
    passages = texts_of("code", BRACES, size=40)
    assert firsts(passages) == ["// What it is for.", "/* The other. */", "int three(void) {"]
    assert all(passage.endswith("}") for passage in passages)


def test_else_and_what_opens_a_block_stay_with_it() -> None:
    for size in range(12, 60):
        for first in firsts(texts_of("code", BRACES, size=size)):
            assert first not in ("{", "}", "} else {")
        for first in firsts(texts_of("code", PYTHON, size=size)):
            assert first not in ("else:", "class Two:")


def test_other_languages() -> None:
    ruby = "def one\n  if x\n    1\n  end\nend\n\n# Two.\ndef two\n  if x\n    2\n  end\nend\n"
    assert firsts(texts_of("code", ruby, size=14)) == ["def one", "# Two."]
    lisp = "(defun one (x)\n  (if x\n      1\n    2))\n\n(defun two (x)\n  (+ x 2))\n"
    assert firsts(texts_of("code", lisp, size=17)) == ["(defun one (x)", "(defun two (x)"]
    toml = '[one]\na = 1\nb = "x"\n\n[two]\na = 2\nb = "y"\n'
    assert firsts(texts_of("code", toml, size=14)) == ["[one]", "[two]"]
    tabs = "func one() {\n\tif x {\n\t\treturn\n\t}\n}\n\n// Two.\nfunc two() {\n\treturn\n}\n"
    assert firsts(texts_of("code", tabs, size=13)) == ["func one() {", "// Two."]


def test_lines_are_whole_unless_one_is_too_long() -> None:
    lines = [f"call_{number}({'x, ' * (number % 4)}y)" for number in range(60)]
    passages = texts_of("code", "\n".join(lines), size=20, overlap=10)
    assert {line for passage in passages for line in passage.split("\n")} == set(lines)
    assert any(passage.split("\n")[0] in before for before, passage in pairwise(passages))
    long = "x = [" + "1, " * 100 + "]"
    assert len(texts_of("code", f"a = 1\n{long}\nb = 2\n", size=20)) > 8


def test_an_enclosing_block_is_cut_inside() -> None:
    inner = "".join(f"    int f{n}() {{\n        return {n};\n    }}\n\n" for n in range(20))
    passages = texts_of("code", f"namespace a {{\n{inner}}}\n", size=30)
    assert len(passages) > 5
    assert all(passage.startswith(("int f", "namespace")) for passage in passages)


def test_definitions_without_blank_lines_between() -> None:
    bare = "".join(f"def f{n}(x):\n    y = x\n    return y + {n}\n" for n in range(30))
    passages = texts_of("code", bare, size=30)
    assert len(passages) > 10 and all(passage.startswith("def f") for passage in passages)


def test_a_brace_alone_makes_the_line_below_no_definition() -> None:
    body = "".join(f"    call_{n}(a, b);\n" for n in range(20))
    text = f"int one(int a, int b, int c)\n{{\n{body}}}\n"
    behind = [texts_of("code", text, size=size)[0].endswith("{") for size in range(24, 44)]
    # By chance only, as behind any line.
    assert sum(behind) < 5
