"""Two folders of label maps: who belongs to whom, what is refused, and what BraTS's organisers' code says of them."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import nibabel as nib
import numpy as np
import pytest

from tests.support import LPS, REPOSITORY, Started
from transforms.files import nifti_signature
from transforms.labels import REGIONS
from workflows.evaluation.evaluate_folders import score_folders
from workflows.evaluation.find_label_maps import find_label_maps
from workflows.scoring.per_case_csv import COLUMNS, read_rows
from workflows.scoring.score_case import EMPTY_HD95_MM

PAIRS = os.environ.get("BRATS_EVALUATION_PAIRS")
FILES = {"per_case.csv", "summary.json", "scores.md", "dice_by_region.png", "volumes.png"}

Command = Callable[..., Started]


def tumour(et: int = 4, shift: int = 0, size: int = 12) -> np.ndarray:
    """A cube of 6³ voxels of oedema around 4³ of necrotic core around 2³ of enhancing tumour."""
    array = np.zeros((size, 12, 12), np.uint8)
    for value, margin in ((2, 3), (1, 4), (et, 5)):
        array[margin + shift : 12 - margin + shift, margin : 12 - margin, margin : 12 - margin] = value
    return array


def save(array: np.ndarray, file: Path, affine: np.ndarray = LPS) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), file)
    return file


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions one voxel beside the references of three cases A, B, C."""
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    for case in "ABC":
        save(tumour(shift=1), predictions / f"{case}.nii.gz")
        save(tumour(), references / case / f"{case}_seg.nii.gz")
    return predictions, references


@pytest.fixture
def evaluate(command: Command, folders: tuple[Path, Path], tmp_path: Path) -> Callable[..., Started]:
    predictions, references = folders

    def run(*options: object) -> Started:
        given = ("--predictions", predictions, "--references", references, "--out", tmp_path / "out", "--workers", 1)
        return command("evaluate", *given, *options)

    return run


def summary_in(folder: Path) -> dict[str, Any]:
    summary = json.loads((folder / "summary.json").read_text())
    jsonschema.validate(summary, json.loads((REPOSITORY / "docs" / "summary.schema.json").read_text()))
    return summary


def problems_of(ended: Started) -> list[str]:
    """The lines that name cases: status 1, one line on what happened, nothing scored."""
    assert ended.status == 1, ended
    lines = [line for line in ended.stderr.splitlines() if not line.startswith(("checking: ", "scoring: "))]
    assert lines[0].startswith("error: ") and "cannot be scored" in lines[0]
    assert "Traceback" not in ended.stderr
    return lines[1:]


# ---------------------------------------------------------------------------------------------------------------------
# Which file is whose


@pytest.mark.parametrize(
    ("file", "case"),
    [
        ("BraTS20_Training_130_seg.nii.gz", "BraTS20_Training_130"),
        ("BraTS20_Training_130.nii.gz", "BraTS20_Training_130"),
        ("BraTS20_Training_130.nii", "BraTS20_Training_130"),
        ("BraTS2021_00003-seg.nii.gz", "BraTS2021_00003"),
        ("BraTS-GLI-00005-001-seg.nii.gz", "BraTS-GLI-00005-001"),
        ("deep/down/P1/P1_seg.nii.gz", "P1"),
        ("P1/seg.nii.gz", "P1"),
        ("P1_pred.nii.gz", "P1"),
    ],
)
def test_a_label_map_belongs_to_the_case_in_its_name(file: str, case: str, tmp_path: Path):
    save(tumour(), tmp_path / file)
    assert find_label_maps(tmp_path).files == {case: (tmp_path / file,)}


def test_images_and_probabilities_are_no_label_maps(tmp_path: Path, phantom_dir: Path):
    assert set(find_label_maps(phantom_dir).files) == {f"BraTS20_Training_{n:03}" for n in (1, 2, 3)}
    save(tumour(), tmp_path / "P1_seg.nii.gz")
    save(tumour().astype(np.float32), tmp_path / "P1_probabilities.nii.gz")
    assert list(find_label_maps(tmp_path).files) == ["P1"]


