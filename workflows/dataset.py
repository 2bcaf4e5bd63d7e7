"""Find the cases in a folder, however their files are named, packed or nested."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import cast

from transforms.labels import (
    BACKGROUND,
    ENHANCING,
    MODALITIES,
    MODALITY_SUFFIXES,
    NECROTIC_CORE,
    OEDEMA,
    SEGMENTATION_SUFFIX,
    STUDY_MODALITIES,
)
from workflows.errors import DatasetError, printable
from workflows.label_conventions import (
    BRATS_FROM_2023,
    BRATS_TO_2022,
    DECATHLON,
    LabelConvention,
    decide_label_convention,
)

EXTENSIONS = (".nii", ".nii.gz", ".nii.gz.gz")
"""In order of preference where a folder holds one image twice: the least packed is read fastest."""

MAX_ID_BYTES = 200
"""A file may have a name of 255 bytes, and what is written for a case has its id in its name."""

DATALIST_LABEL = "label"
DECATHLON_FILE = "dataset.json"

_MODALITY_OF = {suffix: modality for modality, suffixes in MODALITY_SUFFIXES.items() for suffix in suffixes}
_NIFTI_NAME = re.compile(r"(?P<stem>.+?)(?P<extension>\.nii(?:\.gz){0,2})", re.IGNORECASE)
_CASE_FILE = re.compile(
    rf"(?:(?P<id>.+)[_-])?(?P<suffix>{'|'.join([*_MODALITY_OF, SEGMENTATION_SUFFIX])})"
    r"(?P<extension>\.nii(?:\.gz){0,2})",
    re.IGNORECASE,
)
_TIME_POINT = re.compile(r"(?P<patient>BraTS-[A-Za-z]+-\d+)-\d{3}")


@dataclass(frozen=True)
class Case:
    """One examination of one patient.

    Args:
        images: 3D file by modality, only those present; empty where `four_d` holds them all.
        notes: what was unusual about its files, in words for the user.
        four_d: one file with all modalities along its last axis (Decathlon).
        channels: modality of each of the channels of `four_d`.
        convention: what the label values mean where the data set states it (Decathlon), else None.
    """

    id: str
    folder: Path
    images: dict[str, Path] = field(hash=False)
    segmentation: Path | None = None
    notes: tuple[str, ...] = ()
    four_d: Path | None = None
    channels: tuple[str, ...] = ()
    convention: LabelConvention | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities present, in the order of `labels.MODALITIES`."""
        present = self.channels if self.four_d else self.images
        return tuple(modality for modality in MODALITIES if modality in present)

    @property
    def patient(self) -> str:
        """The id without the time point that BraTS appends from 2023 on (BraTS-GLI-00005-001)."""
        match = _TIME_POINT.fullmatch(self.id)
        return match["patient"] if match else self.id

    def source(self, modality: str) -> Path:
        """The file of one modality, as `load_image` takes it: `…/BRATS_001.nii.gz#2` is channel 2 of a 4D file.

        Raises:
            DatasetError: if the case lacks it.
        """
        if self.four_d and modality in self.channels:
            return self.four_d.with_name(f"{self.four_d.name}#{self.channels.index(modality)}")
        if modality in self.images:
            return self.images[modality]
        raise DatasetError(f"{self.id}: no {modality.upper()} image in {self.folder}; looked for {_tried(modality)}.")


@dataclass(frozen=True)
class FoundDataset:
    """What lies below a data folder.

    Args:
        cases: sorted by id.
        stray: files, and folders not entered, that belong to no case.
        convention: what the label values mean; None until `with_convention` has read the label maps.
        closed: folders that could not be looked into, with the reason.
    """

    root: Path
    cases: tuple[Case, ...]
    stray: tuple[Path, ...] = ()
    convention: LabelConvention | None = None
    closed: Mapping[Path, str] = field(default_factory=dict)

    def with_convention(self) -> FoundDataset:
        """The same data set with its label convention decided, once for all its cases."""
        return self if self.convention else dataclasses.replace(self, convention=decide_label_convention(self.cases))


