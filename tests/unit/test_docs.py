"""The documents run: what README and docs show, name or list is compared with what is really there.

Blocks of YAML are parsed and checked against the resource's schema; commands must name verbs and folders that exist;
every path must exist; tables of keys, fields, reasons, metrics and variables must be complete.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import redis_server
from tests.lab.__main__ import parser as lab_parser

from resonance import sealing
from resonance.model.conditions import Type
from resonance.model.manifest import Head, Manifest
from resonance.model.naming import RESERVED_KINDS, MemberKeys, WorkloadKeys
from resonance.model.report import Outcome
from resonance.model.state import EMPTY
from resonance.store.connection import KEYS
from resonance.store.health import Danger

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
CRD = yaml.safe_load((ROOT / "crds" / "resonancesnapshot.yaml").read_text())
VERSION = CRD["spec"]["versions"][0]
SHELL = ("sh", "console")
FOLDERS = ("operator", "tests", "manifests", "docs", "crds", "requirements")
Block = tuple[str, str, str]


def blocks(page: Path) -> Iterator[Block]:
    """(page and line, language, text) of each fenced block."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield f"{page.relative_to(ROOT)}:{text[: found.start()].count(chr(10)) + 1}", found[1], found[2]


def of(*languages: str) -> list[Any]:
    every = [block for page in PAGES for block in blocks(page)]
    return [pytest.param(text, id=where) for where, language, text in every if language in languages]


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def first_cells(name: str, heading: str) -> list[str]:
    """The words in backticks in the first cells of the table below a heading."""
    section = page(name).partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


# YAML


def complaints(schema: dict[str, Any], value: object, path: str) -> list[str]:
    """What the structure of a schema refuses in a value: unknown fields, wrong types, values not listed."""
    if schema.get("x-kubernetes-int-or-string"):
        return [] if isinstance(value, int | str) else [f"{path}: {value!r} is neither a number nor a text"]
    types: dict[str, type] = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    if not isinstance(value, types[schema["type"]]):
        return [f"{path}: {value!r} is no {schema['type']}"]
    if value not in schema.get("enum", [value]):
        return [f"{path}: {value!r} is none of {schema['enum']}"]
    if isinstance(value, list):
        return [
            each for index, item in enumerate(value) for each in complaints(schema["items"], item, f"{path}[{index}]")
        ]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    known = schema["properties"]
    unknown = [f"{path}.{name}: no such field" for name in value if name not in known]
    inner = [each for name in value if name in known for each in complaints(known[name], value[name], f"{path}.{name}")]
    return unknown + inner


@pytest.mark.parametrize("text", of("yaml"))
def test_a_block_of_yaml_is_an_object_that_the_cluster_takes(text: str) -> None:
    for document in yaml.safe_load_all(text):
        assert {"apiVersion", "kind", "metadata"} <= document.keys()
        if document["kind"] == "ResonanceSnapshot":
            schema = {**VERSION["schema"]["openAPIV3Schema"]}
            schema["properties"] = {**schema["properties"], "metadata": {"type": "object"}}
            assert complaints(schema, document, "") == []
            assert {"selector", "source", "store"} <= document["spec"].keys()


def test_a_wrong_field_would_be_noticed() -> None:
    schema = VERSION["schema"]["openAPIV3Schema"]["properties"]["spec"]
    wrong = {"selektor": {}, "identity": "Pod", "source": {"http": {"port": "http"}}}
    assert complaints(schema, wrong, "spec") == [
        "spec.selektor: no such field",
        "spec.identity: 'Pod' is none of ['Auto', 'PodName', 'Slot', 'Node']",
        "spec.source.http.port: 'http' is no integer",
    ]


def test_the_policy_on_the_first_screen_is_that_of_the_sample() -> None:
    shown = next(text for _, language, text in blocks(ROOT / "README.md") if language == "yaml")
    assert shown == (ROOT / "manifests" / "sample" / "policy.yaml").read_text()


@pytest.mark.parametrize("text", of("json"))
def test_a_block_of_json_is_json(text: str) -> None:
    assert isinstance(json.loads(text), dict)


# Commands and paths


@pytest.mark.parametrize("text", of(*SHELL))
def test_a_command_names_verbs_that_exist(text: str) -> None:
    verbs = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lab = set(re.findall(r"[a-z]+", lab_parser().format_help().partition("VERB")[2]))
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= verbs
    assert set(re.findall(r"tests\.lab ([a-z]+)", text)) <= lab


@pytest.mark.parametrize("text", of(*SHELL))
def test_a_command_names_files_and_folders_that_exist(text: str) -> None:
    named = [*re.findall(r"-k (\S+)", text), *re.findall(r"-f (manifests\S+)", text)]
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("where", PAGES, ids=lambda where: str(where.relative_to(ROOT)))
def test_every_path_and_link_of_a_page_leads_somewhere(where: Path) -> None:
    text = where.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[^`\s*]+)`", text)
    missing = [link for link in links if not (where.parent / link).exists()]
    assert missing + [name for name in named if not (ROOT / name).exists()] == []


def test_every_document_that_the_code_names_is_there() -> None:
    named = {
        found
        for folder in ("operator", "manifests", "crds", "tests")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in {".py", ".yaml"}
        for found in re.findall(r"docs/[\w/.-]+\.md", file.read_text(encoding="utf-8"))
    }
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []


# Redis


def test_every_key_of_the_secret_is_documented() -> None:
    assert sorted(first_cells("redis.md", "The Secret")) == sorted(KEYS)


def commands(acl: str) -> set[str]:
    return set(re.findall(r"\+(\S+)", acl))


def test_the_user_of_the_documents_is_that_of_the_tests_and_of_the_quickstart() -> None:
    shown, cluster, sentinel = (line for line in page("redis.md").splitlines() if line.startswith("ACL SETUSER"))
    quickstart = (ROOT / "manifests" / "redis" / "make_secrets.py").read_text(encoding="utf-8")
    constants = {
        node.targets[0].id: node.value
        for node in ast.parse(quickstart).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    granted = set(str(ast.literal_eval(constants["COMMANDS"])).split())
    assert commands(shown) == commands(redis_server.ACL) == granted
    assert commands(cluster) == commands(redis_server.CLUSTER_ACL)
    assert commands(sentinel) == commands(redis_server.SENTINEL_ACL)
    assert redis_server.NOBODY in page("redis.md")
    assert "resetchannels ~resonance:* -@all" in shown
    assert "resetchannels ~{PREFIX}:* -@all" in quickstart


def test_every_danger_of_a_redis_is_documented() -> None:
    assert {str(each) for each in Danger} <= set(first_words("Reasons"))


# The status


def first_words(heading: str) -> list[str]:
    """Every word in backticks of the reason column of the status page."""
    section = page("status.md").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith(("| `", "| |"))]
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row[2])]


