// OpenAI's request as ours: every field is heeded, or refused by its name.

import { BitNetError } from "./errors.js";
import { checkFields, type Refused } from "./fields.js";
import type { Tool, ToolChoice, WrittenCall } from "./tools.js";
import type { GenerateOptions, ResponseFormat } from "./generation.js";

/** A text that is a part of a message. */
export interface TextPart {
  type: "text";
  text: string;
}

/** One turn of a conversation. */
export interface ChatMessage {
  role: "system" | "user" | "assistant" | (string & {});
  /** A text, also in parts, which are put together; an answer that calls tools may have none. */
  content: string | TextPart[] | null;
  /** What the model thought before an earlier answer, for templates that show it. */
  reasoning_content?: string | null;
  /** The calls of an earlier answer. */
  tool_calls?: ToolCall[] | null;
  /** The call whose result this message of the role `tool` is. */
  tool_call_id?: string | null;
  name?: string | null;
}

/** A call of a tool as OpenAI writes it. */
export interface ToolCall {
  id: string;
  type: "function";
  function: WrittenCall;
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
  tools?: Tool[] | null;
  tool_choice?: ToolChoice | null;
  parallel_tool_calls?: boolean | null;
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
  "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "reasoning_effort", "tools", "tool_choice", "parallel_tool_calls", "response_format", "topK", "minP", "repetitionPenalty", "chat_template_kwargs", "signal",
] satisfies (keyof ChatCompletionRequest)[]);

/** The most answers to a request. */
const MOST_CHOICES = 128;

const isEmpty = (value: unknown) => typeof value === "object" && value !== null && Object.keys(value).length === 0;
const never = () => false;

/** Fields of OpenAI that ask for what this library does not do, and the values by which they ask for nothing. */
const REFUSED: Refused = new Map<string, (value: unknown) => boolean>([
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
    tools: request.tools,
    toolChoice: request.tool_choice,
    parallelToolCalls: request.parallel_tool_calls,
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
  name?: string;
  tool_call_id?: string;
  tool_calls?: { id: string; type: "function"; function: { name: string; arguments: unknown } }[];
}

/** Messages as chat templates read them: one text each. */
export function plainMessages(messages: ChatMessage[]): PlainMessage[] {
  if (!Array.isArray(messages)) {
    throw new BitNetError("argument", `messages: expected a list, found ${typeof messages}`);
  }
  return messages.map((message: ChatMessage | null, index) => {
    const place = `messages[${index}]`;
    const { role, content, reasoning_content, name, tool_call_id, tool_calls: calls, ...rest } = message ?? ({} as Partial<ChatMessage>);
    if (typeof role !== "string") {
      throw new BitNetError("argument", `${place}.role: expected a text, found ${typeof role}`);
    }
    for (const [name, value] of Object.entries(rest)) {
      if (value !== null && value !== undefined && !isEmpty(value)) {
        throw new BitNetError("unsupported", `${place}.${name}: models here read text and calls of tools alone; leave it out`);
      }
    }
    const plain: PlainMessage = { role, content: (content ?? undefined) === undefined && calls ? "" : textOf(content, `${place}.content`) };
    for (const [field, text] of Object.entries({ reasoning_content, name, tool_call_id })) {
      if (text) {
        Object.assign(plain, { [field]: textOf(text, `${place}.${field}`) });
      }
    }
    return calls ? { ...plain, tool_calls: calls.map((call, index) => plainCall(call, `${place}.tool_calls[${index}]`)) } : plain;
  });
}

/** A call of an earlier answer. Its arguments are text in JSON, and an object for a template. */
function plainCall(call: ToolCall, place: string): NonNullable<PlainMessage["tool_calls"]>[number] {
  const { id, function: called } = call ?? {};
  if (typeof called?.name !== "string") {
    throw new BitNetError("argument", `${place}.function.name: expected a text, found ${typeof called?.name}`);
  }
  return { id, type: "function", function: { name: called.name, arguments: argumentsOf(called.arguments) } };
}

function argumentsOf(text: unknown): unknown {
  if (typeof text !== "string") {
    return text ?? {};
  }
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : text;
  } catch {
    // The model wrote it, and may read it again.
    return text;
  }
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
