"""The record beside a label map, and whether it shows that a patient need not be predicted again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transforms.files import sha256_of
from workflows.files.prediction_names import map_name, record_name
from workflows.image_files.nifti_files import split_channel

DECIDING = ("inputs", "checkpoint_sha256", "averaged_with", "settings", "labels", "bundle_version")
"""What a record must have in common with the one that would be written now."""
MAPS = ("probability_map", "uncertainty_map")
"""Under these keys a record names what was saved besides, or holds None."""


def inputs_of(files: Sequence[str]) -> list[dict[str, Any]]:
    """Name, size and time of change of a patient's files, by which a later run knows them again.

    Empty where one cannot be looked at; reading it will say why.
    """
    try:
        stats = [(name, split_channel(name)[0].stat()) for name in files]
    except OSError:
        return []
    return [{"file": Path(n).name, "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns} for n, stat in stats]


def finished_record(folder: Path, case: str, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of a patient in whose folder the files are as this run would write them; None if anything differs.

    `wanted` is what the record would hold, by the names in `DECIDING` and `MAPS`.
    """
    try:
        record = json.loads((folder / record_name(case)).read_text(encoding="utf-8"))
        as_read = json.loads(json.dumps(wanted, default=str))  # tuples come back as lists, paths as text
        if not wanted["inputs"] or any(record[name] != as_read[name] for name in DECIDING):
            return None
        if any(wanted[name] and not (record[name] and (folder / record[name]).is_file()) for name in MAPS):
            return None
        # The digest tells the label map of this record from one that another run wrote before it was stopped.
        same = sha256_of(folder / map_name(case)) == record["label_map_sha256"]
        return dict(record) if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # written by an older version, or by hand
        return None