def spoken(tree: ast.AST) -> Iterator[str]:
    """The reasons that are written as they are in a module: the first text of a Said, the third of a Condition."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        place = {"Said": 0, "is_false": 0, "Condition": 2}.get(ast.unparse(call.func))
        if place is not None and len(call.args) > place and isinstance(call.args[place], ast.Constant):
            yield str(ast.literal_eval(call.args[place]))


def test_every_reason_is_documented() -> None:
    files = [*(ROOT / "operator" / "resonance" / "controller").glob("*.py")]
    files += [ROOT / "operator" / "resonance" / "model" / f"{name}.py" for name in ("conditions", "acceptance")]
    said = {reason for file in files for reason in spoken(ast.parse(file.read_text(encoding="utf-8")))}
    assert len(said) > 30
    assert sorted(said - set(first_words("Reasons"))) == [], "add them to the table Reasons in docs/status.md"


def test_every_documented_reason_is_said_somewhere() -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "operator").rglob("*.py"))
    strange = [word for word in first_words("Reasons") if not re.search(rf'"{word}"|class {word}\b', code)]
    assert [word for word in strange if word != "spec.schedule.suspend"] == []


def test_every_condition_and_outcome_is_documented() -> None:
    assert first_cells("status.md", "Conditions") == [str(each) for each in Type]
    assert first_cells("status.md", "Outcomes") == [str(each) for each in Outcome]


def test_every_column_is_documented_in_its_order() -> None:
    section = page("status.md").partition("## Columns\n")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| ([A-Z]+) \|", section, re.MULTILINE)
    assert shown == [column["name"].upper() for column in VERSION["additionalPrinterColumns"]]


# The contract, the format, the metrics


def test_every_variable_that_the_injection_sets_is_documented() -> None:
    injection = (ROOT / "manifests" / "injection" / "inject.yaml").read_text(encoding="utf-8")
    set_there = set(re.findall(r"RESONANCE_[A-Z_]*[A-Z]", injection))
    assert sorted(set_there - set(re.findall(r"RESONANCE_[A-Z_]*[A-Z]", page("contract.md")))) == []
    assert set(first_cells("contract.md", "What the pod gets")) <= set_there


def test_the_names_that_no_kind_can_have_are_documented() -> None:
    assert [name for name in RESERVED_KINDS if f"`{name}`" not in page("contract.md")] == []


def test_every_key_is_documented() -> None:
    own = [each for each in vars(MemberKeys) if isinstance(vars(MemberKeys)[each], property)]
    member, workload = MemberKeys("P"), WorkloadKeys("W")
    keys = [str(getattr(member, name)) for name in own]
    keys += [
        member.live("<kind>"),
        member.base(0),
        member.delta(0),
        member.tip("<uid>"),
        member.stage("<commit>", "<name>"),
    ]
    keys += [workload.slots, workload.policy, workload.waiting]
    shown = {re.sub(r"<seq>", "0", name) for name in first_cells("format.md", "Keys")}
    assert {key for key in keys if key not in shown} == set()
    assert {name for name in shown if name not in keys} == set()


def test_every_field_of_a_head_is_documented() -> None:
    row = next(line for line in page("format.md").splitlines() if line.startswith("| `P:head`"))
    manifest = Manifest(1, "c", "l", None, "i", "d", {}, 0, 0, (1,), "p", 0, "w", "pod", 1)
    written = Head(1, "uid", manifest, accepted="i").to_fields()
    assert [name for name in written if f"`{name}`" not in row] == []


def test_every_field_of_a_manifest_is_documented_in_its_order() -> None:
    assert first_cells("format.md", "Manifest") == [each.name for each in fields(Manifest)]


def test_the_layout_of_a_blob_is_documented() -> None:
    section = page("format.md").partition("## Blobs\n")[2]
    sizes = [int(size) for size in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)]
    magic, version, kind, *_ = sealing._FRONT.unpack_from(sealing.seal_base(EMPTY))
    assert (sum(sizes[:-1]), sizes[-1]) == (sealing._FRONT.size, sealing._PROOF_BYTES)
    assert f"| 4 | `{magic.decode()}` |\n| 1 | version, {version} |\n| 1 | `{kind.decode()}` base" in section


def test_every_metric_is_documented() -> None:
    sources = [ROOT / "operator" / "resonance" / name for name in ("agent/figures.py", "controller/metrics.py")]
    code = {name for file in sources for name in re.findall(r'"(resonance_[a-z_]+)"', file.read_text(encoding="utf-8"))}
    named = re.findall(r"^\| `([^`]+)`", page("metrics.md"), re.MULTILINE)
    shown = {name.partition("{")[0].removesuffix("_total") for name in named}
    assert shown == code
