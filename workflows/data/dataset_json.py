"""`dataset.json` of the Medical Segmentation Decathlon and of nnU-Net: it lists cases and says what labels mean."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from transforms.labels import BACKGROUND, ENHANCING, NECROTIC_CORE, OEDEMA
from workflows.data.case import Case, path_below
from workflows.data.file_names import DATASET_FILE, IMAGE_FILE, MODALITY_OF_SUFFIX
from workflows.data.label_conventions import DECATHLON, RESECTION_CAVITY, LabelConvention, convention_of
from workflows.image_files.class_names import CAVITY, meaning_of
from workflows.messages.errors import DatasetError


def listed_cases(folder: Path) -> list[Case] | None:
    """The cases that `dataset.json` in `folder` lists; None if it is another kind of file.

    Raises:
        DatasetError: if it cannot be read, names files outside the folder, or is not understood.
    """
    source = folder / DATASET_FILE
    content = _read(source)
    channels = content.get("channel_names", content.get("modality"))
    if channels is None or not ("training" in content or (folder / "imagesTr").is_dir()):
        return None
    names, convention = _channels(channels, source), _stated_in(content, source)
    if "training" not in content:
        return list(_nnunet_cases(folder, names, convention))
    training, test = content["training"], content.get("test", [])
    if not isinstance(training, list) or not isinstance(test, list):
        raise DatasetError(f"{source}: 'training' and 'test' must be lists.")
    return [_listed_case(item, source, names, convention) for item in [*training, *test]]


def stated_convention(folder: Path) -> LabelConvention | None:
    """What the labels mean by `dataset.json` in `folder`; None where there is none, or it does not speak of labels.

    Raises:
        DatasetError: if it speaks of labels in words that are not understood.
    """
    source = folder / DATASET_FILE
    return _stated_in(_read(source), source) if source.is_file() else None


def _stated_in(content: Mapping[str, Any], source: Path) -> LabelConvention | None:
    if "channel_names" not in content and "modality" not in content:
        return None  # of another program
    labels = content.get("labels")
    return DECATHLON if labels is None else _convention(labels, source)


def _read(source: Path) -> dict[str, Any]:
    try:
        content = json.loads(source.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{source}: cannot be read as JSON ({error}).") from error
    return content if isinstance(content, dict) else {}


def _listed_case(item: object, source: Path, channels: tuple[str, ...], convention: LabelConvention | None) -> Case:
    """One of the Decathlon, with a 4D image, or of nnU-Net v1, with an image per channel beside the name listed."""
    entry = item if isinstance(item, dict) else {"image": item}
    image = path_below(source.parent, entry.get("image"), source)
    label = path_below(source.parent, entry["label"], source) if "label" in entry else None
    name = IMAGE_FILE.fullmatch(image.name)
    case_id = name["stem"] if name else image.name
    images = _channel_files(image.parent, case_id, name["extension"] if name else "", channels)
    if images and not image.exists():
        return Case(case_id, image.parent, images, label, convention=convention)
    return Case(case_id, image.parent, {}, label, (), image, channels, convention)


def _nnunet_cases(folder: Path, channels: tuple[str, ...], convention: LabelConvention | None) -> Iterator[Case]:
    for images, labels in (("imagesTr", "labelsTr"), ("imagesTs", "labelsTs")):
        for first in sorted((folder / images).glob("*_0000.*")):
            case_id, ending = cast(re.Match[str], re.fullmatch(r"(.+)_0000(\..+)", first.name)).groups()
            label = folder / labels / f"{case_id}{ending}"
            files = _channel_files(first.parent, case_id, ending, channels)
            yield Case(case_id, first.parent, files, label if label.is_file() else None, convention=convention)


def _channel_files(folder: Path, case_id: str, ending: str, channels: tuple[str, ...]) -> dict[str, Path]:
    """The files of nnU-Net, CASE_0000 and so on, by modality."""
    files = {name: folder / f"{case_id}_{number:04d}{ending}" for number, name in enumerate(channels)}
    return {name: file for name, file in files.items() if file.exists()}


def _channels(stated: object, source: Path) -> tuple[str, ...]:
    """Modality of each channel, from for example `{"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}`."""
    try:
        ordered = sorted(cast(dict[str, object], stated).items(), key=lambda pair: int(pair[0]))
        return tuple(MODALITY_OF_SUFFIX[re.sub(r"[ _-]|weighted", "", str(name).lower())] for _, name in ordered)
    except (AttributeError, KeyError, ValueError) as error:
        raise DatasetError(
            f"{source}: 'channel_names' or 'modality' must number FLAIR, T1, T1ce (or T1Gd) and T2, not {stated!r}; "
            "name the files by  --files."
        ) from error


def _convention(stated: object, source: Path) -> LabelConvention:
    """What `labels` describes: {"1": "edema", …} (Decathlon), {"edema": 1, …} or {"whole tumor": [1, 2, 3], …}."""
    try:
        named = list(_by_name(cast(Mapping[str, object], stated)))
        if any(isinstance(values, list) for _, values in named):
            return convention_of(_classes_of_regions(named))
        meanings = {int(cast(int, value)): _class_called(name) for name, value in named}
        names = {value: RESECTION_CAVITY for value, index in meanings.items() if index == CAVITY}
        return convention_of({value: _without_cavity(index) for value, index in meanings.items()}, names)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{source}: 'labels' is not understood: {stated!r}; say what they mean by  --labels."
        ) from error


def _by_name(stated: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, value in stated.items():
        name, number = (value, key) if str(key).strip().isdigit() else (key, value)
        yield str(name), number


def _class_called(name: str) -> int:
    meaning = meaning_of(name)
    if meaning is None or meaning.is_region:
        raise KeyError(name)
    return meaning.label


def _without_cavity(index: int) -> int:
    return BACKGROUND if index == CAVITY else index


def _classes_of_regions(named: Sequence[tuple[str, object]]) -> dict[int, int]:
    """The class of each value: that of the smallest region that holds it."""
    held: dict[int, tuple[int, int]] = {}
    for name, values in named:
        meaning = meaning_of(name)
        if meaning is None or not (meaning.is_region or meaning.label in (ENHANCING, BACKGROUND)):
            raise KeyError(name)
        members = [int(value) for value in (values if isinstance(values, list) else [cast(int, values)])]
        for value in members if meaning.label != BACKGROUND else ():
            held[value] = min(held.get(value, (len(members) + 1, 0)), (len(members), meaning.label))
    classes = {value: index for value, (_, index) in held.items()}
    if set(classes.values()) != {NECROTIC_CORE, OEDEMA, ENHANCING}:
        raise ValueError("the regions do not tell three classes apart")
    return classes
