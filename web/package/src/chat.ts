// Conversations in the shape of OpenAI's API.

import { type ChatCompletionRequest, type ChatMessage, optionsOf } from "./chat-request.js";
import type { Generation, GenerateOptions } from "./generation.js";
import { randomName } from "./random.js";

/** Tokens that were read and written. */
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

/** Why an answer ended: `cancelled` by its signal, for which OpenAI has no word. */
export type FinishReason = "stop" | "length" | "cancelled";

/** An answer. */
export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: [{ index: 0; message: { role: "assistant"; content: string }; finish_reason: FinishReason }];
  usage: Usage;
}

/** A piece of an answer; the last one has a `finish_reason` and the `usage`. */
export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: [{ index: 0; delta: { role?: "assistant"; content?: string }; finish_reason: FinishReason | null }];
  usage?: Usage;
}

type Answer = (messages: ChatMessage[], options: GenerateOptions) => Generation;
type Head = Pick<ChatCompletionChunk, "id" | "created" | "model">;

/** `model.chat.completions`. */
export class ChatCompletions {
  readonly #answer: Answer;
  readonly #model: string;

  /** @internal */
  constructor(model: string, answer: Answer) {
    this.#model = model;
    this.#answer = answer;
  }

  /**
   * Answers the last of the messages.
   *
   * @throws {BitNetError} `argument` for a field that there is not, `unsupported` for one of OpenAI's that asks for what is not done here.
   */
  create(request: ChatCompletionRequest & { stream: true }): Promise<AsyncIterableIterator<ChatCompletionChunk>>;
  create(request: ChatCompletionRequest & { stream?: false | null }): Promise<ChatCompletion>;
  create(request: ChatCompletionRequest): Promise<ChatCompletion | AsyncIterableIterator<ChatCompletionChunk>>;
  async create(request: ChatCompletionRequest): Promise<ChatCompletion | AsyncIterableIterator<ChatCompletionChunk>> {
    const options = optionsOf(request);
    const generation = this.#answer(request.messages, options);
    const head = { id: `chatcmpl-${randomName()}`, created: Math.floor(Date.now() / 1000), model: this.#model };
    if (request.stream) {
      return new Chunks(generation, head, request.stream_options?.include_usage !== false);
    }
    const content = await generation.text();
    const message = { role: "assistant" as const, content };
    return {
      ...head,
      object: "chat.completion",
      choices: [{ index: 0, message, finish_reason: finishReason(generation) }],
      usage: usage(generation),
    };
  }
}

/** The pieces of an answer. Leaving them ends the generation, also before the first was asked for. */
class Chunks implements AsyncIterableIterator<ChatCompletionChunk> {
  readonly #generation: Generation;
  readonly #chunks: AsyncGenerator<ChatCompletionChunk>;

  constructor(generation: Generation, head: Head, withUsage: boolean) {
    this.#generation = generation;
    this.#chunks = chunksOf(generation, head, withUsage);
  }

  next(): Promise<IteratorResult<ChatCompletionChunk>> {
    return this.#chunks.next();
  }

  async return(): Promise<IteratorResult<ChatCompletionChunk>> {
    this.#generation.cancel();
    return this.#chunks.return(undefined);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

async function* chunksOf(generation: Generation, head: Head, withUsage: boolean): AsyncGenerator<ChatCompletionChunk> {
  const chunk = (delta: { role?: "assistant"; content?: string }, finish_reason: FinishReason | null): ChatCompletionChunk => ({
    ...head,
    object: "chat.completion.chunk",
    choices: [{ index: 0, delta, finish_reason }],
  });
  yield chunk({ role: "assistant", content: "" }, null);
  for await (const content of generation) {
    yield chunk({ content }, null);
  }
  yield { ...chunk({}, finishReason(generation)), ...(withUsage ? { usage: usage(generation) } : {}) };
}

function finishReason({ reason }: Generation): FinishReason {
  switch (reason) {
    case "length":
    case "context":
      return "length";
    case "cancelled":
      return "cancelled";
    default:
      return "stop";
  }
}

function usage(generation: Generation): Usage {
  const { promptTokens = 0, generatedTokens = 0, cachedTokens = 0 } = generation.timings ?? {};
  return {
    prompt_tokens: promptTokens,
    completion_tokens: generatedTokens,
    total_tokens: promptTokens + generatedTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
}
