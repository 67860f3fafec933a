// The fields of OpenAI's requests: each is heeded, means nothing here, or is refused by its name.

import { BitNetError } from "./errors.js";

/** Fields about OpenAI's accounts and machines: here they mean nothing, whatever they say. */
const ACCOUNTING = new Set(["user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"]);

/** Fields that ask for what is not done here, and whether a value asks for nothing. */
export type Refused = ReadonlyMap<string, (value: unknown) => boolean>;

/** Refuses what `request` asks for beyond the fields that are heeded. */
export function checkFields(request: object, heeded: ReadonlySet<string>, refused: Refused = new Map()): void {
  if (typeof request !== "object" || request === null) {
    throw new BitNetError("argument", `request: expected an object, found ${request === null ? "null" : typeof request}`);
  }
  for (const [name, value] of Object.entries(request) as [string, unknown][]) {
    if (value === null || value === undefined || heeded.has(name) || ACCOUNTING.has(name)) {
      continue;
    }
    const asksNothing = refused.get(name);
    if (asksNothing === undefined) {
      throw new BitNetError("argument", `${name}: expected a field of the request, found one that there is not`);
    }
    if (!asksNothing(value)) {
      throw new BitNetError("unsupported", `${name}: this library has no such feature; leave it out`);
    }
  }
}
