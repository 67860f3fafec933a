// Search by meaning: texts by their vectors.

import type { EmbedOptions } from "./embedding.js";
import { BitNetError, said } from "./errors.js";
import type { BitNet } from "./model.js";

/** A text, and the id by which it is found. */
export interface IndexedText {
  id: string;
  text: string;
}

/** A text that was found. */
export interface SearchHit extends IndexedText {
  /** The cosine between the text and the query: 1 for the same meaning. */
  score: number;
}

/** How to search. */
export interface SearchOptions extends Pick<EmbedOptions, "signal"> {
  /** The most texts to find: 10. */
  count?: number;
  /** The least score of a text that is found; by default any. */
  minScore?: number;
  /** What the query looks for, as {@link EmbedOptions.instruction}. */
  instruction?: string;
}

/** What texts become vectors with. */
export type Embedder = Pick<BitNet, "embed" | "info">;

/** The first bytes of an index: a name and a version. */
const MAGIC = "BITNETIX1\n";
/** Vectors begin where their numbers are aligned. */
const ALIGNMENT = 4;

/** What an index says of itself before its vectors. */
interface Head {
  /** The model's name. */
  model: string;
  dimensions: number;
  texts: IndexedText[];
}

/** Texts that are found by their meaning, in memory. Vectors have length 1, so that a dot product is the cosine. */
export class SemanticIndex {
  readonly #model: Embedder;
  readonly #options: Pick<EmbedOptions, "pooling" | "dimensions">;
  readonly #entries = new Map<string, { text: string; vector: Float32Array }>();

  /** An empty index by `model`, which stays its owner's. `dimensions` keeps the first numbers of each vector alone. */
  constructor(model: Embedder, options: Pick<EmbedOptions, "pooling" | "dimensions"> = {}) {
    this.#model = model;
    this.#options = options;
  }

  /** How many texts there are. */
  get size(): number {
    return this.#entries.size;
  }

  /** Whether there is a text of this id. */
  has(id: string): boolean {
    return this.#entries.has(id);
  }

