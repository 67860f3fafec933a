// A model that says what a test tells it to, through the real `Generation`.

import { Generation, type GenerateOptions, type GenerationPart } from "../package/src/generation.js";
import type { BitNet, ChatMessage, EmbedOptions } from "../package/src/index.js";
import type { WireOutcome } from "../package/src/protocol.js";

/** What a scripted answer was asked for. */
export interface Asked {
  messages: ChatMessage[];
  options: GenerateOptions;
}

/** How an answer goes: its pieces, why it ends, and what it waits for before each piece. */
export interface Script {
  pieces: (string | Partial<GenerationPart>)[];
  reason?: WireOutcome["reason"];
  wait?: () => Promise<void>;
  fails?: Error;
}

/** A model whose answers follow `scripts`, the last one from then on. */
export class Scripted {
  readonly info = { name: "scripted", hidden: 2 };
  readonly asked: Asked[] = [];
  readonly embedded: [string[], EmbedOptions][] = [];
  disposed = false;
  readonly #scripts: Script[];

  constructor(...scripts: Script[]) {
    this.#scripts = scripts;
  }

  /** As programs see it. */
  get model(): BitNet {
    return this as unknown as BitNet;
  }

  answer(messages: ChatMessage[], options: GenerateOptions = {}): Generation {
    const script = this.#scripts[Math.min(this.asked.length, this.#scripts.length - 1)] ?? { pieces: [] };
    this.asked.push({ messages, options });
    let cancelled = options.signal?.aborted ?? false;
    const cancel = () => (cancelled = true);
    options.signal?.addEventListener("abort", cancel);
    return new Generation(async (onText) => {
      let generatedTokens = 0;
      for (const piece of script.pieces) {
        await script.wait?.();
        if (cancelled) {
          break;
        }
        onText({ thinking: "", text: "", calls: [], logprobs: [], ...(typeof piece === "string" ? { text: piece } : piece) }, 1);
        generatedTokens += 1;
      }
      if (script.fails !== undefined) {
        throw script.fails;
      }
      return {
        reason: cancelled ? "cancelled" : (script.reason ?? "end"),
        promptTokens: 12,
        cachedTokens: 4,
        promptMilliseconds: 1,
        generatedTokens,
        decodeMilliseconds: 1,
        draftedTokens: 0,
        acceptedTokens: 0,
      };
    }, cancel);
  }

  /** How long a text is, and how many spaces are in it, as a vector of length 1. */
  async embed(texts: string[], options: EmbedOptions = {}) {
    this.embedded.push([texts, options]);
    options.signal?.throwIfAborted();
    const vectors = texts.map((text) => {
      const [x, y] = [text.length, text.split(" ").length - 1];
      return Float32Array.of(x / Math.hypot(x, y), y / Math.hypot(x, y));
    });
    return { vectors, truncated: texts.filter((text) => text.length > 100).length, tokens: texts.join("").length };
  }

  dispose(): void {
    this.disposed = true;
  }
}

/** Waits until `condition` holds. */
export async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; !condition(); turn += 1) {
    if (turn > 2000) {
      throw new Error(`never came true: ${condition.toString()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
