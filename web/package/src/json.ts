// JSON for the core, which takes no numbers or texts that are none.

import { BitNetError, said } from "./errors.js";

const [encoder, decoder] = [new TextEncoder(), new TextDecoder("utf-8", { ignoreBOM: true })];

/** A text in which halves of characters are replaced, as they are wherever else a text reaches the core. */
function wellFormed(text: string): string {
  return decoder.decode(encoder.encode(text));
}

/** `value` as JSON; `what` is what errors call it. */
export function wireJson(what: string, value: unknown): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(value, (key, inner: unknown) => {
      if (typeof inner === "number" && !Number.isFinite(inner)) {
        throw new BitNetError("argument", `${key === "" ? what : key}: expected a finite number, found ${inner}`);
      }
      return typeof inner === "string" ? wellFormed(inner) : inner;
    });
  } catch (cause) {
    throw cause instanceof BitNetError ? cause : new BitNetError("argument", `${what}: expected what JSON can say: ${said(cause)}`, { cause });
  }
  if (json === undefined) {
    throw new BitNetError("argument", `${what}: expected what JSON can say, found ${typeof value}`);
  }
  return json;
}
