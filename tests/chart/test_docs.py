"""What the documents say about names, files and commands is so."""

import re
import subprocess

import pytest

from support import CHART, GENERATED_CRDS, ROOT, kinds, read

README = (ROOT / "README.md").read_text()
DOCUMENTS = {path.relative_to(ROOT).as_posix(): path.read_text() for path in [ROOT / "README.md", ROOT / "SECURITY.md", CHART / "README.md", CHART / "runbooks.md", ROOT / "manifests/README.md"]}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name):
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", DOCUMENTS[name]) if "://" not in link]
    assert [link for link in links if link and not ((ROOT / name).parent / link).exists()] == []


def test_the_table_of_kinds_is_that_of_the_crds():
    names = {crd["spec"]["names"]["kind"]: crd["spec"]["names"]["shortNames"][0] for path in GENERATED_CRDS.glob("*.yaml") for crd in read(path)}
    table = README.split("## The kinds")[1].split("\n## ")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", table, re.MULTILINE)) == names


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_can_be_pasted_into_a_shell(name):
    blocks = re.findall(r"```(?:console|sh)\n(.*?)```", DOCUMENTS[name], re.DOTALL)
    assert blocks
    for block in blocks:
        commands = "\n".join(re.sub(r"^[$>] ", "", line) for line in block.splitlines() if line[:2] in ("$ ", "> ") or "$ " not in block)
        parsed = subprocess.run(["bash", "-n"], input=commands, capture_output=True, text=True)
        assert parsed.returncode == 0, parsed.stderr + commands


def test_every_command_of_cargo_dev_exists():
    sources = (ROOT / "tests/harness/dev/main.rs").read_text()
    commands = re.findall(r"^    ///.*\n    (\w+)[,(]|^    (\w+)\(", sources.split("enum Command {")[1].split("\n}")[0], re.MULTILINE)
    known = {name.lower() for pair in commands for name in pair if name}
    named = {word for text in DOCUMENTS.values() for word in re.findall(r"cargo dev (\w+)", text)}
    assert named == known


def test_every_path_in_backticks_exists():
    named = {path for path in re.findall(r"`([\w./-]+/[\w./-]*)`", README) if "<" not in path and not path.startswith("tenantry.dev")}
    rooms = [ROOT, ROOT / "api-server/src", ROOT / "operator/src", ROOT / "api-server/src/features", ROOT / "tests", ROOT / "crds"]
    assert named
    assert [path for path in named if not path.startswith("/") and not any((room / path).exists() for room in rooms)] == []


def test_the_platform_of_the_readme_is_accepted():
    from schemas import VERSIONS, complaints
    from support import parse

    objects = [o for text in re.findall(r"<<'EOF'\n(.*?)EOF", README, re.DOTALL) for o in parse(text)]
    assert "Platform" in kinds(objects)
    assert [why for o in objects for why in complaints(o, VERSIONS[0])] == []
