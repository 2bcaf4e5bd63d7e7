"""What a user says of a data folder whose names do not say it themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workflows.data.file_patterns import parse_patterns
from workflows.data.label_conventions import LabelConvention, convention_named


@dataclass(frozen=True)
class Reading:
    """How to read a data folder.

    Args:
        files: patterns of paths, such as "T1ce={case}/*gd.nii.gz", that find the images and label maps, see
            `workflows.data.file_patterns`; by default the names of public data sets are known.
        labels: what the values in the label maps mean: the name of a convention, or "1=oedema,2=core,3=enhancing"; by
            default names, `dataset.json` and contents decide.
        patient: a regular expression that finds the patient in a case's id or path, see `workflows.splits.patients`; by
            default known schemes of ids and folders do.
    Raises:
        ConfigurationError: if one of them is not understood.
    """

    files: Sequence[str] = ()
    labels: str | None = None
    patient: str | None = None
    patterns: dict[str, str] = field(init=False, hash=False, compare=False)
    convention: LabelConvention | None = field(init=False, hash=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", parse_patterns(self.files))
        object.__setattr__(self, "convention", convention_named(self.labels) if self.labels else None)

    def stated(self) -> dict[str, Any]:
        """What the user said; empty where it was nothing."""
        said: dict[str, Any] = {"files": list(self.files), "labels": self.labels, "patient": self.patient}
        return {name: value for name, value in said.items() if value}


BY_NAMES = Reading()
"""Names, `dataset.json` and contents say all."""
