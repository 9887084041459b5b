"""The dashboard and the alerts ask for metrics and labels that the server really has."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from likewise.runtime import metrics
from likewise.server.app import build
from tests.unit.server.fakes import FakeModel

COMING: frozenset[str] = frozenset(
    {
        "likewise_model_loads",
        "likewise_model_unloads",
        "likewise_model_load_seconds",
        "likewise_model_resident_bytes",
        "likewise_models_loaded",
        "likewise_cache_bytes",
        "likewise_cache_vectors",
    }
)
"""Metrics that the dashboard shows before they are there."""

FOREIGN = frozenset({"up"})
"""Metrics that Prometheus makes itself."""
OF_SCRAPING = frozenset({"instance", "job", "namespace", "pod"})
"""Labels that Prometheus adds."""
_KEYWORDS = frozenset({"and", "or", "unless", "bool", "inf", "nan"})
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"


def metrics_of(expr: str) -> set[str]:
    """The metrics that a query reads."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"', "", expr)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    found = re.findall(rf"(?<![\w:.$])({_NAME})\b(?!\s*\()", text)
    return {name for name in found if name.lower() not in _KEYWORDS}


def labels_of(expr: str) -> set[str]:
    """The labels that a query chooses or groups by."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expr)
    groups = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", text)
    found = {label.strip() for group in groups for label in group.split(",")}
    for matchers in re.findall(r"\{([^}]*)\}", text):
        found |= set(re.findall(rf"({_NAME})\s*(?:=~|!~|!=|=)", matchers))
    return found - {""}


def exported() -> dict[str, set[str]]:
    """Every sample's name that an application and the runtime give, with its labels."""
    registry = CollectorRegistry()
    build({"m": FakeModel()}, registry=registry)
    labels: dict[str, set[str]] = {}
    for each in (registry, metrics.REGISTRY):
        for collector in list(each._collector_to_names):
            own = set(getattr(collector, "_labelnames", ()))
            for family in collector.collect():
                known = own | set(getattr(family, "_labelnames", ()))
                for sample in family.samples:
                    known |= set(sample.labels)
                labels |= dict.fromkeys(_samples(family.name, family.type), known)
    for name in COMING:
        labels |= dict.fromkeys(_samples(name, "any"), {"model"})
    return labels


def _samples(name: str, kind: str) -> Iterator[str]:
    if kind in ("counter", "any"):
        yield f"{name}_total"
    if kind in ("histogram", "any"):
        yield from (f"{name}{suffix}" for suffix in ("_bucket", "_sum", "_count"))
    if kind in ("gauge", "unknown", "any"):
        yield name


def wrong(expr: str, known: Mapping[str, Iterable[str]]) -> list[str]:
    """What a query asks for and nobody has."""
    names = metrics_of(expr) - FOREIGN
    if not names and "up" not in metrics_of(expr):
        return [f"no metric in {expr}"]
    missing = [name for name in names if name not in known]
    has = set(OF_SCRAPING) | {label for name in names for label in known.get(name, ())}
    has |= {"le"} if any(name.endswith("_bucket") for name in names) else set()
    return missing + [label for label in labels_of(expr) if label not in has]


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    return exported()


@pytest.fixture(scope="module")
def dashboard(repo: Path) -> dict[str, Any]:
    text = (repo / "deploy" / "grafana" / "likewise.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.fixture(scope="module")
def alerts(repo: Path) -> list[dict[str, Any]]:
    text = (repo / "deploy" / "prometheus" / "alerts.yaml").read_text(encoding="utf-8")
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_every_query_of_the_dashboard_can_be_answered(
    dashboard: dict[str, Any], known: dict[str, set[str]]
) -> None:
    found = [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]
    assert len(found) > 20
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            inside = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert inside
            found.append(f"{inside[1]} {{{inside[2]}=''}}")
    assert {expr: bad for expr in found if (bad := wrong(expr, known))} == {}


def test_every_alert_can_be_answered(
    alerts: list[dict[str, Any]], known: dict[str, set[str]]
) -> None:
    assert len(alerts) > 8
    for rule in alerts:
        assert wrong(rule["expr"], known) == [], rule["alert"]
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert {"summary", "description"} <= set(rule["annotations"])
        # What an alert says must be among what its query leaves.
        said = re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))
        assert set(said) <= labels_of(rule["expr"]) | OF_SCRAPING, rule["alert"]
    assert len({rule["alert"] for rule in alerts}) == len(alerts)


def test_the_legend_names_labels_that_are_left(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        for target in panel["targets"]:
            said = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert said <= labels_of(target["expr"]), (panel["title"], target)


def test_the_dashboard_is_one_that_grafana_takes(dashboard: dict[str, Any]) -> None:
    names = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert names["datasource"]["type"] == "datasource"
    assert dashboard["uid"] == "likewise"
    every = dashboard["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels(dashboard):
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        assert all(t["datasource"]["uid"] == "${datasource}" for t in panel["targets"])
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)


def test_what_came_is_no_more_coming() -> None:
    there = {family.name for family in metrics.REGISTRY.collect()}
    assert not COMING & there, "take these names out of COMING"


@pytest.mark.parametrize(
    ("expr", "bad"),
    [
        ("sum by (dialect) (rate(likewise_http_requests_total[5m]))", []),
        ("sum(rate(likewise_http_request_total[5m]))", ["likewise_http_request_total"]),
        ("rate(likewise_http_requests[5m])", ["likewise_http_requests"]),
        ("sum by (modle) (likewise_tokens_total)", ["modle"]),
        ('likewise_tokens_total{lnae="a"} / 2', ["lnae"]),
        ("histogram_quantile(0.9, sum by (le) (rate(likewise_batch_seconds_bucket[1m])))", []),
        ("likewise_batch_seconds", ["likewise_batch_seconds"]),
        ('te_request_count{method="batch"}', []),
        ("te_request_count_total", ["te_request_count_total"]),
        ("te_queue_size > 3 and likewise_nothing", ["likewise_nothing"]),
        ("1 + 1", ["no metric in 1 + 1"]),
    ],
)
def test_the_check_sees_what_is_wrong(
    expr: str, bad: list[str], known: dict[str, set[str]]
) -> None:
    assert wrong(expr, known) == bad
