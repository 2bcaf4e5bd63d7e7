"""Find the cases in a folder, however their files are named, packed or nested."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from transforms.labels import MODALITIES, SEGMENTATION_SUFFIX, STUDY_MODALITIES
from workflows.data.case import Case, FoundDataset
from workflows.data.decathlon import decathlon_cases
from workflows.data.file_names import CASE_FILE, DECATHLON_FILE, EXTENSIONS, MODALITY_OF_SUFFIX, NIFTI_NAME, names_tried
from workflows.messages.errors import DatasetError, not_a_folder


def find_cases(root: Path | str, modalities: Sequence[str] = STUDY_MODALITIES) -> FoundDataset:
    """Find every case in `root` or anywhere below it.

    Args:
        modalities: those that make a case complete; in a complete case a segmentation under another name is accepted.
    Raises:
        DatasetError: if `root` is no folder or holds no case.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: {not_a_folder(root)}")
    cases: list[Case] = []
    files: list[Path] = []
    decathlon_files: set[Path | None] = set()
    closed: dict[Path, str] = {}
    for folder, names, skipped in walk_files(root, closed):
        files += [folder / name for name in names] + skipped
        if DECATHLON_FILE in names and (listed := decathlon_cases(folder)) is not None:
            cases += listed
            decathlon_files.add(folder / DECATHLON_FILE)
        else:
            cases += _cases_in_folder(folder, names, modalities)
    used = decathlon_files.union(*([*case.images.values(), case.segmentation, case.four_d] for case in cases))
    stray = tuple(sorted(file for file in files if file not in used))
    if not cases:
        for folder, reason in closed.items():
            raise DatasetError(f"{folder}: {reason}")
        raise DatasetError(_nothing_found(root, stray))
    return FoundDataset(root, tuple(sorted(cases, key=lambda case: (case.id, case.folder))), stray, closed=closed)


def walk_files(root: Path, closed: dict[Path, str] | None = None) -> Iterator[tuple[Path, list[str], list[Path]]]:
    """Every folder with its file names and the folders not entered: hidden ones and what macOS adds to a zip.

    Args:
        closed: receives the folders that could not be read, with the reason.
    """

    def note(error: OSError) -> None:
        if closed is not None:
            reason = f"this folder cannot be read ({error.strerror}); ask its owner for the right to."
            closed[Path(error.filename)] = reason

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
        match = CASE_FILE.fullmatch(name)
        if match and not name.startswith("."):
            kind = MODALITY_OF_SUFFIX.get(match["suffix"].lower(), SEGMENTATION_SUFFIX)
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
    look_alikes = [name for name in others if NIFTI_NAME.fullmatch(name) and "seg" in name.lower()]
    if segmentation is None and len(look_alikes) == 1 and set(modalities) <= set(images):
        segmentation = folder / look_alikes[0]
        notes.append(f"the segmentation has another name: {look_alikes[0]}")
    return Case(case_id, folder, images, segmentation, tuple(notes))


def _preference(name: str) -> tuple[int, str]:
    match = NIFTI_NAME.fullmatch(name)
    return (EXTENSIONS.index(match["extension"].lower()) if match else len(EXTENSIONS), name)


def _nothing_found(root: Path, stray: Sequence[Path]) -> str:
    tried = f"{names_tried('flair')}, {names_tried('t1ce')} and so on, and a Decathlon {DECATHLON_FILE}"
    there = f"; there are {len(stray)} other files, {stray[0].name} for one" if stray else "; the folder is empty"
    return f"{root}: no case found here or below; looked for {tried}{there}."
