"""The documentation says what is there: settings, commands, rooms, links."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import REPOSITORY
from tests.test_architecture import FLOORS
from workflows.settings.bundle_files import known_settings

DOCS = REPOSITORY / "docs"
WRITTEN = [*sorted(DOCS.rglob("*.md")), *(REPOSITORY / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY"))]
LINK = re.compile(r"\]\(([^()\s#]+)(?:#[^()\s]*)?\)")


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """docs/generate_reference.py, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("generate_reference", DOCS / "generate_reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sentences(reference: ModuleType) -> dict[str, str]:
    groups = json.loads(reference.SENTENCES.read_text())
    pairs = [pair for group in groups.values() for pair in group.items()]
    assert len(dict(pairs)) == len(pairs), "a setting has two sentences"
    return dict(pairs)


def test_every_setting_has_its_sentence_and_no_sentence_is_of_a_setting_that_is_not_there(sentences: dict[str, str]):
    known = known_settings(REPOSITORY / "bundle") - {"imports", "_meta_"}
    assert sorted(known - sentences.keys()) == []
    assert sorted(sentences.keys() - known) == []


def test_a_sentence_about_a_setting_is_one(sentences: dict[str, str]):
    assert [
        name for name, text in sentences.items() if not (text[0].isupper() or text[0] == "`") or text[-1] != "."
    ] == []


def test_a_setting_shows_its_default_and_the_overlays_that_change_it(reference: ModuleType):
    rows = {line.split("|")[1].strip(): line for line in reference.settings_page().splitlines() if line[:3] == "| `"}
    assert rows["`max_epochs`"].startswith("| `max_epochs` | training: `40` | demo: `20`<br>quick: `3`<br>seed: `35` |")
    assert rows["`input`"].startswith(
        "| `input` | `BrainCube` … | axial, demo, seed: `AxialWindow` …<br>quick, unet3d: a part |"
    )
    assert rows["`runtime`"].startswith("| `runtime` | prediction: `auto`<br>`evaluate`: `torch` |")


def test_an_overlay_based_on_another_changes_what_that_changes_too(reference: ModuleType):
    assert "`seed_dice` also changes all that `seed` changes." in reference.settings_page()


@pytest.mark.parametrize("target", ["BrainCube", "AxialWindow"])
def test_every_argument_of_an_input_stands_in_the_reference_with_its_sentence(target: str, reference: ModuleType):
    kind = getattr(importlib.import_module("transforms.inputs"), target)
    section = reference.settings_page().partition(f"{{ #{target.lower()} }}")[2].partition("\n#")[0]
    rows = [[cell.strip() for cell in line.split("|")] for line in section.splitlines() if line[:3] == "| `"]
    assert [row[1] for row in rows] == [f"`input#{name}`" for name in inspect.signature(kind).parameters]
    assert all(row[2] and row[4] for row in rows)


def test_an_argument_of_an_input_shows_its_default_and_the_overlays_of_its_kind(reference: ModuleType):
    cube, window = reference.settings_page().partition("{ #axialwindow }")[::2]
    assert "| `input#edge_mm` | `192` |  |" in cube
    assert "| `input#size_px` | `128` |  |" in cube
    assert "| `input#size_px` | `128` | demo: `96` |" in window


def test_a_docstring_says_one_thing_of_two_arguments(reference: ModuleType):
    text = "A.\n\nArgs:\n    a, b: of\n        both.\n    c: other: one.\nRaises:\n    ValueError: d."
    assert reference.documented_arguments(text) == {"a": "of both.", "b": "of both.", "c": "other: one."}


def test_every_command_and_option_is_in_the_reference(reference: ModuleType):
    import typer

    from workflows.cli import app

    page = reference.commands_page()
    for name, command in typer.main.get_command(app).commands.items():
        section = page.partition(f"{{ #{name} }}")[2].partition("\n### ")[0]
        assert section, name
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert any(f"`{flag}`" in section for flag in parameter.opts), (name, parameter.name)


def test_every_entry_of_a_summary_is_in_the_reference(reference: ModuleType):
    page = reference.schema_page()
    for entry in ("`schema_version`", "`skipped[].reason`", "`regions.*.dice`", "`study.figures[].why`", "`quartiles`"):
        assert f"| {entry} |" in page


@pytest.mark.parametrize(
    ("source", "page", "link", "on_the_site"),
    [
        ("README.md", "index.md", "[r](docs/results.md#final)", "[r](results.md#final)"),
        ("README.md", "index.md", "![p](docs/prediction.png)", "![p](prediction.png)"),
        ("README.md", "index.md", "[s](SECURITY.md)", "[s](security.md)"),
        ("README.md", "index.md", "[LICENSE](LICENSE)", "`LICENSE`"),
        ("README.md", "index.md", "[M](https://monai.io)", "[M](https://monai.io)"),
        (
            "docs/how-to/pack.md",
            "how-to/pack.md",
            "[own](../../bundle/docs/README.md)",
            "[own](../reference/bundle.md)",
        ),
        ("docs/experiments.md", "experiments.md", "[ids](../setup.cfg)", "ids (`setup.cfg`)"),
        ("docs/results.md", "results.md", "[above](#final)", "[above](#final)"),
    ],
)
def test_links_lead_to_pages_of_the_site(source: str, page: str, link: str, on_the_site: str, reference: ModuleType):
    assert reference.relink(link, source, page) == on_the_site


@pytest.mark.parametrize("file", WRITTEN, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_links_lead_to_files(file: Path, reference: ModuleType):
    generated = {(DOCS / page).resolve() for page in reference.generated_pages()}
    for target in LINK.findall(file.read_text()):
        if "://" not in target:
            path = (file.parent / target).resolve()
            assert path.exists() or (path in generated and file.is_relative_to(DOCS)), target


def test_every_page_is_in_the_navigation(reference: ModuleType):
    navigation = (REPOSITORY / "mkdocs.yml").read_text()
    pages = {str(file.relative_to(DOCS)) for file in DOCS.rglob("*.md")} | set(reference.generated_pages())
    assert [page for page in sorted(pages) if f": {page}" not in navigation and reference.PYTHON not in page] == []


def test_every_room_stands_in_the_architecture_in_the_order_of_the_floors():
    table = (DOCS / "architecture.md").read_text().partition("## The rooms of workflows")[2].partition("\n## ")[0]
    rooms = [
        room for line in table.splitlines() if line[:3] == "| `" for room in re.findall(r"`(\w+)`", line.split("|")[1])
    ]
    assert rooms == [room for room in FLOORS if room != "__main__"]


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) < 150
