// Runs `bitnet-digest` as a WebAssembly module and prints its table, as the program prints it natively.
//
// node digest.mjs MODULE TOKENS THREADS BATCHES KV MODEL…    a model is a GGUF file, or `demo`

import { readFile } from "node:fs/promises";
import { argv, exit } from "node:process";

const [modulePath, tokens, threads, batches, kv, ...models] = argv.slice(2);
const module = await WebAssembly.compile(await readFile(modulePath));

// The module imports parts of a browser. Hash tables take their seeds from there; nothing else is reached by a plan.
const imports = {};
for (const { module: from, name } of WebAssembly.Module.imports(module)) {
  imports[from] ??= {};
  imports[from][name] = name.includes("getRandomValues")
    ? (address, length) => {
        crypto.getRandomValues(new Uint8Array(exports.memory.buffer, address, length));
      }
    : () => {
        throw new Error(`the module called ${from}.${name}, which this host does not have`);
      };
}
const { exports } = await WebAssembly.instantiate(module, imports);

/** Copies `bytes` into memory of the module; gives address and length. */
function hand(bytes) {
  const address = exports.allocate(bytes.length);
  new Uint8Array(exports.memory.buffer, address, bytes.length).set(bytes);
  return [address, bytes.length];
}

const plan = new TextEncoder().encode([tokens, threads, batches, kv].join("\n"));
for (const model of models) {
  const file = model === "demo" ? new Uint8Array() : await readFile(model);
  const succeeded = exports.digests(...hand(plan), ...hand(file));
  const answer = new TextDecoder().decode(
    new Uint8Array(exports.memory.buffer, exports.answer(), exports.answer_len()),
  );
  if (!succeeded) {
    console.error(`error: ${answer}`);
    exit(1);
  }
  for (const line of answer.trimEnd().split("\n")) {
    console.log(`${model} ${line}`);
  }
}
