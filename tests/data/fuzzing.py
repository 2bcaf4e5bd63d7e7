"""Damaged NIfTI files by the thousand: `python tests/data/fuzzing.py --inputs 100000` prints what came of them.

Every input goes through the loader and through the audit of its case. What is allowed is an image or one of our own
errors, within `LIMIT_SECONDS` of CPU, in a process that stays below `LIMIT_BYTES`.
"""

from __future__ import annotations

import argparse
import gzip
import io
import re
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

if __name__ == "__main__":  # from a clone, installed or not
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workflows.audit.case_checks import check_case
from workflows.data.case import Case
from workflows.image_files.nifti_files import load_image, read_volume
from workflows.messages.errors import DatasetError

LIMIT_SECONDS = 2.0
LIMIT_BYTES = 10**9
SHAPE = (8, 7, 6)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

NIFTI1_FIELDS = (  # position and struct format: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
    *((0, "i"), (40, "h"), (42, "h"), (44, "h"), (46, "h"), (48, "h"), (50, "h"), (70, "h"), (72, "h"), (76, "f")),
    *((80, "f"), (84, "f"), (88, "f"), (108, "f"), (112, "f"), (116, "f"), (123, "b"), (252, "h"), (254, "h")),
    *((256, "f"), (260, "f"), (268, "f"), (280, "f"), (296, "f"), (300, "f"), (312, "f"), (320, "f"), (344, "i")),
)
NIFTI2_FIELDS = (
    *((0, "i"), (12, "h"), (14, "h"), (16, "q"), (24, "q"), (32, "q"), (40, "q"), (48, "q"), (104, "d"), (112, "d")),
    *((168, "q"), (176, "d"), (184, "d"), (344, "i"), (348, "i"), (352, "d"), (400, "d"), (432, "d"), (500, "i")),
)
TELLING = (0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 64, 128, 512, 1024, 1792, 2304, 32767, -32768, 2**31 - 1, 2**40, 2**62)
TELLING_FLOATS = (0.0, -0.0, 1.0, 352.0, float("nan"), float("inf"), float("-inf"), 1e-45, 1e30, -1e30, 3e38)


def whole_file(kind: type, dtype: type, axes: int, scaled: bool) -> bytes:
    """A sound file of `SHAPE`, not gzipped."""
    rng = np.random.default_rng(0)
    shape = (*SHAPE, 1, 1)[:axes]
    image = kind(rng.integers(0, 5, shape).astype(dtype), LPS)
    if scaled:
        image.header.set_slope_inter(2.0, 1.0)
    stream = io.BytesIO()
    image.to_stream(stream)
    return stream.getvalue()


SOUND = [
    (whole_file(kind, dtype, axes, scaled), NIFTI1_FIELDS if kind is nib.Nifti1Image else NIFTI2_FIELDS)
    for kind in (nib.Nifti1Image, nib.Nifti2Image)
    for dtype, axes, scaled in ((np.int16, 3, False), (np.float32, 3, True), (np.uint8, 4, False))
]


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """A file with changed header fields, changed bytes, cut or gzipped, and the gzip stream damaged in its turn."""
    sound, fields = draw(st.sampled_from(SOUND))
    content = bytearray(sound)
    order = draw(st.sampled_from("<<<>"))
    for position, code in draw(st.lists(st.sampled_from(fields), max_size=4)):
        struct.pack_into(order + code, content, position, _value(draw, code))
    _change_bytes(draw, content, 3)
    if draw(st.integers(0, 5)) == 0:
        del content[draw(st.integers(0, len(content))) :]
    for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2)))):
        content = bytearray(gzip.compress(bytes(content), compresslevel=1, mtime=0))
        if draw(st.integers(0, 2)) == 0:
            _change_bytes(draw, content, 3)
        if draw(st.integers(0, 5)) == 0:
            del content[draw(st.integers(0, len(content))) :]
        content += draw(st.binary(max_size=8))
    return bytes(content)


def _value(draw: st.DrawFn, code: str) -> float:
    if code in "fd":
        return draw(st.one_of(st.sampled_from(TELLING_FLOATS), st.floats(width=32 if code == "f" else 64)))
    bits = 8 * struct.calcsize(code)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    telling = st.sampled_from([value for value in TELLING if low <= value <= high])
    return draw(st.one_of(telling, st.integers(low, high)))


def _change_bytes(draw: st.DrawFn, content: bytearray, most: int) -> None:
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=most)):
        if content:
            content[place % len(content)] = byte


class Fuzzer:
    """One case whose FLAIR or label map is replaced by damaged files, and a count of what came of them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.outcomes: Counter[str] = Counter()
        self.slowest = 0.0
        (folder / "P1").mkdir()
        self.sound = gzip.compress(SOUND[0][0], mtime=0)

    def __call__(self, content: bytes, as_label_map: bool) -> None:
        flair, seg = (self.root / "P1" / f"P1_{name}.nii.gz" for name in ("flair", "seg"))
        flair.write_bytes(self.sound if as_label_map else content)
        seg.write_bytes(content)
        started = time.process_time()  # of the CPU: on a busy machine any input takes seconds now and then
        self.outcomes[self._load(seg)] += 1
        record = check_case(
            Case("P1", flair.parent, {"flair": flair}, seg if as_label_map else None), self.root, ["flair"]
        )
        seconds = time.process_time() - started
        self.slowest = max(self.slowest, seconds)
        assert not [problem for problem in record.problems if problem.startswith("cannot be checked")], record.problems
        assert all("\n" not in line for line in (*record.problems, *record.warnings))
        assert seconds < LIMIT_SECONDS, f"{seconds:.1f} s"
        assert peak_bytes() < LIMIT_BYTES, f"{peak_bytes() / 1e6:.0f} MB"

    def _load(self, file: Path) -> str:
        try:
            volume = read_volume(load_image(file), file)
        except DatasetError as error:
            refusal = str(error)
        else:
            assert volume.ndim == 3
            return "read"
        message = refusal.removeprefix(f"{file}: ")
        assert message != refusal and "\n" not in message
        return "refused: " + re.sub(r"[0-9×(].*|[,;:.].*", "…", message)


def peak_bytes() -> int:
    """The most memory this process has held since it began; `getrusage` would also count the one that started it."""
    held = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert held is not None
    return int(held[1]) * 1024


def fuzz(inputs: int, number: int = 0) -> Fuzzer:
    """Try `inputs` damaged files; a failure is shrunk and raised by hypothesis.

    Args:
        number: the same number draws the same files.
    """
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder))

        @seed(number)
        @settings(max_examples=inputs, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(damaged_files(), st.booleans())
        def attempt(content: bytes, as_label_map: bool) -> None:
            fuzzer(content, as_label_map)

        attempt()
    return fuzzer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    fuzzer = fuzz(options.inputs, options.seed)
    total = sum(fuzzer.outcomes.values())
    print(f"{total} inputs, seed {options.seed}, {time.perf_counter() - started:.0f} s")
    print(f"slowest {fuzzer.slowest:.3f} s, peak memory {peak_bytes() / 1e6:.0f} MB")
    for outcome, count in fuzzer.outcomes.most_common():
        print(f"{count:8d}  {outcome}")


if __name__ == "__main__":
    main()
