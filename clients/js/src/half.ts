// Half floats (IEEE 754 binary16), as textures of R16F take them.

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The bits of the half float that is nearest to a value; values that are too large become the largest, and those below 2^-14 become 0. */
export function halfFloat(value: number): number {
  float[0] = Math.max(-65504, Math.min(65504, value));
  const sign = (bits[0] >>> 16) & 0x8000;
  const exponent = ((bits[0] >>> 23) & 0xff) - 112;
  if (exponent <= 0) return sign;
  const rounded = (exponent << 10) + ((bits[0] & 0x7fffff) + 0x1000 >>> 13);
  return sign | Math.min(rounded, 0x7bff);
}
