// One plane of the patient on a canvas: the image, the overlay, the crosshair. Axes: 0 right, 1 anterior, 2 superior.

const CROSSHAIR = "rgba(142, 203, 255, .75)";
const CROSSHAIR_GAP_PX = 9;
const INNER_PART = 0.8; // of the stage: where the crosshair leaves it the view follows
const PLANES = {
  axial: { across: 0, up: 1, through: 2 },
  coronal: { across: 0, up: 2, through: 1 },
  sagittal: { across: 1, up: 2, through: 0 },
};
const DIRECTIONS = [["R", "L"], ["A", "P"], ["S", "I"]];

const rgba = ([red, green, blue], alpha) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;

class Plane {
  constructor(name, settings) {
    Object.assign(this, PLANES[name], { name, settings, zoom: 1 });
    const { shape, spacing, box } = settings;
    this.columns = shape[this.across];
    this.rows = shape[this.up];
    this.strides = [1, shape[0], shape[0] * shape[1]];
    this.edges = [spacing[this.across], spacing[this.up]]; // of a pixel, in mm
    this.canvas = document.getElementById(`canvas-${name}`);
    this.context = this.canvas.getContext("2d");
    this.image = this.layer();
    this.overlay = this.layer();
    this.heat = this.layer();
    this.mirrored = true; // anterior, and by the radiological convention the patient's right, is on the left
    this.box = [box[this.across], box[this.up]];
    this.centre = null;
  }

  layer() {
    const canvas = Object.assign(document.createElement("canvas"), { width: this.columns, height: this.rows });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(this.columns, this.rows);
    return { canvas, context, pixels, words: new Uint32Array(pixels.data.buffer) };
  }

  // Where a voxel is drawn, in pixels of the slice, and back.
  column(index) { return this.mirrored ? this.columns - 1 - index : index; }
  row(index) { return this.rows - 1 - index; }

  edgeLetters() {
    const [positive, negative] = DIRECTIONS[this.across];
    const [above, below] = DIRECTIONS[this.up];
    return { left: this.mirrored ? positive : negative, right: this.mirrored ? negative : positive, above, below };
  }

  middle() { // of the brain, in millimetres of the slice from its upper left corner
    const [across, up] = this.box;
    const columns = across.map((index) => this.column(index) + 0.5);
    const rows = up.map((index) => this.row(index) + 0.5);
    return [(columns[0] + columns[1]) / 2 * this.edges[0], (rows[0] + rows[1]) / 2 * this.edges[1]];
  }

  millimetres(point) {
    return [(this.column(point[this.across]) + 0.5) * this.edges[0], (this.row(point[this.up]) + 0.5) * this.edges[1]];
  }

  get scale() { // canvas pixels per mm
    const extents = this.box.map(([first, last], i) => (last - first + 1) * this.edges[i]);
    return Math.min(this.canvas.width / extents[0], this.canvas.height / extents[1]) * this.zoom;
  }

  follow(point) {
    if (!this.centre || this.zoom <= 1) this.centre = this.middle();
    if (this.zoom <= 1) return;
    const reach = [this.canvas.width, this.canvas.height].map((size) => size / this.scale / 2 * INNER_PART);
    this.millimetres(point).forEach((at, i) => {
      this.centre[i] = Math.min(Math.max(this.centre[i], at - reach[i]), at + reach[i]);
    });
  }

  zoomTo(zoom, point) { // the crosshair stays where it is on the screen
    const before = this.scale;
    const at = this.millimetres(point);
    this.zoom = zoom;
    const after = this.scale;
    if (this.centre) this.centre = this.centre.map((middle, i) => at[i] - (at[i] - middle) * before / after);
  }

  voxelAt(clientX, clientY) { // [across, up] under a position on the screen, the nearest in the volume
    const frame = this.canvas.getBoundingClientRect();
    const [width, height] = [this.canvas.width, this.canvas.height];
    const x = ((clientX - frame.left) / frame.width * width - width / 2) / this.scale + this.centre[0];
    const y = ((clientY - frame.top) / frame.height * height - height / 2) / this.scale + this.centre[1];
    const column = Math.min(Math.max(Math.floor(x / this.edges[0]), 0), this.columns - 1);
    const row = Math.min(Math.max(Math.floor(y / this.edges[1]), 0), this.rows - 1);
    return [this.column(column), this.row(row)];
  }

  paint(layer, colourAt, point) {
    const offset = point[this.through] * this.strides[this.through];
    const stepAcross = this.mirrored ? -this.strides[this.across] : this.strides[this.across];
    const first = this.mirrored ? (this.columns - 1) * this.strides[this.across] : 0;
    for (let row = 0, pixel = 0; row < this.rows; row++) {
      let voxel = offset + first + (this.rows - 1 - row) * this.strides[this.up];
      for (let column = 0; column < this.columns; column++, pixel++, voxel += stepAcross) {
        layer.words[pixel] = colourAt(voxel, column, row);
      }
    }
    layer.context.putImageData(layer.pixels, 0, 0);
  }

  draw(view) {
    const { context, canvas } = this;
    const point = view.point;
    this.follow(point);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const scale = this.scale;
    const left = canvas.width / 2 - this.centre[0] * scale;
    const top = canvas.height / 2 - this.centre[1] * scale;
    const size = [this.columns * this.edges[0] * scale, this.rows * this.edges[1] * scale];
    if (view.levels) {
      const { levels, greys } = view;
      this.paint(this.image, (voxel) => greys[levels[voxel]], point);
      context.imageSmoothingEnabled = view.smooth;
      context.imageSmoothingQuality = "high";
      context.drawImage(this.image.canvas, left, top, ...size);
    }
    if (view.colourOf) {
      this.paint(this.overlay, view.colourOf(this), point);
      context.imageSmoothingEnabled = false;
      context.drawImage(this.overlay.canvas, left, top, ...size);
    }
    if (view.uncertainty) {
      const { uncertainty, heat } = view;
      this.paint(this.heat, (voxel) => heat[uncertainty[voxel]], point);
      context.imageSmoothingEnabled = false;
      context.drawImage(this.heat.canvas, left, top, ...size);
    }
    const [x, y] = this.millimetres(point);
    this.drawCrosshair(left + x * scale, top + y * scale);
  }

  drawCrosshair(x, y) {
    const { context, canvas } = this;
    const gap = CROSSHAIR_GAP_PX * devicePixelRatio;
    context.strokeStyle = CROSSHAIR;
    context.lineWidth = devicePixelRatio;
    context.beginPath();
    for (const [fromX, fromY, toX, toY] of [
      [0, y, x - gap, y], [x + gap, y, canvas.width, y], [x, 0, x, y - gap], [x, y + gap, x, canvas.height],
    ]) {
      context.moveTo(fromX, fromY);
      context.lineTo(toX, toY);
    }
    context.stroke();
  }
}
