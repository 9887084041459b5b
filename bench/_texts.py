"""The texts that benches embed: real sentences of log-normal length, the same on every run."""

from __future__ import annotations

import csv
import importlib
import inspect
import pydoc
import random
from pathlib import Path

MEDIAN_WORDS, SIGMA, LONGEST = 25.0, 0.75, 400
_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
_MODULES = (
    "argparse asyncio collections concurrent.futures configparser contextlib csv dataclasses "
    "datetime decimal difflib email fractions functools heapq http.client inspect io ipaddress "
    "itertools json logging mailbox multiprocessing optparse pathlib pickle queue random re shelve "
    "socket sqlite3 statistics string subprocess tarfile tempfile textwrap threading tokenize "
    "trace typing unittest urllib.parse uuid weakref xml.dom.minidom zipfile"
).split()


def mixed(count: int, seed: int = 1) -> tuple[list[str], str]:
    """`count` texts, and where they are from."""
    pick = random.Random(seed)
    words = " ".join(_docstrings()).split()
    questions = _questions()
    texts = []
    for _ in range(count):
        wanted = min(LONGEST, max(2, round(pick.lognormvariate(_mu(), SIGMA))))
        at = pick.randrange(len(words) - wanted)
        texts.append(" ".join(words[at : at + wanted]))
    for index in range(0, count if questions else 0, 4):
        texts[index] = pick.choice(questions)
    origin = "docstrings of the standard library"
    return texts, origin + (", every fourth a Banking77 question" if questions else "")


def _mu() -> float:
    from math import log

    return log(MEDIAN_WORDS)


def _docstrings() -> list[str]:
    found = set()
    for name in _MODULES:
        module = importlib.import_module(name)
        for _, member in inspect.getmembers(module):
            if inspect.isclass(member) or inspect.isfunction(member):
                found.add(pydoc.getdoc(member))
                methods = inspect.getmembers(member) if inspect.isclass(member) else []
                found |= {pydoc.getdoc(m) for _, m in methods if inspect.isroutine(m)}
    return sorted(text for text in found if len(text) > 40)


def _questions() -> list[str]:
    path = _SHARED / "banking77-test.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]
