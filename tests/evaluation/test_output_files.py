"""What an evaluation writes: the summary and its schema, `scores.md`, the pictures."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema
import matplotlib.image
import numpy as np
import pytest

from tests.support import REPOSITORY
from transforms.labels import OEDEMA
from workflows.evaluation.output_files import SCHEMA_VERSION, report_scores, summary_of
from workflows.evaluation.score_figures import BY_RULE, MEASURED
from workflows.evaluation.scores_as_text import score_tables
from workflows.messages.errors import ConfigurationError
from workflows.scoring.false_positives import false_positives
from workflows.scoring.per_case_csv import read_rows, rows_of_case
from workflows.scoring.score_list import IN_SUMMARY, SCORES

DESCRIBED: dict[str, Any] = {"rules": "2020", "hd95": "brats", "source": {"predictions": "a <b>folder</b> | of two"}}
SCHEMA_FILE = REPOSITORY / "docs" / "summary.schema.json"


def rows(*cases: str) -> list[dict[str, Any]]:
    """Cases of one to n voxels of oedema, all predicted as the first one is."""
    found = []
    for number, case in enumerate(cases, start=1):
        reference, prediction = np.zeros((2, 6, 6, 6), np.uint8)
        reference[0, 0, :number], prediction[0, 0, 0] = OEDEMA, OEDEMA
        found += rows_of_case(case, prediction, reference, (1, 1, 1))
    return found


def test_the_schema_is_a_schema_and_a_summary_keeps_to_it():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    summary = json.loads(json.dumps(summary_of(rows("A", "B", "C"), **DESCRIBED)))
    jsonschema.validate(summary, SCHEMA)
    assert summary["mean_dice"]["WT"] == pytest.approx((1 + 2 / 3 + 2 / 4) / 3)
    assert summary["regions"]["ET"]["empty"]["both_empty"] == 3


def current_schema() -> str:
    """The schema file with what follows from `SCORES` brought up to date: the version, and the scores of a region."""
    schema = json.loads(SCHEMA_FILE.read_text())
    region = schema["$defs"]["region"]
    own = {name: region["properties"][name] for name in ("cases", "empty", "worst")}
    scores = {
        score.name: {
            "description": score.meaning + (f" Since version 1.{score.since}." if score.since else ""),
            "$ref": "#/$defs/count" if score.over_cases == "sum" else "#/$defs/statistics",
        }
        for score in IN_SUMMARY
    }
    region["properties"] = {"cases": own.pop("cases"), **scores, **own}
    newer = {score.name for score in IN_SUMMARY if score.since}  # older summaries keep to the schema as well
    region["required"] = [name for name in region["properties"] if name not in newer]
    schema["description"] = re.sub(r"^Version \d+\.\d+", f"Version {SCHEMA_VERSION}", schema["description"])
    return json.dumps(schema, indent=4, ensure_ascii=False) + "\n"


SCHEMA = json.loads(current_schema())


def test_the_schema_lists_every_score(request: pytest.FixtureRequest):
    current = current_schema()
    if request.config.getoption("--write-docs"):
        SCHEMA_FILE.write_text(current)
    assert SCHEMA_FILE.read_text() == current, (
        "run  python -m pytest tests/evaluation/test_output_files.py --write-docs"
    )


def test_every_score_is_a_column_an_entry_and_a_cell_of_a_table():
    summary = summary_of(rows("A", "B"), **DESCRIBED)
    shown = {heading for table in score_tables(summary) for heading in table.columns}
    for score in SCORES:
        assert all(score.name in row for row in rows("A"))
        assert score.name in summary["regions"]["WT"]
        assert (score.heading or score.title_and_unit) in shown


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": "2.0"},
        {"cases": 0},
        {"skipped": [{"case": "A"}]},
        {"mean_dice": {"WT": 1.5}},
        {"regions": {"WT": {}}},
        {"study": 0.6},
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_no_summary(change: dict[str, Any]):
    summary = json.loads(json.dumps(summary_of(rows("A"), **DESCRIBED)))
    jsonschema.validate(summary, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**summary, **change}, SCHEMA)


def test_a_section_is_kept_in_the_summary_and_shown_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    mask = np.zeros((2, 2, 2), np.uint8)
    counted = asdict(false_positives(mask + 1, mask, np.diag([10.0, 10, 10, 1]), (0, 20)))
    sections = {"false_positives": {"as_given": {"A": counted, "B": {**counted, "invented_ml": 12.25}}}}
    report_scores(rows("A", "B"), tmp_path, **DESCRIBED, sections=sections)
    summary = json.loads((tmp_path / "summary.json").read_text())
    jsonschema.validate(summary, SCHEMA)
    assert {name: summary[name] for name in sections} == sections
    text = (tmp_path / "scores.md").read_text()
    assert "## False positives as given" in text and "| B | 2 | 2 | 12.25 | 8.00 |" in text
    assert "12.25" in capsys.readouterr().out


def test_names_from_files_are_shown_and_not_interpreted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    name = "[red]A[/red] | <script>alert(1)</script> [x](http://y)"
    skipped = [{"case": name, "reason": "[bold]no[/bold] prediction"}]
    report_scores(rows(name), tmp_path, **DESCRIBED, skipped=skipped)
    assert {row["case"] for row in read_rows(tmp_path / "per_case.csv")} == {name}
    text, printed = (tmp_path / "scores.md").read_text(), capsys.readouterr().out
    assert "<" not in text and "](http" not in text
    assert all(line.count(" | ") in (1, 3, 4, 5, 6) for line in text.splitlines() if line.startswith("| "))
    assert "[bold]no[/bold]" in printed and "[red]A" in printed


def test_a_case_scored_by_a_rule_is_drawn_in_another_colour(tmp_path: Path):
    measured = [row for row in rows("A", "B") if row["region"] in ("WT", "oedema")]
    report_scores(rows("A", "B"), tmp_path / "with", **DESCRIBED)  # ET and TC are empty
    from workflows.evaluation.score_figures import draw_dice

    draw_dice(measured, tmp_path / "without.png")
    assert colours_in(tmp_path / "with" / "dice_by_region.png") == {MEASURED, BY_RULE}
    assert colours_in(tmp_path / "with" / "volumes.png") == {MEASURED, BY_RULE}
    assert colours_in(tmp_path / "without.png") == {MEASURED}


def colours_in(file: Path) -> set[str]:
    """Which of the two colours, at the dots' opacity on white, occur."""
    pixels = matplotlib.image.imread(file)[..., :3].reshape(-1, 3)
    found = set()
    for colour in (MEASURED, BY_RULE):
        exact = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        if (np.abs(pixels - (0.75 * exact + 0.25)).max(axis=1) < 0.02).sum() > 10:
            found.add(colour)
    return found


def test_one_case_is_enough_for_the_pictures(tmp_path: Path):
    report_scores(rows("A"), tmp_path, **DESCRIBED)
    for name in ("dice_by_region.png", "volumes.png"):
        assert matplotlib.image.imread(tmp_path / name).std() > 0


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigurationError, match=r"per_case\.csv: cannot be written \("):
        report_scores(rows("A"), tmp_path / "out", **DESCRIBED)
