"""What the label values of predictions and of references mean, decided for each side by itself."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from transforms.labels import ENHANCING
from workflows.data.convention_of_cases import convention_by_name
from workflows.data.label_conventions import (
    BRATS_FROM_2023,
    BRATS_TO_2022,
    DECATHLON,
    LABELS_IN_USE,
    LabelConvention,
)
from workflows.evaluation.find_label_maps import LabelMapFolder
from workflows.messages.errors import DatasetError

PREDICTION, REFERENCE = "prediction", "reference"
OPTIONS = {PREDICTION: "--prediction-labels", REFERENCE: "--labels"}

Values = Mapping[str, tuple[float, ...]]  # label values by case

_DECATHLON_ID = re.compile(r"BRATS_\d{3}")


@dataclass(frozen=True)
class Meaning:
    """Of the label values of one side.

    Attributes:
        enhancing: where the files hold enhancing tumour, in words.
        doubt: why the convention is only likely, with the way out; empty where it is certain.
        decided: False where it was guessed.
    """

    convention: LabelConvention
    enhancing: str
    doubt: str = ""
    decided: bool = True


def decide_sides(
    sides: Mapping[str, LabelMapFolder], values: Mapping[str, Values], ours: Collection[str] = ()
) -> tuple[dict[str, Meaning], dict[str, str]]:
    """The meaning of either side's labels, and the reason against each case that does not fit.

    A side that can only be guessed at is read in the likelier order, as long as the other side is certain: `exchanged`
    finds out whether that was wrong.

    Args:
        values: of the sound cases, by side.
        ours: the sides whose files this project wrote, which orders labels as BraTS does.
    Raises:
        DatasetError: if neither side can be decided.
    """
    meanings: dict[str, Meaning] = {}
    problems: dict[str, str] = {}
    for side, folder in sides.items():
        meanings[side], wrong = _decide(side, folder, values[side], side in ours)
        problems = {**wrong, **problems}
    if not any(meaning.decided for meaning in meanings.values()):
        raise DatasetError(f"{sides[REFERENCE].folder}: {meanings[REFERENCE].doubt}")
    return meanings, problems


def _decide(side: str, folder: LabelMapFolder, values: Values, ours: bool) -> tuple[Meaning, dict[str, str]]:
    if folder.convention:
        return _meaning(folder.convention, values), _strangers(side, values, folder.convention.classes)
    problems = _strangers(side, values, {0, *LABELS_IN_USE})
    problems |= _mixed(side, {case: found for case, found in values.items() if case not in problems})
    rest = {case: frozenset(found) for case, found in values.items() if case not in problems}
    if not rest or ours:
        return _meaning(_order_of_brats(rest), rest), problems
    try:
        decided = convention_by_name({folder.cases[case]: found for case, found in rest.items()})
    except DatasetError as error:
        doubt = str(error).replace(OPTIONS[REFERENCE], OPTIONS[side])
        likely = DECATHLON if all(map(_DECATHLON_ID.fullmatch, rest)) else _order_of_brats(rest)
        problems |= _strangers(side, rest, likely.classes)
        return replace(_meaning(likely, rest), doubt=doubt, decided=False), problems
    meaning = _meaning(decided, rest)
    if any(folder.cases[case].images for case in rest) or decided is BRATS_TO_2022:
        return meaning, problems
    return replace(meaning, doubt=f"it was told from the names alone; name it by  {OPTIONS[side]}."), problems


def _order_of_brats(values: Mapping[str, Iterable[float]]) -> LabelConvention:
    return BRATS_TO_2022 if any(4 in found for found in values.values()) else BRATS_FROM_2023


def _meaning(convention: LabelConvention, values: Mapping[str, Iterable[float]]) -> Meaning:
    found = {value for labels in values.values() for value in labels}
    enhancing = [value for value, index in convention.classes.items() if index == ENHANCING and value in found]
    words = f"label {', '.join(map(str, enhancing))}" if enhancing else "none in any file"
    return Meaning(convention, words)


def _strangers(side: str, values: Mapping[str, Iterable[float]], known: Iterable[int]) -> dict[str, str]:
    """The reason against each case that holds a value without a meaning."""
    strange = {case: sorted(set(found) - set(known)) for case, found in values.items()}
    allowed = ", ".join(str(value) for value in sorted(known))
    return {
        case: f"the {side} holds label {', '.join(f'{value:g}' for value in wrong[:5])}; known are {allowed}"
        for case, wrong in strange.items()
        if wrong
    }


def _mixed(side: str, values: Values) -> dict[str, str]:
    """The reason against the fewer cases, where some hold enhancing tumour as 3 and others as 4, or a case both."""
    holders = {value: [case for case, found in values.items() if value in found] for value in (4, 3)}
    both = [case for case in holders[4] if case in holders[3]]
    if len(both) * 2 > max(map(len, holders.values())):
        return {}  # not a slip: a convention with four labels
    problems = dict.fromkeys(both, f"the {side} holds the labels 3 and 4; enhancing tumour is one of them")
    alone = {value: [case for case in cases if case not in both] for value, cases in holders.items()}
    value, other = sorted(alone, key=lambda value: len(alone[value]), reverse=True)
    reason = f"the {side} holds enhancing tumour as {other}, {len(alone[value])} others hold it as {value}"
    return {**problems, **dict.fromkeys(alone[other], reason)}
