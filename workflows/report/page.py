"""A report's content as one HTML file: template, style, program and volumes in it, everything from files escaped."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.labels import CLASS_NAMES, ENHANCING, MODALITY_TITLES, NECROTIC_CORE, OEDEMA, REGION_NAMES, REGIONS
from transforms.windows import in_own_slices
from workflows.data.case import Case
from workflows.files.text_files import filled_template
from workflows.pictures.colours import CLASS_COLOURS, DISAGREEMENT_COLOURS, HEAT_COLOURS, Colour
from workflows.report.findings import Lesion, measure_label_map
from workflows.report.sources import Scan, slice_range_of
from workflows.report.volumes import extent_of_brain, pack_labels
from workflows.report.warnings import UNCERTAIN_BELOW, Notice
from workflows.scoring.lesions import SMALLEST_SCORED_MM3
from workflows.scoring.score_case import SCORED, RegionScores
from workflows.scoring.surface_distances import Mask

ASSETS = Path(__file__).with_name("assets")
SCRIPTS = (
    *("tools.js", "unpack.js", "plane.js", "state.js", "colours.js", "readout.js", "profile.js", "redraw.js"),
    *("input.js", "viewer.js"),
)
"""Each comes after the files that it imports from."""

OUTLINES = {"WT": OEDEMA, "TC": NECROTIC_CORE, "ET": ENHANCING}
"""The class in whose colour a region is outlined: the outermost class of the region."""

JUMP_TITLES = {"lesion": "Lesion", "missed": "Miss", "invented": "Invention", "uncertain": "Uncertain area"}
INTENSITY_KEYS = ("low", "step", "exact", "window")
MASKS = ("uncertain", "uncertainty")
LAYER_TITLES = {"prediction": "Prediction", "reference": "Reference"}


@dataclass
class Report:
    """Everything that a report shows.

    Attributes:
        prediction, reference: (x, y, z) class indices on the scan's grid.
        uncertain: where the most probable class is not probable; None where no probabilities were saved.
        uncertainty: (x, y, z) entropy of the class probabilities, 0 to 255; None where it was not saved.
        record: what the prediction noted of itself, as it was read: not to be trusted.
        jumps: largest first, by what they are: "lesion", "missed", "invented" or "uncertain".
    """

    case: Case
    scan: Scan
    prediction: NDArray[np.uint8] | None = None
    reference: NDArray[np.uint8] | None = None
    uncertain: Mask | None = None
    uncertainty: NDArray[np.uint8] | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[Notice] = field(default_factory=list)
    jumps: dict[str, list[Lesion]] = field(default_factory=dict)
    scores: Mapping[str, RegionScores] | None = None

    @property
    def label_maps(self) -> dict[str, NDArray[np.uint8]]:
        """The prediction and the reference, as far as there are any."""
        both = {"prediction": self.prediction, "reference": self.reference}
        return {name: labels for name, labels in both.items() if labels is not None}

    @property
    def labels(self) -> NDArray[np.uint8] | None:
        """The label map that the report is about: the prediction, or else the reference."""
        return self.reference if self.prediction is None else self.prediction


def render_page(report: Report) -> str:
    """The page as HTML. Its security policy allows its own program and style, by their digests, and nothing else."""
    spacing_mm = report.scan.grid.spacing_mm
    volumes = {name: image["data"] for name, image in report.scan.images.items()}
    masks = {name: getattr(report, name) for name in MASKS}
    volumes |= {name: pack_labels(shown) for name, shown in (report.label_maps | masks).items() if shown is not None}
    return render(
        "report.html",
        SCRIPTS,
        report=report,
        created=time.strftime("%Y-%m-%d %H:%M"),
        measured={name: measure_label_map(labels, spacing_mm) for name, labels in report.label_maps.items()},
        volumes=volumes,
        settings=_settings(report),
        regions={name: REGION_NAMES.get(name, name) for name in SCORED},
        modality_titles=MODALITY_TITLES,
        layer_titles=LAYER_TITLES,
        jump_titles=JUMP_TITLES,
        classes=_legend({CLASS_NAMES[index]: colour for index, colour in CLASS_COLOURS.items()}),
        outlines=[{"name": name, "title": REGION_NAMES[name]} for name in REGIONS],
        provenance=provenance(report.record),
        smallest_mm3=SMALLEST_SCORED_MM3,
        uncertain_below=UNCERTAIN_BELOW,
    )


def render(template: str, scripts: Sequence[str] = (), **context: Any) -> str:
    """Fill a template of `assets`; what is filled in is escaped."""
    style = _colour_rules() + _asset("viewer.css")
    # The page's policy forbids imports from files: the modules become one, so no two may declare the same name.
    script = re.sub(r"^(import [^;]*;\n+|export )", "", _asset(*scripts), flags=re.MULTILINE)
    digests = {"style_digest": _digest(style), "script_digest": _digest(script)}
    return filled_template(ASSETS / template, style=style, script=script, **digests, **context)


def _asset(*names: str) -> str:
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in names)


def _digest(text: str) -> str:
    """As a Content-Security-Policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _colour_rules() -> str:
    """The legend's colours as style: the policy forbids style attributes."""
    named = {CLASS_NAMES[index]: colour for index, colour in CLASS_COLOURS.items()} | DISAGREEMENT_COLOURS
    swatches = [f".swatch-{_css_name(name)} {{ --swatch: rgb{tuple(colour)}; }}\n" for name, colour in named.items()]
    heat = ", ".join(f"rgb{tuple(colour)}" for colour in HEAT_COLOURS)
    return "".join(swatches) + f".heat {{ background: linear-gradient(to right, {heat}); }}\n"


