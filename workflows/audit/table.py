"""An audit on the terminal: one row per case, then what needs attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workflows.audit.case_checks import CaseRecord
from workflows.audit.dataset_checks import Audit
from workflows.data.file_names import DATALIST_LABEL
from workflows.image_files.nifti_files import format_shape
from workflows.messages.errors import printable, show_what_the_terminal_knows

if TYPE_CHECKING:
    from rich.console import Console

STRAY_FILES_NAMED = 20


def print_table(audit: Audit, list_files: bool = False, console: Console | None = None) -> None:
    """Print one row per case, then what needs attention; without frames and colours if the output is no terminal.

    Args:
        list_files: name the files of each case too.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    show_what_the_terminal_knows()
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, 100)
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    table.add_column("case", overflow="fold")
    table.add_column("voxels", no_wrap=True)
    labels = _label_columns(audit)
    for title in labels.values():
        table.add_column(title, justify="right")
    table.add_column(f"outside slices\n{audit.slice_range[0]}–{audit.slice_range[1] - 1}", justify="right")
    table.add_column("verdict", no_wrap=True)
    for record in audit.cases:
        table.add_row(*_row(record, labels))
    console.print(table, markup=False, emoji=False, highlight=False)
    files = [line for record in audit.cases for line in _files(record)] if list_files else []
    for line in ["", *files, *_findings(audit), *_summary(audit)]:
        console.print(printable(line), markup=False, emoji=False, highlight=False, soft_wrap=True)


def _label_columns(audit: Audit) -> dict[str, str]:
    """Column title by label as in the file."""
    if audit.convention:
        values = sorted(audit.convention.classes, key=audit.convention.classes.__getitem__)[1:]
        names = (audit.convention.class_name(value).replace(" tumour", "") for value in values)
        return {str(value): f"{name}\n{value}" for value, name in zip(values, names, strict=True)}
    return {label: f"label\n{label}" for label in sorted({label for record in audit.cases for label in record.voxels})}


def _row(record: CaseRecord, labels: Sequence[str] | dict[str, str]) -> list[Any]:
    from rich.text import Text

    verdict = "unusable" if record.problems else "see below" if record.warnings else "ok"
    outside = "" if record.outside_window is None else f"{record.outside_window:.1%}"
    counts = [str(record.voxels.get(label, 0)) if record.voxels else "" for label in labels]
    cells = [record.id, format_shape(record.shape or ()), *counts, outside, verdict]
    style = "red" if verdict == "unusable" else ""
    return [Text(printable(cell), style=style) for cell in cells]  # as text: an id is no markup


def _files(record: CaseRecord) -> list[str]:
    """Which file was taken for what."""
    return [f"{record.id}:", *(f"  {what:6} {file}" for what, file in record.files.items())]


def _findings(audit: Audit) -> list[str]:
    lines = [f"error: {error}" for error in audit.errors] + [f"warning: {warning}" for warning in audit.warnings]
    for record in audit.cases:
        lines += [f"{record.id}: unusable: {problem}" for problem in record.problems]
        lines += [f"{record.id}: {warning}" for warning in record.warnings]
    return lines + [f"Same patient twice: {duplicate}" for duplicate in audit.duplicates]


def _summary(audit: Audit) -> list[str]:
    labelled = [record for record in audit.cases if DATALIST_LABEL in record.files]
    lines = [f"{len(audit.cases)} cases, {len(labelled)} with labels, {len(audit.unusable)} unusable"]
    if audit.convention and labelled:
        lines.append(f"Labels: {audit.convention.title}")
    if shares := [record.outside_window for record in audit.cases if record.outside_window is not None]:
        mean, least, most = sum(shares) / len(shares), min(shares), max(shares)
        window = f"slices {audit.slice_range[0]}–{audit.slice_range[1] - 1}"
        lines.append(f"Tumour outside {window}: {mean:.0%} of a case on average, from {least:.0%} to {most:.0%}")
    for name in sorted({name for record in audit.cases for name in record.empty_classes}):
        without = [record.id for record in audit.cases if name in record.empty_classes]
        lines.append(f"No {name} in {len(without)} of {len(labelled)} cases: {', '.join(without)}")
    if audit.stray:
        more = len(audit.stray) - STRAY_FILES_NAMED
        named = ", ".join(audit.stray[:STRAY_FILES_NAMED]) + (f" and {more} more" if more > 0 else "")
        lines.append(f"Ignored, belong to no case: {named}")
    return lines
