// What is under the crosshair, in words and numbers.

const fileIndex = (axis) => (fileAxes[axis].flipped ? shape[axis] - 1 - point[axis] : point[axis]);

function fileVoxel() {
  const voxel = [];
  fileAxes.forEach(({ axis: position }, axis) => { voxel[position] = fileIndex(axis); });
  return voxel;
}

function positionMm() {
  return affine.slice(0, 3).map((row) => row[0] * point[0] + row[1] * point[1] + row[2] * point[2] + row[3]);
}

function directed(axis, mm) {
  const [positive, negative] = DIRECTIONS[axis];
  return `${mm < 0 ? negative : positive} ${Math.abs(mm).toFixed(1)}`;
}

function intensity({ name, low, step, exact }) {
  if (!volumes[name]) return "…";
  const value = low + step * volumes[name][at()];
  return exact ? String(Number(value.toPrecision(10))) : value.toPrecision(5);
}

const at = () => point[0] + shape[0] * (point[1] + shape[1] * point[2]);
const labelOf = (layer) => (volumes[layer] ? classes[volumes[layer][at()]].name : "…");

function writeReadout() {
  const mm = positionMm();
  $("voxel").textContent = fileVoxel().join(", ");
  $("position").textContent = `${mm.map((each, axis) => directed(axis, each)).join("  ")}`;
  for (const modality of modalities) $(`value-${modality.name}`).textContent = intensity(modality);
  for (const layer of layers) $(`label-${layer}`).textContent = labelOf(layer);
  if (volumes.uncertain) $("certainty").textContent = volumes.uncertain[at()] ? "uncertain" : "certain";
  if (volumes.uncertainty) $("uncertainty").textContent = (volumes.uncertainty[at()] / 255).toFixed(2);
  for (const plane of planes) {
    const axis = plane.through;
    const words = `slice ${fileIndex(axis)} of 0–${shape[axis] - 1} · ${directed(axis, mm[axis])} mm`;
    const slider = $(`scroll-${plane.name}`);
    $(`slice-${plane.name}`).textContent = words;
    slider.value = point[axis];
    slider.setAttribute("aria-valuetext", words);
    const edges = plane.edgeLetters();
    for (const side of Object.keys(edges)) {
      plane.canvas.parentElement.querySelector(`.${side}`).textContent = edges[side];
    }
  }
  if (settings.trainedOn) {
    const [first, end] = settings.trainedOn;
    $("outside").hidden = point[2] >= first && point[2] < end;
  }
  $("zoom").textContent = `${Math.round(zoom * 100)} %`;
  speak();
}

let speaking = 0;

function speak() { // what stands still for a moment
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    const values = modalities.map((modality) => `${modality.title} ${intensity(modality)}`);
    $("spoken").textContent = [$("position").textContent, ...layers.map((l) => `${l} ${labelOf(l)}`), ...values].join(", ");
  }, 500);
}
