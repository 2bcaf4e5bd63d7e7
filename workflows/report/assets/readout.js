// What is under the crosshair, in words and numbers.

import { DIRECTIONS } from "./plane.js";
import { classes, crosshair, layers, modalities, planes, settings, shape, view, volumes } from "./state.js";
import { element } from "./tools.js";

const { affine, fileAxes, trainedOn } = settings;
const STILL_FOR_MS = 500;

export function writeReadout() {
  writeValues();
  planes.forEach(writeSlice);
  if (trainedOn) {
    const [first, end] = trainedOn;
    element("outside").hidden = crosshair[2] >= first && crosshair[2] < end;
  }
  element("zoom").textContent = `${Math.round(view.zoom * 100)} %`;
  announceOnceStill();
}

function writeValues() {
  element("voxel").textContent = voxelInFile().join(", ");
  element("position").textContent = positionMm().map(withDirection).join("  ");
  for (const modality of modalities) element(`value-${modality.name}`).textContent = intensity(modality);
  for (const layer of layers) element(`label-${layer}`).textContent = className(layer);
  const { uncertain, uncertainty } = volumes;
  if (uncertain) element("certainty").textContent = uncertain[crosshairIndex()] ? "uncertain" : "certain";
  if (uncertainty) element("uncertainty").textContent = (uncertainty[crosshairIndex()] / 255).toFixed(2);
}

function writeSlice(plane) {
  const axis = plane.through;
  const place = withDirection(positionMm()[axis], axis);
  const words = `slice ${indexInFile(axis)} of 0–${shape[axis] - 1} · ${place} mm`;
  element(`slice-${plane.name}`).textContent = words;
  const slider = element(`scroll-${plane.name}`);
  slider.value = crosshair[axis];
  slider.setAttribute("aria-valuetext", words);
  for (const [side, letter] of Object.entries(plane.edgeLetters())) {
    plane.canvas.parentElement.querySelector(`.${side}`).textContent = letter;
  }
}

const crosshairIndex = () => crosshair[0] + shape[0] * (crosshair[1] + shape[1] * crosshair[2]);

const indexInFile = (axis) => (fileAxes[axis].flipped ? shape[axis] - 1 - crosshair[axis] : crosshair[axis]);

function voxelInFile() {
  const voxel = [];
  fileAxes.forEach((fileAxis, axis) => {
    voxel[fileAxis.axis] = indexInFile(axis);
  });
  return voxel;
}

function positionMm() {
  const [x, y, z] = crosshair;
  return affine.slice(0, 3).map((row) => row[0] * x + row[1] * y + row[2] * z + row[3]);
}

function withDirection(mm, axis) {
  const [positive, negative] = DIRECTIONS[axis];
  return `${mm < 0 ? negative : positive} ${Math.abs(mm).toFixed(1)}`;
}

function intensity({ name, low, step, exact }) {
  if (!volumes[name]) return "…";
  const value = low + step * volumes[name][crosshairIndex()];
  return exact ? String(Number(value.toPrecision(10))) : value.toPrecision(5);
}

const className = (layer) => (volumes[layer] ? classes[volumes[layer][crosshairIndex()]].name : "…");

let announcing;

// A screen reader would read out every voxel passed on the way.
function announceOnceStill() {
  clearTimeout(announcing);
  announcing = setTimeout(announce, STILL_FOR_MS);
}

function announce() {
  const position = element("position").textContent;
  const labels = layers.map((layer) => `${layer} ${className(layer)}`);
  const values = modalities.map((modality) => `${modality.title} ${intensity(modality)}`);
  element("spoken").textContent = [position, ...labels, ...values].join(", ");
}