def test_a_folder_without_label_maps_is_one_line(evaluate: Callable[..., Started], folders: tuple[Path, Path]):
    shutil.rmtree(folders[0])
    assert evaluate().stderr == f"error: {folders[0]}: no such folder.\n"
    folders[0].mkdir()
    expected = f"error: {folders[0]}: no label map found here or below; looked for CASE_seg.nii.gz and CASE.nii.gz.\n"
    assert evaluate().stderr == expected


# ---------------------------------------------------------------------------------------------------------------------
# What is left in the folder


def test_three_shifted_cubes_are_scored_by_hand(evaluate: Callable[..., Started], tmp_path: Path):
    assert evaluate().status == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == FILES
    rows = read_rows(tmp_path / "out" / "per_case.csv")
    assert len(rows) == 3 * 6
    for row in rows:
        side = {"WT": 6, "TC": 4, "ET": 2}.get(row["region"])
        if side:
            assert row["dice"] == pytest.approx((side - 1) / side)
            assert row["hd95_mm"] == 1
            assert row["volume_ml"] == row["reference_ml"] == pytest.approx(side**3 / 1000)
    summary = summary_in(tmp_path / "out")
    assert summary["cases"] == 3 and summary["skipped"] == []
    assert summary["mean_dice"]["WT"] == pytest.approx(5 / 6)
    assert summary["regions"]["WT"]["dice"]["interval"] is None  # all three are equal
    assert summary["source"]["enhancing_tumour_in_predictions"] == "label 4"


def test_the_table_has_at_least_the_columns_that_were_promised():
    promised = "case region dice iou hd95_mm sensitivity specificity precision volume_ml reference_ml lesion_dice"
    assert {*promised.split(), *["lesion_hd95_mm", "lesions_found", "lesions_missed", "lesions_invented"]} <= set(
        COLUMNS
    )


def test_the_terminal_and_scores_md_show_means_with_their_number_of_cases(
    evaluate: Callable[..., Started], tmp_path: Path
):
    printed = evaluate().stdout
    line = next(line for line in printed.splitlines() if line.split()[:1] == ["WT"])
    assert line.split() == ["WT", "3", "0.833", "0.833", "1.0", "1.0"]
    text = (tmp_path / "out" / "scores.md").read_text()
    assert "| WT | 3 | 0.833 | 0.833 | 1.0 | 1.0 |" in text
    assert "3 cases scored." in text and "3 cases scored." in printed
    assert "![Dice per case and region](dice_by_region.png)" in text
    assert max(map(len, printed.split("3 cases scored.")[0].splitlines())) <= 80


def test_processes_give_what_one_process_gives(folders: tuple[Path, Path]):
    sides = [find_label_maps(folder) for folder in folders]
    assert score_folders(*sides, workers=2) == score_folders(*sides, workers=1)


@pytest.mark.parametrize(
    ("prediction", "reference", "said"), [(3, 4, ()), (4, 3, ()), (3, 3, ("--labels", "brats-from-2023"))]
)
def test_enhancing_tumour_may_be_3_or_4_on_either_side(
    prediction: int,
    reference: int,
    said: tuple[str, ...],
    folders: tuple[Path, Path],
    evaluate: Callable[..., Started],
    tmp_path: Path,
):
    for case in "ABC":
        save(tumour(prediction), folders[0] / f"{case}.nii.gz")
        save(tumour(reference), folders[1] / case / f"{case}_seg.nii.gz")
    assert evaluate(*said).status == 0
    summary = summary_in(tmp_path / "out")
    assert set(summary["mean_dice"].values()) == {1.0}
    assert summary["source"]["enhancing_tumour_in_predictions"] == f"label {prediction}"
    assert summary["source"]["enhancing_tumour_in_references"] == f"label {reference}"


