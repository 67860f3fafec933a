// A text that is being written.

import { BitNetError } from "./errors.js";
import { wireJson } from "./json.js";
import type { WireOutcome } from "./protocol.js";
import type { ToolOptions, WrittenCall } from "./tools.js";

/** The form of a text. The module that knows forms is fetched when one is first asked for. */
export type ResponseFormat =
  /** Any JSON object. */
  | { type: "json_object" }
  /** JSON that a schema describes. */
  | { type: "json_schema"; schema: object }
  /** A text that a regular expression matches as a whole. */
  | { type: "regex"; regex: string }
  /** A grammar in the notation of Lark, whose rule `start` is the text, or of llama.cpp (GBNF), whose rule `root` is. */
  | { type: "grammar"; grammar: string }
  /** One of some texts. */
  | { type: "choice"; choice: string[] };

/** How likely a token was by the model's own distribution, as OpenAI writes it. */
export interface TokenLogprob {
  /** The text that the token adds. */
  token: string;
  /** The natural logarithm of its probability; −9999 for none. */
  logprob: number;
  /** The bytes that it adds, which may be a part of a character. */
  bytes: number[];
}

/** The same of a token that was written, with those that were likeliest there. */
export interface WrittenLogprob extends TokenLogprob {
  top_logprobs: TokenLogprob[];
}

/** Some more of a text. */
export interface GenerationPart {
  /** What the model thought, where `separateThinking` asks for it; it comes before any text. */
  thinking: string;
  text: string;
  /** Calls of tools, where `tools` are offered. */
  calls: WrittenCall[];
  /** The tokens, where `logprobs` asks for them. */
  logprobs: WrittenLogprob[];
}

/** How to generate. What is left out has the library's default. */
export interface GenerateOptions extends ToolOptions {
  /** The most tokens to generate: 128. */
  maxTokens?: number;
  /** Divides the logits: below 1 sharper, above 1 flatter; 0 takes the likeliest token: 0.8. */
  temperature?: number;
  /** Keep so many of the likeliest tokens; 0 keeps all: 40. */
  topK?: number;
  /** Keep the likeliest tokens that together reach this probability; 1 keeps all: 0.95. */
  topP?: number;
  /** Drop tokens less likely than this fraction of the likeliest: 0. */
  minP?: number;
  /** Divides positive logits of recent tokens and multiplies negative ones; 1 does nothing: 1. */
  repetitionPenalty?: number;
  /** How many recent tokens the penalty looks at: 64. */
  repetitionWindow?: number;
  /** Lowers the logits of tokens that the text has already, from −2 to 2: 0. */
  presencePenalty?: number;
  /** The same for each time that a token occurs in it: 0. */
  frequencyPenalty?: number;
  /** Numbers from −100 to 100 that are added to the logits of tokens, by their ids; −100 rules a token out. */
  logitBias?: Record<number, number>;
  /** Has the probabilities of tokens told in `parts()`, with so many of the likeliest, from 0 to 20. */
  logprobs?: number;
  /** Where the random numbers start: the same seed gives the same text on every machine: 0. */
  seed?: number;
  /** Texts that end the generation; they are not part of the output. */
  stop?: string | string[];
  /** Go on after the model's own end: `false`. */
  ignoreEnd?: boolean;
  /** Try several tokens at once where the text repeats itself; the text is the same. By default where that helps. */
  speculate?: boolean;
  /** Variables for the chat template, such as `{ enable_thinking: false }`: for conversations only. */
  chatTemplateKwargs?: Record<string, unknown>;
  /** Whether what the model thinks first comes apart from the text, in `parts()`; for conversations only. */
  separateThinking?: boolean;
  /** The form that the text must have; a model that thinks does so first. */
  responseFormat?: ResponseFormat;
  /** Ends the generation. What came before stays. */
  signal?: AbortSignal;
  /** Told how much of the prompt has been read. */
  onPrefill?: (done: number, total: number) => void;
}

/** Why a text ended: the model's end token, a stop string, `maxTokens`, a full context, or an `AbortSignal`. */
export type StopReason = WireOutcome["reason"];

/** What a generation took. */
export interface Timings {
  /** Tokens of the prompt. */
  promptTokens: number;
  /** Of these, the ones that the model still knew from before. */
  cachedTokens: number;
  /** Time to read the others. */
  promptMilliseconds: number;
  /** From the call to the first piece of text. */
  firstTokenMilliseconds: number;
  /** Tokens generated, an end token included. */
  generatedTokens: number;
  /** From the first generated token to the last. */
  decodeMilliseconds: number;
  /** Prompt tokens read per second. */
  promptRate: number;
  /** Tokens generated per second. */
  decodeRate: number;
  /** Tokens that were drafted to be tried at once, and of these the ones that were right. */
  draftedTokens: number;
  acceptedTokens: number;
}

/** The ends of numbers that the core takes any of. */
const RANGES = { presencePenalty: [-2, 2], frequencyPenalty: [-2, 2], logprobs: [0, 20] } as const;

/** Tokens and their biases. */
function biasesOf(biases: Record<number, number>): [number, number][] {
  return Object.entries(biases).map(([key, bias]) => {
    const id = Number(key);
    if (!Number.isInteger(id) || id < 0 || id >= 2 ** 32 || typeof bias !== "number") {
      throw new BitNetError("argument", `logitBias: expected numbers by the ids of tokens, found ${JSON.stringify({ [key]: bias })}`);
    }
    return [id, bias];
  });
}

