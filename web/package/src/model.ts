// A model in a Worker.

/// <reference lib="esnext.disposable" preserve="true" />

import { absolute } from "./address.js";
import { ChatCompletions } from "./chat.js";
import { type ChatMessage, plainMessages } from "./chat-request.js";
import { type EmbedOptions, type Embeddings, embedRequest } from "./embedding.js";
import { aborted, BitNetError, withCode } from "./errors.js";
import type { Fallback, Variant } from "./features.js";
import { Embeddings as EmbeddingsApi } from "./embeddings-request.js";
import { Generation, type GenerateOptions, wireOptions, type WrittenLogprob } from "./generation.js";
import { wireJson } from "./json.js";
import { Link } from "./link.js";
import { type Place, placements } from "./placement.js";
import type { CachePolicy, ChatTemplate, GenerateRequest, LoadResult, WireSource } from "./protocol.js";
import { DEFAULT_NAME, Session } from "./sessions.js";
import { type ModelSource, resolveSource, sizeOf } from "./source.js";
import { offeredTools, wireOffer, type WrittenCall } from "./tools.js";
import { findSession } from "./worker/saved.js";

/** How far a load is. */
export interface LoadProgress {
  /** `download` counts bytes; `open` is 0 or 1 of 1. */
  phase: "download" | "open";
  done: number;
  /** Absent where the source does not tell. */
  total: number | undefined;
}

/** How to load a model. */
export interface LoadOptions {
  /** Where it runs: `auto` is a GPU, if there is one and the model is not too small for it, or else WebAssembly. */
  device?: "auto" | "webgpu" | "wasm";
  /** Whether the GPU may be software on the processor: slow, for tests. */
  softwareGpu?: boolean;
  /** Threads; by default as many as the machine reports cores, at most 8. More than one needs a cross-origin isolated page. */
  threads?: number;
  /** Told how far the load is. */
  onProgress?: (progress: LoadProgress) => void;
  /** Ends the load. */
  signal?: AbortSignal;
  /**
   * Whether downloads are kept: `auto` (the default) where the browser allows it, `true` or else the load fails, `false` never.
   * `revalidate` is `auto`, but the server is asked first whether it still has the file that is kept. Only files that were opened,
   * and have the hash that `sha256` asks for, are kept.
   */
  cache?: CachePolicy;
  /**
   * Headers that go with every request for the file, such as `{ Authorization: "Bearer hf_…" }` for a gated repository. They are not
   * kept; a file that is kept is used without them.
   */
  headers?: Record<string, string>;
  /** Positions that a conversation can have; by default the model's own, at most 4096. */
  contextLength?: number;
  /** The file's SHA-256 in hexadecimal; another one is refused. */
  sha256?: string;
  /** Byte order of I2_S tensors: `b` for files from some ARM builds of bitnet.cpp. */
  i2sLayout?: "a" | "b";
  /** `f32` leaves activations unrounded: slower; for models that were not trained with int8 activations. */
  activations?: "int8" | "f32";
  /** The chat template in place of the model's own: Jinja source, or the name of one of the file's own. */
  chatTemplate?: ChatTemplate;
  /** A build of the core, for tests and comparisons; by default the best that runs here. */
  variant?: Variant;
  /** Where the Worker's script lies, if not beside this module. */
  workerUrl?: string;
  /** Where the core's module lies, if not beside the Worker. */
  wasmUrl?: string;
  /** Where the module of constraints lies, if not beside the Worker. */
  constraintsUrl?: string;
}

/** How to go on with a session that was saved. What is left out is as it was then. */
export interface RestoreOptions extends LoadOptions {
  /** Where the model is, if it came from a file or a stream, or has moved. */
  source?: ModelSource;
}

/** A tensor of the file. */
export interface TensorInfo {
  name: string;
  /** How it is stored, such as `I2_S`. */
  kind: string;
  rows: number;
  cols: number;
  bytes: number;
  ternary: boolean;
}

/** A token that may follow. */
export interface LikelyToken {
  id: number;
  text: string;
  probability: number;
}

/** What may follow at one place of a text. */
export interface NextToken {
  /** The text just before. */
  context: string;
  /** The token that follows there; `null` at the end. */
  chosen: number | null;
  tokens: LikelyToken[];
}

/** A token of the context, and how much a head attends to it. */
export interface AttendedToken {
  text: string;
  /** Of all tokens together: 1. */
  weight: number;
}