def test_what_predict_leaves_is_scored_against_the_data_folder(phantom_dir: Path, command: Command, tmp_path: Path):
    for file in phantom_dir.glob("BraTS20_*/*_seg.nii.gz"):
        (tmp_path / "predictions" / file.parent.name).mkdir(parents=True)
        shutil.copy(file, tmp_path / "predictions" / file.parent.name)
    ended = command(
        *("evaluate", "--predictions", tmp_path / "predictions", "--references", phantom_dir),
        *("--out", tmp_path / "out", "--workers", 1),
    )
    assert ended.status == 0, ended.stderr
    assert set(summary_in(tmp_path / "out")["mean_dice"].values()) == {1.0}


# ---------------------------------------------------------------------------------------------------------------------
# What the labels mean


def in_decathlons_order(array: np.ndarray) -> np.ndarray:
    return np.array([0, 2, 1, 3, 3], np.uint8)[array]


NNUNET = {
    "channel_names": {"0": "FLAIR", "1": "T1ce"},
    "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
}


def test_the_output_of_nnunet_is_scored_in_the_order_that_its_dataset_json_states(
    folders: tuple[Path, Path], evaluate: Callable[..., Started], tmp_path: Path
):
    for case in "ABC":
        save(in_decathlons_order(tumour()), folders[0] / f"{case}.nii.gz")
    (folders[0] / "dataset.json").write_text(json.dumps(NNUNET))
    (folders[0] / "plans.json").write_text("{}")
    ended = evaluate()
    assert (ended.status, ended.stderr.count("warning")) == (0, 0), ended.stderr
    summary = summary_in(tmp_path / "out")
    assert set(summary["mean_dice"].values()) == {1.0}
    assert summary["source"]["labels_of_predictions"].startswith("decathlon (1 oedema, 2 necrotic core")
    assert summary["source"]["labels_of_references"].startswith("brats-to-2022 (1 necrotic core, 2 oedema")


def test_labels_in_nnunets_raw_folder_are_read_as_the_dataset_json_above_them_says(
    folders: tuple[Path, Path], command: Command, tmp_path: Path
):
    for case in "ABC":
        save(in_decathlons_order(tumour()), tmp_path / "raw" / "labelsTr" / f"{case}.nii.gz")
        save(tumour(), folders[0] / f"{case}.nii.gz")
    (tmp_path / "raw" / "dataset.json").write_text(json.dumps(NNUNET))
    given = ("--predictions", folders[0], "--references", tmp_path / "raw" / "labelsTr", "--out", tmp_path / "out")
    assert command("evaluate", *given, "--workers", 1).status == 0
    assert set(summary_in(tmp_path / "out")["mean_dice"].values()) == {1.0}


def test_an_order_that_is_only_likely_is_refused_where_exchanging_classes_fits_much_better(
    folders: tuple[Path, Path], evaluate: Callable[..., Started], tmp_path: Path
):
    for case in "ABC":
        save(in_decathlons_order(tumour()), folders[0] / f"{case}.nii.gz")
    ended = evaluate()
    assert ended.status == 1 and not (tmp_path / "out").exists()
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert "exchanging necrotic core and oedema raises the mean Dice from 0." in line and "to 1.00" in line
    assert "--prediction-labels: brats-from-2023 (1 necrotic core" in line
    assert evaluate("--prediction-labels", "decathlon").status == 0
    assert set(summary_in(tmp_path / "out")["mean_dice"].values()) == {1.0}


def test_an_order_that_was_stated_is_scored_with_a_warning(
    folders: tuple[Path, Path], evaluate: Callable[..., Started], tmp_path: Path
):
    for case in "ABC":
        save(in_decathlons_order(tumour()), folders[0] / f"{case}.nii.gz")
    ended = evaluate("--prediction-labels", "brats-from-2023")
    assert ended.status == 0 and summary_in(tmp_path / "out")["mean_dice"]["TC"] < 0.5
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("warning: ")]
    assert "exchanging necrotic core and oedema raises the mean Dice" in line


