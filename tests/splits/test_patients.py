"""All cases of a patient are known as such by their names, and no two patients are taken for one."""

from __future__ import annotations

import re
import string
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import REPOSITORY
from workflows.data.case import Case, FoundDataset
from workflows.data.label_conventions import BRATS_TO_2022, LabelSummary
from workflows.messages.errors import ConfigurationError, DatasetError
from workflows.splits import split as splitting
from workflows.splits.datalist import SECTIONS
from workflows.splits.patients import PATIENTS_BY_DATA_SET, look_alikes, patient_of, patients_of
from workflows.splits.split import SplitPlan, make_split

DOCUMENT = REPOSITORY / "docs" / "how-to" / "patients.md"


def dataset(*paths: str, root: Path = Path("data")) -> FoundDataset:
    """Cases by name only: of `P07/ses-1` the folders are `P07` and `ses-1`; the id is the name after a colon, or that
    of the innermost folder.
    """
    cases = []
    for path in paths:
        folders, _, case_id = path.partition(":")
        folder = root / folders
        images = {name: folder / f"{case_id}_{name}.nii" for name in ("flair", "t1ce")}
        cases.append(Case(case_id or folder.name, folder, images, folder / f"{case_id}_seg.nii"))
    return FoundDataset(root, tuple(cases))


def patients(*paths: str) -> list[str]:
    found = dataset(*paths)
    return list(patients_of(found.cases, found.root).values())


# Ids


def documented() -> list[tuple[str, str]]:
    """Every id and folder of the page's table, with the patient."""
    rows = [line.split("|")[2:4] for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    found = []
    for names, patient in rows[2:]:
        ids, whose = re.findall("`(.+?)`", names), re.findall("`(.+?)`", patient)
        found += zip(ids, whose if len(whose) > 1 else whose * len(ids) or ids, strict=True)
    return found


@pytest.mark.parametrize(("name", "patient"), documented())
def test_each_name_in_the_documentation_belongs_to_the_patient_that_stands_beside_it(name: str, patient: str) -> None:
    *_, innermost = folders = tuple(name.split("/"))
    assert patient_of(innermost, folders if len(folders) > 1 else ()) == patient


def test_each_scheme_stands_in_the_documentation() -> None:
    names = [name for name, _ in documented()]
    for pattern in PATIENTS_BY_DATA_SET.values():
        assert any(re.match(pattern, name, re.IGNORECASE) for name in names), pattern


@pytest.mark.parametrize(
    "end",
    [
        *("_t1", "_T2", "_tp2", "_TP-03", "-visit3", "_V2", "_ses-1", "_session2", "_scan1", "_MR2", "_exam_3"),
        *(
            "_followup1",
            "_follow-up_2",
            "_FU",
            "_week-000-1",
            "_week12",
            "_12w",
            "_3months",
            "_day0",
            "_Day_120",
            "_m06",
        ),
        *("_pre", "_post", "_preop", "_pre-op", "_postRT", "_pre_treatment", "_baseline", "_early", "_recurrence"),
        *(
            "_20190312",
            "_2019-03-12",
            "_1996.08.23",
            "_03-12-2019",
            "_20190312T1015",
            "_Timepoint_1_brain",
            "_t1_nifti",
        ),
        *("_visit2_scan1", "pre", "visit2"),
    ],
)
@pytest.mark.parametrize("patient", ["P07", "100100", "W12", "Site_2-041"])
def test_what_follows_a_patients_number_and_names_a_time_is_no_part_of_the_patient(patient: str, end: str) -> None:
    assert patient_of(patient + end) == patient


@pytest.mark.parametrize(
    "name",
    [
        *("BraTS20_Training_001", "BraTS2021_00002", "Brats18_TCIA01_390_1", "BraTS19_CBICA_AAB_1", "BRATS_001"),
        *("UCSF-PDGM-0004", "EGD-0001", "patient07", "001-Glioma-AYEY", "C3L-00016", "TCGA-02-0006", "7", "case_12"),
        *("scan_1", "visit_2", "T01", "W10", "GBM_scan_01", "HGG_T001", "GBM_20190312", "GBM_visit1_P003", "P20193412"),
    ],
)
def test_a_number_that_may_be_a_patients_stays_in_its_name(name: str) -> None:
    assert patient_of(name) == name


def test_letters_alone_are_a_patient_where_the_words_after_them_are_clear() -> None:
    assert [patient_of(name) for name in ("anna_pre", "anna_visit2", "anna_7")] == ["anna", "anna", "anna_7"]


# Folders


@pytest.mark.parametrize(
    ("path", "patient"),
    [
        ("sub-01/ses-02", "sub-01"),
        ("sub-01/ses-02/anat:sub-01_ses-02", "sub-01"),
        ("rawdata/sub-01/ses-02/anat:brain", "sub-01"),
        ("Patient-001/week-000-1", "Patient-001"),
        ("PatientID_0003/Timepoint_1:PatientID_0003_Timepoint_1_brain", "PatientID_0003"),
        ("RHUH-0001/0", "RHUH-0001"),
        ("UPENN-GBM-00001/2010-01-01", "UPENN-GBM-00001"),
        ("W12/01-25-2015-NA-RM BRAIN", "W12"),
        ("GBM07/visit2/nifti:ACC4711", "GBM07"),
        ("subject_7/first scan/a:ACC4711", "subject_7"),
        ("P07:pre", "P07"),
        ("anna/pre", "anna"),
        ("site2/1/t1", "site2/1"),
        ("training/BraTS20_Training_001", "BraTS20_Training_001"),
        ("HGG/T001", "T001"),
        ("BraTS-GLI-2023/BraTS-GLI-00005-000", "BraTS-GLI-00005"),
        ("baseline/P01", "P01"),
        ("BraTS2021/week1/P01", "P01"),
        ("P07:scan_pre", "scan_pre"),
    ],
)
def test_a_session_folder_belongs_to_the_patient_above_it(path: str, patient: str) -> None:
    assert patients(path) == [patient]


def test_a_session_folder_with_many_cases_is_no_patients() -> None:
    assert patients("BraTS2021/baseline:P01", "BraTS2021/baseline:P02") == ["P01", "P02"]


# What the user says


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"P\d", ["P1", "P2"]),
        (r"([AB])-(P\d)", ["A", "B"]),
        (r"([AB])-(?P<patient>P\d)", ["P1", "P2"]),
        (r"^(site\d)/", ["site1", "site2"]),
        (r"/(\d)_t1ce|/(?P<patient>.-.)", ["A-P", "B-P"]),
    ],
)
def test_a_regular_expression_finds_the_patient_in_the_id_or_else_in_the_path(pattern: str, expected: list[str]):
    found = dataset("site1/A-P1", "site2/B-P2")
    assert list(patients_of(found.cases, found.root, pattern).values()) == expected


