// What a person does with keys, mouse and touch.

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
  else if (key === "u") $("heat")?.click();
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