def test_where_neither_side_tells_its_order_the_user_is_asked(
    folders: tuple[Path, Path], evaluate: Callable[..., Started], tmp_path: Path
):
    for case in "ABC":
        save(tumour(3), folders[0] / f"{case}.nii.gz")
        save(tumour(3), folders[1] / case / f"{case}_seg.nii.gz")
    ended = evaluate()
    assert ended.status == 1 and not (tmp_path / "out").exists()
    assert "tell what the labels 1, 2, 3 mean; name it by  --labels: brats-from-2023" in ended.stderr
    assert evaluate("--labels", "decathlon", "--prediction-labels", "decathlon").status == 0


def test_our_own_label_maps_need_no_name_for_their_order(
    folders: tuple[Path, Path], evaluate: Callable[..., Started], tmp_path: Path
):
    for case in "ABC":
        map_of_classes = np.minimum(tumour(3), 2)  # no enhancing tumour, so nothing else tells the order
        for file in (folders[0] / f"{case}.nii.gz", folders[1] / case / f"{case}_seg.nii.gz"):
            image = nib.Nifti1Image(map_of_classes, LPS)
            image.header["descrip"] = nifti_signature(image.to_bytes())
            nib.save(image, file)
    assert evaluate().status == 0
    assert summary_in(tmp_path / "out")["source"]["labels_of_references"].startswith("brats-from-2023")


# ---------------------------------------------------------------------------------------------------------------------
# What does not match


def test_every_mismatch_is_one_line_and_skip_bad_scores_the_rest(
    folders: tuple[Path, Path], evaluate: Callable[..., Started], tmp_path: Path
):
    predictions, references = folders
    flipped = LPS @ np.diag([-1, 1, 1, 1])
    pairs = {
        "seven": (np.where(tumour() == 4, 7, tumour()), tumour(), LPS),
        "large": (tumour(size=14), tumour(), LPS),
        "flipped": (tumour(), tumour(), flipped),
        "both": (np.where(tumour() == 1, 3, tumour()), tumour(), LPS),
        "half": (tumour() * 0.5, tumour(), LPS),
    }
    for case, (prediction, reference, affine) in pairs.items():
        save(prediction, predictions / f"{case}.nii.gz", affine)
        save(reference, references / case / f"{case}_seg.nii.gz")
    save(tumour(), predictions / "extra.nii.gz")
    save(tumour(), references / "missing" / "missing_seg.nii.gz")
    save(tumour(), predictions / "A_seg.nii.gz")  # a second one of A
    (predictions / "B.nii.gz").write_bytes((predictions / "B.nii.gz").read_bytes()[:60])
    lines = problems_of(evaluate())
    expected = [
        "A: 2 label maps as prediction: A.nii.gz, A_seg.nii.gz.",
        f"B: prediction {predictions / 'B.nii.gz'}: is cut short or damaged",
        "both: the prediction holds the labels 3 and 4; enhancing tumour is one of them.",
        f"extra: no reference in {references}.",
        "flipped: different affines: the prediction's axes run RPS from (0, 0, 0) mm; "
        "the reference's axes run LPS from (0, 0, 0) mm; the reference's is an identity matrix, which says nothing; ",
        "half: the prediction holds label 0.5; known are 0, 1, 2, 3, 4.",
        "large: the prediction has 14×12×12 voxels, the reference 12×12×12.",
        f"missing: no prediction in {predictions}.",
        "seven: the prediction holds label 7; known are 0, 1, 2, 3, 4.",
    ]
    assert [line[: len(start)] for line, start in zip(lines, expected, strict=True)] == expected
    assert not (tmp_path / "out").exists()

    ended = evaluate("--skip-bad")
    assert ended.status == 0, ended.stderr
    summary = summary_in(tmp_path / "out")
    assert summary["cases"] == 1 and {row["case"] for row in read_rows(tmp_path / "out" / "per_case.csv")} == {"C"}
    assert [f"{skipped['case']}: {skipped['reason']}." for skipped in summary["skipped"]] == lines
    for text in (ended.stdout, (tmp_path / "out" / "scores.md").read_text()):
        assert "One case scored; 9 left out, which no figure counts." in text
        assert "known are 0, 1, 2, 3, 4" in " ".join(text.split())