def test_a_regular_expression_that_is_none_or_finds_nothing_is_refused_naming_the_case() -> None:
    found = dataset("a/P1", "a/Q2")
    with pytest.raises(ConfigurationError, match=r"^--patient \(P: is no regular expression \(missing \), .*\)\.$"):
        patients_of(found.cases, found.root, "(P")
    for pattern in (r"P\d", r"P(\d)", "(x*)"):
        with pytest.raises(
            DatasetError, match=r"^(P1|Q2): --patient .* finds no patient in this id, nor in its path a/"
        ):
            patients_of(found.cases, found.root, pattern)


# Names that look alike


@pytest.mark.parametrize(
    ("names", "first", "meant"),
    [
        (["P7_1", "P7_2", "P9_1", "P12_1"], "P7_1 and P7_2 count", {"P7", "P9", "P12"}),
        (["S01A", "S01B", "S02A", "S02B"], "S01A and S01B, S02A and S02B count", {"S01", "S02"}),
        (["G05_0000", "G05_0106", "G06_0000", "G06_0087"], "G05_0000 and G05_0106, G06_0000 and", {"G05", "G06"}),
    ],
)
def test_names_with_few_endings_that_come_again_are_warned_of_with_the_way_out(
    names: list[str], first: str, meant: set[str]
) -> None:
    warning = look_alikes(names)
    assert warning is not None and warning.startswith(first)
    expression = re.search(r"for example  --patient '(.+)'\.$", warning)
    assert expression is not None
    found = dataset(*names)
    assert set(patients_of(found.cases, found.root, expression[1]).values()) == meant


def test_a_name_with_and_without_an_ending_is_warned_of() -> None:
    warning = look_alikes(["P8", "P8_b", "P9", "P9_b"])
    assert warning is not None and warning.startswith("P8 and P8_b, P9 and P9_b count")


