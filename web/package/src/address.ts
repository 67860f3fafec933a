// Addresses as the page means them.

import { BitNetError } from "./errors.js";

/** Where relative addresses begin: at the page, or in a Worker at its script. */
function base(): string | undefined {
  const { document, location } = globalThis as { document?: Document; location?: Location };
  // A script without an address of its own still has an origin.
  return document?.baseURI ?? (location?.protocol === "blob:" ? location.origin : location?.href);
}

/** The address `url` in full; `what` is what errors call it. */
export function absolute(what: string, url: string | URL): URL {
  try {
    return new URL(url, base());
  } catch (cause) {
    throw new BitNetError("argument", `${what}: expected a URL, found ${JSON.stringify(String(url))}`, { cause });
  }
}