def test_maps_turned_either_way_or_a_tenth_of_a_voxel_beside_are_on_one_grid(
    evaluate: Callable[..., Started], folders: tuple[Path, Path], tmp_path: Path
):
    shape, affine = np.zeros((14, 12, 10), np.uint8), np.diag([-1.0, -2.0, 3.0, 1.0])
    shape[3:9, 4:8, 2:7], shape[4:7, 5:7, 3:5] = 2, 1
    shape[5, 5, 3] = 4
    near = affine.copy()
    near[:3, 3] = 0.09, 0.18, -0.27  # of edges of 1, 2 and 3 mm
    true = nib.Nifti1Image(shape, affine)
    permuted = true.as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
    for case, prediction, reference in (
        *(("A", nib.as_closest_canonical(true), true), ("B", true, permuted)),
        ("C", nib.Nifti1Image(np.roll(shape, 1, 0), near), permuted),
    ):
        nib.save(prediction, folders[0] / f"{case}.nii.gz")
        nib.save(reference, folders[1] / case / f"{case}_seg.nii.gz")
    ended = evaluate()
    assert ended.status == 0, ended.stderr
    rows = {(row["case"], row["region"]): row for row in read_rows(tmp_path / "out" / "per_case.csv")}
    assert all(rows[case, region]["dice"] == 1 for case in "AB" for region in REGIONS)
    assert rows["C", "ET"]["dice"] == 0 and rows["C", "ET"]["hd95_mm"] == 1  # one voxel of 1 mm beside
    assert rows["C", "WT"]["dice"] == pytest.approx(5 / 6)
    assert rows["A", "WT"]["reference_ml"] == pytest.approx((shape > 0).sum() * 6 / 1000)


def test_an_identity_matrix_for_an_affine_is_refused_with_the_way_out(
    evaluate: Callable[..., Started], folders: tuple[Path, Path], tmp_path: Path
):
    save(tumour(), folders[0] / "A.nii.gz", np.eye(4))
    (line,) = problems_of(evaluate())
    assert line.endswith(
        "the prediction's is an identity matrix, which says nothing; if the voxels of both are in one order, say so by "
        "--ignore-affine."
    )
    assert evaluate("--ignore-affine").status == 0
    rows = {(row["case"], row["region"]): row for row in read_rows(tmp_path / "out" / "per_case.csv")}
    assert rows["A", "WT"]["dice"] == 1 and rows["B", "WT"]["dice"] == pytest.approx(5 / 6)


@pytest.mark.parametrize("affine", [np.eye(4), LPS, None], ids=["identity", "identity of ITK", "no orientation"])
def test_with_ignore_affine_the_side_whose_header_says_something_gives_the_millimetres(
    affine: np.ndarray | None, evaluate: Callable[..., Started], folders: tuple[Path, Path], tmp_path: Path
):
    stated = np.diag([-2.0, -2.0, 3.0, 1.0])
    stated[:3, 3] = (0, 239, 5)
    for case, prediction, reference in (("A", affine, stated), ("B", stated, affine), ("C", stated, stated)):
        nib.save(nib.Nifti1Image(tumour(shift=1), prediction), folders[0] / f"{case}.nii.gz")
        nib.save(nib.Nifti1Image(tumour(), reference), folders[1] / case / f"{case}_seg.nii.gz")
    lines = problems_of(evaluate())
    assert len(lines) == 2 and all(line.endswith("say so by --ignore-affine.") for line in lines)
    assert evaluate("--ignore-affine").status == 0
    for row in read_rows(tmp_path / "out" / "per_case.csv"):
        if row["region"] == "WT":
            assert row["dice"] == pytest.approx(5 / 6) and row["hd95_mm"] == 2  # one voxel along the first axis
            assert row["volume_ml"] == row["reference_ml"] == pytest.approx(216 * 12 / 1000)


