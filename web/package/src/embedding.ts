// Texts as vectors.

import { BitNetError } from "./errors.js";
import type { EmbedRequest } from "./protocol.js";

/** How to embed texts. */
export interface EmbedOptions {
  /** How the rows of a text become one: by default as the model was trained, which is the last one for models that embed only. */
  pooling?: "mean" | "first" | "last";
  /** Whether vectors are divided by their length, so that a dot product is the cosine; `true` by default. */
  normalize?: boolean;
  /** How many numbers of a vector are kept, the first ones: for models trained so (Matryoshka). All by default. */
  dimensions?: number;
  /**
   * What the texts are queries for, in a sentence: `Instruct: …` and `Query: ` are put before them, as models of this kind are trained.
   * For queries only; the texts that are searched have none.
   */
  instruction?: string;
  /** Ends the work; the promise is rejected with `aborted`. */
  signal?: AbortSignal;
  /** Told how many of the texts are done. */
  onProgress?: (done: number, total: number) => void;
}

/** The vectors of some texts. */
export interface Embeddings {
  /** One for each text, in their order. */
  vectors: Float32Array[];
  /** How many texts were longer than the context, and were cut to it. */
  truncated: number;
  /** How many tokens they had. */
  tokens: number;
}

/** What the Worker is asked for. */
export function embedRequest(texts: string[], { pooling, normalize = true, dimensions, instruction }: EmbedOptions): EmbedRequest {
  if (!Array.isArray(texts) || texts.some((text) => typeof text !== "string")) {
    throw new BitNetError("argument", "texts: expected an array of strings");
  }
  if (dimensions !== undefined && !(Number.isInteger(dimensions) && dimensions > 0)) {
    throw new BitNetError("argument", `dimensions: expected a whole number above 0, found ${dimensions}`);
  }
  return { texts, pooling, normalize, dimensions, instruction };
}
