// Tumour per axial slice, as bars above the slider, and the slices trained on, as a line below the bars.

import { crosshair, layers, settings, shape, volumes } from "./state.js";
import { element, matchCanvasToScreen } from "./tools.js";

const CURRENT_COLOUR = "#ffffff";
const BAR_COLOUR = "#6f8192";
const TRAINED_COLOUR = "#8ecbff";
const LINE_PX = 3;

let tumourPerSlice = null;

export function drawProfile() {
  const canvas = element("profile");
  const labels = volumes[layers[0]];
  if (!(canvas && labels)) return;
  tumourPerSlice ??= countTumourPerSlice(labels);
  matchCanvasToScreen(canvas);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  drawBars(context);
  if (settings.trainedOn) drawTrainedOn(context, settings.trainedOn);
}

function countTumourPerSlice(labels) {
  const area = shape[0] * shape[1];
  return Array.from({ length: shape[2] }, (_, slice) => {
    const inSlice = labels.subarray(slice * area, (slice + 1) * area);
    return inSlice.reduce((count, label) => count + (label > 0), 0);
  });
}

const lineHeight = () => LINE_PX * devicePixelRatio;
const sliceWidth = (context) => context.canvas.width / shape[2];

function drawBars(context) {
  const bottom = context.canvas.height - lineHeight() - 1;
  const width = sliceWidth(context);
  const most = Math.max(...tumourPerSlice, 1);
  tumourPerSlice.forEach((count, slice) => {
    const height = count ? Math.max(1, (count / most) * (bottom - 1)) : 0;
    context.fillStyle = slice === crosshair[2] ? CURRENT_COLOUR : BAR_COLOUR;
    context.fillRect(slice * width, bottom - height, Math.max(width - 0.5, 0.5), height);
  });
}

function drawTrainedOn(context, [first, end]) {
  const width = sliceWidth(context);
  context.fillStyle = TRAINED_COLOUR;
  context.fillRect(first * width, context.canvas.height - lineHeight(), (end - first) * width, lineHeight());
}
