"""What every program here is given, and how it says what it got: a line of JSON for each call."""

import json
import os
import sys

URL = os.environ["LIKEWISE_URL"]
EMBEDDER = os.environ["LIKEWISE_EMBEDDER"]
RERANKER = os.environ["LIKEWISE_RERANKER"]
TEXTS = json.loads(os.environ["LIKEWISE_TEXTS"])
QUERY = os.environ["LIKEWISE_QUERY"]
KEY = "unused"


def vectors(call, rows):
    """`rows` are vectors of `TEXTS`, in their order."""
    _line(call, vectors=[[float(number) for number in row] for row in rows])


def ranking(call, order):
    """`order` are positions of `TEXTS`, the best for `QUERY` first."""
    _line(call, ranking=[int(position) for position in order])


def value(call, given):
    """Anything else: true where it is as it should be."""
    _line(call, value=bool(given))


def _line(call, **got):
    sys.stdout.write(f"RESULT {json.dumps({'call': call, **got})}\n")
