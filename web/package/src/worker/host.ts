// The model and what can be asked of it.

import { aborted, BitNetError } from "../errors.js";
import type { Fallback } from "../features.js";
import type { Calls, CallName, EmbedRequest, GenerateRequest, LoadRequest, LoadResult, WireOutcome } from "../protocol.js";
import { type Constraint, Constraints } from "./constraints.js";
import { type Core, type Engine, moduleOf, type Reply, start } from "./core.js";
import { deliver } from "./delivery.js";
import { findSession, readSession, saveSession } from "./saved.js";
import type { Caller } from "./worker.js";

/** Text is sent on at most so often, in milliseconds: as often as screens show it. */
const BETWEEN_POSTS = 16;
/** A part of a prompt should take about so long, in milliseconds: what an abort waits for. */
const BATCH_TIME = 100;
/** Tokens of the first and of the longest part of a prompt. */
const [FIRST_BATCH, LONGEST_BATCH] = [32, 256];

/** Characters of texts that are embedded together: what an abort waits for. */
const TEXT_TOGETHER = 1000;

const channel = new MessageChannel();
channel.port1.start();

/** Lets messages that have arrived be handled. */
function breathe(): Promise<void> {
  return new Promise((resolve) => {
    channel.port1.onmessage = () => resolve();
    channel.port2.postMessage(null);
  });
}


/** What the core reports of a generation. */
interface CoreOutcome {
  reason: WireOutcome["reason"] | null;
  generatedTokens: number;
  decodeMilliseconds: number;
  draftedTokens: number;
  acceptedTokens: number;
}

export class Host {
  #core: Core | undefined;
  #engine: Engine | undefined;
  #constraints: Constraints | undefined;

  async answer<K extends CallName>(name: K, request: Calls[K]["request"], caller: Caller): Promise<Calls[K]["result"]> {
    const handler = this.#handlers[name] as (request: Calls[K]["request"], caller: Caller) => Calls[K]["result"] | Promise<Calls[K]["result"]>;
    return handler(request, caller);
  }

  readonly #handlers: { [K in CallName]: (request: Calls[K]["request"], caller: Caller) => Calls[K]["result"] | Promise<Calls[K]["result"]> } = {
    load: (request, caller) => this.#load(request, caller),
    generate: (request, caller) => this.#generate(request, caller),
    embed: (request, caller) => this.#embed(request, caller),
    tokenize: ({ text, special, begin }) => this.#open.tokenize(text, special, begin),
    detokenize: ({ tokens }) => this.#open.detokenize(tokens),
    tokens: () => this.#open.tokens(),
    memory: () => ({ wasm: this.#core?.memoryBytes() ?? 0, cache: this.#open.cacheBytes() }),
    saveSession: (request) => {
      const engine = this.#open;
      const note = { ...request, tokens: engine.tokens().length, saved: Date.now() };
      return saveSession(note, (write) => engine.saveSession(write));
    },
    restoreSession: async ({ name }) => {
      const note = await findSession(name);
      if (note === undefined) {
        throw new BitNetError("argument", `name: expected a saved session, found none called ${JSON.stringify(name)}`);
      }
      const engine = this.#open;
      return readSession(note, (read) => engine.restoreSession(read));
    },
    digest: ({ tokens, batch }) => this.#open.logitsDigest(tokens, batch),
    tensors: () => this.#open.tensors(),
    codes: ({ tensor, row, rows, col, cols }) => this.#open.ternaryCodes(tensor, row, rows, col, cols),
    counts: ({ tensor }) => this.#open.ternaryCounts(tensor),
    attention: ({ layer, head }) => this.#open.attention(layer, head),
    likeliest: ({ count, back }) => this.#open.likeliestAsync?.(count, back) ?? this.#open.likeliest(count, back),
  };

  get #open(): Engine {
    if (this.#engine === undefined) {
      throw new BitNetError("internal", "no model is open");
    }
    return this.#engine;
  }