@pytest.mark.parametrize(
    "names",
    [
        [f"BraTS20_Training_{number:03d}" for number in range(1, 9)],
        [f"BraTS2021_{number:05d}" for number in range(3)] + [f"BraTS20_Training_{number:03d}" for number in range(9)],
        [f"site{site}_{number:03d}" for site in (1, 2, 3) for number in range(20)],
        ["TCGA-02-0006", "TCGA-02-0009", "TCGA-06-0006", "TCGA-06-0009"],
        ["Brats18_2013_0_1", "Brats18_2013_1_1", "Brats18_TCIA01_390_1"],
        ["HGG_1", "HGG_2", "LGG_1", "LGG_2"],
        ["C3L-00016", "C3L-00674", "C3N-00662", "P1", "P2", "P10"],
    ],
)
def test_numbers_of_patients_are_not_warned_of(names: list[str]) -> None:
    assert look_alikes(names) is None


# Splits

SCHEMES = (
    lambda patient, time: f"{100000 + patient}_time{time}",
    lambda patient, time: f"PatientID_{patient:04d}_Timepoint_{time}",
    lambda patient, time: f"UPENN-GBM-{patient:05d}_{time}1",
    lambda patient, time: f"UCSD-PTGBM-{patient:04d}_{time:02d}",
    lambda patient, time: f"RHUH-{patient:04d}/{time}:RHUH-{patient:04d}_{time}",
    lambda patient, time: f"sub-{patient:03d}/ses-{time:02d}/anat:sub-{patient:03d}_ses-{time:02d}",
    lambda patient, time: f"Patient-{patient:03d}/week-{13 * time:03d}",
    lambda patient, time: f"BraTS-GLI-{patient:05d}-{99 + time:03d}",
    lambda patient, time: f"BraTS-MET-{patient:05d}-{time:03d}",
    lambda patient, time: f"BraTS-MEN-RT-{patient:04d}-{time}",
    lambda patient, time: f"BraTSReg_{patient:03d}:BraTSReg_{patient:03d}_{time:02d}_{time * 106:04d}",
    lambda patient, time: f"UCSF-PDGM-{patient:04d}" + (f"_FU{time:03d}d" if time > 1 else ""),
    lambda patient, time: f"TCGA-{patient % 7:02d}-{patient:04d}_1996.08.{time:02d}",
    lambda patient, time: f"brats_tcia_pat{patient}_{time * 55:04d}",
    lambda patient, time: f"{200000 + patient}{string.ascii_uppercase[time]}",
    lambda patient, time: f"GBM{patient:03d}_{('pre', 'post', 'followup1', 'followup2')[time % 4]}",
    lambda patient, time: f"case{patient}/visit{time}",
    lambda patient, time: f"flat:K{patient}-2011-0{time}-12",
    lambda patient, time: f"BraTS20_Training_{8 * patient + time:03d}",  # one examination of each patient
)
EXAMINATIONS = st.dictionaries(  # of a patient by scheme and number
    st.tuples(st.integers(0, len(SCHEMES) - 1), st.integers(1, 120)),
    st.sets(st.integers(1, 7), min_size=1, max_size=5),
    min_size=5,
    max_size=20,
)


@settings(max_examples=60, deadline=None, database=None)
@given(EXAMINATIONS, st.integers(0, 9), st.one_of(st.none(), st.integers(2, 3)))
def test_patients_of_any_scheme_are_never_torn_and_never_merged(
    examinations: dict[tuple[int, int], set[int]], seed: int, folds: int | None
) -> None:
    alone = len(SCHEMES) - 1
    whose, paths = {}, []
    for (scheme, number), times in examinations.items():
        for time in times:
            paths.append(SCHEMES[scheme](number, time))
            whose[paths[-1]] = (scheme, number, time if scheme == alone else 0)
    found = dataset(*paths)
    found = replace(found, cases=tuple(replace(case, convention=BRATS_TO_2022) for case in found.cases))
    patient_by_folder = {
        (str(case.folder), case.id): whose[path] for case, path in zip(found.cases, paths, strict=True)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "survey_labels", lambda cases: dict.fromkeys(cases, LabelSummary({0: 1, 4: 1}, None)))
        split = make_split(found, SplitPlan(seed=seed, folds=folds))
    sections: dict[tuple[int, int, int], set[object]] = {}
    for section in SECTIONS:
        for entry in split[section]:
            patient = patient_by_folder[str(found.root / Path(entry["label"]).parent), entry["case"]]
            sections.setdefault(patient, set()).add((section, entry.get("fold")))
    assert all(len(places) == 1 for places in sections.values())
    assert split["patients"] == len(sections) == len(set(whose.values()))