  /**
   * Adds texts; one of an id that is there replaces it. Nothing is added where this fails. Returns how many were longer than the context,
   * and were cut to it.
   *
   * @throws {BitNetError} as {@link BitNet.embed}.
   */
  async add(texts: IndexedText[], options: Pick<EmbedOptions, "signal" | "onProgress"> = {}): Promise<number> {
    const { vectors, truncated } = await this.#embed(
      texts.map(({ text }) => text),
      options,
    );
    texts.forEach(({ id, text }, index) => {
      const vector = vectors[index];
      if (vector !== undefined) {
        this.#entries.set(id, { text, vector });
      }
    });
    return truncated;
  }

  /** Removes the text of this id; `false` if there was none. */
  remove(id: string): boolean {
    return this.#entries.delete(id);
  }

  /** Removes all texts. */
  clear(): void {
    this.#entries.clear();
  }

  /** The texts that mean most nearly what `query` does, the nearest first. */
  async search(query: string, { count = 10, minScore = -Infinity, instruction, signal }: SearchOptions = {}): Promise<SearchHit[]> {
    if (!(Number.isInteger(count) && count > 0)) {
      throw new BitNetError("argument", `count: expected a whole number above 0, found ${count}`);
    }
    const more = { ...(signal === undefined ? {} : { signal }), ...(instruction === undefined ? {} : { instruction }) };
    const { vectors } = await this.#embed([query], more);
    const [wanted = new Float32Array()] = vectors;
    const hits: SearchHit[] = [];
    for (const [id, { text, vector }] of this.#entries) {
      const score = dot(vector, wanted);
      if (score >= minScore) {
        hits.push({ id, text, score });
      }
    }
    // Equal scores stay in the order in which the texts came.
    return hits.sort((a, b) => b.score - a.score).slice(0, count);
  }

  /** The index as bytes, to be kept: {@link SemanticIndex.from} reads them. */
  export(): Uint8Array<ArrayBuffer> {
    const entries = [...this.#entries];
    const dimensions = entries[0]?.[1].vector.length ?? 0;
    const head: Head = { model: this.#model.info.name, dimensions, texts: entries.map(([id, { text }]) => ({ id, text })) };
    const json = new TextEncoder().encode(JSON.stringify(head));
    const begin = beginOf(json.length);
    const bytes = new Uint8Array(begin + 4 * dimensions * entries.length);
    const view = new DataView(bytes.buffer);
    bytes.set(new TextEncoder().encode(MAGIC));
    view.setUint32(MAGIC.length, json.length, true);
    bytes.set(json, MAGIC.length + 4);
    let at = begin;
    for (const [, { vector }] of entries) {
      for (const value of vector) {
        view.setFloat32(at, value, true);
        at += 4;
      }
    }
    return bytes;
  }

  /**
   * The index that {@link export} wrote, by the same model.
   *
   * @throws {BitNetError} `bad-file` if the bytes are no index, `argument` if another model made it, or vectors of another size.
   */
  static from(bytes: Uint8Array, model: Embedder, options: Pick<EmbedOptions, "pooling" | "dimensions"> = {}): SemanticIndex {
    const { head, begin, view } = readHead(bytes);
    const { name, hidden } = model.info;
    const expected = options.dimensions ?? hidden;
    if (head.model !== name || (head.texts.length > 0 && head.dimensions !== expected)) {
      throw new BitNetError("argument", `index: expected one by ${name} with ${expected} numbers a text, found one by ${head.model} with ${head.dimensions}; add the texts again`);
    }
    const index = new SemanticIndex(model, options);
    head.texts.forEach(({ id, text }, row) => {
      const first = begin + 4 * head.dimensions * row;
      const vector = Float32Array.from({ length: head.dimensions }, (_, column) => view.getFloat32(first + 4 * column, true));
      index.#entries.set(id, { text, vector });
    });
    return index;
  }

  #embed(texts: string[], options: EmbedOptions) {
    return this.#model.embed(texts, { ...this.#options, ...options });
  }
}

/** Where the vectors begin behind so many bytes of JSON. */
function beginOf(json: number): number {
  return Math.ceil((MAGIC.length + 4 + json) / ALIGNMENT) * ALIGNMENT;
}

function readHead(bytes: Uint8Array): { head: Head; begin: number; view: DataView } {
  const bad = (found: string, cause?: unknown) => new BitNetError("bad-file", `index: expected what export() wrote, found ${found}`, { cause });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const decoder = new TextDecoder();
  const start = MAGIC.length + 4;
  if (bytes.length < start || decoder.decode(bytes.subarray(0, MAGIC.length)) !== MAGIC) {
    throw bad("other bytes");
  }
  const length = view.getUint32(MAGIC.length, true);
  if (start + length > bytes.length) {
    throw bad(`${bytes.length} bytes, which are too few`);
  }
  let head: Head;
  try {
    head = JSON.parse(decoder.decode(bytes.subarray(start, start + length))) as Head;
  } catch (cause) {
    throw bad(said(cause), cause);
  }
  const begin = beginOf(length);
  const isHead =
    typeof head?.model === "string" &&
    Number.isSafeInteger(head.dimensions) &&
    head.dimensions >= 0 &&
    Array.isArray(head.texts) &&
    head.texts.every((entry) => typeof entry?.id === "string" && typeof entry.text === "string");
  if (!isHead) {
    throw bad("a head of another kind");
  }
  const size = begin + 4 * head.dimensions * head.texts.length;
  if (bytes.length !== size) {
    throw bad(`${bytes.length} bytes where ${size} belong`);
  }
  return { head, begin, view };
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (const [index, value] of a.entries()) {
    sum += value * (b[index] ?? 0);
  }
  return sum;
}