def _css_name(name: str) -> str:
    return name.replace(" ", "-")


def _legend(named: Mapping[str, Colour]) -> list[dict[str, str]]:
    return [{"name": name, "css": _css_name(name)} for name in named]


def _settings(report: Report) -> dict[str, Any]:
    """What the viewer is told, as JSON."""
    spacing, slice_range = report.scan.grid.spacing_mm[2], slice_range_of(report.record)
    return {
        **report.scan.grid.for_page(),
        "box": extent_of_brain(report.scan.brain, report.scan.grid),
        "start": _start(report),
        "modalities": [
            {"name": name, "title": MODALITY_TITLES[name], **{key: image[key] for key in INTENSITY_KEYS}}
            for name, image in report.scan.images.items()
        ],
        "layers": list(report.label_maps),
        "masks": [name for name in MASKS if getattr(report, name) is not None],
        "heat": HEAT_COLOURS,
        "classes": [{"name": name, "colour": CLASS_COLOURS.get(index)} for index, name in enumerate(CLASS_NAMES)],
        "regions": [
            {"name": name, "classes": classes, "colour": CLASS_COLOURS[OUTLINES[name]]}
            for name, classes in REGIONS.items()
        ],
        "disagreement": DISAGREEMENT_COLOURS,
        "trainedOn": in_own_slices(slice_range, spacing) if slice_range else None,
    }


def _start(report: Report) -> Sequence[int]:
    """The largest lesion, or the middle of the brain."""
    if lesions := report.jumps.get("lesion"):
        return lesions[0].point
    return [(first + last) // 2 for first, last in extent_of_brain(report.scan.brain, report.scan.grid)]


def provenance(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What produced a prediction, for people: whatever of it the record holds, as text."""
    settings, versions = (
        stated if isinstance(stated := record.get(name), dict) else {} for name in ("settings", "versions")
    )
    others = stated if isinstance(stated := record.get("averaged_with"), list) else []
    averaged = [str(other.get("checkpoint")) for other in others if isinstance(other, dict)]
    rows = {
        "Label map": record.get("label_map"),
        "Predicted": record.get("created"),
        "brats-unet": record.get("bundle_version"),
        "Weights": record.get("checkpoint"),
        "Weights, SHA-256": record.get("checkpoint_sha256"),
        "Averaged with": ", ".join(averaged),
        **{f"Setting: {str(name).replace('_', ' ')}": value for name, value in settings.items()},
        "Packages": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in rows.items()
        if value not in (None, "", [])
    ]
