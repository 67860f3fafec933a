// Names that nobody else has.

/** A name of random characters. Unlike `crypto.randomUUID`, this also works in pages that are not secure. */
export function randomName(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
