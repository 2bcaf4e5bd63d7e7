// The colours of a slice's pixels, by what is chosen on the page.

import { classes, settings, volumes } from "./state.js";
import { checkedValues, clamp, element, rgba } from "./tools.js";

const { regions, disagreement, heat } = settings;
const LEVELS = 65536;
const HEAT_LEVELS = 256;
const HEAT_OPAQUE_FROM = 0.25; // below this uncertainty the heat fades out, so that the scan stays visible
const OPAQUE = 255;
const TRANSPARENT = 0;
const UNCERTAIN_STRIPE = rgba([255, 255, 255], 230);
const STRIPE_EVERY_PX = 3;

const alphaOf = (percent) => percent * 2.55;

// For a plane, the colour of each of its voxels; null where the overlay is empty. The inner functions run for every
// pixel of every frame, so whatever they need of the page is read before.
export function overlayColours() {
  const layer = checkedValues("layer")[0];
  const labels = layer === "disagreement" ? volumes.reference : volumes[layer];
  const uncertain = element("uncertain")?.checked ? volumes.uncertain : undefined;
  if (!(labels || uncertain)) return null;
  const outlineAt = regionOutlines(labels);
  const fillAt = layer === "disagreement" ? disagreementColours() : classColours(labels);
  return (plane) => (voxel, column, row) => {
    if (uncertain?.[voxel] && (column + row) % STRIPE_EVERY_PX === 0) return UNCERTAIN_STRIPE;
    if (!labels) return TRANSPARENT;
    return outlineAt(plane, voxel, column, row) || fillAt(voxel);
  };
}

const overlayAlpha = () => Math.round(alphaOf(Number(element("opacity").value)));

function shownClasses() {
  const checked = checkedValues("class");
  return classes.map((_, index) => checked.includes(String(index)));
}

function classColours(labels) {
  const alpha = overlayAlpha();
  const shown = shownClasses();
  const colours = classes.map(({ colour }, index) => (shown[index] ? rgba(colour, alpha) : TRANSPARENT));
  return (voxel) => colours[labels[voxel]];
}

function disagreementColours() {
  const { prediction, reference } = volumes;
  if (!prediction) return () => TRANSPARENT; // not unpacked yet
  const alpha = overlayAlpha();
  const shown = shownClasses();
  const missed = rgba(disagreement.missed, alpha);
  const invented = rgba(disagreement.invented, alpha);
  const anotherClass = rgba(disagreement["another class"], alpha);
  return (voxel) => {
    const predicted = prediction[voxel];
    const expected = reference[voxel];
    if (predicted === expected) return TRANSPARENT;
    if (shown[predicted] && shown[expected]) return anotherClass;
    if (shown[expected]) return missed;
    return shown[predicted] ? invented : TRANSPARENT;
  };
}

function regionOutlines(labels) {
  const checked = checkedValues("region");
  const innermostFirst = regions
    .filter(({ name }) => checked.includes(name))
    .reverse()
    .map((region) => ({
      colour: rgba(region.colour, OPAQUE),
      contains: (voxel) => region.classes.includes(labels[voxel]),
    }));
  return (plane, voxel, column, row) => {
    for (const { colour, contains } of innermostFirst) {
      if (contains(voxel) && isAtEdge(contains, plane, voxel, column, row)) return colour;
    }
    return TRANSPARENT;
  };
}

function isAtEdge(contains, plane, voxel, column, row) {
  if (column === 0 || row === 0 || column === plane.columns - 1 || row === plane.rows - 1) return true;
  const across = plane.strides[plane.across];
  const up = plane.strides[plane.up];
  return !(contains(voxel - across) && contains(voxel + across) && contains(voxel - up) && contains(voxel + up));
}

export function heatColours() {
  const opacity = alphaOf(Number(element("heat-opacity").value));
  return Uint32Array.from({ length: HEAT_LEVELS }, (_, level) => {
    const uncertainty = level / (HEAT_LEVELS - 1);
    const alpha = opacity * clamp(uncertainty / HEAT_OPAQUE_FROM, [0, 1]);
    return rgba(heatColour(uncertainty), Math.round(alpha));
  });
}

// Linear between the given colours, which lie evenly from 0 to 1.
function heatColour(uncertainty) {
  const place = uncertainty * (heat.length - 1);
  const below = Math.min(Math.floor(place), heat.length - 2);
  const share = place - below;
  return heat[below].map((value, i) => Math.round(value + share * (heat[below + 1][i] - value)));
}

// The grey of each level. The contrast narrows the window of shown intensities, the brightness moves it.
export function greyColours({ low, step, window: [black, white] }) {
  const width = Math.max(white - black, step) * 2 ** (-Number(element("contrast").value) / 50);
  const middle = (black + white) / 2 - (Number(element("brightness").value) / 100) * (white - black);
  const greys = new Uint32Array(LEVELS);
  for (let level = 0; level < LEVELS; level++) {
    const grey = clamp((low + step * level - middle) / width + 0.5, [0, 1]) * 255;
    greys[level] = rgba([grey, grey, grey], OPAQUE);
  }
  return greys;
}
