// Conversations in the shape of OpenAI's API.

import { type ChatCompletionRequest, type ChatMessage, countOf, optionsOf, type ToolCall } from "./chat-request.js";
import type { Generation, GenerateOptions, WrittenLogprob } from "./generation.js";
import { randomName } from "./random.js";
import type { WrittenCall } from "./tools.js";

/** Tokens that were read and written. */
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

/** Why an answer ended: `cancelled` by its signal, for which OpenAI has no word. */
export type FinishReason = "stop" | "length" | "tool_calls" | "cancelled";

/** How likely the tokens of an answer were, by the model's own distribution. */
export interface ChatLogprobs {
  content: WrittenLogprob[];
  refusal: null;
}

/** One of the answers to a request. */
export interface ChatChoice {
  index: number;
  /** What the model thought before is apart. */
  message: { role: "assistant"; content: string | null; reasoning_content?: string; tool_calls?: ToolCall[] };
  logprobs: ChatLogprobs | null;
  finish_reason: FinishReason;
}

/** More of an answer. */
export interface ChatDelta {
  role?: "assistant";
  content?: string;
  reasoning_content?: string;
  tool_calls?: (ToolCall & { index: number })[];
}

/** The answers to a request. */
export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: [ChatChoice, ...ChatChoice[]];
  usage: Usage;
}

/** A piece of an answer; the last one has a `finish_reason` and the `usage`. */
export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: [{ index: number; delta: ChatDelta; logprobs: ChatLogprobs | null; finish_reason: FinishReason | null }];
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
    const { seed = 0 } = options;
    const generations = Array.from({ length: countOf(request) }, (_, index) => this.#answer(request.messages, { ...options, seed: seed + index }));
    const head = { id: `chatcmpl-${randomName()}`, created: Math.floor(Date.now() / 1000), model: this.#model };
    if (request.stream) {
      return new Chunks(generations, head, request.stream_options?.include_usage !== false);
    }
    const choices: ChatChoice[] = [];
    try {
      for (const [index, generation] of generations.entries()) {
        choices.push(await choice(index, generation));
      }
    } finally {
      generations.forEach((generation) => generation.cancel());
    }
    return { ...head, object: "chat.completion", choices: choices as ChatCompletion["choices"], usage: usage(generations) };
  }
}

/** An answer as a whole. */
async function choice(index: number, generation: Generation): Promise<ChatChoice> {
  let [thinking, content] = ["", ""];
  const logprobs: WrittenLogprob[] = [];
  const calls: ToolCall[] = [];
  for await (const part of generation.parts()) {
    thinking += part.thinking;
    content += part.text;
    logprobs.push(...part.logprobs);
    calls.push(...part.calls.map(toolCall));
  }
  const message = {
    role: "assistant" as const,
    content: calls.length > 0 && content.trim() === "" ? null : content,
    ...(thinking === "" ? {} : { reasoning_content: thinking }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
  return { index, message, logprobs: logprobsOf(logprobs), finish_reason: finishReason(generation, calls.length) };
}

/** A call as OpenAI writes it. */
function toolCall(call: WrittenCall): ToolCall {
  return { id: `call_${randomName()}`, type: "function", function: { name: call.name, arguments: call.arguments } };
}

/** The pieces of the answers, one answer after the other. Leaving them ends the generations, also before the first was asked for. */
class Chunks implements AsyncIterableIterator<ChatCompletionChunk> {
  readonly #generations: Generation[];
  readonly #chunks: AsyncGenerator<ChatCompletionChunk>;

  constructor(generations: Generation[], head: Head, withUsage: boolean) {
    this.#generations = generations;
    this.#chunks = chunksOf(generations, head, withUsage);
  }

  next(): Promise<IteratorResult<ChatCompletionChunk>> {
    return this.#chunks.next();
  }

  async return(): Promise<IteratorResult<ChatCompletionChunk>> {
    this.#generations.forEach((generation) => generation.cancel());
    return this.#chunks.return(undefined);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

async function* chunksOf(generations: Generation[], head: Head, withUsage: boolean): AsyncGenerator<ChatCompletionChunk> {
  try {
    for (const [index, generation] of generations.entries()) {
      const chunk = (delta: ChatDelta, finish_reason: FinishReason | null, logprobs: WrittenLogprob[] = []): ChatCompletionChunk => ({
        ...head,
        object: "chat.completion.chunk",
        choices: [{ index, delta, logprobs: logprobsOf(logprobs), finish_reason }],
      });
      yield chunk({ role: "assistant", content: "" }, null);
      let count = 0;
      for await (const { thinking, text, calls, logprobs } of generation.parts()) {
        if (thinking !== "") {
          // The first change brings the probabilities along.
          yield chunk({ reasoning_content: thinking }, null, logprobs.splice(0));
        }
        if (text !== "" || logprobs.length > 0) {
          yield chunk(text === "" ? {} : { content: text }, null, logprobs);
        }
        for (const call of calls) {
          yield chunk({ tool_calls: [{ index: count++, ...toolCall(call) }] }, null);
        }
      }
      const isLast = index === generations.length - 1;
      yield { ...chunk({}, finishReason(generation, count)), ...(withUsage && isLast ? { usage: usage(generations) } : {}) };
    }
  } finally {
    generations.forEach((generation) => generation.cancel());
  }
}

function logprobsOf(content: WrittenLogprob[]): ChatLogprobs | null {
  return content.length === 0 ? null : { content, refusal: null };
}

/** Why an answer ended that has so many calls. */
function finishReason({ reason }: Generation, calls: number): FinishReason {
  if (calls > 0 && reason !== "cancelled") {
    return "tool_calls";
  }
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

/** Tokens of all answers to one prompt, which counts once. */
function usage(generations: Generation[]): Usage {
  const timings = generations.map(({ timings }) => timings);
  const { promptTokens = 0, cachedTokens = 0 } = timings[0] ?? {};
  const generated = timings.reduce((sum, one) => sum + (one?.generatedTokens ?? 0), 0);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: generated,
    total_tokens: promptTokens + generated,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
}
