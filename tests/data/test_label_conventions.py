"""What label values mean is decided rightly or not at all, whatever names, values and `dataset.json` say."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from transforms.labels import BACKGROUND, ENHANCING, NECROTIC_CORE, OEDEMA
from workflows.data.case import Case
from workflows.data.convention_of_cases import label_convention_of
from workflows.data.dataset_json import stated_convention
from workflows.data.label_conventions import (
    AFTER_TREATMENT,
    BRATS_FROM_2023,
    BRATS_TO_2015,
    BRATS_TO_2022,
    DECATHLON,
    DEEPBRATUMIA,
    LABEL_CONVENTIONS,
    PAEDIATRIC,
    LabelConvention,
    convention_named,
    convention_of,
)
from workflows.evaluation.conventions_of_sides import PREDICTION, REFERENCE, decide_sides
from workflows.evaluation.exchanged_classes import confusion, exchanged
from workflows.evaluation.find_label_maps import LabelMapFolder
from workflows.messages.errors import ConfigurationError, DatasetError

DRAWS = 10_000
NEUTRAL = ("patient{n}", "case_{n:03}", "sub-{n:02}_ses-01", "BRATS_{n:03}", "EGD-{n:04}", "Patient-{n:03}_week-001")
NAMES: dict[LabelConvention, tuple[str, ...]] = {
    BRATS_TO_2022: ("BraTS20_Training_{n:03}", "BraTS2021_{n:05}", "UPENN-GBM-{n:05}_11", "Brats18_2013_{n}_1"),
    BRATS_FROM_2023: ("BraTS-GLI-{n:05}-000", "BraTS-MET-{n:05}-000", "BraTS-SSA-{n:05}-000", "BraTS-MEN-{n:05}-000"),
    AFTER_TREATMENT: ("BraTS-GLI-{n:05}-101", "BraTS-MET-{n:05}-000", "PatientID_{n:04}_Timepoint_2"),
    PAEDIATRIC: ("BraTS-PED-{n:05}-000",),
    BRATS_TO_2015: ("brats_2013_pat{n:04}_1", "brats_tcia_pat{n:03}_0001"),
}
WORDS = {
    BACKGROUND: ("background", "Background", "BG"),
    NECROTIC_CORE: ("necrosis", "NCR", "non-enhancing tumor", "Non-Enhancing Tumor Core", "necrotic core", "NETC"),
    OEDEMA: ("edema", "peritumoral edema", "ED", "oedema", "SNFH"),
    ENHANCING: ("enhancing tumor", "ET", "enhancing tumour", "GD-enhancing tumor", "active tumor"),
}


def draw_convention(rng: random.Random) -> LabelConvention:
    """One of the known, or any order of the three classes."""
    if rng.random() < 0.7:
        return rng.choice(list(LABEL_CONVENTIONS.values()))
    values = rng.sample(range(1, 6), 3)
    return convention_of(dict(zip(values, (NECROTIC_CORE, OEDEMA, ENHANCING), strict=True)))


def draw_dataset_json(rng: random.Random, convention: LabelConvention) -> dict[str, object]:
    """What a careful author writes: numbers by name or names by number, or regions."""
    classes = dict(convention.classes)
    named = {value: rng.choice(WORDS[index]) for value, index in classes.items()}
    named |= {value: "resection cavity" for value in classes if value and classes[value] == BACKGROUND}
    style = rng.choice(("numbers", "names", "regions"))
    if style == "numbers":
        labels: dict[str, object] = {str(value): name for value, name in named.items()}
    elif style == "names" and len(set(named.values())) == len(named):
        labels = {name: value for value, name in named.items()}
    else:
        regions = {"whole tumor": (1, 2, 3), "tumor core": (1, 3), "enhancing tumor": (3,)}
        labels = {"background": 0}
        for name, members in regions.items():
            inside = [value for value, index in classes.items() if index in members]
            labels[name] = inside[0] if len(inside) == 1 else inside
    pairs = list(labels.items())
    rng.shuffle(pairs)
    key = rng.choice(("channel_names", "modality"))
    return {key: {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}, "labels": dict(pairs), "numTraining": 3}


def draw_cases(
    rng: random.Random, convention: LabelConvention, stated: LabelConvention | None, images: bool
) -> dict[Case, tuple[int, ...]]:
    """Label values of one to four cases of a data set, each case with a random subset of the classes."""
    pattern = rng.choice(NAMES.get(convention, NEUTRAL) if rng.random() < 0.7 else NEUTRAL)
    ending = rng.choice(("_flair.nii.gz", "_t1ce.nii", "_FLAIR.nii.gz"))
    cases = {}
    for n in range(1, rng.randint(2, 5)):
        case_id = pattern.format(n=n)
        shown = {"flair": Path(f"{case_id}{ending}")} if images else {}
        values = tuple(value for value in convention.classes if value == 0 or rng.random() < 0.7)
        cases[Case(case_id, Path(case_id), shown, Path("seg"), convention=stated)] = values
    return cases


def undecidable_by_nature(cases: dict[Case, tuple[int, ...]], convention: LabelConvention) -> bool:
    """Whether the values are those of BraTS to 2022, names say nothing, and another convention is meant all the same.

    1, 2, 4 (or 4 with 2 or alone) under neutral names are read as BraTS to 2022, as almost all such sets are.
    """
    neutral = not any(case.convention for case in cases) and convention not in (BRATS_TO_2022, BRATS_TO_2015)
    found = {value for values in cases.values() for value in values} - {0}
    return neutral and found in ({1, 2, 4}, {2, 4}, {4})


def test_no_class_is_taken_for_another_in_random_data_sets(tmp_path: Path) -> None:
    rng = random.Random(18)
    decided = refused = 0
    for _ in range(DRAWS):
        convention = draw_convention(rng)
        stated = None
        try:
            if rng.random() < 0.4:
                (tmp_path / "dataset.json").write_text(json.dumps(draw_dataset_json(rng, convention)))
                stated = stated_convention(tmp_path)
            cases = draw_cases(rng, convention, stated, images=True)
            named = any(case.id.startswith(("BraTS", "Brats", "brats", "UPENN", "PatientID")) for case in cases)
            if not named and undecidable_by_nature(cases, convention):
                continue
            if not stated and max(convention.classes) > 4:
                continue  # of no data set known, and named by the audit
            found = label_convention_of(cases)
        except DatasetError:
            refused += 1
            continue
        decided += 1
        for value in {value for values in cases.values() for value in values} & set(found.classes):
            assert found.classes[value] == convention.classes[value], (convention, found, cases)
    assert decided > DRAWS / 4 and refused > DRAWS / 100  # neither everything nor nothing is refused


def test_no_two_folders_are_scored_with_a_class_taken_for_another() -> None:
    rng = random.Random(81)
    shape = np.random.default_rng(0)
    scored = 0
    for _ in range(DRAWS // 4):
        tumour = shape.integers(0, 4, (3, 3, 3)).astype(np.uint8)
        sides, values = {}, {}
        conventions = {}
        for side in (PREDICTION, REFERENCE):
            convention = conventions[side] = draw_convention(rng)
            stated = convention if rng.random() < 0.4 else None
            pattern = rng.choice(NAMES.get(convention, NEUTRAL) if rng.random() < 0.7 else NEUTRAL)
            case = Case(pattern.format(n=1), Path("P"), {}, Path("P"))
            held = tuple(convention.values[index] for index in np.unique(tumour).tolist())
            sides[side] = LabelMapFolder(Path("P"), {}, stated, {"P": case})
            values[side] = {"P": held}
        unsaid = [side for side in sides if not sides[side].convention]
        if any(set(values[side]["P"]) - {0} in ({1, 2, 4}, {2, 4}, {4}) for side in unsaid):
            continue  # read as BraTS to 2022
        try:
            meanings, problems = decide_sides(sides, {side: {"P": values[side]["P"]} for side in sides})
        except DatasetError:
            continue
        if problems:
            continue
        maps = {}
        for side, convention in conventions.items():
            meant = meanings[side].convention.classes
            maps[side] = np.array([meant.get(convention.values[index], 0) for index in range(4)], np.uint8)[tumour]
        warned = bool(exchanged([confusion(maps[PREDICTION], maps[REFERENCE])]))
        assert warned or np.array_equal(maps[PREDICTION], maps[REFERENCE]), (conventions, meanings)
        scored += not warned
    assert scored > 100


@pytest.mark.parametrize("name", LABEL_CONVENTIONS)
def test_a_convention_is_found_again_by_its_name_and_by_its_values(name: str) -> None:
    convention = LABEL_CONVENTIONS[name]
    assert convention_named(name) is convention
    assert convention_of({value: index for value, index in convention.classes.items() if value}) is convention


def test_a_convention_of_ones_own_is_named_after_what_it_says() -> None:
    own = convention_named("3=oedema, 1=enhancing,2=core,5=background")
    assert own.classes == {0: 0, 1: ENHANCING, 2: NECROTIC_CORE, 3: OEDEMA, 5: BACKGROUND}
    assert convention_named(own.name) == own
    assert convention_named("1=oedema,2=core,3=enhancing") is DECATHLON
    assert convention_named("1=enhancing,2=core,3=edema") is DEEPBRATUMIA
    for text in ("", "1", "1=liver", "x=core", "0=core", "300=core"):
        with pytest.raises(ConfigurationError, match="is no label convention"):
            convention_named(text)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ({"background": 0, "edema": 1, "necrosis": 2, "enhancing tumor": 3}, {1: 2, 2: 1, 3: 3}),
        ({"background": 0, "NCR": 1, "ED": 2, "ET": 3}, {1: 1, 2: 2, 3: 3}),
        ({"background": 0, "NETC": 1, "SNFH": 2, "ET": 3, "RC": 4}, {1: 1, 2: 2, 3: 3, 4: 0}),
        ({"background": 0, "ET": 1, "NET": 2, "CC": 3, "ED": 4}, {1: 3, 2: 1, 3: 1, 4: 2}),
        ({"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}, {1: 2, 2: 1, 3: 3}),
        ({"background": 0, "WT": [1, 2, 3], "TC": [1, 3], "ET": [3]}, {1: 1, 2: 2, 3: 3}),
    ],
)
def test_the_words_of_dataset_json_are_understood(tmp_path: Path, labels: object, classes: dict[int, int]) -> None:
    content = {"channel_names": {"0": "FLAIR", "1": "T1ce"}, "labels": labels}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    stated = stated_convention(tmp_path)
    assert stated and stated.classes == {0: 0, **classes}


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "tumor": 1},
        {"background": 0, "WT": 1, "TC": 2, "ET": 3},
        {"background": 0, "whole tumor": [1, 2, 3], "enhancing tumor": [3]},
        {"background": 1, "edema": 0, "necrosis": 2, "enhancing": 3},
        ["background", "edema"],
        {"1": 7},
    ],
)
def test_words_that_do_not_tell_three_classes_are_refused(tmp_path: Path, labels: object) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "FLAIR"}, "labels": labels}))
    with pytest.raises(DatasetError, match=r"dataset.json: 'labels' is not understood.*--labels"):
        stated_convention(tmp_path)
