"""A split is by patient, repeatable and in the study's proportions; a datalist is checked before it is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.support import Started
from transforms.labels import STUDY_MODALITIES
from workflows.data.case import Case, FoundDataset
from workflows.data.find_cases import find_cases
from workflows.data.label_conventions import BRATS_TO_2022, LabelSummary
from workflows.files.json_files import write_json
from workflows.messages.errors import ConfigurationError, DatasetError
from workflows.splits import split as splitting
from workflows.splits.datalist import SECTIONS, read_datalist, samples
from workflows.splits.split import SplitPlan, make_split, obtain_datalist

SHAPE = (4, 4, 4)


def write_case(root: Path, name: str, tumour_voxels: int, modalities: tuple[str, ...] = STUDY_MODALITIES) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels.flat[:tumour_voxels] = 4
    images = {modality: np.arange(64, dtype=np.int16).reshape(SHAPE) for modality in modalities}
    (root / name).mkdir(parents=True)
    for key, voxels in {**images, "seg": labels}.items():
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), root / name / f"{name}_{key}.nii")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten cases P00 … P09, each with a label map of its own."""
    for number in range(10):
        write_case(tmp_path / "data", f"P{number:02d}", number + 1)
    return tmp_path / "data"


def ids(section: list[dict[str, Any]]) -> list[str]:
    return [entry["case"] for entry in section]


def sizes(split: dict[str, Any]) -> tuple[int, ...]:
    return tuple(len(split[name]) for name in SECTIONS)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FoundDataset:
    """369 cases by name only, as BraTS 2020 has them: 293 of high and 76 of low grade."""
    summaries = LabelSummary({0: 1, 4: 1}, None)
    monkeypatch.setattr(splitting, "survey_labels", lambda cases: dict.fromkeys(cases, summaries))
    names = [f"BraTS20_Training_{number:03d}" for number in range(1, 370)]
    grades = [f"{'LGG' if 260 <= number <= 335 else 'HGG'},{name}" for number, name in enumerate(names, start=1)]
    mapping = tmp_path / "name_mapping.csv"
    mapping.write_text("\n".join(["Grade,BraTS_2020_subject_ID", *grades]) + "\n")
    cases = tuple(
        Case(
            name,
            tmp_path / name,
            {modality: tmp_path / name / f"{name}_{modality}.nii" for modality in STUDY_MODALITIES},
            tmp_path / name / f"{name}_seg.nii",
        )
        for name in names
    )
    return FoundDataset(tmp_path, cases, (mapping,), BRATS_TO_2022)


# Making a split


def test_the_study_splits_369_patients_into_250_74_and_45(study: FoundDataset) -> None:
    split = make_split(study)
    assert sizes(split) == (250, 74, 45)
    assert len({*ids(split["training"]), *ids(split["validation"]), *ids(split["testing"])}) == 369
    assert all(ids(split[name]) == sorted(ids(split[name])) for name in SECTIONS)


def test_one_seed_gives_one_split_and_another_another(study: FoundDataset) -> None:
    assert make_split(study) == make_split(study)
    drawn_in_version_0_1 = [f"BraTS20_Training_{number:03d}" for number in (8, 10, 12)]
    assert ids(make_split(study)["testing"])[:3] == drawn_in_version_0_1
    assert make_split(study, SplitPlan(seed=1))["testing"] != make_split(study)["testing"]


def test_grades_keep_their_proportion_in_every_section(study: FoundDataset) -> None:
    split = make_split(study, SplitPlan(stratify=True))
    low_grade = [sum(260 <= int(name[-3:]) <= 335 for name in ids(split[section])) for section in SECTIONS]
    assert sizes(split) == (250, 74, 45)
    assert low_grade == [52, 15, 9]  # 76 of 369 is 20.6 %: 51.5, 15.2 and 9.3


def test_given_test_ids_are_tested_on_and_the_rest_keeps_its_sizes(study: FoundDataset) -> None:
    wanted = [f"BraTS20_Training_{number:03d}" for number in range(300, 345)]
    split = make_split(study, SplitPlan(test_ids=wanted))
    assert ids(split["testing"]) == wanted
    assert sizes(split) == (250, 74, 45)


