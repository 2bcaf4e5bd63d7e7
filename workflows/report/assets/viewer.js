// Opens the report: the first image and the first label map, then, while one looks at them, the rest.

import { applyChoices, listen } from "./input.js";
import { redraw, redrawNow } from "./redraw.js";
import { layers, modalities, settings, shape, volumes } from "./state.js";
import { element } from "./tools.js";
import { unpackLabels, unpackLevels } from "./unpack.js";

async function openReport() {
  const [firstImage, ...otherImages] = modalities.map(({ name }) => name);
  const [firstLayer, ...otherLayers] = [...layers, ...settings.masks];
  volumes[firstImage] = await unpackLevels(firstImage, shape);
  if (firstLayer) volumes[firstLayer] = await unpackLabels(firstLayer, shape);
  listen();
  applyChoices();
  redrawNow();
  reach("open");
  await addVolumes(otherLayers, unpackLabels);
  await addVolumes(otherImages, unpackLevels);
  reach("ready");
}

async function addVolumes(names, unpack) {
  for (const name of names) {
    await new Promise((resolve) => setTimeout(resolve)); // let a click through
    volumes[name] = await unpack(name, shape);
    redraw();
  }
}

function reach(state) {
  performance.mark(state);
  document.documentElement.dataset.state = state;
}

openReport().catch((error) => {
  element("failure").textContent =
    `The page cannot show the images: ${error.message}. It needs a browser from 2023 or later.`;
  element("failure").hidden = false;
  document.documentElement.dataset.state = "failed";
  throw error;
});
