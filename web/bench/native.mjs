// A file too large or too new for the other program: in the browser beside the same kernels without one, one thread. The native side
// is told to use those of 128 bits, which are the browser's.

import { execFile } from "node:child_process";
import { stat } from "node:fs/promises";
import { promisify } from "node:util";
import { turn, workFor } from "./comparison.mjs";

const run = promisify(execFile);
/** Kernels of 128 bits. */
export const KERNELS = process.arch === "arm64" ? "neon" : "ssse3";

/** What the command `bitnet` prints as JSON. */
async function said(bitnet, ...words) {
  const { stdout } = await run(bitnet, [...words, "--json"], { env: { ...process.env, BITNET_ISA: KERNELS }, maxBuffer: 1 << 26 });
  return JSON.parse(stdout);
}

/** Whether a file is compared with the native program. */
export const isForNative = (file) => /bonsai2/.test(file);

/** One turn of either on a file: tokens per second of both, and the page's memory over that of the file and its states. */
export async function besideNative(address, bitnet, file) {
  const { prompt, write } = workFor(file);
  const { memory } = await said(bitnet, "inspect", file);
  const bench = await said(bitnet, "bench", "-m", file, "-p", String(prompt), "-n", String(write), "-t", "1", "-r", "1");
  const native = (test) => bench.results.find((result) => result.test === test).tokens_per_second;
  const ours = await turn(address, "bitnet-web", file);
  const { size } = await stat(file);
  const states = memory.state_bytes;
  return {
    device: ours.device,
    prefill: ours.prefill,
    decode: ours.decode,
    nativePrefill: native(`pp${prompt}`),
    nativeDecode: native(`tg${write}`),
    memory: ours.memory,
    memoryShare: (ours.memory * 2 ** 20 - states) / size,
    ownShare: (ours.ownShare * size - states) / size,
    leastShare: ours.leastShare,
    load: ours.load,
    states,
  };
}
