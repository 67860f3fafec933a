// What the page and the Worker say to each other.
//
// The page calls by number; the Worker answers with any number of events and one result or failure. `pull` goes the other way: the
// Worker asks for the next piece of a file that only the page can read.

import type { Failure } from "./errors.js";
import type { Fallback, Variant } from "./features.js";

/** Where the Worker gets the file from. */
export type WireSource =
  /** `label` is a name that the file has at each of its addresses; `headers` go with every request for it. */
  | { kind: "url"; url: string; name: string; label?: string | undefined; headers?: Record<string, string> | undefined }
  | { kind: "blob"; blob: Blob; name: string }
  /** The page hands it over piece by piece. */
  | { kind: "fed"; name: string; size: number | undefined };

/**
 * Whether downloads are kept: `auto` where that is possible, `true` or else the load fails, `false` never. `revalidate` is `auto`, but
 * the server is asked first whether it still has the file that is kept.
 */
export type CachePolicy = boolean | "auto" | "revalidate";

/** What the Worker needs to open a model. */
export interface LoadRequest {
  source: WireSource;
  variant: Variant;
  threads: number;
  cache: CachePolicy;
  sha256: string | undefined;
  /** The core, where an earlier Worker has compiled it. */
  module: WebAssembly.Module | undefined;
  /** Where it lies otherwise, if not beside the Worker. */
  wasmUrl: string | undefined;
  /** Where the module of constraints lies, if not beside the Worker. */
  constraintsUrl: string | undefined;
  /** JSON for the core. */
  engine: string;
  /** JSON for the core about the GPU to open; only for the build for GPUs. */
  gpu: string | undefined;
}

/** One generation. */
export interface GenerateRequest {
  prompt: { text: string } | { tokens: Uint32Array } | { messages: string; kwargs: string };
  /** JSON for the core. */
  options: string;
  /** JSON for the module of constraints: the form of the text. */
  format: string | undefined;
  /** JSON for the module of constraints: the tools that may be called. */
  offer: string | undefined;
  /** Whether what the model thinks first comes apart from the text: for conversations. */
  separateThinking: boolean;
}

/** Texts to embed. */
export interface EmbedRequest {
  texts: string[];
  pooling: string | undefined;
  normalize: boolean;
  dimensions: number | undefined;
  instruction: string | undefined;
}

/** A chat template: Jinja source, or the name of one of the file's own. */
export type ChatTemplate = { source: string } | { name: string };

/** Options that a model must be opened with again so that a session of it fits. */
export interface SessionOptions {
  contextLength?: number | undefined;
  sha256?: string | undefined;
  i2sLayout?: "a" | "b" | undefined;
  activations?: "int8" | "f32" | undefined;
  chatTemplate?: ChatTemplate | undefined;
}

/** What is known of a session that is kept. */
export interface SessionNote {
  name: string;
  /** The file it lies in; absent in the Cache API. */
  file?: string;
  bytes: number;
  tokens: number;
  model: string;
  /** Where the model came from: an address, `demo`, or nothing for files and streams. */
  source: string | undefined;
  options: SessionOptions;
  /** In milliseconds since 1970. */
  saved: number;
}

/** Functions of the Worker: arguments and result. */
export interface Calls {
  load: { request: LoadRequest; result: LoadResult };
  generate: { request: GenerateRequest; result: WireOutcome };
  embed: { request: EmbedRequest; result: { vectors: Float32Array[]; truncated: number; tokens: number } };
  tokenize: { request: { text: string; special: boolean; begin: boolean }; result: Uint32Array };
  detokenize: { request: { tokens: Uint32Array }; result: string };
  tokens: { request: null; result: Uint32Array };
  memory: { request: null; result: { wasm: number; cache: number } };
  saveSession: { request: Pick<SessionNote, "name" | "model" | "source" | "options">; result: SessionNote };
  restoreSession: { request: { name: string }; result: number };
  digest: { request: { tokens: Uint32Array; batch: number }; result: string };
  tensors: { request: null; result: string };
  codes: { request: { tensor: string; row: number; rows: number; col: number; cols: number }; result: Int8Array };
  counts: { request: { tensor: string }; result: string };
  attention: { request: { layer: number; head: number }; result: string };
  likeliest: { request: { count: number; back: number }; result: string };
}

/** The name of a function of the Worker. */
export type CallName = keyof Calls;

/** What opening a model gives. */
export interface LoadResult {
  /** JSON of the core. */
  info: string;
  fallbacks: Fallback[];
  /** Whether the file came from the cache. */
  cached: boolean;
  /** The compiled core, for the next Worker. */
  module: WebAssembly.Module;
  memory: number;
}

/** How a generation went. */
export interface WireOutcome {
  reason: "end" | "stop" | "length" | "context" | "cancelled";
  promptTokens: number;
  cachedTokens: number;
  promptMilliseconds: number;
  generatedTokens: number;
  decodeMilliseconds: number;
  draftedTokens: number;
  acceptedTokens: number;
}

/** From the page to the Worker. */
export type ToWorker =
  | { [K in CallName]: { kind: "call"; id: number; name: K; request: Calls[K]["request"] } }[CallName]
  | { kind: "abort"; id: number }
  | { kind: "piece"; id: number; bytes: Uint8Array | null }
  | { kind: "piece-failed"; id: number; failure: Failure };

/** From the Worker to the page. */
export type FromWorker =
  | { kind: "result"; id: number; result: unknown }
  | { kind: "failure"; id: number; failure: Failure }
  | { kind: "progress"; id: number; phase: "download" | "open" | "prefill" | "embed"; done: number; total: number | undefined }
  /**
   * Text of so many pieces, which were written since the last such event, what was thought before it, the calls in it, each JSON, and
   * the probabilities of its tokens, JSON of the core, if they were asked for.
   */
  | { kind: "text"; id: number; text: string; thinking: string; calls: string[]; pieces: number; logprobs: string | undefined }
  | { kind: "pull"; id: number };

/** To a Worker that is to be a thread. */
export interface ThreadStart {
  kind: "thread";
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
}

/** To a Worker that can be a thread, before and after it has said so. */
export type ToThread = ThreadStart | { kind: "run" };

/** From a Worker that was to be a thread. */
export type FromThread = { kind: "ready" } | { kind: "failed"; reason: string };
