// Reads Cuspid's fast stream: a series as a volume that grows while it arrives.

export type * from "./decoder.js";
export { halfFloat } from "./half.js";
export * from "./format.js";
export * from "./layers.js";
export * from "./load.js";
export * from "./pool.js";
export * from "./source.js";
export { type StandIn, StandIns, planesFor } from "./stand-in.js";
export * from "./volume.js";
export { createPool } from "./browser.js";
