// The viewer: what is chosen, what is under the crosshair, and how keys, mouse and touch change it.

const settings = JSON.parse(document.getElementById("settings").textContent);
const { shape, affine, fileAxes, modalities, layers, classes, regions, disagreement } = settings;
const OVERLAYS = { p: "prediction", r: "reference", d: "disagreement", o: "none" };
const ZOOM_STEP = 1.25, ZOOM_LIMITS = [0.5, 12];
const LEVELS = 65536;
const UNCERTAIN_STRIPE = rgba([255, 255, 255], 230);
const TEN_VOXELS = 10;

const $ = (id) => document.getElementById(id);
const checked = (name) => [...document.querySelectorAll(`input[name=${name}]:checked`)].map((input) => input.value);
const limited = (value, [low, high]) => Math.min(Math.max(value, low), high);

const volumes = {}; // levels by modality, class indices by layer, and the mask `uncertain`
const planes = Object.keys(PLANES).map((name) => new Plane(name, settings));
const point = [...settings.start];
let zoom = 1;

// ---- The overlay's colours -------------------------------------------------------------------------------------

function overlayColours() {
  const layer = checked("layer")[0] ?? "none";
  const alpha = Math.round(Number($("opacity")?.value ?? 0) * 2.55);
  const shown = classes.map((_, index) => index > 0 && checked("class").includes(String(index)));
  const fill = classes.map((each, index) => (shown[index] ? rgba(each.colour, alpha) : 0));
  const outlined = regions.filter((region) => checked("region").includes(region.name));
  const { prediction, reference } = volumes;
  const source = layer === "disagreement" ? reference : volumes[layer];
  const uncertain = $("uncertain")?.checked ? volumes.uncertain : undefined;
  if (!source && !uncertain) return null;
  const missed = rgba(disagreement.missed, alpha), invented = rgba(disagreement.invented, alpha);
  const another = rgba(disagreement["another class"], alpha);

  function compared(voxel) {
    const p = prediction[voxel], r = reference[voxel];
    if (p === r) return 0;
    if (shown[p] && shown[r]) return another;
    return shown[r] ? missed : shown[p] ? invented : 0;
  }
  function outline(plane, voxel, column, row) {
    const across = plane.strides[plane.across], up = plane.strides[plane.up];
    for (let i = outlined.length - 1; i >= 0; i--) { // the innermost region lies on top
      const inside = (at) => outlined[i].classes.includes(source[at]);
      if (!inside(voxel)) continue;
      const border = column === 0 || row === 0 || column === plane.columns - 1 || row === plane.rows - 1;
      if (border || !inside(voxel - across) || !inside(voxel + across) || !inside(voxel - up) || !inside(voxel + up)) {
        return rgba(outlined[i].colour, 255);
      }
    }
    return 0;
  }
  return (plane) => (voxel, column, row) => {
    if (uncertain && uncertain[voxel] && (column + row) % 3 === 0) return UNCERTAIN_STRIPE;
    if (!source) return 0;
    const line = outlined.length ? outline(plane, voxel, column, row) : 0;
    if (line) return line;
    return layer === "disagreement" ? (prediction ? compared(voxel) : 0) : fill[source[voxel]];
  };
}

function greysOf({ low, step, window: [black, white] }) {
  const width = Math.max(white - black, step) * 2 ** (-Number($("contrast").value) / 50);
  const middle = (black + white) / 2 - Number($("brightness").value) / 100 * (white - black);
  const greys = new Uint32Array(LEVELS);
  for (let level = 0; level < LEVELS; level++) {
    const grey = limited((low + step * level - middle) / width + 0.5, [0, 1]) * 255;
    greys[level] = rgba([grey, grey, grey], 255);
  }
  return greys;
}

// ---- Drawing -----------------------------------------------------------------------------------------------------

const view = { point };
let greysFor = "";
let waiting = false;

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    drawNow();
  });
}

function drawNow() {
  const modality = modalities.find(({ name }) => name === checked("modality")[0]);
  const key = [modality.name, $("brightness").value, $("contrast").value].join();
  if (key !== greysFor) [view.greys, greysFor] = [greysOf(modality), key];
  view.levels = volumes[modality.name];
  view.smooth = $("smooth").checked;
  view.colourOf = overlayColours();
  for (const plane of planes) {
    fitCanvas(plane.canvas);
    plane.draw(view);
  }
  drawProfile();
  writeReadout();
}

function fitCanvas(canvas) {
  const { clientWidth, clientHeight } = canvas;
  const [width, height] = [clientWidth, clientHeight].map((size) => Math.max(1, Math.round(size * devicePixelRatio)));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
}

// Tumour per axial slice above the slider, and the slices trained on.
let perSlice = null;

function countPerSlice(labels) {
  const area = shape[0] * shape[1];
  return Array.from({ length: shape[2] }, (_, z) => {
    let count = 0;
    for (let at = z * area; at < (z + 1) * area; at++) count += labels[at] > 0;
    return count;
  });
}

function drawProfile() {
  const canvas = $("profile");
  if (!canvas || !volumes[layers[0]]) return;
  perSlice ??= countPerSlice(volumes[layers[0]]);
  fitCanvas(canvas);
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  const each = width / shape[2], most = Math.max(...perSlice, 1), line = 3 * devicePixelRatio;
  context.clearRect(0, 0, width, height);
  perSlice.forEach((count, z) => {
    const tall = count ? Math.max(1, count / most * (height - line - 2)) : 0;
    context.fillStyle = z === point[2] ? "#ffffff" : "#6f8192";
    context.fillRect(z * each, height - line - 1 - tall, Math.max(each - 0.5, 0.5), tall);
  });
  if (settings.trainedOn) {
    const [first, end] = settings.trainedOn;
    context.fillStyle = "#8ecbff";
    context.fillRect(first * each, height - line, (end - first) * each, line);
  }
}