def test_labels_beside_whole_numbers_are_rounded_and_others_named_as_they_are(
    evaluate: Callable[..., Started], folders: tuple[Path, Path]
):
    save(tumour() * np.float32(0.9998), folders[0] / "A.nii.gz")
    assert evaluate().status == 0
    save(tumour() * np.float32(1.002), folders[0] / "A.nii.gz")
    (line,) = problems_of(evaluate())
    assert line.startswith("A: the prediction holds label 1.002, 2.004, 4.008; known are 0, 1, 2, 3, 4.")
    save(np.where(tumour() == 1, 0.9985, tumour() * 1.0000001), folders[0] / "A.nii.gz")
    (line,) = problems_of(evaluate())
    assert line.startswith("A: the prediction holds label 0.9985; known are 0, 1, 2, 3, 4.")  # and no 2


def test_the_header_of_the_refusal_counts_and_names_the_way_out(
    folders: tuple[Path, Path], evaluate: Callable[..., Started]
):
    save(tumour(), folders[0] / "extra.nii.gz")
    assert "error: 1 of 4 cases cannot be scored; --skip-bad scores the other 3:\nextra: " in evaluate().stderr


def test_a_folder_that_mixes_3_and_4_names_the_fewer_cases(
    folders: tuple[Path, Path], evaluate: Callable[..., Started], tmp_path: Path
):
    save(tumour(3), folders[0] / "B.nii.gz")
    assert problems_of(evaluate()) == ["B: the prediction holds enhancing tumour as 3, 2 others hold it as 4."]
    assert evaluate("--skip-bad").status == 0
    assert summary_in(tmp_path / "out")["cases"] == 2


