// Texts as vectors in the shape of OpenAI's API.

import type { Embeddings as Vectors, EmbedOptions } from "./embedding.js";
import { BitNetError } from "./errors.js";
import { checkFields } from "./fields.js";

/** What `embeddings.create` takes: OpenAI's names where there are such. `null` is as if left out. */
export interface EmbeddingRequest {
  input: string | string[];
  /** Any name: the model that was loaded answers. */
  model?: string | null;
  dimensions?: number | null;
  /** Vectors as lists of numbers, or as the bytes of 32-bit numbers in base64. */
  encoding_format?: "float" | "base64" | null;
  /** What the texts are queries for, as the server takes it. */
  instruction?: string | null;
  signal?: AbortSignal | null;
}

/** The vectors of some texts. */
export interface CreateEmbeddingResponse {
  object: "list";
  data: { object: "embedding"; index: number; embedding: number[] | string }[];
  model: string;
  usage: { prompt_tokens: number; total_tokens: number };
}

const HEEDED = new Set<string>(["input", "model", "dimensions", "encoding_format", "instruction", "signal"] satisfies (keyof EmbeddingRequest)[]);

/** `model.embeddings`. */
export class Embeddings {
  readonly #model: string;
  readonly #embed: (texts: string[], options: EmbedOptions) => Promise<Vectors>;

  /** @internal */
  constructor(model: string, embed: (texts: string[], options: EmbedOptions) => Promise<Vectors>) {
    this.#model = model;
    this.#embed = embed;
  }

  /**
   * The vectors of one text or of several.
   *
   * @throws {BitNetError} `argument` for a field that there is not, or a value that it cannot have.
   */
  async create(request: EmbeddingRequest): Promise<CreateEmbeddingResponse> {
    checkFields(request, HEEDED);
    const { input, encoding_format: format, dimensions, instruction, signal } = request;
    if (format !== undefined && format !== null && format !== "float" && format !== "base64") {
      throw new BitNetError("argument", `encoding_format: expected float or base64, found ${JSON.stringify(format)}`);
    }
    const texts = typeof input === "string" ? [input] : input;
    if (!Array.isArray(texts) || texts.length === 0 || texts.some((text) => typeof text !== "string")) {
      throw new BitNetError("argument", "input: expected a text or a list of texts");
    }
    const given = Object.entries({ dimensions, instruction, signal }).filter(([, value]) => value !== undefined && value !== null);
    const { vectors, tokens } = await this.#embed(texts, Object.fromEntries(given));
    const written = (vector: Float32Array) => (format === "base64" ? base64(vector) : Array.from(vector));
    return {
      object: "list",
      data: vectors.map((vector, index) => ({ object: "embedding", index, embedding: written(vector) })),
      model: this.#model,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    };
  }
}

/** The little-endian bytes of a vector in base64. */
function base64(vector: Float32Array): string {
  const view = new DataView(new ArrayBuffer(4 * vector.length));
  vector.forEach((value, index) => view.setFloat32(4 * index, value, true));
  return btoa(String.fromCharCode(...new Uint8Array(view.buffer)));
}
