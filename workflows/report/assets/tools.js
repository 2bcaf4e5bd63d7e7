// Short helpers that the other files share.

export const element = (id) => document.getElementById(id);

export const checkedValues = (name) =>
  [...document.querySelectorAll(`input[name=${name}]:checked`)].map((input) => input.value);

export const clamp = (value, [low, high]) => Math.min(Math.max(value, low), high);

// A colour as a word of ImageData's buffer: on little-endian machines its bytes then are red, green, blue, alpha.
export const rgba = ([red, green, blue], alpha) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;

// A canvas is sharp only where it has as many pixels as the screen shows of it.
export function matchCanvasToScreen(canvas) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((size) =>
    Math.max(1, Math.round(size * devicePixelRatio)),
  );
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
}
