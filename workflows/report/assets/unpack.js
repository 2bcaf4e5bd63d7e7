// Volumes out of the page, where each is the base64 of a zlib stream. workflows/report/volumes.py packs them.

function decodeBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function inflate(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function takeBytes(name, length) {
  const holder = document.getElementById(`volume-${name}`);
  const packed = decodeBase64(holder.textContent);
  holder.remove(); // its text would stay in memory
  const bytes = await inflate(packed);
  if (bytes.length !== length) throw new Error(`the volume ${name} has ${bytes.length} of ${length} bytes`);
  return bytes;
}

// The packing predicts each level from its neighbours to the left, behind and behind left, keeps what the prediction
// missed, and folds that so that a small miss in either direction is a small number.
function levelsFromMisses(bytes, [columns, rows, slices]) {
  const count = columns * rows * slices;
  const levels = new Uint16Array(count);
  for (let start = 0; start < count; start += columns) {
    const hasRowBehind = start % (columns * rows) !== 0;
    let left = 0;
    let behindLeft = 0;
    for (let voxel = start; voxel < start + columns; voxel++) {
      const folded = bytes[voxel] | (bytes[voxel + count] << 8); // all low bytes come first, then all high ones
      const miss = (folded >> 1) ^ -(folded & 1);
      const behind = hasRowBehind ? levels[voxel - columns] : 0;
      left = (miss + left + behind - behindLeft) & 0xffff;
      levels[voxel] = left;
      behindLeft = behind;
    }
  }
  return levels;
}

export const unpackLabels = (name, [columns, rows, slices]) => takeBytes(name, columns * rows * slices);

export async function unpackLevels(name, shape) {
  const [columns, rows, slices] = shape;
  return levelsFromMisses(await takeBytes(name, 2 * columns * rows * slices), shape);
}
