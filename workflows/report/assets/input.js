// What a person does with keys, mouse and touch.

import { redraw } from "./redraw.js";
import { crosshair, modalities, planes, shape, view } from "./state.js";
import { checkedValues, clamp, element } from "./tools.js";

const ZOOM_STEP = 1.25;
const ZOOM_LIMITS = [0.5, 12];
const SHIFT_VOXELS = 10;
const WHEEL_PX_PER_SLICE = 50;
const WHEEL_PX_PER_ZOOM = 200; // by a factor of e

export function listen() {
  planes.forEach(listenToPlane);
  document.addEventListener("keydown", onPageKey);
  document.querySelector(".panel").addEventListener("input", applyChoices);
  for (const button of document.querySelectorAll("[data-point]")) {
    button.addEventListener("click", () => jump(button.dataset));
  }
  element("zoom-in").addEventListener("click", zoomIn);
  element("zoom-out").addEventListener("click", zoomOut);
  element("reset").addEventListener("click", resetView);
  const observer = new ResizeObserver(redraw);
  for (const plane of planes) observer.observe(plane.canvas);
}

// ---- What is done ----------------------------------------------------------------------------------------------

function goTo(voxel) {
  voxel.forEach((index, axis) => {
    crosshair[axis] = clamp(Math.round(index), [0, shape[axis] - 1]);
  });
  redraw();
}

function moveTo(axis, index) {
  const voxel = [...crosshair];
  voxel[axis] = index;
  goTo(voxel);
}

const moveBy = (axis, voxels) => moveTo(axis, crosshair[axis] + voxels);

function zoomTo(zoom) {
  view.zoom = clamp(zoom, ZOOM_LIMITS);
  for (const plane of planes) plane.zoomTo(view.zoom, crosshair);
  redraw();
}

const zoomIn = () => zoomTo(view.zoom * ZOOM_STEP);
const zoomOut = () => zoomTo(view.zoom / ZOOM_STEP);

function resetView() {
  for (const id of ["brightness", "contrast"]) element(id).value = 0;
  for (const plane of planes) plane.centre = null;
  zoomTo(1);
}

function choose(name, value) {
  const input = document.querySelector(`input[name=${name}][value=${value}]`);
  if (!input) return;
  input.checked = true;
  applyChoices();
}

export function applyChoices() {
  const legend = element("legend-disagreement");
  if (legend) legend.hidden = checkedValues("layer")[0] !== "disagreement";
  const mirrored = checkedValues("convention")[0] === "radiological";
  for (const plane of planes) {
    const showsBothSides = plane.across === 0;
    if (showsBothSides && plane.mirrored !== mirrored) Object.assign(plane, { mirrored, centre: null });
  }
  redraw();
}

function jump({ point, jump: kind }) {
  goTo(point.split(",").map(Number));
  if (!kind) document.querySelector(".viewer").scrollIntoView(); // the button is in a table below the viewer
  if (kind === "missed" || kind === "invented") choose("layer", "disagreement");
  if (kind === "uncertain") element("uncertain").checked = true;
}

// ---- How it is asked for ---------------------------------------------------------------------------------------

function listenToPlane(plane) {
  listenToPointers(plane);
  listenToWheel(plane);
  plane.canvas.addEventListener("keydown", (event) => onPlaneKey(plane, event));
  const { through } = plane;
  const slider = element(`scroll-${plane.name}`);
  slider.max = shape[through] - 1;
  slider.addEventListener("input", () => moveTo(through, Number(slider.value)));
}

// One finger, or the mouse, moves the crosshair; two zoom.
function listenToPointers(plane) {
  const { canvas } = plane;
  const pressed = new Map();
  let spread = 0;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    pressed.set(event.pointerId, event);
    if (pressed.size === 2) spread = distanceBetween(pressed);
    else pointAt(plane, event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!pressed.has(event.pointerId)) return;
    pressed.set(event.pointerId, event);
    if (pressed.size === 1) {
      pointAt(plane, event);
      return;
    }
    const before = spread;
    spread = distanceBetween(pressed);
    zoomTo((view.zoom * spread) / before);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => pressed.delete(event.pointerId));
  }
}

function distanceBetween(pointers) {
  const [one, other] = pointers.values();
  return Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
}

function pointAt(plane, { clientX, clientY }) {
  const voxel = [...crosshair];
  [voxel[plane.across], voxel[plane.up]] = plane.voxelAt(clientX, clientY);
  goTo(voxel);
}

function listenToWheel({ canvas, through }) {
  let turned = 0; // in slices; a touchpad turns by less than one at a time
  const onWheel = (event) => {
    event.preventDefault();
    if (event.ctrlKey) {
      zoomTo(view.zoom * Math.exp(-event.deltaY / WHEEL_PX_PER_ZOOM));
      return;
    }
    const isInPixels = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL;
    turned += isInPixels ? event.deltaY / WHEEL_PX_PER_SLICE : event.deltaY;
    const slices = Math.trunc(turned);
    turned -= slices;
    if (slices) moveBy(through, -slices);
  };
  canvas.addEventListener("wheel", onWheel, { passive: false });
}

const hasModifier = (event) => event.ctrlKey || event.metaKey || event.altKey;

function onPlaneKey({ across, up, through, mirrored }, event) {
  const voxels = event.shiftKey ? SHIFT_VOXELS : 1;
  const right = mirrored ? -voxels : voxels;
  const moves = {
    ArrowLeft: [across, -right],
    ArrowRight: [across, right],
    ArrowUp: [up, voxels],
    ArrowDown: [up, -voxels],
    PageUp: [through, voxels],
    PageDown: [through, -voxels],
    Home: [through, -shape[through]],
    End: [through, shape[through]],
  };
  if (hasModifier(event) || !moves[event.key]) return;
  event.preventDefault();
  moveBy(...moves[event.key]);
}

const PAGE_KEYS = {
  p: () => choose("layer", "prediction"),
  r: () => choose("layer", "reference"),
  d: () => choose("layer", "disagreement"),
  o: () => choose("layer", "none"),
  u: () => element("heat")?.click(),
  l: () => document.querySelector("[data-jump=lesion]")?.click(),
  "+": zoomIn,
  "=": zoomIn,
  "-": zoomOut,
  0: resetView,
};

function onPageKey(event) {
  if (hasModifier(event)) return;
  const key = event.key.toLowerCase();
  const modality = modalities[Number(key) - 1];
  if (modality) choose("modality", modality.name);
  else PAGE_KEYS[key]?.();
}
