// What the coarsest level says of the values of a series: the range, a window, and where bone begins.

const BINS = 256;

export interface Statistics {
  min: number;
  max: number;
  /** Where the lower and the upper of two thresholds part the values into three classes (Otsu). */
  lower: number;
  upper: number;
  /** A window that shows what is there. */
  window: [number, number];
}

/** @param values After the rescale. */
export function statistics(values: Float32Array): Statistics {
  let [min, max] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < min) min = value;
    if (value > max) max = value;
  }
  if (!(max > min)) return { min, max: min + 1, lower: min, upper: min, window: [min + 0.5, 1] };
  const counts = new Float64Array(BINS);
  const scale = (BINS - 1e-3) / (max - min);
  for (const value of values) counts[Math.floor((value - min) * scale)]++;
  const value = (bin: number) => min + (bin * (max - min)) / BINS;
  const [lower, upper] = otsu(counts);
  const [low, high] = [value(percentile(counts, 0.02)), value(percentile(counts, 0.995) + 1)];
  return { min, max, lower: value(lower), upper: value(upper), window: [(low + high) / 2, Math.max(high - low, 1)] };
}

function percentile(counts: Float64Array, part: number): number {
  const goal = part * counts.reduce((sum, count) => sum + count, 0);
  let sum = 0;
  return Math.max(0, counts.findIndex((count) => (sum += count) >= goal));
}

/** The two thresholds whose three classes differ most from each other. */
function otsu(counts: Float64Array): [number, number] {
  const [weights, moments] = [new Float64Array(BINS + 1), new Float64Array(BINS + 1)];
  counts.forEach((count, bin) => {
    weights[bin + 1] = weights[bin] + count;
    moments[bin + 1] = moments[bin] + count * bin;
  });
  const part = (from: number, to: number) => {
    const weight = weights[to] - weights[from];
    return weight > 0 ? (moments[to] - moments[from]) ** 2 / weight : 0;
  };
  let best: [number, number] = [0, 0];
  let most = -1;
  for (let one = 1; one < BINS - 1; one++) {
    for (let two = one + 1; two < BINS; two++) {
      const spread = part(0, one) + part(one, two) + part(two, BINS);
      if (spread > most) [most, best] = [spread, [one, two]];
    }
  }
  return best;
}

/** The value of a half float. */
export function fromHalf(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const value = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction;
  return bits & 0x8000 ? -value : value;
}