/** What a model is and how it really runs. */
export interface ModelInfo {
  /** The file's name. */
  name: string;
  architecture: string;
  /** The device in use, in words. */
  device: string;
  /** The kernels in use: `simd128`, `relaxed`, or `wgsl` on a GPU. */
  isa: string;
  /** The build in use. */
  variant: Variant;
  threads: number;
  layers: number;
  hidden: number;
  feedForward: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  vocabulary: number;
  contextLength: number;
  trainedContextLength: number;
  parameters: number;
  weightBytes: number;
  kvBytesPerToken: number;
  hasChatTemplate: boolean;
  /** Whether the model was made to embed texts alone, and writes none. */
  embedsOnly: boolean;
  /** Whether the file came from the cache. */
  cached: boolean;
  /** WebAssembly memory after loading, in bytes. */
  memoryBytes: number;
  /** Everything that was not available, and what is used instead. */
  fallbacks: Fallback[];
}

/** Bytes of the model that comes with this package, about. */
const DEMO_SIZE = 6 << 20;

/** The demo model as saved sessions know it: its address changes from build to build. */
const DEMO = "demo";

/** The compiled cores of earlier loads, by build and address. */
const compiled = new Map<string, WebAssembly.Module>();

/** A model in a Worker of its own: the page stays free. */
export class BitNet {
  readonly #link: Link;
  /** What the model is and how it really runs. */
  readonly info: ModelInfo;
  /** Conversations in the shape of OpenAI's API. */
  readonly chat: { completions: ChatCompletions };
  /** Texts as vectors in the shape of OpenAI's API. */
  readonly embeddings: EmbeddingsApi;
  /** What the model has read and written so far, to be saved and restored. */
  readonly session: Session;

  private constructor(link: Link, info: ModelInfo, source: string | undefined, options: LoadOptions) {
    this.#link = link;
    this.info = info;
    const { contextLength, sha256, i2sLayout, activations, chatTemplate } = options;
    this.session = new Session(link, { model: info.name, source, options: { contextLength, sha256, i2sLayout, activations, chatTemplate } });
    this.chat = {
      completions: new ChatCompletions(info.name, (messages, options) => this.answer(messages, options)),
    };
    this.embeddings = new EmbeddingsApi(info.name, (texts, options) => this.embed(texts, options));
  }

  /**
   * Loads a model.
   *
   * @throws {BitNetError} if it cannot be had or run; `code` says why.
   */
  static async load(source: ModelSource, options: LoadOptions = {}): Promise<BitNet> {
    return withCode(() => BitNet.#load(source, options));
  }

  /** Loads from `source`, which saved sessions know as `known`, or else by its address, at the best place for it. */
  static async #load(source: ModelSource, options: LoadOptions, known?: string): Promise<BitNet> {
    if (options.signal?.aborted) {
      throw aborted(options.signal);
    }
    const { wire, pieces } = resolveSource(source);
    if (wire.kind === "url") {
      wire.label = known;
      wire.headers = options.headers;
    }
    const { best, otherwise, fallbacks } = await placements(options, known === DEMO ? DEMO_SIZE : sizeOf(wire));
    const open = (place: Place) => BitNet.#open(place, { wire, pieces, known, fallbacks }, options);
    try {
      try {
        return await open(best);
      } catch (error) {
        // The GPU is opened before anything is fetched: the file is still there. A model that does not run on GPUs is fetched again.
        const code = error instanceof BitNetError ? error.code : undefined;
        const again = code === "no-webgpu" || (code === "unavailable" && wire.kind !== "fed");
        if (otherwise === undefined || !again || !(error instanceof BitNetError)) {
          throw error;
        }
        fallbacks.unshift({ wanted: "webgpu", used: "wasm", reason: error.message });
        return await open(otherwise);
      }
    } catch (error) {
      await pieces?.return?.();
      throw error;
    }
  }