def find_cases(root: Path | str, modalities: Sequence[str] = STUDY_MODALITIES) -> FoundDataset:
    """Find every case in `root` or anywhere below it.

    Args:
        modalities: those that make a case complete; in a complete case a segmentation under another name is accepted.
    Raises:
        DatasetError: if `root` is no folder or holds no case.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder.")
    cases: list[Case] = []
    files: list[Path] = []
    decathlon_files: set[Path] = set()
    closed: dict[Path, str] = {}
    for folder, names, skipped in walk_files(root, closed):
        files += [folder / name for name in names] + skipped
        if DECATHLON_FILE in names and (listed := _decathlon_cases(folder)) is not None:
            cases += listed
            decathlon_files.add(folder / DECATHLON_FILE)
        else:
            cases += _cases_in_folder(folder, names, modalities)
    used = decathlon_files.union(*(_files_of(case) for case in cases))
    stray = tuple(sorted(file for file in files if file not in used))
    if not cases:
        for folder, reason in closed.items():
            raise DatasetError(f"{folder}: {reason}")
        raise DatasetError(_nothing_found(root, stray))
    return FoundDataset(root, tuple(sorted(cases, key=lambda case: (case.id, case.folder))), stray, closed=closed)


def load_entry(case: Case, modalities: Sequence[str], root: Path | str) -> dict[str, str]:
    """One datalist item: `{"case": id, "flair": path, "t1ce": path, "label": path}`, paths relative to `root`.

    A channel of a 4D file reads `path#channel`, so that every kind of case is loaded by the same keys.
    `label` is left out where there is no segmentation.
    """
    entry = {"case": case.id}
    entry |= {modality: case.source(modality).relative_to(root).as_posix() for modality in modalities}
    if case.segmentation:
        entry[DATALIST_LABEL] = case.segmentation.relative_to(root).as_posix()
    return entry


def safe_relative_path(text: object, source: object) -> PurePosixPath:
    """`text` as a path below a data folder; what is absolute or climbs out with `..` is refused.

    Links inside the folder are followed: its owner made them, and git-annex consists of them.

    Args:
        source: where `text` stands, for the message.
    """
    if not isinstance(text, str) or not text or "\0" in text:
        raise DatasetError(f"{source}: {text!r} is not a path.")
    as_on_windows = PureWindowsPath(text)  # knows both separators and drives
    if as_on_windows.anchor or as_on_windows.drive or ".." in as_on_windows.parts:
        raise DatasetError(f"{source}: the path {text!r} leaves the data folder; give paths relative to it.")
    return PurePosixPath(text)


def check_case_id(case_id: str) -> None:
    """Refuse an id that cannot name a folder and files of its own: output goes to `<id>/<id>_seg.nii.gz`.

    Raises:
        DatasetError: saying what is wrong with it.
    """
    if not case_id.strip(". ") or {"/", "\\"} & set(case_id):
        raise DatasetError(f"{case_id}: is no name for a case, since a folder is named after it; rename its files.")
    if not printable(case_id) == case_id or "\n" in case_id:
        raise DatasetError(f"{case_id}: its name holds control characters or bytes that are no text; rename its files.")
    if len(case_id.encode()) > MAX_ID_BYTES:
        raise DatasetError(f"{case_id}: its name has more than {MAX_ID_BYTES} bytes; rename its files.")


def walk_files(root: Path, closed: dict[Path, str] | None = None) -> Iterator[tuple[Path, list[str], list[Path]]]:
    """Every folder with its file names and the folders not entered: hidden ones and what macOS adds to a zip.

    Args:
        closed: takes up the folders that could not be looked into, with the reason.
    """

    def note(error: OSError) -> None:
        if closed is not None:
            closed[Path(error.filename)] = (
                f"this folder cannot be read ({error.strerror}); ask its owner for the right to."
            )

    entered = set()  # a link to a folder above would be walked for ever
    for name, folders, files in os.walk(root, followlinks=True, onerror=note):
        real = os.path.realpath(name)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        skipped = sorted(sub for sub in folders if sub.startswith(".") or sub == "__MACOSX")
        folders[:] = sorted(set(folders) - set(skipped))
        yield Path(name), sorted(files), [Path(name, sub) for sub in skipped]


def _cases_in_folder(folder: Path, names: Sequence[str], modalities: Sequence[str]) -> list[Case]:
    """The cases whose files lie directly in `folder`: usually one, in a flat copy all."""
    groups: dict[str, dict[str, list[str]]] = {}
    for name in sorted(names, key=_preference):
        match = _CASE_FILE.fullmatch(name)
        if match and not name.startswith("."):
            kind = _MODALITY_OF.get(match["suffix"].lower(), SEGMENTATION_SUFFIX)
            groups.setdefault(match["id"] or folder.resolve().name, {}).setdefault(kind, []).append(name)
    with_images = {case_id: kinds for case_id, kinds in groups.items() if set(kinds) & set(MODALITIES)}
    taken = {name for kinds in with_images.values() for same in kinds.values() for name in same}
    others = [name for name in names if name not in taken and not name.startswith(".")]
    if len(with_images) != 1:
        others = []  # nothing tells whose it would be
    return [_case(case_id, folder, kinds, modalities, others) for case_id, kinds in with_images.items()]


def _case(
    case_id: str, folder: Path, kinds: Mapping[str, Sequence[str]], modalities: Sequence[str], others: Sequence[str]
) -> Case:
    notes = [
        f"{kind} is there {len(same)} times: {same[0]} is used, {', '.join(same[1:])} ignored"
        for kind, same in kinds.items()
        if len(same) > 1
    ]
    images = {modality: folder / kinds[modality][0] for modality in MODALITIES if modality in kinds}
    segmentation = folder / kinds[SEGMENTATION_SUFFIX][0] if SEGMENTATION_SUFFIX in kinds else None
    look_alikes = [name for name in others if _NIFTI_NAME.fullmatch(name) and "seg" in name.lower()]
    if segmentation is None and len(look_alikes) == 1 and set(modalities) <= set(images):
        segmentation = folder / look_alikes[0]
        notes.append(f"the segmentation has another name: {look_alikes[0]}")
    return Case(case_id, folder, images, segmentation, tuple(notes))


def _preference(name: str) -> tuple[int, str]:
    match = _NIFTI_NAME.fullmatch(name)
    return (EXTENSIONS.index(match["extension"].lower()) if match else len(EXTENSIONS), name)


def _files_of(case: Case) -> set[Path]:
    return {file for file in (*case.images.values(), case.segmentation, case.four_d) if file}


def _tried(modality: str) -> str:
    to_2022, from_2023 = MODALITY_SUFFIXES[modality]
    return f"*_{to_2022}.nii and *-{from_2023}.nii (or .nii.gz, .nii.gz.gz)"


def _nothing_found(root: Path, stray: Sequence[Path]) -> str:
    tried = f"{_tried('flair')}, {_tried('t1ce')} and so on, and a Decathlon {DECATHLON_FILE}"
    there = f"; there are {len(stray)} other files, {stray[0].name} for one" if stray else "; the folder is empty"
    return f"{root}: no case found here or below; looked for {tried}{there}."


# ---------------------------------------------------------------------------------------------------------------------
# Medical Segmentation Decathlon


def _decathlon_cases(folder: Path) -> list[Case] | None:
    """The cases that `dataset.json` in `folder` lists; None if it is another kind of file."""
    source = folder / DECATHLON_FILE
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{source}: cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict) or not {"modality", "training"} <= content.keys():
        return None
    channels = _decathlon_channels(content["modality"], source)
    convention = _decathlon_convention(content.get("labels"), source)
    training, test = content["training"], content.get("test", [])
    if not isinstance(training, list) or not isinstance(test, list):
        raise DatasetError(f"{source}: 'training' and 'test' must be lists.")
    cases = []
    for item in [*training, *test]:
        entry = item if isinstance(item, dict) else {"image": item}
        image = folder / safe_relative_path(entry.get("image"), source)
        label = folder / safe_relative_path(entry["label"], source) if "label" in entry else None
        name = _NIFTI_NAME.fullmatch(image.name)
        case_id = name["stem"] if name else image.name
        cases.append(Case(case_id, image.parent, {}, label, (), image, channels, convention))
    return cases


def _decathlon_channels(stated: object, source: Path) -> tuple[str, ...]:
    """Modality of each channel, from for example `{"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}`."""
    names = {**_MODALITY_OF, "t1w": "t1", "t1gd": "t1ce"}
    try:
        ordered = [str(value).lower() for _, value in sorted(cast(dict, stated).items(), key=lambda pair: int(pair[0]))]
        return tuple(names[name] for name in ordered)
    except (AttributeError, KeyError, ValueError) as error:
        raise DatasetError(f"{source}: 'modality' must number FLAIR, T1w, T1gd and T2w, not {stated!r}.") from error


def _decathlon_convention(stated: object, source: Path) -> LabelConvention:
    """The convention that the `labels` entry describes, such as `{"1": "edema", "2": "non-enhancing tumor", …}`."""
    if stated is None:
        return DECATHLON
    try:
        classes = {int(value): _class_called(str(name)) for value, name in cast(dict, stated).items()}
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
