// OpenAI's request as ours: every field is heeded, or refused by its name.

import { BitNetError } from "./errors.js";
import { checkFields, type Refused } from "./fields.js";
import type { GenerateOptions, ResponseFormat } from "./generation.js";

/** A text that is a part of a message. */
export interface TextPart {
  type: "text";
  text: string;
}

/** One turn of a conversation. */
export interface ChatMessage {
  role: "system" | "user" | "assistant" | (string & {});
  /** A text, also in parts, which are put together. */
  content: string | TextPart[];
  /** What the model thought before an earlier answer, for templates that show it. */
  reasoning_content?: string | null;
}

/** What `chat.completions.create` takes: OpenAI's names where there are such, ours for the rest. `null` is as if left out. */
export interface ChatCompletionRequest {
  messages: ChatMessage[];
  /** Any name: the model that was loaded answers. */
  model?: string | null;
  /** Whether the answer comes piece by piece. */
  stream?: boolean | null;
  /** `include_usage: false` leaves the usage out of the last piece. */
  stream_options?: { include_usage?: boolean } | null;
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  temperature?: number | null;
  top_p?: number | null;
  seed?: number | null;
  /** How many answers, from 1 to 128; their seeds follow each other. */
  n?: number | null;
  /** From −2 to 2. */
  frequency_penalty?: number | null;
  presence_penalty?: number | null;
  /** Numbers from −100 to 100 for tokens, by their ids; −100 rules a token out. */
  logit_bias?: Record<string, number> | null;
  /** Whether the probabilities of tokens are told, and how many of the likeliest, from 0 to 20. */
  logprobs?: boolean | null;
  top_logprobs?: number | null;
  /** How much the model is to think: `none`, or a word that its template knows. */
  reasoning_effort?: string | null;
  stop?: string | string[] | null;
  /** The form of the answer. */
  response_format?: ChatResponseFormat | null;
  topK?: number | null;
  minP?: number | null;
  repetitionPenalty?: number | null;
  /** Variables for the chat template, such as `{ enable_thinking: false }`. */
  chat_template_kwargs?: Record<string, unknown> | null;
  signal?: AbortSignal | null;
}

/** The form of an answer: OpenAI's, and those of `responseFormat`. */
export type ChatResponseFormat =
  | { type: "text" }
  | { type: "json_schema"; json_schema: { name?: string; description?: string; schema: object; strict?: boolean | null } }
  | ResponseFormat;

/** The names of the fields that `optionsOf` and `create` heed. */
const HEEDED = new Set<string>([
  "messages", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "n",
  "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "reasoning_effort", "response_format", "topK", "minP", "repetitionPenalty", "chat_template_kwargs", "signal",
] satisfies (keyof ChatCompletionRequest)[]);

/** The most answers to a request. */
const MOST_CHOICES = 128;

const isEmpty = (value: unknown) => typeof value === "object" && value !== null && Object.keys(value).length === 0;
const never = () => false;

/** Fields of OpenAI that ask for what this library does not do, and the values by which they ask for nothing. */
const REFUSED: Refused = new Map<string, (value: unknown) => boolean>([
  ["tools", isEmpty],
  ["tool_choice", (value) => value === "none" || value === "auto"],
  ["parallel_tool_calls", (value) => typeof value === "boolean"],
  ["functions", isEmpty],
  ["function_call", (value) => value === "none" || value === "auto"],
  ["modalities", (value) => Array.isArray(value) && value.every((one) => one === "text")],
  ["audio", never],
  ["prediction", never],
  ["verbosity", never],
  ["web_search_options", never],
]);

/** How to write the answer to `request`. */
export function optionsOf(request: ChatCompletionRequest): GenerateOptions {
  checkFields(request, HEEDED, REFUSED);
  const { reasoning_effort: effort } = request;
  const thinking = effort ? { enable_thinking: effort !== "none", reasoning_effort: effort } : {};
  const kwargs = { ...request.chat_template_kwargs, ...thinking };
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
    presencePenalty: request.presence_penalty,
    frequencyPenalty: request.frequency_penalty,
    logitBias: request.logit_bias,
    logprobs: alternatives(request),
    separateThinking: true,
    chatTemplateKwargs: isEmpty(kwargs) ? undefined : kwargs,
    signal: request.signal,
  };
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined && value !== null));
}

/** How many answers `request` asks for. */
export function countOf({ n }: ChatCompletionRequest): number {
  const count = n ?? 1;
  if (!(Number.isInteger(count) && count >= 1 && count <= MOST_CHOICES)) {
    throw new BitNetError("argument", `n: expected a whole number from 1 to ${MOST_CHOICES}, found ${JSON.stringify(n)}`);
  }
  return count;
}

/** How many of the likeliest tokens are told; nothing where no probabilities are. */
function alternatives({ logprobs, top_logprobs: top }: ChatCompletionRequest): number | undefined {
  if (logprobs) {
    return top ?? 0;
  }
  if (top) {
    throw new BitNetError("argument", `top_logprobs: expected none where logprobs is false, found ${top}`);
  }
  return undefined;
}

function formOf(format: ChatResponseFormat): ResponseFormat | undefined {
  if (format.type === "text") {
    return undefined;
  }
  return "json_schema" in format ? { type: "json_schema", schema: format.json_schema.schema } : format;
}

/** A message as chat templates read it. */
export interface PlainMessage {
  role: string;
  content: string;
  reasoning_content?: string;
}

/** Messages as chat templates read them: one text each. */
export function plainMessages(messages: ChatMessage[]): PlainMessage[] {
  if (!Array.isArray(messages)) {
    throw new BitNetError("argument", `messages: expected a list, found ${typeof messages}`);
  }
  return messages.map((message: ChatMessage | null, index) => {
    const place = `messages[${index}]`;
    const { role, content, reasoning_content: thinking, ...rest } = message ?? ({} as Partial<ChatMessage>);
    if (typeof role !== "string") {
      throw new BitNetError("argument", `${place}.role: expected a text, found ${typeof role}`);
    }
    for (const [name, value] of Object.entries(rest)) {
      if (value !== null && value !== undefined && !isEmpty(value)) {
        throw new BitNetError("unsupported", `${place}.${name}: models here read role and content alone; leave it out`);
      }
    }
    const plain = { role, content: textOf(content, `${place}.content`) };
    return thinking ? { ...plain, reasoning_content: textOf(thinking, `${place}.reasoning_content`) } : plain;
  });
}

function textOf(content: unknown, place: string): string {
  if (typeof content === "string") {
    return content;
  }
  if (!Array.isArray(content)) {
    throw new BitNetError("argument", `${place}: expected a text or a list of parts, found ${content === null ? "null" : typeof content}`);
  }
  return content
    .map((part: Partial<TextPart> | null, index) => {
      if (part?.type === "text" && typeof part.text === "string") {
        return part.text;
      }
      throw new BitNetError("unsupported", `${place}[${index}]: expected a part of type "text", found ${JSON.stringify(part?.type)}; models here read text alone`);
    })
    .join("");
}
