"""A case and a data set: what was found of a patient, and where its files lie."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from transforms.labels import MODALITIES
from workflows.data.file_names import DATALIST_LABEL, names_tried
from workflows.data.label_conventions import LabelConvention
from workflows.messages.errors import DatasetError, printable

MAX_ID_BYTES = 200
"""A file may have a name of 255 bytes, and what is written for a case has its id in its name."""
NO_TEXT = "its name holds control characters or bytes that are no text; rename its files."


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

    def source(self, modality: str) -> Path:
        """The file of one modality, as `load_image` takes it: `…/BRATS_001.nii.gz#2` is channel 2 of a 4D file.

        Raises:
            DatasetError: if the case lacks it.
        """
        if self.four_d and modality in self.channels:
            return self.four_d.with_name(f"{self.four_d.name}#{self.channels.index(modality)}")
        if modality in self.images:
            return self.images[modality]
        raise DatasetError(
            f"{self.id}: no {modality.upper()} image in {self.folder}; looked for {names_tried(modality)}."
        )


@dataclass(frozen=True)
class FoundDataset:
    """What lies below a data folder.

    Args:
        cases: sorted by id.
        stray: files, and folders not entered, that belong to no case.
        closed: folders that could not be read, with the reason.
    """

    root: Path
    cases: tuple[Case, ...]
    stray: tuple[Path, ...] = ()
    closed: Mapping[Path, str] = field(default_factory=dict)


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


def path_below(folder: Path, text: object, source: object) -> Path:
    """`text` as a path below a data folder; what is absolute or climbs out with `..` is refused.

    Links inside the folder are followed: its owner made them, and git-annex consists of them. Backslashes separate
    folders, as on Windows, unless a file has them in its name.

    Args:
        source: where `text` stands, for the message.
    """
    if not isinstance(text, str) or not text or "\0" in text:
        raise DatasetError(f"{source}: {text!r} is not a path.")
    as_on_windows = PureWindowsPath(text)  # knows both separators and drives
    if as_on_windows.anchor or as_on_windows.drive or ".." in as_on_windows.parts:
        raise DatasetError(f"{source}: the path {text!r} leaves the data folder; give paths relative to it.")
    written = folder / text
    return written if os.path.lexists(written) else folder / as_on_windows.as_posix()


def check_case_id(case_id: str) -> None:
    """Refuse an id that cannot name a folder and files of its own: output goes to `<id>/<id>_seg.nii.gz`.

    Raises:
        DatasetError: saying what is wrong with it.
    """
    if not case_id.strip(". ") or {"/", "\\"} & set(case_id):
        raise DatasetError(f"{case_id}: is no name for a case, since a folder is named after it; rename its files.")
    if not printable(case_id) == case_id or "\n" in case_id:
        raise DatasetError(f"{case_id}: {NO_TEXT}")
    if len(case_id.encode()) > MAX_ID_BYTES:
        raise DatasetError(f"{case_id}: its name has more than {MAX_ID_BYTES} bytes; rename its files.")
