"""Folds of nnU-Net and of MONAI's Auto3DSeg become datalists, and a datalist needs the files of its section only."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import Started
from workflows.data.find_cases import find_cases
from workflows.messages.errors import BratsError, DatasetError
from workflows.splits.datalist import read_datalist
from workflows.splits.other_splits import adopt_split
from workflows.splits.split import make_split

CASES = [f"BraTS20_Training_00{number}" for number in (1, 2, 3)]
NNUNET = [{"train": CASES[:2], "val": CASES[2:]}, {"train": CASES[1:], "val": CASES[:1]}]
AUTO3DSEG = {
    "training": [
        {"fold": number, "image": [f"{case}/{case}_flair.nii.gz"], "label": f"{case}\\{case}_seg.nii.gz"}
        for number, case in enumerate(CASES)
    ],
    "testing": [{"image": ["somewhere/else.nii.gz"]}],
}


def write(content: Any, file: Path) -> Path:
    file.write_text(json.dumps(content))
    return file


def ids(datalist: dict[str, Any]) -> dict[str, list[str]]:
    return {name: [entry["case"] for entry in datalist[name]] for name in ("training", "validation", "testing")}


@pytest.mark.parametrize(
    ("content", "fold", "validated"), [(NNUNET, 0, 2), (NNUNET, 1, 0), (AUTO3DSEG, 0, 0), (AUTO3DSEG, 2, 2)]
)
def test_a_fold_of_another_program_becomes_a_datalist_that_is_read(
    content: Any, fold: int, validated: int, phantom_dir: Path, tmp_path: Path, command: Callable[..., Started]
):
    file, out = write(content, tmp_path / "theirs.json"), tmp_path / "split.json"
    assert command("split", phantom_dir, "--from", file, "--fold", fold, "--out", out).status == 0
    validation = [CASES[validated]]
    training = sorted(set(CASES) - set(validation))
    assert ids(read_datalist(out, phantom_dir)) == {"training": training, "validation": validation, "testing": []}
    drawn = make_split(find_cases(phantom_dir))
    for name in ("label_convention", "labels"):
        assert json.loads(out.read_text())[name] == drawn[name]


@pytest.mark.parametrize(
    ("content", "fold", "says"),
    [
        (NNUNET, 2, "has no fold 2"),
        (NNUNET, -1, "has no fold -1"),
        (AUTO3DSEG, 3, "has no fold 3"),
        ([{"train": CASES}], 0, "has no fold 0, or one without its cases .'val'."),
        ([{"train": CASES, "val": ["P9"]}], 0, "names P9, which is no case in "),
        ({"training": [{"image": "x", "fold": 0}]}, 0, "without its cases .'label'."),
        ({"training": [{"image": "x", "label": "../y", "fold": 0}]}, 0, "leaves the data folder"),
        ({"training": [{"image": "x", "label": "y"}]}, 0, "is neither nnU-Net's splits_final.json nor"),
        ({}, 0, "is neither nnU-Net's splits_final.json nor"),
    ],
)
def test_a_split_that_cannot_be_taken_over_is_refused_naming_what_it_lacks(
    content: Any, fold: int, says: str, phantom_dir: Path, tmp_path: Path
):
    file = write(content, tmp_path / "theirs.json")
    with pytest.raises(BratsError, match=rf"theirs\.json: .*{says}"):
        adopt_split(file, find_cases(phantom_dir), fold)


@pytest.mark.parametrize(
    ("content", "key"),
    [(NNUNET, "training"), (AUTO3DSEG, "case"), ({**AUTO3DSEG, "label_convention": "brats-to-2022"}, "case")],
)
def test_training_on_another_programs_split_says_how_to_take_it_over(
    content: Any, key: str, phantom_dir: Path, tmp_path: Path
):
    file = write(content, tmp_path / "theirs.json")
    with pytest.raises(
        DatasetError, match=rf"with .* '{key}'.* turn it into a datalist by  brats-unet split DATA --from"
    ):
        read_datalist(file, phantom_dir)


def test_a_decathlon_list_lacks_the_convention_by_name(phantom_dir: Path, tmp_path: Path):
    decathlon = {"modality": {"0": "FLAIR"}, "labels": {}, "training": [{"image": "./a.nii", "label": "./b.nii"}]}
    with pytest.raises(DatasetError, match="has no 'label_convention'"):
        read_datalist(write(decathlon, tmp_path / "dataset.json"), phantom_dir)


def test_one_section_needs_its_own_files_and_no_other_section(phantom_dir: Path, tmp_path: Path):
    split = make_split(find_cases(phantom_dir))
    for entry in split["training"]:
        entry["label"] = entry["label"].replace("_seg", "_lost")
    file = write(split, tmp_path / "split.json")
    assert ids(read_datalist(file, phantom_dir, "testing")) == ids(split)
    with pytest.raises(DatasetError, match=r"training: .*_lost\.nii\.gz: no such file"):
        read_datalist(file, phantom_dir)
    with pytest.raises(DatasetError, match=r"training: .* no such file"):
        read_datalist(file, phantom_dir, "training")
    alone = {name: content for name, content in split.items() if name not in ("training", "validation")}
    assert len(read_datalist(write(alone, file), phantom_dir, "testing")["testing"]) == 1
    with pytest.raises(DatasetError, match="validation: must be a list of cases"):
        read_datalist(file, phantom_dir, "validation")
    del alone["testing"][0]["label"]
    with pytest.raises(DatasetError, match=r"testing: .* names no 'label'"):
        read_datalist(write(alone, file), phantom_dir, "testing")


def test_backslashes_of_windows_separate_folders(phantom_dir: Path, tmp_path: Path):
    text = json.dumps(make_split(find_cases(phantom_dir))).replace("/", "\\\\")
    (tmp_path / "split.json").write_text(text)
    entry = read_datalist(tmp_path / "split.json", phantom_dir)["testing"][0]
    assert all(Path(entry[key]).is_file() for key in ("flair", "label"))
