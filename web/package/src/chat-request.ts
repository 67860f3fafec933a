// OpenAI's request as ours: every field is heeded, or refused by its name.

import { BitNetError } from "./errors.js";
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
  "messages", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop",
  "response_format", "topK", "minP", "repetitionPenalty", "chat_template_kwargs", "signal",
] satisfies (keyof ChatCompletionRequest)[]);

/** Fields about OpenAI's accounts and machines: here they mean nothing, whatever they say. */
const ACCOUNTING = new Set(["user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"]);

const isFalse = (value: unknown) => value === false;
const isZero = (value: unknown) => value === 0;
const isEmpty = (value: unknown) => typeof value === "object" && value !== null && Object.keys(value).length === 0;
const never = () => false;

/** Fields of OpenAI that ask for what this library does not do, and the values by which they ask for nothing. */
const REFUSED = new Map<string, (value: unknown) => boolean>([
  ["n", (value) => value === 1],
  ["logprobs", isFalse],
  ["top_logprobs", isZero],
  ["logit_bias", isEmpty],
  ["frequency_penalty", isZero],
  ["presence_penalty", isZero],
  ["tools", isEmpty],
  ["tool_choice", (value) => value === "none" || value === "auto"],
  ["parallel_tool_calls", (value) => typeof value === "boolean"],
  ["functions", isEmpty],
  ["function_call", (value) => value === "none" || value === "auto"],
  ["modalities", (value) => Array.isArray(value) && value.every((one) => one === "text")],
  ["audio", never],
  ["prediction", never],
  ["reasoning_effort", never],
  ["verbosity", never],
  ["web_search_options", never],
]);

/** Refuses what a request asks for beyond what is heeded. */
function check(request: ChatCompletionRequest): void {
  for (const [name, value] of Object.entries(request) as [string, unknown][]) {
    if (value === null || value === undefined || HEEDED.has(name) || ACCOUNTING.has(name)) {
      continue;
    }
    const asksNothing = REFUSED.get(name);
    if (asksNothing === undefined) {
      throw new BitNetError("argument", `${name}: expected a field of the request, found one that there is not`);
    }
    if (!asksNothing(value)) {
      throw new BitNetError("unsupported", `${name}: this library has no such feature; leave it out`);
    }
  }
}

/** How to write the answer to `request`. */
export function optionsOf(request: ChatCompletionRequest): GenerateOptions {
  if (typeof request !== "object" || request === null) {
    throw new BitNetError("argument", `request: expected an object, found ${request === null ? "null" : typeof request}`);
  }
  check(request);
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
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined && value !== null));
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
}

/** Messages as chat templates read them: one text each. */
export function plainMessages(messages: ChatMessage[]): PlainMessage[] {
  if (!Array.isArray(messages)) {
    throw new BitNetError("argument", `messages: expected a list, found ${typeof messages}`);
  }
  return messages.map((message: ChatMessage | null, index) => {
    const place = `messages[${index}]`;
    const { role, content, ...rest } = message ?? { role: undefined, content: undefined };
    if (typeof role !== "string") {
      throw new BitNetError("argument", `${place}.role: expected a text, found ${typeof role}`);
    }
    for (const [name, value] of Object.entries(rest)) {
      if (value !== null && value !== undefined && !isEmpty(value)) {
        throw new BitNetError("unsupported", `${place}.${name}: models here read role and content alone; leave it out`);
      }
    }
    return { role, content: textOf(content, `${place}.content`) };
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