/** The options as the core wants them. */
export function wireOptions(options: GenerateOptions): string {
  const { signal: _, onPrefill: __, chatTemplateKwargs: ___, responseFormat: ____, separateThinking: _____, tools: ______, toolChoice: _______, parallelToolCalls: ________, stop, logitBias, ...rest } = options;
  for (const name of ["presencePenalty", "frequencyPenalty", "logprobs"] as const) {
    const [value, [least, most]] = [rest[name], RANGES[name]];
    if (value !== undefined && !(value >= least && value <= most)) {
      throw new BitNetError("argument", `${name}: expected a number from ${least} to ${most}, found ${value}`);
    }
  }
  if (rest.seed !== undefined && !(Number.isSafeInteger(rest.seed) && rest.seed >= 0)) {
    throw new BitNetError("argument", `seed: expected a whole number from 0, found ${rest.seed}`);
  }
  return wireJson("options", { ...rest, logitBias: logitBias && biasesOf(logitBias), stop: typeof stop === "string" ? [stop] : stop });
}

/**
 * A text that is being written: iterate over its pieces, once. Leaving the loop ends the generation. `timings` and `reason` are there
 * when it has ended.
 */
export class Generation implements AsyncIterable<string> {
  readonly #begin = performance.now();
  readonly #cancel: () => void;
  readonly #parts: GenerationPart[] = [];
  #first: number | undefined;
  #count = 0;
  #outcome: WireOutcome | undefined;
  #error: unknown;
  #ended = false;
  #taken = false;
  #wake: (() => void) | undefined;

  /** @internal */
  constructor(start: (onText: (part: GenerationPart, pieces: number) => void) => Promise<WireOutcome>, cancel: () => void) {
    this.#cancel = cancel;
    start((part, pieces) => {
      this.#first ??= performance.now();
      this.#count += pieces;
      if (part.thinking !== "" || part.text !== "" || part.calls.length > 0 || part.logprobs.length > 0) {
        this.#parts.push(part);
      }
      this.#wake?.();
    })
      .then(
        (outcome) => (this.#outcome = outcome),
        (error: unknown) => (this.#error = error),
      )
      .finally(() => {
        this.#ended = true;
        this.#wake?.();
      });
  }

  /** Pieces of text so far, each of about a token; `timings` has the exact number. */
  get pieces(): number {
    return this.#count;
  }

  /** Why it ended; `undefined` while it runs. */
  get reason(): StopReason | undefined {
    return this.#outcome?.reason;
  }

  /** What it took; `undefined` while it runs. */
  get timings(): Timings | undefined {
    const outcome = this.#outcome;
    if (outcome === undefined) {
      return undefined;
    }
    const rate = (count: number, milliseconds: number) => (milliseconds > 0 && count > 0 ? (count * 1000) / milliseconds : 0);
    return {
      promptTokens: outcome.promptTokens,
      cachedTokens: outcome.cachedTokens,
      promptMilliseconds: outcome.promptMilliseconds,
      firstTokenMilliseconds: (this.#first ?? performance.now()) - this.#begin,
      generatedTokens: outcome.generatedTokens,
      decodeMilliseconds: outcome.decodeMilliseconds,
      promptRate: rate(outcome.promptTokens - outcome.cachedTokens, outcome.promptMilliseconds),
      decodeRate: rate(outcome.generatedTokens - 1, outcome.decodeMilliseconds),
      draftedTokens: outcome.draftedTokens,
      acceptedTokens: outcome.acceptedTokens,
    };
  }

  /** Ends the generation. What came before stays. */
  cancel(): void {
    if (!this.#ended) {
      this.#cancel();
    }
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<string> {
    return this.#iterator(this.#texts());
  }

  /** Its parts, instead of their texts: to be iterated over once. Leaving the loop ends the generation. */
  parts(): AsyncIterableIterator<GenerationPart> {
    return this.#iterator(this.#all());
  }

  #iterator<T>(items: AsyncGenerator<T>): AsyncIterableIterator<T> {
    return {
      next: () => items.next(),
      // Also where nothing was asked for yet, and the loop in `#all` not begun.
      return: () => {
        this.cancel();
        return items.return(undefined);
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  async *#texts(): AsyncGenerator<string> {
    for await (const { text } of this.#all()) {
      if (text !== "") {
        yield text;
      }
    }
  }

  async *#all(): AsyncGenerator<GenerationPart> {
    if (this.#taken) {
      throw new BitNetError("argument", "a generation can be iterated over once");
    }
    this.#taken = true;
    try {
      for (;;) {
        const parts = this.#parts.splice(0);
        if (parts.length > 0) {
          const all = (name: "thinking" | "text") => parts.map((part) => part[name]).join("");
          yield { thinking: all("thinking"), text: all("text"), calls: parts.flatMap(({ calls }) => calls), logprobs: parts.flatMap(({ logprobs }) => logprobs) };
        } else if (this.#ended) {
          if (this.#error !== undefined) {
            throw this.#error;
          }
          return;
        } else {
          await new Promise<void>((resolve) => (this.#wake = resolve));
        }
      }
    } finally {
      this.cancel();
    }
  }

  /** The whole text, when it has been written. */
  async text(): Promise<string> {
    let text = "";
    for await (const piece of this) {
      text += piece;
    }
    return text;
  }
}
