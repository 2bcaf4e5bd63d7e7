"""Datalists: the cases of each section, checked when they are read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transforms.labels import MODALITIES
from workflows.data.case import NO_TEXT, path_below
from workflows.data.file_names import DATALIST_LABEL
from workflows.data.label_conventions import convention_named
from workflows.image_files.nifti_files import split_channel
from workflows.messages.errors import ConfigurationError, DatasetError, not_a_file, not_a_folder, printable

SECTIONS = ("training", "validation", "testing")
ALL_CASES = "all_cases"
"""Marks a datalist that is meant to have nothing to validate on."""


def read_datalist(path: Path | str, dataset_dir: Path | str, section: str | None = None) -> dict[str, Any]:
    """Read a datalist, check it against the data folder, and return it with absolute paths.

    Text is never evaluated: a case may be called `$import os`.

    Args:
        section: the only one that is wanted; the others may be missing, and so may their files.
    Raises:
        DatasetError: naming the entry that is malformed, leaves `dataset_dir`, does not exist or occurs twice.
    """
    path, dataset_dir = Path(path), Path(dataset_dir)
    content = read_split_file(path)
    if not dataset_dir.is_dir():
        raise DatasetError(f"{dataset_dir}: {not_a_folder(dataset_dir)}")
    if is_split_of_others(content):
        lacks = "no list 'training'" if isinstance(content, list) else "entries without 'case'"
        way_out = "turn it into a datalist by  brats-unet split DATA --from FILE --fold 0 --out SPLIT.json"
        raise DatasetError(f"{path}: is another program's split, with {lacks}; {way_out}.")
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: is no datalist, which is an object with the lists {', '.join(SECTIONS)}.")
    if "label_convention" not in content:
        raise DatasetError(
            f"{path}: has no 'label_convention', as the datalist of  brats-unet split  has; make one by it."
        )
    try:
        convention_named(str(content["label_convention"]))
    except ConfigurationError as error:
        raise DatasetError(f"{path}: 'label_convention': {error}") from error
    wanted = (section,) if section else SECTIONS
    lists = {name: content.get(name, None if name in wanted else []) for name in SECTIONS}
    sections = {
        name: _checked_section(items, f"{path}: {name}", dataset_dir, name in wanted) for name, items in lists.items()
    }
    if section is None:
        _check_complete(sections, path, all_cases=content.get(ALL_CASES) is True)
    _check_labelled(sections, path, [section] if section else ["training", "validation"])
    _check_disjoint(sections, path)
    return {**content, **sections}


def read_split_file(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DatasetError: if there is none, or it cannot be read.
    """
    if path.is_dir():
        raise DatasetError(f"{path}: {not_a_file(path)}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such datalist; make one with  brats-unet split.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot be read as JSON ({error}).") from error


def is_split_of_others(content: object) -> bool:
    """Whether a file holds nnU-Net's `splits_final.json`, or a datalist of MONAI's Auto3DSeg."""
    listed = content.get("training") if isinstance(content, dict) else content
    first = listed[0] if isinstance(listed, list) and listed else None
    return isinstance(first, dict) and "case" not in first and ("train" in first or {"image", "fold"} <= first.keys())


def samples(section: Iterable[Mapping[str, Any]], modalities: Sequence[str]) -> list[dict[str, Any]]:
    """Datalist entries as transform chains load them: `{"case": id, "image": [one path per modality], "label": path}`.

    Raises:
        DatasetError: if an entry lacks a modality.
    """
    for entry in section:
        if missing := [modality for modality in modalities if modality not in entry]:
            raise DatasetError(f"{entry['case']}: the datalist names no {missing[0].upper()} image.")
    return [
        {
            "case": entry["case"],
            "image": [entry[modality] for modality in modalities],
            **({DATALIST_LABEL: entry[DATALIST_LABEL]} if DATALIST_LABEL in entry else {}),
        }
        for entry in section
    ]


def _checked_section(items: object, where: str, dataset_dir: Path, must_exist: bool) -> list[dict[str, Any]]:
    if not isinstance(items, list):
        raise DatasetError(f"{where}: must be a list of cases.")
    return [_checked_entry(item, where, dataset_dir, must_exist) for item in items]


def _checked_entry(item: object, where: str, dataset_dir: Path, must_exist: bool) -> dict[str, Any]:
    """The entry with absolute paths."""
    name = item.get("case") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
        # The name becomes that of an output folder, so it must not lead elsewhere.
        raise DatasetError(f"{where}: {json.dumps(item)[:100]} is no case; one has a plain name under 'case'.")
    if printable(name) != name:
        raise DatasetError(f"{where}: {name}: {NO_TEXT}")
    keys = [key for key in (*MODALITIES, DATALIST_LABEL) if key in item]
    if keys in ([], [DATALIST_LABEL]):
        raise DatasetError(f"{where}: {name} names no image; looked for {', '.join(MODALITIES)}.")
    entry = dict(item)
    for key in keys:
        path = path_below(dataset_dir.absolute(), item[key], f"{where}: {name}")
        if must_exist and not split_channel(path)[0].is_file():
            raise DatasetError(f"{where}: {name}: {path}: {not_a_file(split_channel(path)[0])}")
        entry[key] = str(path)
    return entry


def _check_complete(sections: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, all_cases: bool) -> None:
    if not sections["training"]:
        raise DatasetError(f"{path}: the section 'training' is empty.")
    if not sections["validation"] and not all_cases:
        meant = f'if that is meant, add  "{ALL_CASES}": true  to the file, or train with --all-cases and without it'
        raise DatasetError(f"{path}: the section 'validation' is empty; {meant}.")


def _check_labelled(sections: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, names: Iterable[str]) -> None:
    for name in names:
        for entry in sections[name]:
            if DATALIST_LABEL not in entry:
                raise DatasetError(f"{path}: {name}: {entry['case']} names no '{DATALIST_LABEL}'.")


def _check_disjoint(sections: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """No case, and no file under another case's name, in two sections."""
    seen: dict[tuple[str, str], str] = {}
    for name, entries in sections.items():
        for entry in entries:
            files = {
                ("file", str(split_channel(entry[key])[0])) for key in (*MODALITIES, DATALIST_LABEL) if key in entry
            }
            for mark in [("case", entry["case"]), *sorted(files)]:
                if seen.setdefault(mark, name) != name:
                    raise DatasetError(f"{path}: the {mark[0]} {mark[1]} is in two sections, {seen[mark]} and {name}.")
