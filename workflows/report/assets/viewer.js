// The viewer: what is chosen, and how it is drawn. The files before this one share its names: one module in the page.

const settings = JSON.parse(document.getElementById("settings").textContent);
const { shape, affine, fileAxes, modalities, layers, classes, regions, disagreement, heat } = settings;
const OVERLAYS = { p: "prediction", r: "reference", d: "disagreement", o: "none" };
const ZOOM_STEP = 1.25, ZOOM_LIMITS = [0.5, 12];
const LEVELS = 65536;
const UNCERTAIN_STRIPE = rgba([255, 255, 255], 230);
const HEAT_LEVELS = 256;
const HEAT_OPAQUE_FROM = 0.25; // below this uncertainty the heat fades out, so that the scan stays visible
const TEN_VOXELS = 10;

const $ = (id) => document.getElementById(id);
const checked = (name) => [...document.querySelectorAll(`input[name=${name}]:checked`)].map((input) => input.value);
const limited = (value, [low, high]) => Math.min(Math.max(value, low), high);

const volumes = {}; // levels by modality, class indices by layer, the mask `uncertain`, `uncertainty` from 0 to 255
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

// The heat's colour of each level: linear between the given ones.
function heatColours() {
  const opacity = Number($("heat-opacity").value) * 2.55;
  return Uint32Array.from({ length: HEAT_LEVELS }, (_, level) => {
    const share = level / (HEAT_LEVELS - 1), place = share * (heat.length - 1);
    const below = Math.min(Math.floor(place), heat.length - 2), part = place - below;
    const colour = heat[below].map((value, i) => Math.round(value + part * (heat[below + 1][i] - value)));
    return rgba(colour, Math.round(opacity * limited(share / HEAT_OPAQUE_FROM, [0, 1])));
  });
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
  view.uncertainty = $("heat")?.checked ? volumes.uncertainty : undefined;
  if (view.uncertainty) view.heat = heatColours();
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

// ---- Opening: the first image and the first label map, then the rest ----------------------------------------------

async function open() {
  const [firstImage, ...images] = modalities.map(({ name }) => name);
  const [firstLayer, ...masks] = [...layers, ...settings.masks];
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