// ---- Words and numbers -------------------------------------------------------------------------------------------

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

// ---- What a person does ------------------------------------------------------------------------------------------

function goTo(target) {
  target.forEach((index, axis) => { point[axis] = limited(Math.round(index), [0, shape[axis] - 1]); });
  redraw();
}

function moveBy(axis, voxels) {
  const target = [...point];
  target[axis] += voxels;
  goTo(target);
}

function zoomTo(wanted) {
  zoom = limited(wanted, ZOOM_LIMITS);
  for (const plane of planes) plane.zoomTo(zoom, point);
  redraw();
}

function choose(name, value) {
  const input = document.querySelector(`input[name=${name}][value=${value}]`);
  if (input) {
    input.checked = true;
    changed();
  }
}

function changed() {
  const legend = $("legend-disagreement");
  if (legend) legend.hidden = checked("layer")[0] !== "disagreement";
  const mirrored = checked("convention")[0] === "radiological";
  for (const plane of planes) {
    if (plane.across === 0 && plane.mirrored !== mirrored) Object.assign(plane, { mirrored, centre: null });
  }
  redraw();
}

function listenToPlane(plane) {
  const { canvas, across, up, through } = plane;
  const fingers = new Map();
  let spread = 0, turned = 0;
  const distance = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  };
  const pointAt = (event) => {
    const target = [...point];
    [target[across], target[up]] = plane.voxelAt(event.clientX, event.clientY);
    goTo(target);
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event);
    if (fingers.size === 2) spread = distance();
    else pointAt(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, event);
    if (fingers.size === 1) return pointAt(event);
    const now = distance();
    zoomTo(zoom * now / spread);
    spread = now;
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey) return zoomTo(zoom * Math.exp(-event.deltaY / 200));
    turned += event.deltaMode === 0 ? event.deltaY / 50 : event.deltaY;
    const slices = Math.trunc(turned);
    turned -= slices;
    if (slices) moveBy(through, -slices);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const many = event.shiftKey ? TEN_VOXELS : 1;
    const right = plane.mirrored ? -1 : 1;
    const moves = {
      ArrowLeft: [across, -right * many], ArrowRight: [across, right * many],
      ArrowUp: [up, many], ArrowDown: [up, -many],
      PageUp: [through, many], PageDown: [through, -many],
      Home: [through, -shape[through]], End: [through, shape[through]],
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !moves[event.key]) return;
    event.preventDefault();
    moveBy(...moves[event.key]);
  });
  const slider = $(`scroll-${plane.name}`);
  slider.max = shape[through] - 1;
  slider.addEventListener("input", () => moveBy(through, Number(slider.value) - point[through]));
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  const modality = modalities[Number(key) - 1];
  if (modality) choose("modality", modality.name);
  else if (OVERLAYS[key]) choose("layer", OVERLAYS[key]);
  else if (key === "l") document.querySelector("[data-jump=lesion]")?.click();
  else if (key === "+" || key === "=") zoomTo(zoom * ZOOM_STEP);
  else if (key === "-") zoomTo(zoom / ZOOM_STEP);
  else if (key === "0") resetView();
}

function resetView() {
  for (const id of ["brightness", "contrast"]) $(id).value = 0;
  for (const plane of planes) plane.centre = null;
  zoomTo(1);
}

function listen() {
  planes.forEach(listenToPlane);
  document.addEventListener("keydown", onKey);
  document.querySelector(".panel").addEventListener("input", changed);
  for (const button of document.querySelectorAll("[data-point]")) {
    button.addEventListener("click", () => {
      goTo(button.dataset.point.split(",").map(Number));
      if (!button.dataset.jump) document.querySelector(".viewer").scrollIntoView();
      if (button.dataset.jump === "missed" || button.dataset.jump === "invented") choose("layer", "disagreement");
      if (button.dataset.jump === "uncertain") $("uncertain").checked = true;
    });
  }
  $("zoom-in").addEventListener("click", () => zoomTo(zoom * ZOOM_STEP));
  $("zoom-out").addEventListener("click", () => zoomTo(zoom / ZOOM_STEP));
  $("reset").addEventListener("click", resetView);
  const resized = new ResizeObserver(redraw);
  for (const plane of planes) resized.observe(plane.canvas);
}

// ---- Opening: the first image and the first label map, then the rest ----------------------------------------------

async function open() {
  const [firstImage, ...images] = modalities.map(({ name }) => name);
  const [firstLayer, ...masks] = [...layers, ...(settings.uncertain ? ["uncertain"] : [])];
  volumes[firstImage] = await unpackLevels(firstImage, shape);
  if (firstLayer) volumes[firstLayer] = await unpackLabels(firstLayer, shape);
  listen();
  changed();
  drawNow();
  performance.mark("open");
  document.documentElement.dataset.state = "open";
  for (const [names, unpackEach] of [[masks, unpackLabels], [images, unpackLevels]]) {
    for (const name of names) {
      await new Promise((resolve) => setTimeout(resolve)); // let a click through
      volumes[name] = await unpackEach(name, shape);
      redraw();
    }
  }
  performance.mark("ready");
  document.documentElement.dataset.state = "ready";
}

open().catch((error) => {
  $("failure").textContent = `The images cannot be shown: ${error.message}. A browser from 2023 or later is needed.`;
  $("failure").hidden = false;
  document.documentElement.dataset.state = "failed";
  throw error;
});