  /** Loads a model in a Worker, at `place`. */
  static async #open({ variant, threads }: Place, incoming: Incoming, options: LoadOptions): Promise<BitNet> {
    const { wire, pieces, known, fallbacks } = incoming;
    const { signal, onProgress } = options;
    const link = new Link(options.workerUrl);
    try {
      const result = await link.call(
        "load",
        {
          source: wire,
          variant,
          threads,
          cache: options.cache ?? "auto",
          sha256: options.sha256,
          module: compiled.get(`${variant} ${options.wasmUrl}`),
          wasmUrl: options.wasmUrl && absolute("wasmUrl", options.wasmUrl).href,
          constraintsUrl: options.constraintsUrl && absolute("constraintsUrl", options.constraintsUrl).href,
          engine: wireJson("options", {
            contextLength: options.contextLength,
            i2sLayout: options.i2sLayout,
            activations: options.activations,
            chatTemplate: options.chatTemplate,
          }),
          gpu: variant === "webgpu" ? JSON.stringify({ software: options.softwareGpu ?? false }) : undefined,
        },
        {
          signal,
          ...(pieces === undefined ? {} : { pieces }),
          onProgress: ({ phase, done, total }) => {
            if (phase === "download" || phase === "open") {
              onProgress?.({ phase, done, total });
            }
          },
        },
      );
      compiled.set(`${variant} ${options.wasmUrl}`, result.module);
      const address = wire.kind === "url" ? wire.url : undefined;
      return new BitNet(link, infoOf(result, variant, fallbacks), known ?? address, options);
    } catch (error) {
      link.close(new BitNetError("disposed", "the model was not loaded"));
      throw error;
    }
  }

  /** Loads the small model that comes with this package: it tells stories, answers questions about them and adds two-digit numbers. */
  static async demo(options: LoadOptions = {}): Promise<BitNet> {
    return withCode(() => BitNet.#load(new URL("./demo.gguf", import.meta.url), options, DEMO));
  }

  /**
   * Loads the model of the session that `model.session.save(name)` kept, and goes on with it: what was read is not read again, and
   * what follows has the same bits.
   *
   * @throws {BitNetError} as {@link BitNet.load}; `argument` if there is no such session, or its model came from a file or a stream
   * and `source` is left out; `bad-file` if the session is damaged or belongs to another model.
   */
  static async restore(name: string = DEFAULT_NAME, { source, ...options }: RestoreOptions = {}): Promise<BitNet> {
    const note = await withCode(() => findSession(name));
    if (note === undefined) {
      throw new BitNetError("argument", `name: expected a saved session, found none called ${JSON.stringify(name)}`);
    }
    const from = source ?? note.source;
    if (from === undefined) {
      throw new BitNetError("argument", `source: ${note.model} came from a file or a stream, which must be given again`);
    }
    // A GPU would not go on with the same bits.
    const all = { device: "wasm", ...note.options, ...options } as LoadOptions;
    const model = source === undefined && from === DEMO ? await BitNet.demo(all) : await BitNet.load(from, all);
    try {
      await model.session.restore(name);
    } catch (error) {
      model.dispose();
      throw error;
    }
    return model;
  }

  /** Continues `prompt`, a text or tokens. What an earlier call has read of it is not read again. */
  generate(prompt: string | Uint32Array, options: GenerateOptions = {}): Generation {
    for (const name of ["chatTemplateKwargs", "separateThinking", "tools", "toolChoice"] as const) {
      if (options[name] !== undefined) {
        throw new BitNetError("argument", `${name}: a prompt has no template; use answer or chat.completions.create`);
      }
    }
    return this.#generate(typeof prompt === "string" ? { text: prompt } : { tokens: prompt }, options);
  }

  /** Answers the last of `messages` in the model's own conversation format. */
  answer(messages: ChatMessage[], options: GenerateOptions = {}): Generation {
    const tools = offeredTools(options);
    const kwargs = wireJson("chatTemplateKwargs", { ...options.chatTemplateKwargs, ...(tools.length > 0 ? { tools } : {}) });
    return this.#generate({ messages: wireJson("messages", plainMessages(messages)), kwargs }, options);
  }

  #generate(prompt: GenerateRequest["prompt"], options: GenerateOptions): Generation {
    const controller = new AbortController();
    const { signal, onPrefill, separateThinking = false } = options;
    const abort = () => controller.abort(signal?.reason);
    if (signal?.aborted) {
      abort();
    }
    signal?.addEventListener("abort", abort, { once: true });
    const wire = wireOptions(options);
    const format = options.responseFormat ? wireJson("responseFormat", options.responseFormat) : undefined;
    const offer = wireOffer(options);
    return new Generation(
      async (onText) => {
        try {
          return await this.#link.call(
            "generate",
            { prompt, options: wire, format, offer, separateThinking },
            {
              signal: controller.signal,
              onText: ({ text, thinking, calls, logprobs = "[]", pieces }) =>
                onText({ text, thinking, calls: calls.map((call) => JSON.parse(call) as WrittenCall), logprobs: JSON.parse(logprobs) as WrittenLogprob[] }, pieces),
              onProgress: ({ done, total }) => onPrefill?.(done, total ?? done),
            },
          );
        } finally {
          signal?.removeEventListener("abort", abort);
        }
      },
      () => controller.abort(),
    );
  }

  /**
   * The vectors of some texts. On processors only: open a model for this with `device: "wasm"`.
   *
   * @throws {BitNetError} `argument` if an option is out of range, `unavailable` on a GPU.
   */
  async embed(texts: string[], options: EmbedOptions = {}): Promise<Embeddings> {
    const { signal, onProgress } = options;
    if (signal?.aborted) {
      throw aborted(signal);
    }
    const report = ({ done, total }: { done: number; total: number | undefined }) => onProgress?.(done, total ?? done);
    return this.#link.call("embed", embedRequest(texts, options), { signal, onProgress: report });
  }

  /** The ids of `text`. With `special`, the spelling of control tokens stands for them. */
  tokenize(text: string, { special = false, begin = false } = {}): Promise<Uint32Array> {
    return this.#link.call("tokenize", { text, special, begin });
  }

  /** The text of `tokens`. */
  detokenize(tokens: ArrayLike<number>): Promise<string> {
    return this.#link.call("detokenize", { tokens: tokensOf(tokens) });
  }

  /** The tokens that the model holds: the last prompt and what it wrote. */
  tokens(): Promise<Uint32Array> {
    return this.#link.call("tokens", null);
  }

  /** Bytes of WebAssembly memory, and of keys and values in it. */
  memory(): Promise<{ wasm: number; cache: number }> {
    return this.#link.call("memory", null);
  }

  /** SHA-256 over the bits of the logits of all positions of `tokens`, as `bitnet logits --digest` prints it: equal on every machine. */
  logitsDigest(tokens: ArrayLike<number>, batch = 64): Promise<string> {
    return this.#link.call("digest", { tokens: tokensOf(tokens), batch });
  }

  /** The tensors of the file. */
  async tensors(): Promise<TensorInfo[]> {
    return JSON.parse(await this.#link.call("tensors", null)) as TensorInfo[];
  }

  /** The codes −1, 0 and 1 of a rectangle of a ternary tensor, row after row. */
  ternaryCodes(tensor: string, area: { row: number; rows: number; col: number; cols: number }): Promise<Int8Array> {
    return this.#link.call("codes", { tensor, ...area });
  }

  /** How often each code stands in a ternary tensor. */
  async ternaryCounts(tensor: string): Promise<{ minus: number; zero: number; plus: number }> {
    return JSON.parse(await this.#link.call("counts", { tensor })) as { minus: number; zero: number; plus: number };
  }

  /**
   * What the model finds likeliest to follow, before any sampling: after the last token that it holds, or `back` tokens before that.
   */
  async likeliest({ count = 10, back = 0 } = {}): Promise<NextToken> {
    return JSON.parse(await this.#link.call("likeliest", { count, back })) as NextToken;
  }

  /** How much one head attends, from the last token that the model holds, to each token. */
  async attention(layer: number, head: number): Promise<AttendedToken[]> {
    return JSON.parse(await this.#link.call("attention", { layer, head })) as AttendedToken[];
  }

  /** Ends the Worker and gives all memory back. Calls under way fail with `disposed`. */
  dispose(): void {
    this.#link.close(new BitNetError("disposed", "the model was disposed of"));
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function tokensOf(tokens: ArrayLike<number>): Uint32Array {
  try {
    return Uint32Array.from(tokens);
  } catch (cause) {
    throw new BitNetError("argument", `tokens: expected a list of ids, found ${String(tokens)}`, { cause });
  }
}

/** A file on its way, and what was not available for the model in it. */
interface Incoming {
  wire: WireSource;
  pieces: AsyncIterator<Uint8Array> | undefined;
  known: string | undefined;
  fallbacks: Fallback[];
}

function infoOf({ info, fallbacks, cached, memory }: LoadResult, variant: Variant, earlier: Fallback[]): ModelInfo {
  const core = JSON.parse(info) as Omit<ModelInfo, "variant" | "cached" | "memoryBytes" | "fallbacks">;
  return { ...core, variant, cached, memoryBytes: memory, fallbacks: [...earlier, ...fallbacks] };
}