def test_all_cases_are_trained_on_where_that_is_wanted_even_if_there_is_only_one(study: FoundDataset, tmp_path: Path):
    assert sizes(make_split(study, SplitPlan(all_cases=True))) == (369, 0, 0)
    write_case(tmp_path / "data", "P1", 1)
    alone = make_split(find_cases(tmp_path / "data"), SplitPlan(all_cases=True))
    assert sizes(alone) == (1, 0, 0)
    write_json(alone, tmp_path / "split.json")
    assert read_datalist(tmp_path / "split.json", tmp_path / "data")["validation"] == []


@pytest.mark.parametrize("more", [{"folds": 5}, {"test_ids": ["BraTS20_Training_001"]}])
def test_all_cases_leave_none_for_folds_or_tests(study: FoundDataset, more: dict[str, Any]):
    with pytest.raises(ConfigurationError, match="All cases are to be trained on; leave out the folds and the cases"):
        make_split(study, SplitPlan(all_cases=True, **more))


def test_a_split_that_is_named_and_all_cases_contradict_each_other(data: Path, tmp_path: Path) -> None:
    write_json(make_split(find_cases(data)), tmp_path / "split.json")
    with pytest.raises(ConfigurationError, match=r"all_cases: .*split\.json says what is trained on"):
        obtain_datalist(data, tmp_path / "split.json", tmp_path / "run", all_cases=True)
    assert not (tmp_path / "run").exists()


def test_an_unknown_test_id_is_named(study: FoundDataset) -> None:
    with pytest.raises(DatasetError, match=r"no usable labelled case named P99"):
        make_split(study, SplitPlan(test_ids=["BraTS20_Training_001", "P99"]))


@pytest.mark.parametrize("stratify", [False, True])
def test_five_folds_validate_every_patient_once_and_test_on_the_same(study: FoundDataset, stratify: bool) -> None:
    splits = [make_split(study, SplitPlan(folds=5, fold=fold, stratify=stratify)) for fold in range(5)]
    assert [sizes(split)[1:] for split in splits] == [(65, 45)] * 4 + [(64, 45)]
    validated = [name for split in splits for name in ids(split["validation"])]
    assert len(validated) == len(set(validated)) == 369 - 45
    assert all(
        split["testing"] == splits[0]["testing"] == make_split(study, SplitPlan(stratify=stratify))["testing"]
        for split in splits
    )
    assert {entry["fold"] for entry in splits[3]["validation"]} == {3}
    assert {entry["fold"] for entry in splits[3]["training"]} == {0, 1, 2, 4}


def test_time_points_and_copies_and_mapped_ids_stay_together(tmp_path: Path) -> None:
    for point in range(8):
        write_case(tmp_path, f"BraTS-GLI-00001-{point:03d}", point + 1)
    write_case(tmp_path, "BraTS2021_00001", 1)  # the label map of time point 000 under another name
    write_case(tmp_path, "BraTS20_Training_001", 20)
    write_case(tmp_path, "BraTS19_CBICA_AAB_1", 21)
    write_case(tmp_path, "P1", 30)
    (tmp_path / "name_mapping.csv").write_text(
        "Grade,BraTS_2019_subject_ID,BraTS_2020_subject_ID\nHGG,BraTS19_CBICA_AAB_1,BraTS20_Training_001\nHGG,NA,P1\n"
    )
    for seed in range(5):
        split = make_split(find_cases(tmp_path), SplitPlan(seed=seed))
        sections = sorted(tuple(ids(split[name])) for name in SECTIONS)
        assert sections == [
            (*(f"BraTS-GLI-00001-{point:03d}" for point in range(8)), "BraTS2021_00001"),
            ("BraTS19_CBICA_AAB_1", "BraTS20_Training_001"),
            ("P1",),
        ]


@pytest.fixture
def two_each(tmp_path: Path) -> Path:
    """Two cases of each of four patients, whose names are not known."""
    for number in range(8):
        write_case(tmp_path / "two_each", f"P{number // 2}_{number % 2 + 1}", number + 1)
    return tmp_path / "two_each"


def torn(split: dict[str, Any]) -> set[str]:
    """The patients of `two_each` in more than one section."""
    sections = [{name.split("_")[0] for name in ids(split[section])} for section in SECTIONS]
    return {patient for patient in set.union(*sections) if sum(patient in section for section in sections) > 1}


