"""Cases by patterns of paths that the user gives: for data sets whose names nobody has foreseen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from transforms.labels import MODALITIES
from workflows.data.case import Case
from workflows.data.file_names import DATALIST_LABEL
from workflows.messages.errors import ConfigurationError, DatasetError

CASE = "{case}"


def parse_patterns(texts: Iterable[str]) -> dict[str, str]:
    """`["T1ce={case}/*gd.nii.gz", …]` as a pattern by modality and `label`.

    Raises:
        ConfigurationError: if one is no such pattern.
    """
    patterns: dict[str, str] = {}
    for text in texts:
        what, equals, pattern = text.partition("=")
        what = "label" if what.strip().lower() in ("seg", "segmentation") else what.strip().lower()
        if not equals or what not in (*MODALITIES, DATALIST_LABEL) or CASE not in pattern:
            known = ", ".join((*MODALITIES, DATALIST_LABEL))
            raise ConfigurationError(
                f"--files {text}: write  MODALITY=PATTERN  with {CASE} in it, as in  T1ce={CASE}/*gd.nii.gz ; "
                f"MODALITY is one of {known}."
            )
        patterns[what] = pattern.strip()
    return patterns


def cases_by_pattern(patterns: Mapping[str, str], files: Sequence[Path], root: Path) -> list[Case]:
    """The cases whose files match.

    Args:
        patterns: by modality and `label`, of paths relative to `root`: `*` and `?` stand for a part of one name, `**`
            for any folders, `{case}` for the id, the same wherever it stands. Upper and lower case are the same.
    Raises:
        DatasetError: if a pattern matches no file, or two files of one case.
    """
    found: dict[str, dict[str, Path]] = {}
    for what, pattern in patterns.items():
        expression = _as_expression(pattern)
        matches = [(match["case"], file) for file in files if (match := expression.fullmatch(_relative(file, root)))]
        if not matches and what != DATALIST_LABEL:
            raise DatasetError(f"{root}: no file matches the pattern of {what}, {pattern}.")
        for case_id, file in matches:
            first = found.setdefault(case_id, {}).setdefault(what, file)
            if first != file:
                both = f"{_relative(first, root)} and {_relative(file, root)}"
                raise DatasetError(f"{case_id}: {both} match the pattern of {what}, {pattern}; narrow it.")
    with_images = {case_id: paths for case_id, paths in found.items() if set(paths) & set(MODALITIES)}
    return [_case(case_id, paths) for case_id, paths in with_images.items()]


def _case(case_id: str, paths: Mapping[str, Path]) -> Case:
    images = {modality: paths[modality] for modality in MODALITIES if modality in paths}
    return Case(case_id, next(iter(images.values())).parent, images, paths.get(DATALIST_LABEL))


def _relative(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()


def _as_expression(pattern: str) -> re.Pattern[str]:
    pieces = {"**/": r"(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    expression, seen = "", False
    for piece in re.split(r"(\*\*/|\*\*|\*|\?|\{case\})", pattern.replace("\\", "/").removeprefix("./")):
        if piece == CASE:
            expression += "(?P=case)" if seen else "(?P<case>[^/]+?)"
            seen = True
        else:
            expression += pieces.get(piece) or re.escape(piece)
    return re.compile(expression, re.IGNORECASE)
