"""Data sets of the Medical Segmentation Decathlon, whose `dataset.json` lists the cases and says what labels mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from transforms.labels import BACKGROUND, ENHANCING, NECROTIC_CORE, OEDEMA
from workflows.data.case import Case, path_below
from workflows.data.file_names import DECATHLON_FILE, MODALITY_OF_SUFFIX, NIFTI_NAME
from workflows.data.label_conventions import BRATS_FROM_2023, BRATS_TO_2022, DECATHLON, LabelConvention
from workflows.messages.errors import DatasetError


def decathlon_cases(folder: Path) -> list[Case] | None:
    """The cases that `dataset.json` in `folder` lists; None if it is another kind of file."""
    source = folder / DECATHLON_FILE
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{source}: cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict) or not {"modality", "training"} <= content.keys():
        return None
    channels = _channels(content["modality"], source)
    convention = _convention(content.get("labels"), source)
    training, test = content["training"], content.get("test", [])
    if not isinstance(training, list) or not isinstance(test, list):
        raise DatasetError(f"{source}: 'training' and 'test' must be lists.")
    cases = []
    for item in [*training, *test]:
        entry = item if isinstance(item, dict) else {"image": item}
        image = path_below(folder, entry.get("image"), source)
        label = path_below(folder, entry["label"], source) if "label" in entry else None
        name = NIFTI_NAME.fullmatch(image.name)
        case_id = name["stem"] if name else image.name
        cases.append(Case(case_id, image.parent, {}, label, (), image, channels, convention))
    return cases


def _channels(stated: object, source: Path) -> tuple[str, ...]:
    """Modality of each channel, from for example `{"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}`."""
    names = MODALITY_OF_SUFFIX | {"t1w": "t1"}
    try:
        ordered = [
            str(value).lower()
            for _, value in sorted(cast(dict[str, object], stated).items(), key=lambda pair: int(pair[0]))
        ]
        return tuple(names[name] for name in ordered)
    except (AttributeError, KeyError, ValueError) as error:
        raise DatasetError(f"{source}: 'modality' must number FLAIR, T1w, T1gd and T2w, not {stated!r}.") from error


def _convention(stated: object, source: Path) -> LabelConvention:
    """The convention that the `labels` entry describes, such as `{"1": "edema", "2": "non-enhancing tumor", …}`."""
    if stated is None:
        return DECATHLON
    try:
        classes = {int(value): _class_called(str(name)) for value, name in cast(dict[str, object], stated).items()}
    except (AttributeError, KeyError, ValueError) as error:
        raise DatasetError(f"{source}: 'labels' is not understood: {stated!r}.") from error
    for convention in (DECATHLON, BRATS_FROM_2023, BRATS_TO_2022):
        if convention.classes == {0: BACKGROUND, **classes}:
            return convention
    raise DatasetError(f"{source}: 'labels' is in an unknown order: {stated!r}.")


def _class_called(name: str) -> int:
    lower = name.lower()
    words = (("background", BACKGROUND), ("edema", OEDEMA), ("necro", NECROTIC_CORE), ("non-enh", NECROTIC_CORE))
    for word, index in (*words, ("nonenh", NECROTIC_CORE), ("enhanc", ENHANCING)):
        if word in lower:
            return index
    raise KeyError(name)
