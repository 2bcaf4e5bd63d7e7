// One plane of the patient on a canvas: the image, the overlay, the crosshair. Axes: 0 right, 1 anterior, 2 superior.

import { clamp } from "./tools.js";

const CROSSHAIR_COLOUR = "rgba(142, 203, 255, .75)";
const CROSSHAIR_GAP_PX = 9;
const INNER_PART = 0.8; // of the canvas: where the crosshair leaves it the plane follows
const AXES = {
  axial: { across: 0, up: 1, through: 2 },
  coronal: { across: 0, up: 2, through: 1 },
  sagittal: { across: 1, up: 2, through: 0 },
};
export const PLANE_NAMES = Object.keys(AXES);
export const DIRECTIONS = [
  ["R", "L"],
  ["A", "P"],
  ["S", "I"],
];

export class Plane {
  constructor(name, { shape, spacing, box }) {
    Object.assign(this, AXES[name], { name, zoom: 1 });
    this.columns = shape[this.across];
    this.rows = shape[this.up];
    this.strides = [1, shape[0], shape[0] * shape[1]];
    this.pixelMm = [spacing[this.across], spacing[this.up]];
    this.brainBox = [box[this.across], box[this.up]];
    this.mirrored = true; // anterior, and by the radiological convention the patient's right, is on the left
    this.centre = null; // of the canvas, in millimetres of the slice from its upper left corner
    this.canvas = document.getElementById(`canvas-${name}`);
    this.context = this.canvas.getContext("2d");
    this.image = this.createLayer();
    this.overlay = this.createLayer();
    this.heat = this.createLayer();
  }

  // A canvas with one pixel per voxel of the slice; the plane's own canvas shows it enlarged.
  createLayer() {
    const canvas = Object.assign(document.createElement("canvas"), { width: this.columns, height: this.rows });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(this.columns, this.rows);
    return { canvas, context, pixels, words: new Uint32Array(pixels.data.buffer) };
  }

  // Either turns a voxel's index into a pixel of the slice, and back.
  flipColumn(index) {
    return this.mirrored ? this.columns - 1 - index : index;
  }

  flipRow(index) {
    return this.rows - 1 - index;
  }

  edgeLetters() {
    const [positive, negative] = DIRECTIONS[this.across];
    const [above, below] = DIRECTIONS[this.up];
    return { left: this.mirrored ? positive : negative, right: this.mirrored ? negative : positive, above, below };
  }

  // Centre of a voxel in millimetres of the slice from its upper left corner.
  placeInSlice(across, up) {
    return [(this.flipColumn(across) + 0.5) * this.pixelMm[0], (this.flipRow(up) + 0.5) * this.pixelMm[1]];
  }

  placeOf(point) {
    return this.placeInSlice(point[this.across], point[this.up]);
  }

  brainCentre() {
    const [across, up] = this.brainBox;
    const first = this.placeInSlice(across[0], up[0]);
    const last = this.placeInSlice(across[1], up[1]);
    return [(first[0] + last[0]) / 2, (first[1] + last[1]) / 2];
  }

  get pixelsPerMm() {
    const [widthMm, heightMm] = this.brainBox.map(([first, last], i) => (last - first + 1) * this.pixelMm[i]);
    return Math.min(this.canvas.width / widthMm, this.canvas.height / heightMm) * this.zoom;
  }

  // Keep the crosshair in the inner part of an enlarged picture; show the whole brain otherwise.
  follow(point) {
    if (!this.centre || this.zoom <= 1) this.centre = this.brainCentre();
    if (this.zoom <= 1) return;
    const reach = [this.canvas.width, this.canvas.height].map((size) => (size / this.pixelsPerMm / 2) * INNER_PART);
    this.centre = this.placeOf(point).map((place, i) => clamp(this.centre[i], [place - reach[i], place + reach[i]]));
  }

  // The crosshair stays where it is on the screen.
  zoomTo(zoom, point) {
    const before = this.pixelsPerMm;
    this.zoom = zoom;
    const after = this.pixelsPerMm;
    const place = this.placeOf(point);
    if (this.centre) this.centre = this.centre.map((centre, i) => place[i] - ((place[i] - centre) * before) / after);
  }

  // [across, up] of the voxel under a position on the screen, or of the nearest in the volume.
  voxelAt(clientX, clientY) {
    const frame = this.canvas.getBoundingClientRect();
    const { width, height } = this.canvas;
    const x = (((clientX - frame.left) / frame.width) * width - width / 2) / this.pixelsPerMm + this.centre[0];
    const y = (((clientY - frame.top) / frame.height) * height - height / 2) / this.pixelsPerMm + this.centre[1];
    const column = clamp(Math.floor(x / this.pixelMm[0]), [0, this.columns - 1]);
    const row = clamp(Math.floor(y / this.pixelMm[1]), [0, this.rows - 1]);
    return [this.flipColumn(column), this.flipRow(row)];
  }

  draw(frame, point) {
    const { context, canvas } = this;
    this.follow(point);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const { levels, greys, overlayOf, uncertainty, heat } = frame;
    if (levels) this.drawLayer(this.image, (voxel) => greys[levels[voxel]], point, frame.smooth);
    if (overlayOf) this.drawLayer(this.overlay, overlayOf(this), point, false);
    if (uncertainty) this.drawLayer(this.heat, (voxel) => heat[uncertainty[voxel]], point, false);
    this.drawCrosshair(point);
  }

  // Where a place in the slice is on the canvas, in pixels.
  onCanvas([xMm, yMm]) {
    const scale = this.pixelsPerMm;
    const { width, height } = this.canvas;
    return [width / 2 - this.centre[0] * scale + xMm * scale, height / 2 - this.centre[1] * scale + yMm * scale];
  }

  drawLayer(layer, colourAt, point, smooth) {
    this.paint(layer, colourAt, point);
    const size = [this.columns, this.rows].map((count, i) => count * this.pixelMm[i] * this.pixelsPerMm);
    this.context.imageSmoothingEnabled = smooth;
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(layer.canvas, ...this.onCanvas([0, 0]), ...size);
  }

  paint(layer, colourAt, point) {
    const { columns, rows, strides, across, up, through, mirrored } = this;
    const step = mirrored ? -strides[across] : strides[across];
    const firstInRow = point[through] * strides[through] + this.flipColumn(0) * strides[across];
    let pixel = 0;
    for (let row = 0; row < rows; row++) {
      let voxel = firstInRow + this.flipRow(row) * strides[up];
      for (let column = 0; column < columns; column++) {
        layer.words[pixel] = colourAt(voxel, column, row);
        pixel++;
        voxel += step;
      }
    }
    layer.context.putImageData(layer.pixels, 0, 0);
  }

  drawCrosshair(point) {
    const { context } = this;
    const { width, height } = this.canvas;
    const [x, y] = this.onCanvas(this.placeOf(point));
    const gap = CROSSHAIR_GAP_PX * devicePixelRatio;
    context.strokeStyle = CROSSHAIR_COLOUR;
    context.lineWidth = devicePixelRatio;
    context.beginPath();
    for (const [fromX, fromY, toX, toY] of [
      [0, y, x - gap, y],
      [x + gap, y, width, y],
      [x, 0, x, y - gap],
      [x, y + gap, x, height],
    ]) {
      context.moveTo(fromX, fromY);
      context.lineTo(toX, toY);
    }
    context.stroke();
  }
}
