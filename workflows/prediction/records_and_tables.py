"""What stands beside a predicted label map: its record, the table of volumes and the colour tables."""

from __future__ import annotations

import csv
import io
import json
import logging
import time
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from transforms.files import PROBABILITIES, UNCERTAINTY, WRITTEN_BY, remove_partial, sha256_of, write_whole
from transforms.geometry import voxel_ml
from transforms.labels import BACKGROUND, CLASS_NAMES, ENHANCING, REGIONS
from transforms.slices import plain
from workflows.files.prediction_names import SLICER_COLOURS, SNAP_COLOURS, VOLUMES_FILE, map_name, record_name
from workflows.machine.background import Background
from workflows.machine.ranks import is_first, joined
from workflows.pictures.colours import CLASS_COLOURS
from workflows.prediction.already_done import MAPS, finished_record, inputs_of
from workflows.prediction.usable_cases import FAULT
from workflows.settings.bundle_files import bundle_version

logger = logging.getLogger(__name__)
RECORDED_PACKAGES = ("monai", "torch", "numpy", "nibabel", "pytorch-ignite")
KINDS = dict(zip(MAPS, (PROBABILITIES, UNCERTAINTY), strict=True))
NO_MAPS = dict.fromkeys(MAPS, False)
RESEARCH_USE = "research use only, not a medical device"


class PredictionFiles:
    """Writes what stands beside a label map: its record, the table of volumes and the colour tables.

    Args:
        checkpoints: whose probabilities are averaged.
        settings: what the prediction was made with, recorded as it is.
        maps: whether each of `MAPS` is saved.
        inferer: says what computed the network, `PlanesInferer.computed_by`.
        background: where it is written, after the label map.
    """

    def __init__(
        self,
        output_dir: str | Path,
        checkpoints: Sequence[str | Path],
        settings: Mapping[str, Any],
        enhancing_value: int = 4,
        inferer: Any = None,
        maps: Mapping[str, bool] = NO_MAPS,
        background: Background | None = None,
    ) -> None:
        self.output_dir, self.settings = Path(output_dir), dict(settings)
        self.checkpoint, *self.more_checkpoints = map(Path, checkpoints)
        self.file_values = {**{c: c for c in CLASS_COLOURS}, ENHANCING: enhancing_value}
        self.inferer, self.background = inferer, background or Background(enabled=False)
        self.maps = {name: KINDS[name] for name, is_saved in maps.items() if is_saved}
        self.inputs: dict[str, list[dict[str, Any]]] = {}
        self.rows: list[dict[str, Any]] = []
        self.done: list[str] = []
        """Patients of an earlier run that are left as they are."""

    def unfinished(self, entries: Sequence[Mapping[str, Any]], overwrite: bool = False) -> list[Mapping[str, Any]]:
        """The patients that are not done yet with these checkpoints, settings and files, so that the same command
        continues a run that was stopped.

        Args:
            entries: what `patients` gives.
            overwrite: do all of them again.
        """
        remove_partial(self.output_dir)
        left = []
        for entry in entries:
            case = str(entry["case"])
            record = None
            if FAULT not in entry:
                remove_partial(self.output_dir / case)
                self.inputs[case] = inputs_of(entry["image"])
                record = None if overwrite else finished_record(self.output_dir / case, case, self._identity(case))
            if record is None:
                left.append(entry)
            else:
                self.done.append(case)
                self.rows.append(table_row(case, record["volumes_ml"]))
        if self.done:
            logger.info(f"{len(self.done)} of {len(entries)} are done already; --overwrite does them again")
        return left

    def attach(self, engine: Engine) -> None:
        """Write each patient's files after its iteration, and the tables at the beginning and the end."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._start_case)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._record_batch)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self) -> None:
        self.rows = [row for row in self.rows if row["case"] in self.done]
        if self.rows:
            self._write_tables()

    def _start_case(self) -> None:
        self.case_started = time.monotonic()

    def _record_batch(self, engine: Engine) -> None:
        total = len(self.done) + (engine.state.epoch_length or 0)
        seconds = time.monotonic() - self.case_started
        for batch, output in zip(engine.state.batch, engine.state.output, strict=True):  # type: ignore[call-overload]
            maps = {name: output[name] for name in ("label_map", "argmax_map")}
            self.background.submit(partial(self._record, str(batch["case"]), maps, total, seconds))

    def _record(self, case: str, maps: Mapping[str, Any], total: int, seconds: float) -> None:
        volumes = volumes_ml(maps["label_map"])
        self.rows.append(table_row(case, volumes))
        removed_ml = removed_tumour_ml(maps["argmax_map"], maps["label_map"])
        self._write_record(case, maps["label_map"].shape[1:], volumes, removed_ml)
        shown = ", ".join(f"{region} {volumes[region]:.1f} ml" for region in REGIONS)
        if removed_ml:
            shown += f", after {removed_ml:.1f} ml elsewhere were removed"
        logger.info(f"{len(self.rows)}/{total} {case}: {shown} ({seconds:.1f} s)")

    def _identity(self, case: str) -> dict[str, Any]:
        """What of a record decides whether it is that of the same prediction, see `finished_record`."""
        return {
            "inputs": self.inputs.get(case, []),
            "checkpoint_sha256": self.sha256,
            "averaged_with": self.averaged_with,
            "settings": self.settings,
            "labels": {str(value): CLASS_NAMES[c] for c, value in self.file_values.items()},
            "bundle_version": bundle_version(),
            **{name: map_name(case, self.maps[name]) if name in self.maps else None for name in MAPS},
        }

    @cached_property
    def sha256(self) -> str:
        """The digest of the checkpoint, computed once."""
        return sha256_of(self.checkpoint)

    @cached_property
    def averaged_with(self) -> list[dict[str, str]]:
        """The further checkpoints, as a record names them."""
        return [
            {"checkpoint": f"{more.resolve().parent.name}/{more.name}", "sha256": sha256_of(more)}
            for more in self.more_checkpoints
        ]

    def _write_record(self, case: str, shape: Sequence[int], volumes: Mapping[str, float], removed_ml: float) -> None:
        label_map = map_name(case)
        record = {
            "case": case,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "label_map": label_map,
            "label_map_sha256": sha256_of(self.output_dir / case / label_map),
            "volumes_ml": volumes,
            "removed_by_post_processing_ml": removed_ml,
            "shape": list(shape),
            "checkpoint": self.checkpoint.name,
            "computed_by": getattr(self.inferer, "computed_by", None),
            **self._identity(case),
            "versions": {package: version(package) for package in RECORDED_PACKAGES},
            "use": RESEARCH_USE,
        }
        text = json.dumps(record, indent=2, default=str) + "\n"
        write_whole(self.output_dir / case / record_name(case), lambda path: path.write_text(text, encoding="utf-8"))

    def _finish(self) -> None:
        self.background.submit(self._write_tables)
        self.background.submit(partial(logger.info, f"label maps and {VOLUMES_FILE} in {self.output_dir.resolve()}"))

    def _write_tables(self) -> None:
        self.rows = joined(self.rows)
        if not is_first() or not self.rows:
            return
        write_whole(self.output_dir / VOLUMES_FILE, self._write_volumes)
        for name, text in colour_tables(self.file_values).items():
            write_whole(self.output_dir / name, partial(Path.write_text, data=text, encoding="utf-8"))

    def _write_volumes(self, path: Path) -> None:
        """This run's cases, and those of earlier runs into the same folder."""
        mine = {row["case"] for row in self.rows}
        earlier = self.output_dir / VOLUMES_FILE
        kept = (
            [r for r in csv.DictReader(earlier.open(encoding="utf-8")) if r["case"] not in mine]
            if earlier.exists()
            else []
        )
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(sorted([*kept, *self.rows], key=lambda row: row["case"]))
        path.write_text(text.getvalue(), encoding="utf-8")


