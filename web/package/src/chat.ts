// Conversations in the shape of OpenAI's API.

import type { Generation, GenerateOptions, ResponseFormat } from "./generation.js";

/** One turn of a conversation. */
export interface ChatMessage {
  role: "system" | "user" | "assistant" | (string & {});
  content: string;
}

/** What `chat.completions.create` takes: OpenAI's names where there are such, ours for the rest. */
export interface ChatCompletionRequest {
  messages: ChatMessage[];
  /** Whether the answer comes piece by piece. */
  stream?: boolean;
  max_tokens?: number;
  max_completion_tokens?: number;
  temperature?: number;
  top_p?: number;
  seed?: number;
  stop?: string | string[];
  /** The form of the answer. */
  response_format?: ChatResponseFormat | null;
  topK?: number;
  minP?: number;
  repetitionPenalty?: number;
  /** Variables for the chat template, such as `{ enable_thinking: false }`. */
  chat_template_kwargs?: Record<string, unknown>;
  signal?: AbortSignal;
}

/** The form of an answer: OpenAI's, and those of `responseFormat`. */
export type ChatResponseFormat =
  | { type: "text" }
  | { type: "json_schema"; json_schema: { name?: string; description?: string; schema: object; strict?: boolean | null } }
  | ResponseFormat;

/** Tokens that were read and written. */
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

type FinishReason = "stop" | "length";

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

/** `model.chat.completions`. */
export class ChatCompletions {
  readonly #answer: Answer;
  readonly #model: string;

  /** @internal */
  constructor(model: string, answer: Answer) {
    this.#model = model;
    this.#answer = answer;
  }

  /** Answers the last of the messages. */
  create(request: ChatCompletionRequest & { stream: true }): Promise<AsyncIterable<ChatCompletionChunk>>;
  create(request: ChatCompletionRequest & { stream?: false }): Promise<ChatCompletion>;
  create(request: ChatCompletionRequest): Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>>;
  async create(request: ChatCompletionRequest): Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>> {
    const generation = this.#answer(request.messages, optionsOf(request));
    const head = { id: `chatcmpl-${crypto.randomUUID()}`, created: Math.floor(Date.now() / 1000), model: this.#model };
    if (request.stream) {
      return chunks(generation, head);
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

function optionsOf(request: ChatCompletionRequest): GenerateOptions {
  const options: Record<string, unknown> = {
    maxTokens: request.max_completion_tokens ?? request.max_tokens,
    temperature: request.temperature,
    topP: request.top_p,
    seed: request.seed,
    stop: request.stop,
    topK: request.topK,
    minP: request.minP,
    repetitionPenalty: request.repetitionPenalty,
    responseFormat: request.response_format ? formOf(request.response_format) : undefined,
    chatTemplateKwargs: request.chat_template_kwargs,
    signal: request.signal,
  };
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

function formOf(format: ChatResponseFormat): ResponseFormat | undefined {
  if (format.type === "text") {
    return undefined;
  }
  return "json_schema" in format ? { type: "json_schema", schema: format.json_schema.schema } : format;
}

async function* chunks(
  generation: Generation,
  head: Pick<ChatCompletionChunk, "id" | "created" | "model">,
): AsyncGenerator<ChatCompletionChunk> {
  const chunk = (delta: { role?: "assistant"; content?: string }, finish_reason: FinishReason | null): ChatCompletionChunk => ({
    ...head,
    object: "chat.completion.chunk",
    choices: [{ index: 0, delta, finish_reason }],
  });
  yield chunk({ role: "assistant", content: "" }, null);
  for await (const content of generation) {
    yield chunk({ content }, null);
  }
  yield { ...chunk({}, finishReason(generation)), usage: usage(generation) };
}

function finishReason(generation: Generation): FinishReason {
  return generation.reason === "length" || generation.reason === "context" ? "length" : "stop";
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
