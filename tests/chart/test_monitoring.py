"""Alerts, runbooks, dashboards and monitors: that they are right is for Prometheus' own tool to say."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from figures import metrics, sources_of, unknown
from schemas import VERSIONS, complaints
from support import CHART, ROOT, only, render, rendered, values

# As strings: YAML would take `0x10`, ten zeros to promtool, for sixteen.
CASES = yaml.load((Path(__file__).parent / "alerts.yaml").read_text(), yaml.BaseLoader)
EVERYTHING = {"monitoring": {"prometheusRule": {"enabled": True}, "grafanaDashboard": {"enabled": True}}}
RULE = only(render(EVERYTHING), "PrometheusRule")
ALERTS = {rule["alert"]: rule for group in RULE["spec"]["groups"] for rule in group["rules"]}
DASHBOARDS = {o["metadata"]["name"]: o for o in render(EVERYTHING) if o["kind"] == "ConfigMap"}


def promtool(*arguments, cwd):
    program = shutil.which("promtool")
    assert program, "promtool is missing; install Prometheus (Debian: apt-get install prometheus) and run again"
    done = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules(tmp_path):
    for name, rule in {"default": RULE, "full": only(rendered("full"), "PrometheusRule")}.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(rule["spec"]))
        promtool("check", "rules", f"{name}.yaml", cwd=tmp_path)


def test_every_alert_fires_when_it_must_and_else_keeps_quiet(tmp_path):
    assert CASES.keys() == ALERTS.keys()
    # What a person reads first is compared word for word; the rest of the annotations is not.
    rules = [{**rule, "annotations": {"summary": rule["annotations"]["summary"]}} for rule in ALERTS.values()]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "alerts", "rules": rules}]}))
    tests = []
    for alert, cases in CASES.items():
        for name, case in cases.items():
            labels = {**ALERTS[alert]["labels"], **case.get("labels", {})}
            fires = [{"exp_labels": labels, "exp_annotations": {"summary": case["summary"]}}] if name == "fires" else []
            tests.append({
                "name": f"{alert} {name}",
                "interval": "1m",
                "input_series": [{"series": series, "values": samples} for series, samples in case["series"].items()],
                "alert_rule_test": [{"eval_time": case["at"], "alertname": alert, "exp_alerts": fires}],
            })
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", "tests.yaml", cwd=tmp_path)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_what_it_means_how_bad_it_is_and_where_help_is(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
    page, section = rule["annotations"]["runbook_url"].split("#")
    assert page.endswith("/helm/tenantry/runbooks.md")
    headings = {heading.lower(): text for heading, text in re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", (CHART / "runbooks.md").read_text(), re.MULTILINE | re.DOTALL)}
    for part in ("**Means**", "**Look**", "**Helps**"):
        assert part in headings[section], f"the runbook of {alert} has no {part}"


def test_no_runbook_is_of_an_alert_that_is_gone():
    assert set(re.findall(r"^### (\w+)$", (CHART / "runbooks.md").read_text(), re.MULTILINE)) == ALERTS.keys()


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_asks_for_figures_that_the_binaries_have(alert):
    assert unknown(ALERTS[alert]["expr"]) == []


def test_the_figures_are_found_in_the_sources():
    """The parser of the sources itself: one of each shape, with labels; and none that it passes over."""
    known = metrics()
    assert known["tenantry_operator_objects"] == {"kind", "condition", "status"}
    assert known["tenantry_api_request_duration_seconds_bucket"] == {"method", "route"}
    assert known["tenantry_api_rate_limit_decisions_total"] == {"limit", "outcome"}
    assert known["tenantry_operator_build_info"] == known["tenantry_api_build_info"] == {"version", "commit"}
    calls = sum(len(re.findall(r"\b(?:registry|http)\s*\.register(?:_with_unit)?\(", source))
                for package in ("operator", "api-server") for source in sources_of(package))
    assert len({re.sub("_(bucket|count|sum)$", "", name) for name in known}) == calls


def test_reasons_and_conditions_in_the_alerts_are_words_of_the_statuses():
    words = set(re.findall(r'&str = "(\w+)"', (ROOT / "crds/src/conditions.rs").read_text()))
    expressions = " ".join(rule["expr"] for rule in ALERTS.values())
    named = {word for value in re.findall(r'(?:reason|condition)=~?"([^"]+)"', expressions) for word in value.split("|")}
    assert len(named) > 8
    assert named - words == set()


def test_thresholds_labels_and_omissions_are_as_asked():
    rules = {rule["alert"]: rule for group in only(rendered("full"), "PrometheusRule")["spec"]["groups"] for rule in group["rules"] if "alert" in rule}
    assert ALERTS.keys() - rules.keys() == {"TenantryPlatformDegraded"}
    assert rules["TenantryReconcileStuck"]["expr"].endswith("> 120") and ALERTS["TenantryReconcileStuck"]["expr"].endswith("> 300")
    assert rules["TenantryApiErrors"]["expr"].endswith("> 0.005")
    assert rules["TenantryRolloutPaused"]["for"] == "1d" and "for 1d" in rules["TenantryRolloutPaused"]["annotations"]["summary"]
    assert {rule["labels"]["team"] for rule in rules.values()} == {"payments"}
    assert rules["TenantryApiSlow"]["annotations"]["runbook_url"] == "https://runbooks.example.com/tenantry#tenantryapislow"
    assert "ours" in {group["name"] for group in only(rendered("full"), "PrometheusRule")["spec"]["groups"]}
    assert not re.search(r"%\w+%", json.dumps(RULE)), "a threshold that no value fills in"


def queries(board):
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_asks_for_figures_that_the_binaries_have(name, tmp_path):
    (file, text), = DASHBOARDS[name]["data"].items()
    board = json.loads(text)
    assert file.endswith(".json") and board["uid"] and DASHBOARDS[name]["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert len(text) < 262_144, "kubectl apply keeps a copy in an annotation"
    asked = list(queries(board))
    assert [why for variable in board["templating"]["list"] if variable["type"] == "query" for why in unknown(variable["query"]["query"])] == []
    assert len(asked) > 15
    assert [f"{title}: {why}" for title, query in asked for why in unknown(query)] == []
    # Prometheus parses them, with Grafana's variables filled in as Grafana does.
    rules = [{"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m").replace("$namespace", ".*")} for number, (_, query) in enumerate(asked)]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "--lint=none", "panels.yaml", cwd=tmp_path)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_laid_out_without_overlap_and_chooses_its_source(name):
    board = json.loads(next(iter(DASHBOARDS[name]["data"].values())))
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    variables = {variable["name"] for variable in board["templating"]["list"]}
    used = {word for _, query in queries(board) for word in re.findall(r"\$(\w+)", query)} - {"__rate_interval"}
    assert used <= variables and "datasource" in variables


def test_the_monitors_find_the_operator_and_keep_its_own_labels():
    objects = rendered("full")
    service, deployment = only(objects, "Service"), only(objects, "Deployment")
    by_service, by_pod = only(objects, "ServiceMonitor"), only(objects, "PodMonitor")
    assert by_service["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert by_pod["spec"]["selector"]["matchLabels"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert {e["port"] for e in by_service["spec"]["endpoints"]} == {p["name"] for p in service["spec"]["ports"]}
    container, = deployment["spec"]["template"]["spec"]["containers"]
    assert {e["port"] for e in by_pod["spec"]["podMetricsEndpoints"]} == {p["name"] for p in container["ports"]}
    # Else Prometheus renames the objects' namespace to exported_namespace, and the alerts name the operator's.
    assert all(e["honorLabels"] for e in [*by_service["spec"]["endpoints"], *by_pod["spec"]["podMetricsEndpoints"]])


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor", "PrometheusRule"])
def test_the_prometheus_operator_accepts_it(kind):
    assert complaints(only(rendered("full"), kind), VERSIONS[0]) == []


def test_nothing_of_the_prometheus_operator_is_asked_for_unless_wished():
    assert not [o for o in render() if o["apiVersion"].startswith("monitoring.coreos.com/")]
    assert values("full")["monitoring"]["podMonitor"]["enabled"]