def test_names_that_may_be_time_points_are_warned_of_once_and_split_as_they_are(two_each, caplog) -> None:
    split = make_split(find_cases(two_each))
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "warning: P0_1 and P0_2, P1_1 and P1_2, P2_1 and P2_2 count as different patients"
    )
    assert "--patient 'REGEX'" in record.getMessage()
    assert torn(split) and split["patients"] == 8 and "patient" not in split


def test_a_patient_that_is_named_by_an_expression_stays_together_and_the_split_says_so(
    two_each: Path, tmp_path: Path, command: Callable[..., Started], caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "split.json"
    ended = command("split", two_each, "--out", out, "--patient", r"(P\d+)_", "--test-ids", "P2_1")
    split = json.loads(out.read_text())
    assert ended.stdout.splitlines() == [
        f"4 training, 2 validation, 2 testing cases in {out}",
        "They are 8 cases of 4 patients; each is in one section.",
        "Tested on too, as cases of the same patients: P2_2",
    ]
    assert torn(split) == set() and not caplog.records
    assert (split["patient"], split["patients"], ids(split["testing"])) == (r"(P\d+)_", 4, ["P2_1", "P2_2"])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(P", r"--patient (P: is no regular expression (missing ), unterminated subpattern at position 0)."),
        ("Q", "P0_1: --patient Q finds no patient in this id, nor in its path P0_1/P0_1_flair.nii; mend the"),
    ],
)
def test_an_expression_that_is_none_or_finds_nothing_ends_in_one_line(
    two_each: Path, tmp_path: Path, command: Callable[..., Started], pattern: str, message: str
) -> None:
    for arguments in (("split", two_each, "--out", tmp_path / "split.json"), ("audit", two_each, "--workers", 1)):
        ended = command(*arguments, "--patient", pattern)
        assert ended.status == 1 and ended.stdout == "" and ended.stderr.count("\n") == 1
        assert ended.stderr.startswith(f"error: {message}")
    assert not (tmp_path / "split.json").exists()


def test_every_fold_of_a_cross_validation_holds_whole_patients(two_each: Path) -> None:
    found = find_cases(two_each)
    splits = [make_split(found, SplitPlan(folds=3, fold=fold, patient=r"P\d+")) for fold in range(3)]
    assert [torn(split) for split in splits] == [set()] * 3
    assert sorted(name for split in splits for name in ids(split["validation"])) == sorted(
        [*ids(splits[0]["training"]), *ids(splits[0]["validation"])]
    )


def test_session_folders_keep_a_patient_together(tmp_path: Path) -> None:
    for number in range(8):
        write_case(tmp_path / f"GBM{number // 2}", f"visit{number % 2}", number + 1)
    split = make_split(find_cases(tmp_path))
    sections = [{entry["label"].split("/")[0] for entry in split[section]} for section in SECTIONS]
    assert split["patients"] == sum(map(len, sections)) == 4


def test_two_healthy_cases_are_two_patients(tmp_path: Path) -> None:
    for name in ("P1", "P2", "P3"):
        write_case(tmp_path, name, 0)
    assert sizes(make_split(find_cases(tmp_path))) == (1, 1, 1)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.99])
def test_every_section_holds_one_at_least(data: Path, share: float) -> None:
    assert min(sizes(make_split(find_cases(data), SplitPlan(validation_share=share, test_share=share)))) >= 1


def test_three_cases_are_the_fewest(tmp_path: Path) -> None:
    for name in ("P1", "P2"):
        write_case(tmp_path, name, int(name[1]))
    write_case(tmp_path, "P3", 3)
    assert sizes(make_split(find_cases(tmp_path))) == (1, 1, 1)
    (tmp_path / "P3" / "P3_seg.nii").unlink()
    with pytest.raises(DatasetError, match=r"2 usable labelled cases of 2 patients; .* need one patient each"):
        make_split(find_cases(tmp_path))


def test_cases_without_labels_or_a_modality_are_left_out_and_listed(data: Path) -> None:
    (data / "P03" / "P03_seg.nii").unlink()
    (data / "P05" / "P05_t1ce.nii").unlink()
    split = make_split(find_cases(data))
    assert split["left_out"] == {"without_label": ["P03"], "without_modality": ["P05"]}
    assert sum(sizes(split)) == 8


