"""The metrics that both binaries have, read from where their sources register them, and those that queries ask for."""

import functools
import re

from support import ROOT

PREFIXES = {"operator": "tenantry_operator", "api-server": "tenantry_api"}
SUFFIXES = {"Counter": ["_total"], "Histogram": ["_bucket", "_count", "_sum"], "Gauge": [""], "Info": ["_info"]}
# Of a series that Prometheus gives a target; `le` is a histogram's.
TARGET = {"namespace", "pod", "job", "instance", "le"}


def structs(source):
    """Name of a struct → its fields and their types."""
    found = re.findall(r"struct (\w+) \{(.*?)\n\}", source, re.DOTALL) + re.findall(r"struct (\w+)\((.*?)\);", source)
    return {name: dict(re.findall(r"(\w+): ([^\n]+?),?\n", body + "\n")) or {"0": body} for name, body in found}


def sources_of(package):
    """Of a package, and of what both register alike."""
    return [path.read_text() for folder in (package, "crds/telemetry") for path in (ROOT / folder / "src").rglob("*.rs")]


@functools.cache
def metrics():
    """Name of a series → the labels it may have."""
    out = {}
    for package, prefix in PREFIXES.items():
        sources = [source for source in sources_of(package) if "prometheus_client::" in source]
        kinds = {name: fields for source in sources for name, fields in structs(source).items()}
        fields = [pair for fields in kinds.values() for pair in fields.items()]
        # Of two fields of one name, the one that is a metric.
        types = dict(sorted(fields, key=lambda pair: bool(re.search("Family|Counter|Gauge|Histogram", pair[1]))))
        for source in sources:
            prefixes = dict(re.findall(r"let (?:mut )?(\w+) = [^;]*?with_prefix\(\"(\w+)\"\)", source))
            calls = r"(\w+)\s*\.register(_with_unit)?\(\s*\"(\w+)\",\s*\"[^\"]*\",\s*(?:Unit::(\w+),\s*)?([\w.]+?)(?:\.clone\(\))?,?\s*\)"
            for registry, _, name, unit, handle in re.findall(calls, source):
                field = handle.split(".")[-1]
                kind = "Info" if handle == "build" else types[handle.split(".")[-2]] if field == "0" else types[field]
                kind = kinds[kind]["0"] if kind in kinds else kind
                for alias, meaning in re.findall(r"^type (\w+) = (.+);$", source, re.MULTILINE):
                    kind = re.sub(rf"\b{alias}\b", meaning, kind)
                labels = set()
                if family := re.match(r"Family<(\w+), ", kind):
                    labels = set(kinds[family[1]])
                if kind == "Info":
                    labels = {"version", "commit"}
                shape = re.search(r"Counter|Histogram|Gauge|Info", kind)[0]
                full = f"{prefixes.get(registry, prefix)}_{name}" + (f"_{unit.lower()}" if unit else "")
                out |= {full + suffix: labels for suffix in SUFFIXES[shape]}
    return out


def asked(query):
    """(series, labels) of every selector in a PromQL expression, and of what it groups by."""
    names = re.findall(r"\b(tenantry_\w+)(?:\{([^}]*)\})?", query)
    return [(name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", labels))) for name, labels in names]


def grouped(query):
    return {label.strip() for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in labels.split(",")}


def unknown(query):
    """What an expression asks for and no binary has."""
    known, wrong = metrics(), []
    for name, labels in asked(query):
        if name not in known:
            wrong.append(f"no metric {name}")
        else:
            wrong += [f"{name} has no label {label}" for label in labels - known[name] - TARGET]
    all_labels = set().union(*(known.get(name, set()) for name, _ in asked(query))) | TARGET
    return wrong + [f"{query}: nothing has the label {label}" for label in grouped(query) - all_labels]
