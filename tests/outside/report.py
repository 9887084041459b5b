"""What was seen of each client, kept in `results.json` and shown in docs/compatibility.md."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

BEGIN = "<!-- made by make test-outside REPORT=1 -->"
END = "<!-- end -->"
_HEAD = "| client | from | version | date | what worked |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Row:
    """One client as it was seen."""

    client: str
    origin: str
    """`Python`, `npm`, `JVM`, or what else it is."""
    version: str
    said: str = ""

    def worked(self, calls: list[str]) -> Row:
        """All of these did."""
        return replace(self, said=", ".join(calls))

    def but(self, reason: str) -> Row:
        """Nothing did, and why."""
        return replace(self, said=reason)


class Rows:
    """The rows of one run; those of clients that weren't tried in it stay as they were."""

    def __init__(self, path: Path, page: Path) -> None:
        self._path = path
        self._page = page
        self._seen: list[Row] = []

    def add(self, row: Row) -> None:
        """One client was tried."""
        self._seen.append(row)

    def write(self) -> None:
        """Keep the rows, and show all that are kept."""
        date = datetime.now(UTC).date().isoformat()
        kept = json.loads(self._path.read_text("utf-8")) if self._path.exists() else []
        by_name = {(each["origin"], each["client"]): each for each in kept}
        for row in self._seen:
            by_name[row.origin, row.client] = {**asdict(row), "date": date}
        ordered = [by_name[name] for name in sorted(by_name)]
        self._path.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", "utf-8")
        text = self._page.read_text("utf-8")
        before, _, rest = text.partition(BEGIN)
        self._page.write_text(
            f"{before}{BEGIN}\n{table(ordered)}\n{END}{rest.partition(END)[2]}", "utf-8"
        )


def table(rows: list[dict[str, str]]) -> str:
    """The rows as the page shows them."""
    columns = ("client", "origin", "version", "date", "said")
    lines = [f"| {' | '.join(each[name] for name in columns)} |" for each in rows]
    return "\n".join([_HEAD, *lines])
