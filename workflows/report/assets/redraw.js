// Draws the planes, the profile and the readout, at most once per frame of the screen.

import { greyColours, heatColours, overlayColours } from "./colours.js";
import { drawProfile } from "./profile.js";
import { writeReadout } from "./readout.js";
import { crosshair, modalities, planes, volumes } from "./state.js";
import { checkedValues, element, matchCanvasToScreen } from "./tools.js";

let isRequested = false;

export function redraw() {
  if (isRequested) return;
  isRequested = true;
  requestAnimationFrame(() => {
    isRequested = false;
    redrawNow();
  });
}

export function redrawNow() {
  const frame = describeFrame();
  for (const plane of planes) {
    matchCanvasToScreen(plane.canvas);
    plane.draw(frame, crosshair);
  }
  drawProfile();
  writeReadout();
}

function describeFrame() {
  const modality = modalities.find(({ name }) => name === checkedValues("modality")[0]);
  const uncertainty = element("heat")?.checked ? volumes.uncertainty : undefined;
  return {
    levels: volumes[modality.name],
    greys: currentGreys(modality),
    smooth: element("smooth").checked,
    overlayOf: overlayColours(),
    uncertainty,
    heat: uncertainty && heatColours(),
  };
}

let greys = null;
let greysKey = "";

// 65536 greys take longer than a frame has: they are kept until something changes them.
function currentGreys(modality) {
  const key = [modality.name, element("brightness").value, element("contrast").value].join();
  if (key !== greysKey) {
    greys = greyColours(modality);
    greysKey = key;
  }
  return greys;
}