def test_entries_hold_relative_paths_of_all_modalities_and_the_convention(tmp_path: Path) -> None:
    for number, name in enumerate(("P1", "P2", "P3"), start=1):
        write_case(tmp_path, name, number, modalities=("flair", "t1ce", "t2"))
    split = make_split(find_cases(tmp_path))
    name = split["testing"][0]["case"]
    paths = {modality: f"{name}/{name}_{modality}.nii" for modality in ("flair", "t1ce", "t2")}
    assert split["testing"] == [{"case": name, **paths, "label": f"{name}/{name}_seg.nii"}]
    assert split["label_convention"] == "brats-to-2022"
    assert split["labels"] == {"0": "background", "1": "necrotic core", "2": "oedema", "4": "enhancing tumour"}


def test_without_a_name_mapping_there_are_no_grades_to_stratify_by(data: Path) -> None:
    with pytest.raises(DatasetError, match=r"no grade to stratify by; name_mapping\.csv is missing"):
        make_split(find_cases(data), SplitPlan(stratify=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validation_share": 0.0}, "validation share is 0"),
        ({"test_share": 1.5}, r"test share is 1\.5"),
        ({"folds": 1}, "Fold 0 of 1"),
        ({"folds": 5, "fold": 5}, "Fold 5 of 5"),
        ({"folds": 20}, "20 folds need as many patients"),
    ],
)
def test_settings_that_make_no_sense_are_refused(data: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_split(find_cases(data), SplitPlan(**settings))


# Reading and writing


def test_a_written_split_is_read_back_with_absolute_paths(data: Path, tmp_path: Path) -> None:
    split = make_split(find_cases(data))
    write_json(split, tmp_path / "new" / "split.json")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["split.json"]
    read = read_datalist(tmp_path / "new" / "split.json", data)
    entry = read["training"][0]
    assert entry["flair"] == str(data / entry["case"] / f"{entry['case']}_flair.nii")
    assert [ids(read[name]) for name in SECTIONS] == [ids(split[name]) for name in SECTIONS]


def test_monai_reads_the_datalist_too(data: Path, tmp_path: Path) -> None:
    from monai.data import load_decathlon_datalist

    split = make_split(find_cases(data))
    write_json(split, tmp_path / "split.json")
    entries = load_decathlon_datalist(tmp_path / "split.json", True, "training", base_dir=data)
    assert len(entries) == len(split["training"])
    assert all(Path(entry[key]).is_file() for entry in entries for key in ("flair", "t1ce", "label"))


def test_decathlon_is_split_and_sampled_by_channel(tmp_path: Path) -> None:
    training = []
    for number in range(4):
        for folder, shape in (("imagesTr", (*SHAPE, 4)), ("labelsTr", SHAPE)):
            (tmp_path / folder).mkdir(exist_ok=True)
            voxels = np.full(shape, number, np.uint8)
            nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / folder / f"BRATS_{number}.nii.gz")
        training.append({"image": f"./imagesTr/BRATS_{number}.nii.gz", "label": f"./labelsTr/BRATS_{number}.nii.gz"})
    modality = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": modality, "training": training}))
    write_json(make_split(find_cases(tmp_path)), tmp_path / "split.json")
    read = read_datalist(tmp_path / "split.json", tmp_path)
    assert read["label_convention"] == "decathlon"
    (sample,) = samples(read["testing"], STUDY_MODALITIES)
    image = str(tmp_path / "imagesTr" / f"{sample['case']}.nii.gz")
    assert sample["image"] == [f"{image}#0", f"{image}#2"]
    assert sample["label"] == str(tmp_path / "labelsTr" / f"{sample['case']}.nii.gz")


def test_a_sample_without_a_modality_asked_for_is_named(data: Path) -> None:
    split = make_split(find_cases(data))
    with pytest.raises(DatasetError, match=rf"{ids(split['testing'])[0]}: the datalist names no T2 image"):
        samples(split["testing"], ("flair", "t2"))


def move_between_sections(split: dict[str, Any]) -> None:
    split["testing"].append(split["training"][0])


def share_a_file(split: dict[str, Any]) -> None:
    split["testing"].append({**split["training"][0], "case": "other"})


