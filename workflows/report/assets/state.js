// What the page holds, and what the person looking at it has moved to.

import { PLANE_NAMES, Plane } from "./plane.js";

export const settings = JSON.parse(document.getElementById("settings").textContent);
export const { shape, modalities, layers, classes } = settings;

// Levels by modality, class indices by layer, the mask `uncertain`, `uncertainty` from 0 to 255: whatever has been
// unpacked so far.
export const volumes = {};

export const planes = PLANE_NAMES.map((name) => new Plane(name, settings));
export const crosshair = [...settings.start]; // a voxel
export const view = { zoom: 1 };
