"""Pack a self-contained MONAI Bundle: configurations, code and weights in one zip file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from transforms.files import write_whole
from workflows.files.outputs import check_outputs
from workflows.messages.errors import ConfigurationError
from workflows.settings.beside_checkpoint import settings_beside
from workflows.settings.bundle_files import bundle_root
from workflows.settings.checkpoints import MODEL_CARD, check_checkpoint
from workflows.settings.weights import SAFETENSORS, read_weights

PACKAGES = ("transforms", "networks", "workflows")
CONFIGURED_BY_THE_RUN = ("train.json", "inference.json")


def pack_bundle(out: Path, checkpoint: Path) -> Path:
    """Write a zip file with one folder, named after it, that is a MONAI Bundle.

    `train.json` and `inference.json` in it hold the settings with which the checkpoint's network was trained.

    Raises:
        ConfigurationError: if `out` is no .zip name, or there are no weights.
    """
    if out.suffix != ".zip":
        raise ConfigurationError(f"{out}: give the packed bundle a name that ends in .zip.")
    check_checkpoint(checkpoint)
    check_outputs([out])
    write_whole(out, lambda partial: _write_zip(partial, out.stem, checkpoint))
    return out


def _write_zip(path: Path, folder: str, checkpoint: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _contents(checkpoint):
            archive.writestr(f"{folder}/{name}", content)


def _contents(checkpoint: Path) -> Iterator[tuple[str, bytes]]:
    root, settings = Path(bundle_root()), settings_beside(checkpoint)
    for file in sorted(root.rglob("*")):
        name = file.relative_to(root)
        if _is_source(file) and name.parts[0] not in ("models", *PACKAGES):
            configured = name.name in CONFIGURED_BY_THE_RUN
            yield name.as_posix(), _configured(file, settings) if configured else file.read_bytes()
    code = Path(__file__).resolve().parents[1]
    for package in PACKAGES:
        for file in sorted((code / package).rglob("*")):
            if _is_source(file):
                yield file.relative_to(code).as_posix(), file.read_bytes()
    yield "models/model.pt", _weights(checkpoint)
    card = checkpoint.with_name(MODEL_CARD)
    if card.is_file():
        yield f"models/{MODEL_CARD}", card.read_bytes()


def _is_source(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts


def _weights(checkpoint: Path) -> bytes:
    """The checkpoint as it is, or a safetensors file as PyTorch's, under whose name a bundle is looked for."""
    import torch

    weights = read_weights(checkpoint)  # also refuses what holds more than tensors
    if checkpoint.suffix != SAFETENSORS:
        return checkpoint.read_bytes()
    content = io.BytesIO()
    torch.save(weights, content)
    return content.getvalue()


def _configured(file: Path, settings: dict[str, object]) -> bytes:
    configuration = json.loads(file.read_text(encoding="utf-8"))
    return (json.dumps({**configuration, **settings}, indent=4, ensure_ascii=False) + "\n").encode()