def set_in_first(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(split: dict[str, Any]) -> None:
        split["training"][0][key] = value

    return change


def remove_from_first(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(split: dict[str, Any]) -> None:
        for key in keys:
            del split["training"][0][key]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda split: split.pop("testing"), "testing: must be a list"),
        (lambda split: split.update(training={}), "training: must be a list"),
        (
            lambda split: split.pop("label_convention"),
            "has no 'label_convention', as the datalist of  brats-unet split",
        ),
        (lambda split: split.update(label_convention="mine"), "'label_convention': 'mine': is no label convention;"),
        (lambda split: split.update(label_convention=[]), r"'label_convention': '\[\]': is no label convention"),
        (lambda split: split["training"].append("P1"), 'training: "P1" is no case'),
        (move_between_sections, r"case P\d+ is in two sections, training and testing"),
        (share_a_file, r"file .*_flair\.nii is in two sections"),
        (lambda split: split.update(validation=[]), "section 'validation' is empty; if that is meant, add"),
        (set_in_first("flair", "../../etc/passwd"), r"P\d+: the path '../../etc/passwd' leaves the data folder"),
        (set_in_first("label", "/etc/passwd"), "leaves the data folder"),
        (set_in_first("flair", ["a", "b"]), "is not a path"),
        (set_in_first("flair", "P1/gone.nii"), r"training: P\d+: .*gone\.nii: no such file"),
        (set_in_first("case", "../P1"), "is no case; one has a plain name"),
        (set_in_first("case", 7), "is no case"),
        (set_in_first("case", "M\udcfcller"), "training: .*bytes that are no text"),
        (remove_from_first("label"), r"P\d+ names no 'label'"),
        (remove_from_first("flair", "t1ce"), r"P\d+ names no image"),
    ],
)
def test_a_datalist_that_cannot_be_used_is_refused_naming_the_culprit(
    data: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    split = make_split(find_cases(data))
    change(split)
    (tmp_path / "split.json").write_text(json.dumps(split))
    with pytest.raises(DatasetError, match=rf"split\.json: .*{message}"):
        read_datalist(tmp_path / "split.json", data)


@pytest.mark.parametrize(
    ("text", "message"), [(None, "no such datalist"), ("{", "cannot be read as JSON"), ("[]", "is no datalist")]
)
def test_what_is_no_datalist_is_refused(data: Path, tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "split.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_datalist(tmp_path / "split.json", data)


@pytest.mark.parametrize("name", ["$import os", "@network", "%train.json::key", "__import__('os')"])
def test_text_that_looks_like_code_stays_text(data: Path, tmp_path: Path, name: str) -> None:
    write_case(data, name, 40)
    write_json(make_split(find_cases(data), SplitPlan(test_ids=[name])), tmp_path / "split.json")
    (sample,) = samples(read_datalist(tmp_path / "split.json", data)["testing"], STUDY_MODALITIES)
    assert sample["case"] == name
    assert sample["label"] == str(data / name / f"{name}_seg.nii")


def test_a_folder_that_cannot_be_written_to_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"split\.json: cannot be written"):
        write_json(make_split(find_cases(data)), tmp_path / "file" / "split.json")


# The split of a run


def test_a_run_without_a_split_makes_its_own_beside_itself_and_keeps_it(data: Path, tmp_path: Path) -> None:
    before = sorted(data.rglob("*"))
    first = obtain_datalist(data, None, tmp_path / "run")
    assert (tmp_path / "run" / "split.json").is_file()
    assert sorted(data.rglob("*")) == before
    write_case(data, "P99", 50)
    assert obtain_datalist(data, None, tmp_path / "run") == first


def test_a_split_that_is_named_is_used_and_kept_with_the_run(data: Path, tmp_path: Path) -> None:
    write_json(make_split(find_cases(data), SplitPlan(seed=5)), tmp_path / "mine.json")
    assert obtain_datalist(data, tmp_path / "mine.json", tmp_path / "run")["seed"] == 5
    assert (tmp_path / "run" / "split.json").read_bytes() == (tmp_path / "mine.json").read_bytes()


def test_a_run_inside_the_data_folder_is_refused(data: Path) -> None:
    with pytest.raises(ConfigurationError, match="never written to"):
        obtain_datalist(data, None, data / "run")