def test_nothing_to_score_is_refused_even_with_skip_bad(folders: tuple[Path, Path], evaluate: Callable[..., Started]):
    for case in "ABC":
        save(tumour() + 6, folders[0] / f"{case}.nii.gz")
    assert len(problems_of(evaluate("--skip-bad"))) == 3


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--predictions", "a"),
        ("--references", "a"),
        ("--predictions", "a", "--references", "b", "--checkpoint", "c"),
        ("--predictions", "a", "--references", "b", "--section", "testing"),
        ("--predictions", "a", "--references", "b", "--size_px", "64"),
        ("--checkpoint", "a", "--skip-bad"),
        ("--checkpoint", "a", "--workers", "2"),
        ("--predictions", "a", "--references", "b", "--rules", "2021"),
        ("--predictions", "a", "--references", "b", "--hd95", "mean"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together_end_with_status_2(options: tuple[str, ...], command: Command, tmp_path: Path):
    ended = command("evaluate", "--out", tmp_path / "out", *options)
    assert (ended.status, ended.stdout) == (2, "")
    assert "Usage:" in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()


def test_no_workers_is_one_line(evaluate: Callable[..., Started]):
    assert evaluate("--workers", 0).stderr == "error: 0 workers cannot work; use 1 or more.\n"


# ---------------------------------------------------------------------------------------------------------------------
# What models deserve


@pytest.fixture
def scores_of(folders: tuple[Path, Path], evaluate: Callable[..., Started], tmp_path: Path):
    """Means and rows of a model over three cases: A has all classes, B no enhancing tumour, C no tumour at all."""

    def run(model: Callable[[np.ndarray], np.ndarray], *options: object) -> tuple[dict[str, Any], dict[Any, Any]]:
        references = {"A": tumour(), "B": np.where(tumour() == 4, 1, tumour()), "C": tumour() * 0}
        for case, reference in references.items():
            save(reference, folders[1] / case / f"{case}_seg.nii.gz")
            save(model(reference), folders[0] / f"{case}.nii.gz")
        ended = evaluate(*options)
        assert ended.status == 0, ended.stderr
        rows = {(row["case"], row["region"]): row for row in read_rows(tmp_path / "out" / "per_case.csv")}
        return summary_in(tmp_path / "out"), rows

    return run


@pytest.mark.parametrize(("rules", "penalty"), [("2020", EMPTY_HD95_MM["2020"]), ("2023", 374)])
def test_a_model_that_predicts_nothing_is_right_only_where_there_is_nothing(scores_of, rules: str, penalty: float):
    summary, rows = scores_of(np.zeros_like, "--rules", rules)
    assert {case: [rows[case, region]["dice"] for region in REGIONS] for case in "ABC"} == {
        "A": [0, 0, 0],
        "B": [0, 0, 1],  # no enhancing tumour, none predicted
        "C": [1, 1, 1],
    }
    assert summary["mean_dice"]["WT"] == pytest.approx(1 / 3) and summary["mean_dice"]["ET"] == pytest.approx(2 / 3)
    assert summary["regions"]["ET"]["hd95_mm"]["mean"] == pytest.approx(penalty / 3)
    assert summary["regions"]["WT"]["hd95_mm"]["mean"] == pytest.approx(2 * penalty / 3)
    touched = {"both_empty": 2, "prediction_empty": 1, "reference_empty": 0, "no_lesion_scored": 3}  # ET is of 8 mm³
    assert summary["regions"]["ET"]["empty"] == touched
    assert summary["regions"]["WT"]["empty"] == {
        "both_empty": 1,
        "prediction_empty": 2,
        "reference_empty": 0,
        "no_lesion_scored": 1,
    }


def test_a_model_that_predicts_tumour_everywhere_gets_nothing_where_there_is_none(scores_of):
    summary, rows = scores_of(lambda reference: np.full_like(reference, 4), "--rules", "2023")
    dice = [2 * side**3 / (12**3 + side**3) for side in (6, 4, 2)]
    assert [rows["A", region]["dice"] for region in REGIONS] == pytest.approx(dice)
    assert [rows["B", region]["dice"] for region in REGIONS] == pytest.approx([*dice[:2], 0])
    assert [rows["C", region]["dice"] for region in REGIONS] == [0, 0, 0]
    assert [rows["C", region]["hd95_mm"] for region in REGIONS] == [374, 374, 374]
    assert [rows["B", region]["empty"] for region in REGIONS] == ["no", "no", "reference"]
    assert summary["regions"]["ET"]["empty"]["reference_empty"] == 2
    assert [summary["regions"][region]["specificity"]["mean"] for region in REGIONS] == [0, 0, 0]


# ---------------------------------------------------------------------------------------------------------------------
# Real pairs


@pytest.mark.skipif(not PAIRS, reason="BRATS_EVALUATION_PAIRS is not set")
def test_the_organisers_figures_come_out_of_the_command(command: Command, tmp_path: Path):
    folder = Path(PAIRS or "")
    ended = command(
        *("evaluate", "--predictions", folder / "prediction", "--references", folder / "reference"),
        *("--rules", "2023", "--out", tmp_path),
    )
    assert ended.status == 0, ended.stderr
    ours = {(row["case"], row["region"]): row for row in read_rows(tmp_path / "per_case.csv")}
    with (folder / "expected.csv").open() as table:
        theirs = list(csv.DictReader(table))
    assert {(row["case"], row["region"]) for row in theirs} == {key for key in ours if key[1] in REGIONS}
    for row in theirs:
        our = ours[row["case"], row["region"]]
        assert our["reference_ml"] * 1000 == pytest.approx(float(row["reference_mm3"]))
        for name in set(row) - {"case", "region", "reference_mm3"}:
            tolerance = 1e-3 if name == "hd95_mm" else 1e-4
            assert our[name] == pytest.approx(float(row[name]), rel=0, abs=tolerance), (row["case"], name)
    assert summary_in(tmp_path)["settings"]["empty_hd95_mm"] == 374
