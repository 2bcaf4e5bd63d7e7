"""A report's content as one HTML file: template, style, program and volumes in it, everything from files escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from transforms.labels import CLASS_NAMES, ENHANCING, MODALITY_TITLES, NECROTIC_CORE, OEDEMA, REGION_NAMES, REGIONS
from transforms.windows import in_own_slices
from workflows.pictures.colours import CLASS_COLOURS, DISAGREEMENT_COLOURS, HEAT_COLOURS, Colour
from workflows.report.findings import Lesion, Measure
from workflows.report.volumes import Grid, brain_box, pack_labels
from workflows.report.warnings import UNCERTAIN_BELOW, Notice
from workflows.scoring.lesions import SMALLEST_SCORED_MM3
from workflows.scoring.score_case import SCORED, RegionScores
from workflows.scoring.surface_distances import Mask

ASSETS = Path(__file__).with_name("assets")
SCRIPTS = (
    "tools.js",
    "unpack.js",
    "plane.js",
    "state.js",
    "colours.js",
    "readout.js",
    "profile.js",
    "redraw.js",
    "input.js",
    "viewer.js",
)
"""Each stands after those that it imports from."""

OUTLINES = {"WT": OEDEMA, "TC": NECROTIC_CORE, "ET": ENHANCING}
"""The class in whose colour a region is outlined: its own outermost."""

JUMP_TITLES = {
    "lesion": "Lesion",
    "missed": "Miss",
    "invented": "Invention",
    "uncertain": "Uncertain area",
}
INTENSITY_KEYS = ("low", "step", "exact", "window")
LAYER_TITLES = {"prediction": "Prediction", "reference": "Reference"}


@dataclass(frozen=True)
class PageContent:
    """What a page shows; see `workflows.report.report.Report` for the parts."""

    case: str
    created: str
    grid: Grid
    images: Mapping[str, Mapping[str, Any]]
    brain: Mask
    label_maps: Mapping[str, NDArray[np.uint8]]
    uncertain: Mask | None
    uncertainty: NDArray[np.uint8] | None
    measures: Mapping[str, Mapping[str, Measure]]
    scores: Mapping[str, RegionScores] | None
    jumps: Mapping[str, Sequence[Lesion]]
    warnings: Sequence[Notice]
    record: Mapping[str, Any]
    slice_range: tuple[int, int] | None


def render_page(content: PageContent) -> str:
    """The page as HTML. Its security policy allows its own program and style, by their digests, and nothing else."""
    volumes = {name: image["data"] for name, image in content.images.items()}
    volumes |= {name: pack_labels(labels) for name, labels in content.label_maps.items()}
    if content.uncertain is not None:
        volumes["uncertain"] = pack_labels(content.uncertain)
    if content.uncertainty is not None:
        volumes["uncertainty"] = pack_labels(content.uncertainty)
    return render(
        "report.html",
        ("viewer.css",),
        SCRIPTS,
        content=content,
        volumes=volumes,
        settings=_settings(content),
        regions={name: REGION_NAMES.get(name, name) for name in SCORED},
        modality_titles=MODALITY_TITLES,
        layer_titles=LAYER_TITLES,
        jump_titles=JUMP_TITLES,
        classes=_legend({CLASS_NAMES[index]: colour for index, colour in CLASS_COLOURS.items()}),
        outlines=[{"name": name, "title": REGION_NAMES[name]} for name in REGIONS],
        provenance=provenance(content.record),
        smallest_mm3=SMALLEST_SCORED_MM3,
        uncertain_below=UNCERTAIN_BELOW,
    )


def render(template: str, styles: Sequence[str], scripts: Sequence[str], **context: Any) -> str:
    """Fill a template of `assets`; what is filled in is escaped."""
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = _colour_rules() + _asset(*styles)
    script = _as_one_module(_asset(*scripts))
    return environment.get_template(template).render(
        style=style, script=script, style_digest=_digest(style), script_digest=_digest(script), **context
    )


def _asset(*names: str) -> str:
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in names)


def _as_one_module(modules: str) -> str:
    """The page's policy forbids it to import from files: their modules become one, so no two may declare a name."""
    return re.sub(r"^(import [^;]*;\n+|export )", "", modules, flags=re.MULTILINE)


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


def _settings(content: PageContent) -> dict[str, Any]:
    """What the viewer is told, as JSON."""
    spacing = content.grid.spacing_mm[2]
    return {
        **content.grid.for_page(),
        "box": brain_box(content.brain, content.grid),
        "start": _start(content),
        "modalities": [
            {"name": name, "title": MODALITY_TITLES[name], **{key: image[key] for key in INTENSITY_KEYS}}
            for name, image in content.images.items()
        ],
        "layers": list(content.label_maps),
        "masks": [name for name in ("uncertain", "uncertainty") if getattr(content, name) is not None],
        "heat": HEAT_COLOURS,
        "classes": [{"name": name, "colour": CLASS_COLOURS.get(index)} for index, name in enumerate(CLASS_NAMES)],
        "regions": [
            {"name": name, "classes": classes, "colour": CLASS_COLOURS[OUTLINES[name]]}
            for name, classes in REGIONS.items()
        ],
        "disagreement": DISAGREEMENT_COLOURS,
        "trainedOn": in_own_slices(content.slice_range, spacing) if content.slice_range else None,
    }


def _start(content: PageContent) -> Sequence[int]:
    """The largest lesion, or the middle of the brain."""
    lesions = content.jumps.get("lesion")
    if lesions:
        return lesions[0].point
    return [(first + last) // 2 for first, last in brain_box(content.brain, content.grid)]


def provenance(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What produced a prediction, for people: whatever of it the record holds, as text."""
    settings = record.get("settings") if isinstance(record.get("settings"), dict) else {}
    versions = record.get("versions") if isinstance(record.get("versions"), dict) else {}
    others = record.get("averaged_with") if isinstance(record.get("averaged_with"), list) else []
    averaged = [str(other.get("checkpoint")) for other in others or [] if isinstance(other, dict)]
    rows = {
        "Label map": record.get("label_map"),
        "Predicted": record.get("created"),
        "brats-unet": record.get("bundle_version"),
        "Weights": record.get("checkpoint"),
        "Weights, SHA-256": record.get("checkpoint_sha256"),
        "Averaged with": ", ".join(averaged),
        **{f"Setting: {str(name).replace('_', ' ')}": _text(value) for name, value in dict(settings or {}).items()},
        "Packages": ", ".join(f"{name} {version}" for name, version in dict(versions or {}).items()),
    }
    return [(name, str(value)) for name, value in rows.items() if value not in (None, "")]


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
