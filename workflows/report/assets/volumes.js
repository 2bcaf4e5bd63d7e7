// Volumes out of the page: base64 of a zlib stream; images are put together from what their prediction missed.

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function unpack(name, length) {
  const element = document.getElementById(`volume-${name}`);
  const packed = bytesOf(element.textContent);
  element.remove(); // its text would stay in memory
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  if (bytes.length !== length) throw new Error(`the volume ${name} has ${bytes.length} of ${length} bytes`);
  return bytes;
}

const unpackLabels = (name, [nx, ny, nz]) => unpack(name, nx * ny * nz);

// The inverse of workflows.report_volumes.pack_levels.
async function unpackLevels(name, [nx, ny, nz]) {
  const count = nx * ny * nz;
  const bytes = await unpack(name, 2 * count);
  const levels = new Uint16Array(count);
  for (let z = 0, at = 0; z < nz; z++) {
    for (let y = 0; y < ny; y++) {
      let left = 0, behindLeft = 0;
      for (let x = 0; x < nx; x++, at++) {
        const folded = bytes[at] | (bytes[at + count] << 8);
        const behind = y ? levels[at - nx] : 0;
        left = ((folded >> 1) ^ -(folded & 1)) + left + behind - behindLeft & 0xffff;
        levels[at] = left;
        behindLeft = behind;
      }
    }
  }
  return levels;
}
