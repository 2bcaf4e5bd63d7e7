"""Who may import whom, and which modules must stay light."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("transforms", "networks", "workflows")
LIGHT = (
    "audit.case_checks",
    "audit.dataset_checks",
    "audit.table",
    "comparing.compare_evaluations",
    "comparing.compare_networks",
    "comparing.network_tables",
    "image_files.brain",
    "data.case",
    "data.convention_of_cases",
    "splits.datalist",
    "data.dataset_json",
    "data.file_names",
    "data.find_cases",
    "data.label_conventions",
    "image_files.nifti_files",
    "image_files.oriented",
    "splits.patients",
    "splits.split",
    "evaluation.evaluate_folders",
    "evaluation.find_label_maps",
    "evaluation.output_files",
    "evaluation.scores_as_text",
    "explore.data_in_words",
    "explore.explore",
    "explore.sections",
    "explore.survey",
    "files.json_files",
    "files.outputs",
    "files.prediction_names",
    "files.run_folder",
    "files.text_files",
    "image_files.file_content",
    "image_files.itk_files",
    "image_files.segments",
    "machine.processes",
    "machine.ranks",
    "messages.errors",
    "messages.progress",
    "messages.text_tables",
    "phantom.phantom",
    "pictures.colours",
    "prediction.already_done",
    "report.overview",
    "report.report",
    "scoring.score_case",
    "scoring.lesions",
    "scoring.mask_pair",
    "scoring.per_case_csv",
    "scoring.score_list",
    "scoring.statistics",
    "scoring.surface_distances",
    "settings.bundle_files",
    "settings.checkpoints",
    "settings.overrides",
)
FLOORS = (
    *(
        "messages",
        "machine",
        "files",
        "image_files",
        "data",
        "splits",
        "settings",
        "phantom",
        "scoring",
        "audit",
        "pictures",
        "training_data",
    ),
    *("prediction", "explore", "report", "monitoring", "evaluation", "training", "comparing", "pack", "demo", "cli"),
    "__main__",
)
"""The rooms of `workflows`: each may import those before it, and nothing of those after it."""
LARGEST_ROOM = 13
HIGHEST_FLOOR = 9
FILES = [file for package in PACKAGES for file in sorted((REPOSITORY / package).rglob("*.py"))]
MEASURING = [file for folder in ("benchmarks", "experiments") for file in sorted((REPOSITORY / folder).rglob("*.py"))]
EVERYTHING = [*FILES, *MEASURING]


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    return module.split(".")[1]


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
    return top & {*PACKAGES, "bundle", "benchmarks", "experiments", "tests", "conftest"}


def test_imports_are_found_inside_functions_and_relative_ones_too():
    source = "import a.b\ndef f():\n    from c.d import e\n    from . import g\n    from ..h import i\n"
    assert imports_of(source) == [("a.b", 0), ("c.d", 0), ("", 1), ("h", 2)]


def imported_modules(file: Path, modules: set[str]) -> set[str]:
    """The modules of this repository that a file imports, inside functions too; `from a import b` may name a.b."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} & modules or {node.module}
    if file.parent.name == "benchmarks":  # scripts, which name each other without their folder
        found |= {f"benchmarks.{module}" for module in found}
    return found & modules


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """What each module imports."""
    modules = {module_of(file) for file in EVERYTHING}
    return {module_of(file): imported_modules(file, modules) for file in EVERYTHING}


def test_every_package_is_looked_at():
    assert {file.relative_to(REPOSITORY).parts[0] for file in FILES} == set(PACKAGES)
    assert REPOSITORY / "transforms" / "pipelines.py" in FILES


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_transforms_and_networks_know_only_themselves_and_workflows_only_the_three(file: Path):
    package = file.relative_to(REPOSITORY).parts[0]
    assert ours_in(file) <= (set(PACKAGES) if package == "workflows" else {package})


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_imports_are_absolute(file: Path):
    assert [module for module, level in imports_of(file.read_text()) if level] == []


def test_every_room_is_named_and_none_is_too_large():
    rooms = {room_of(module_of(file)) for file in FILES if module_of(file).startswith("workflows.")}
    assert rooms == set(FLOORS)
    for room in FLOORS:
        assert len(list((REPOSITORY / "workflows" / room).glob("[!_]*.py"))) <= LARGEST_ROOM, room


def test_a_room_imports_only_rooms_below_it(graph: dict[str, set[str]]):
    upwards = [
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in others
        if module.startswith("workflows.") and other.startswith("workflows.")
        if FLOORS.index(room_of(module)) < FLOORS.index(room_of(other))
    ]
    assert upwards == []


def test_no_module_imports_itself_through_others(graph: dict[str, set[str]]):
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, naming the circle


def test_benchmarks_and_experiments_share_one_page_and_one_protocol(graph: dict[str, set[str]]):
    def edges(of: str, to: str) -> set[tuple[str, str]]:
        found = {(module, other) for module in graph for other in graph[module]}
        return {edge for edge in found if edge[0].startswith(f"{of}.") and edge[1].startswith(f"{to}.")}

    assert {module for module, _ in edges("benchmarks", "experiments")} == {"benchmarks.quality"}
    assert {module for _, module in edges("experiments", "benchmarks")} == {"benchmarks.results_page"}
    assert {"benchmarks.measuring", "benchmarks.cache_cost"} <= graph["benchmarks.memory"]  # scripts are seen through


def test_the_house_has_at_most_nine_floors_of_rooms(graph: dict[str, set[str]]):
    rooms: dict[str, set[str]] = {}
    for module, others in graph.items():
        if module.startswith("workflows."):
            below = {room_of(other) for other in others if other.startswith("workflows.")}
            rooms.setdefault(room_of(module), set()).update(below - {room_of(module)})
    floor: dict[str, int] = {}
    for room in graphlib.TopologicalSorter(rooms).static_order():
        floor[room] = 1 + max((floor[other] for other in rooms[room]), default=0)
    assert max(floor.values()) <= HIGHEST_FLOOR, floor


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
    tree = ast.parse((REPOSITORY / "workflows" / "report" / "prediction_reports.py").read_text())
    at_once = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert "workflows.files.prediction_names" in at_once
    assert not at_once & {"workflows.report.report", "workflows.report.overview"}