  async #load(request: LoadRequest, caller: Caller): Promise<LoadResult> {
    const fallbacks: Fallback[] = [];
    const module = await moduleOf(request);
    const core = await start(module, request, fallbacks);
    this.#core = core;
    const gpu = request.gpu === undefined ? undefined : await core.Gpu?.open(request.gpu);
    const { opened: engine, cached } = await deliver(core, request, caller, fallbacks, async (landing) => {
      caller.tell({ kind: "progress", id: caller.id, phase: "open", done: 0, total: 1 });
      await breathe();
      if (caller.signal.aborted) {
        throw aborted(caller.signal);
      }
      return (gpu && core.Engine.openOnGpu?.(landing, gpu, request.engine)) ?? core.Engine.open(landing, request.engine);
    });
    this.#engine = engine;
    this.#constraints = new Constraints(() => engine.tokenWords(), request.constraintsUrl);
    caller.tell({ kind: "progress", id: caller.id, phase: "open", done: 1, total: 1 });
    return { info: engine.info(), fallbacks, cached, module, memory: core.memoryBytes() };
  }

  async #generate(request: GenerateRequest, caller: Caller): Promise<WireOutcome> {
    const { prompt, options } = request;
    const engine = this.#open;
    const tokens =
      "text" in prompt
        ? engine.tokenize(prompt.text, false, true)
        : "tokens" in prompt
          ? prompt.tokens
          : engine.chatTokens(prompt.messages, prompt.kwargs);
    const [reply, constraint] = await this.#form(engine, tokens, request);
    const allowed = constraint && ((text: Uint32Array) => this.#constraints?.allowed(constraint, text));
    try {
      return await this.#written(engine, tokens, options, allowed, reply, caller);
    } finally {
      reply?.free();
      constraint?.free();
    }
  }

  /** What takes the answer apart, and what keeps it to its form, where that is asked for. */
  async #form(engine: Engine, tokens: Uint32Array, { prompt, format, offer, separateThinking }: GenerateRequest): Promise<[Reply | undefined, Constraint | undefined]> {
    const constraints = this.#constraints;
    if (constraints === undefined) {
      throw new BitNetError("internal", "no model is open");
    }
    const thinking = "messages" in prompt && (format ?? offer) !== undefined ? engine.thinking(tokens) : undefined;
    const form = offer === undefined ? undefined : engine.replyForm(tokens);
    if (form !== undefined && offer !== undefined) {
      return constraints.calls(form, offer, format, thinking);
    }
    const constraint = format === undefined ? undefined : await constraints.constraint(format, thinking);
    return [separateThinking ? engine.reply(tokens) : undefined, constraint];
  }

  /** Reads a prompt and writes a text, whose next tokens `allowed` may choose among, and which `reply` takes apart. */
  async #written(
    engine: Engine,
    tokens: Uint32Array,
    options: string,
    allowed: ((text: Uint32Array) => Uint32Array | undefined) | undefined,
    reply: Reply | undefined,
    caller: Caller,
  ): Promise<WireOutcome> {
    const begin = performance.now();
    const cachedTokens = engine.begin(tokens, options, allowed);
    const fresh = tokens.length - cachedTokens;
    const stopped = await this.#read(engine, fresh, caller);
    const promptMilliseconds = performance.now() - begin;
    if (!stopped) {
      await this.#write(engine, reply, caller);
    }
    const outcome = JSON.parse(engine.outcome() ?? "{}") as Partial<CoreOutcome>;
    engine.end();
    return {
      reason: outcome.reason ?? "cancelled",
      promptTokens: tokens.length,
      cachedTokens,
      promptMilliseconds,
      generatedTokens: outcome.generatedTokens ?? 0,
      decodeMilliseconds: outcome.decodeMilliseconds ?? 0,
      draftedTokens: outcome.draftedTokens ?? 0,
      acceptedTokens: outcome.acceptedTokens ?? 0,
    };
  }

  /** Embeds texts, short ones together. */
  async #embed({ texts, pooling, normalize, dimensions, instruction }: EmbedRequest, caller: Caller): Promise<Calls["embed"]["result"]> {
    const engine = this.#open;
    const vectors: Float32Array[] = [];
    let [truncated, tokens] = [0, 0];
    while (vectors.length < texts.length) {
      const first = vectors.length;
      let last = first;
      let length = 0;
      do {
        length += texts[last]?.length ?? 0;
        last += 1;
      } while (last < texts.length && length + (texts[last]?.length ?? 0) <= TEXT_TOGETHER);
      const together = texts.slice(first, last);
      const numbers = engine.embed(JSON.stringify(together), pooling, normalize, dimensions, instruction);
      truncated += engine.truncated();
      tokens += engine.embeddedTokens();
      const width = numbers.length / together.length;
      together.forEach((_, index) => vectors.push(numbers.slice(index * width, (index + 1) * width)));
      caller.tell({ kind: "progress", id: caller.id, phase: "embed", done: vectors.length, total: texts.length });
      await breathe();
      if (caller.signal.aborted) {
        throw aborted(caller.signal);
      }
    }
    return { vectors, truncated, tokens };
  }

  /** Reads the prompt in parts that take about BATCH_TIME. Returns whether that was stopped. */
  async #read(engine: Engine, total: number, caller: Caller): Promise<boolean> {
    let batch = FIRST_BATCH;
    for (;;) {
      const before = performance.now();
      const left = engine.prefillAsync ? await engine.prefillAsync(batch) : engine.prefill(batch);
      if (left === 0) {
        return false;
      }
      if (performance.now() - before < BATCH_TIME / 2) {
        batch = Math.min(2 * batch, LONGEST_BATCH);
      }
      caller.tell({ kind: "progress", id: caller.id, phase: "prefill", done: total - left, total });
      await breathe();
      if (caller.signal.aborted) {
        return true;
      }
    }
  }

  /** Writes text until the model or the page ends it. */
  async #write(engine: Engine, reply: Reply | undefined, caller: Caller): Promise<void> {
    let [thinking, text] = ["", ""];
    let pieces = 0;
    // The first piece goes at once.
    let posted = -Infinity;
    let calls: string[] = [];
    const take = ([thought = "", said = "", ...called]: string[]) => {
      thinking += thought;
      text += said;
      calls.push(...called);
    };
    const post = () => {
      const logprobs = engine.takeLogprobs();
      if (pieces > 0 || thinking !== "" || text !== "" || calls.length > 0 || logprobs !== undefined) {
        caller.tell({ kind: "text", id: caller.id, text, thinking, calls, pieces, logprobs });
        [thinking, text] = ["", ""];
        calls = [];
        pieces = 0;
      }
    };
    for (;;) {
      const piece = engine.stepAsync ? await engine.stepAsync() : engine.step();
      if (piece === undefined) {
        break;
      }
      take(reply?.push(piece) ?? ["", piece]);
      pieces += 1;
      if (performance.now() - posted >= BETWEEN_POSTS) {
        post();
        await breathe();
        if (caller.signal.aborted) {
          break;
        }
        posted = performance.now();
      }
    }
    take(reply?.finish() ?? []);
    post();
  }
}
