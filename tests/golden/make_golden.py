"""Makes golden.jsonl and golden.npy: 200 texts, and their vectors by sentence-transformers in fp32.

    python tests/golden/make_golden.py MODEL_FOLDER

Rerun it only to change the texts; what it wrote is committed.
"""

import importlib
import inspect
import json
import pydoc
import random
import sys
from pathlib import Path

HERE = Path(__file__).parent
COUNT = 200

SHORT = [
    "",
    " ",
    "\n\t",
    "a",
    "Weather",
    "ok",
    ".",
    "?!",
    "42",
    "don't",
    "naïve",
    "Straße",
    "O'Brien",
    "supercalifragilisticexpialidocious",
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "How do I reset my password?",
    "Where is my refund",
    "The cat sat on the mat.",
    "cancel my card please, it was stolen yesterday in Lisbon",
    "BREAKING NEWS",
    "tHe QuIcK bRoWn FoX",
    "https://example.org/a/b?c=d&e=%20f#g",
    "mail me at someone@example.org",
    "$1,234.56 or 99 %",
    "2024-02-29T23:59:59Z",
    "C++ vs. C# vs. F#",
    "a/b\\c|d",
    "SELECT * FROM t WHERE x = 'y';",
    "x = [i**2 for i in range(10)]",
    "<b>bold</b> &amp; <i>italic</i>",
    '{"key": [1, 2, null]}',
    "e = mc², H₂O, 10⁻³, ½ + ¼ = ¾",
    "∀x ∈ ℝ: x² ≥ 0",
    "№ 5 — “quoted” ‘single’ …",
    "ﬁne ﬂow ligatures",
    "   leading and trailing spaces   ",
    "many     inner      spaces",
    "tab\tseparated\tvalues",
    "line one\nline two\r\nline three",
    "no-break\u00a0space and zero\u200bwidth",
    "soft\u00adhyphen",
]
EMOJI = [
    "🙂",
    "🎉🎉🎉",
    "I love pizza 🍕❤️",
    "👨‍👩‍👧‍👦 family",
    "flags 🇫🇷🇯🇵🇧🇷",
    "thumbs 👍🏽 up",
    "🔥 hot 🔥 take 🔥",
    "text then emoji 😀 then text",
    "☕️ & 🍰 at 5",
    "¯\\_(ツ)_/¯",
    "(╯°□°)╯︵ ┻━┻",
    "🧑🏿‍🚀 in space 🚀",
]
WORLD = [
    "人工智能正在改变世界。",
    "今天天气很好，我们去公园吧。",
    "東京は日本の首都です。",
    "カタカナとひらがなと漢字",
    "안녕하세요, 만나서 반갑습니다.",
    "대한민국의 수도는 서울이다",
    "你好",
    "水",
    "繁體中文與简体中文",
    "Привет, как дела?",
    "Съешь ещё этих мягких французских булок, да выпей чаю.",
    "Ελληνικά και αγγλικά",
    "مرحبا بالعالم",
    "שלום עולם",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "Tiếng Việt có dấu",
    "İstanbul'da ığdır",
    "Der Zug nach München fährt heute später ab.",
    "Où est la bibliothèque, s'il vous plaît ?",
    "El niño comió una piña mañana.",
    "Zażółć gęślą jaźń",
    "Příliš žluťoučký kůň",
    "Þetta er íslenska",
    "e\u0301 is not \u00e9 until it is normalised",
    "mixed 日本語 and English and русский 🙂 together",
    "全角ＡＢＣ１２３",
    "한국어 and 中文 and ไทย",
    "ქართული ენა",
    "አማርኛ",
]
CONTROL = [
    "\x00",
    "nul\x00inside",
    "bell\x07 and escape\x1b[31mred\x1b[0m",
    "\x01\x02\x03\x04",
    "del\x7fete",
    "form\x0cfeed and vertical\x0btab",
    "\ufeffbyte order mark",
    "replacement \ufffd character",
    "left\u200eto\u200fright marks",
    "line\u2028separator paragraph\u2029separator",
    "\x85next\x85line",
    "private \ue000 use",
    "joined\u2060word",
    "unit\x1fseparator\x1erecord",
    "surrogate-free \U0010ffff",
]
MODULES = (
    "argparse asyncio bisect collections concurrent.futures configparser contextlib csv "
    "dataclasses datetime decimal difflib email fractions functools heapq html http.client "
    "inspect io ipaddress itertools json logging mailbox math multiprocessing optparse "
    "pathlib pickle queue random re sched shelve shlex socket sqlite3 statistics string "
    "subprocess tarfile tempfile textwrap threading timeit tokenize trace turtle typing "
    "unittest urllib.parse uuid wave weakref zipfile "
).split()


def passages() -> list[str]:
    """Docstrings of the standard library, in a fixed order."""
    found = set()
    for name in MODULES:
        module = importlib.import_module(name)
        found.add(pydoc.getdoc(module))
        for _, member in inspect.getmembers(module):
            if inspect.isclass(member) or inspect.isfunction(member):
                found.add(pydoc.getdoc(member))
    return sorted(text for text in found if len(text) > 40)


def texts() -> list[str]:
    """The 200 texts."""
    pick = random.Random(7)
    docs = passages()
    words = " ".join(pick.sample(docs, 60)).split()
    long = [" ".join(words[at : at + 1000]) for at in range(0, 3000, 1000)]
    edges = [" ".join(["word"] * count) for count in (1, 252, 253, 254, 255, 256, 300)]
    mixed = [
        " ".join(
            [pick.choice(WORLD), pick.choice(EMOJI), pick.choice(docs)[:300], pick.choice(CONTROL)]
        )
        for _ in range(20)
    ]
    made = [*SHORT, *EMOJI, *WORLD, *CONTROL, *long, *edges, *mixed]
    made += pick.sample(docs, COUNT - len(made))
    return made


def main(model: str) -> None:
    """Write both files."""
    import numpy as np
    from sentence_transformers import SentenceTransformer

    made = texts()
    for text in made:
        text.encode("utf-8")
    # One at a time: no padding, so nothing but the text itself decides the vector.
    encoder = SentenceTransformer(model, device="cpu")
    vectors = np.concatenate([encoder.encode([text], convert_to_numpy=True) for text in made])
    with (HERE / "golden.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(text) + "\n" for text in made)
    np.save(HERE / "golden.npy", vectors.astype(np.float32))


if __name__ == "__main__":
    main(sys.argv[1])
