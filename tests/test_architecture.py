"""Who may import whom, and which modules must stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("transforms", "networks", "workflows")
LIGHT = (
    "phantom",
    "dataset",
    "audit",
    "split",
    "errors",
    "progress",
    "configuration",
    "checkpoints",
    "label_conventions",
    "nifti_files",
    "json_files",
    "case_checks",
    "audit_table",
    "volume_scores",
    "surface_distances",
    "lesions",
    "processes",
    "ranks",
    "score_rows",
    "statistics",
    "text_tables",
    "score_tables",
    "score_files",
    "label_map_folders",
    "folder_pairs",
    "compare",
    "compare_networks",
    "network_runs",
    "network_rows",
    "network_tables",
    "oriented",
    "dataset_survey",
    "survey_windows",
    "data_in_words",
    "explore_page",
    "explore_sections",
    "explore",
    "report",
    "report_overview",
    "prediction_records",
)
FILES = [file for package in PACKAGES for file in sorted((REPOSITORY / package).glob("*.py"))]


def imports_of(source: str) -> list[tuple[str, int]]:
    """Module and level of every import statement, wherever it stands; level 1 and more are relative."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", node.level))
    return found


def ours_in(file: Path) -> set[str]:
    """The top-level packages and modules of this repository that a file imports."""
    top = {module.split(".")[0] for module, _ in imports_of(file.read_text())}
    return top & {*PACKAGES, "bundle", "benchmarks", "tests", "conftest"}


def test_imports_are_found_inside_functions_and_relative_ones_too():
    source = "import a.b\ndef f():\n    from c.d import e\n    from . import g\n    from ..h import i\n"
    assert imports_of(source) == [("a.b", 0), ("c.d", 0), ("", 1), ("h", 2)]


def test_every_package_is_looked_at():
    assert {file.parent.name for file in FILES} == set(PACKAGES)
    assert REPOSITORY / "transforms" / "pipelines.py" in FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_transforms_and_networks_know_only_themselves_and_workflows_only_the_three(file: Path):
    allowed = set(PACKAGES) if file.parent.name == "workflows" else {file.parent.name}
    assert ours_in(file) <= allowed


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_imports_are_absolute(file: Path):
    assert [module for module, level in imports_of(file.read_text()) if level] == []


def test_packages_have_no_folders_within_so_that_setup_cfg_lists_them_all():
    nested = [file for package in PACKAGES for file in (REPOSITORY / package).glob("*/**/*.py")]
    assert nested == []
    listed = (REPOSITORY / "setup.cfg").read_text().split("packages =")[1].split("python_requires")[0].split()
    assert listed == list(PACKAGES)


def test_light_modules_import_neither_torch_nor_monai():
    code = "\n".join(
        [
            "import importlib, sys",
            f"for name in {LIGHT!r}:",
            "    importlib.import_module(f'workflows.{name}')",
            "    heavy = {'torch', 'monai', 'ignite', 'matplotlib'} & set(sys.modules)",
            "    assert not heavy, f'workflows.{name} imports {sorted(heavy)}'",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_prediction_without_reports_does_not_import_what_writes_them():
    tree = ast.parse((REPOSITORY / "workflows" / "report_handler.py").read_text())
    at_once = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert "workflows.predict" in at_once
    assert not at_once & {"workflows.report", "workflows.report_overview"}