def table_row(case: str, volumes: Mapping[str, float]) -> dict[str, str]:
    """Of `volumes.csv`."""
    return {"case": case, **{name: f"{value:.3f}" for name, value in volumes.items()}}


def removed_tumour_ml(found: Any, kept: Any) -> float:
    """Volume of what is tumour in one `MetaTensor` (1, H, W, D) of class indices and background in another."""
    removed = (_voxels(found) != BACKGROUND) & (_voxels(kept) == BACKGROUND)
    return int(np.count_nonzero(removed)) * voxel_ml(kept.affine)


def _voxels(label_map: Any) -> NDArray[np.uint8]:
    """NumPy counts voxels in a tenth of the time in which torch adds them."""
    return np.asarray(plain(label_map).cpu())


def volumes_ml(label_map: Any) -> dict[str, float]:
    """Volume per tumour class and region of a `MetaTensor` (1, H, W, D) of class indices with an affine in mm."""
    each = voxel_ml(label_map.affine)
    voxels = _voxels(label_map)
    counts = {c: int(np.count_nonzero(voxels == c)) for c in CLASS_COLOURS}
    volumes = {CLASS_NAMES[c].replace(" ", "_"): count * each for c, count in counts.items()}
    return volumes | {region: sum(counts[c] for c in classes) * each for region, classes in REGIONS.items()}


def colour_tables(file_values: Mapping[int, int]) -> dict[str, str]:
    """The colours of the classes in the formats of 3D Slicer and of ITK-SNAP, by file name.

    `file_values` are the label values in the file by class index.
    """
    colours = [(value, CLASS_NAMES[c], *CLASS_COLOURS[c]) for c, value in sorted(file_values.items())]
    slicer = [f"{value} {name.replace(' ', '_')} {r} {g} {b} 255" for value, name, r, g, b in colours]
    snap = [f'{value:5d} {r:5d} {g:4d} {b:4d} {1:8d} {1:2d} {1:2d}    "{name}"' for value, name, r, g, b in colours]
    snap_head = f"# ITK-SnAP Label Description File, written by {WRITTEN_BY}"
    return {
        SLICER_COLOURS: "\n".join([f"# {WRITTEN_BY}", "0 background 0 0 0 0", *slicer, ""]),
        SNAP_COLOURS: "\n".join([snap_head, '    0     0    0    0        0  0  0    "Clear Label"', *snap, ""]),
    }
