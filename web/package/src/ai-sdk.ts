/**
 * A model as a provider of the AI SDK (`ai`, version 6 or later).
 *
 * ```ts
 * import { streamText } from "ai";
 * import { BitNet } from "bitnet-web";
 * import { createBitNet } from "bitnet-web/ai-sdk";
 *
 * const bitnet = createBitNet(await BitNet.demo());
 * const { textStream } = streamText({ model: bitnet(), prompt: "What is 47 + 38?" });
 * ```
 *
 * @packageDocumentation
 */

import type {
  EmbeddingModelV3,
  EmbeddingModelV3CallOptions,
  LanguageModelV3,
  LanguageModelV3CallOptions,
  LanguageModelV3Content,
  LanguageModelV3FinishReason,
  LanguageModelV3Message,
  LanguageModelV3StreamPart,
  LanguageModelV3ToolCall,
  LanguageModelV3ToolResultOutput,
  LanguageModelV3Usage,
  SharedV3Warning,
} from "@ai-sdk/provider";
import { type BitNet, BitNetError, type ChatMessage, type EmbedOptions, type GenerateOptions, type Generation, type ResponseFormat, type Tool, type ToolCall, type ToolChoice, type WrittenCall } from "./index.js";

/** The name of the provider, and of its options in `providerOptions`. */
const PROVIDER = "bitnet";

/** Options beyond those of the AI SDK: `providerOptions: { bitnet: { … } }` of texts. */
export type BitNetProviderOptions = Pick<GenerateOptions, "minP" | "repetitionPenalty" | "repetitionWindow" | "logitBias" | "ignoreEnd" | "speculate" | "chatTemplateKwargs" | "responseFormat">;

/** The same of embeddings. */
export type BitNetEmbeddingOptions = Pick<EmbedOptions, "pooling" | "normalize" | "dimensions" | "instruction">;

/** The names that `providerOptions` may have. */
const OPTIONS = ["minP", "repetitionPenalty", "repetitionWindow", "logitBias", "ignoreEnd", "speculate", "chatTemplateKwargs", "responseFormat"] as const satisfies (keyof BitNetProviderOptions)[];
const EMBEDDING_OPTIONS = ["pooling", "normalize", "dimensions", "instruction"] as const satisfies (keyof BitNetEmbeddingOptions)[];

/** A provider with one model, whose ids are but names. */
export interface BitNetProvider {
  (id?: string): LanguageModelV3;
  readonly specificationVersion: "v3";
  languageModel(id?: string): LanguageModelV3;
  embeddingModel(id?: string): EmbeddingModelV3;
  /** @throws {BitNetError} There are none. */
  imageModel(id: string): never;
}

/** The provider of an open model, which stays its owner's: `model.dispose()` ends it. */
export function createBitNet(model: BitNet): BitNetProvider {
  const languageModel = (id: string = model.info.name): LanguageModelV3 => new BitNetLanguageModel(model, id);
  const embeddingModel = (id: string = model.info.name): EmbeddingModelV3 => new BitNetEmbeddingModel(model, id);
  return Object.assign((id?: string) => languageModel(id), {
    specificationVersion: "v3" as const,
    languageModel,
    embeddingModel,
    imageModel: (id: string): never => {
      throw new BitNetError("unsupported", `imageModel: models here write text alone, found ${JSON.stringify(id)}`);
    },
  });
}

// The AI SDK calls methods on proxies of these two, which `#` names would not pass.

class BitNetLanguageModel implements LanguageModelV3 {
  readonly specificationVersion = "v3";
  readonly provider = PROVIDER;
  readonly modelId: string;
  readonly supportedUrls = {};
  private readonly model: BitNet;

  constructor(model: BitNet, id: string) {
    this.model = model;
    this.modelId = id;
  }

  async doGenerate(options: LanguageModelV3CallOptions) {
    const { generation, warnings } = this.begin(options);
    let [thinking, text] = ["", ""];
    const calls: LanguageModelV3ToolCall[] = [];
    for await (const part of generation.parts()) {
      thinking += part.thinking;
      text += part.text;
      calls.push(...part.calls.map(callOf));
    }
    check(options.abortSignal);
    const content: LanguageModelV3Content[] = [
      { type: "reasoning", text: thinking },
      { type: "text", text },
      ...calls,
    ];
    return { content: content.filter((part) => !("text" in part) || part.text !== ""), ...endOf(generation, calls.length), warnings, response: this.response() };
  }

  async doStream(options: LanguageModelV3CallOptions) {
    const { generation, warnings } = this.begin(options);
    const { abortSignal } = options;
    const response = this.response();
    async function* parts(): AsyncGenerator<LanguageModelV3StreamPart> {
      yield { type: "stream-start", warnings };
      yield { type: "response-metadata", ...response };
      const count = yield* blocks(generation);
      check(abortSignal);
      yield { type: "finish", ...endOf(generation, count) };
    }
    return { stream: streamOf(parts(), () => generation.cancel()) };
  }

  /** Begins the answer, and says what of `options` is not heeded. */
  private begin(options: LanguageModelV3CallOptions): { generation: Generation; warnings: SharedV3Warning[] } {
    check(options.abortSignal);
    const messages = options.prompt.flatMap(messagesOf);
    return { generation: this.model.answer(messages, optionsOf(options)), warnings: warningsOf(options) };
  }

  private response() {
    return { id: `bitnet-${crypto.getRandomValues(new Uint32Array(2)).join("")}`, timestamp: new Date(), modelId: this.modelId };
  }
}

/** A call as the AI SDK has it. */
function callOf(call: WrittenCall): LanguageModelV3ToolCall {
  return { type: "tool-call", toolCallId: crypto.getRandomValues(new Uint32Array(2)).join(""), toolName: call.name, input: call.arguments };
}

/** What the model thinks, and what it says, each with a beginning and an end, and its calls; how many of these there were. */
async function* blocks(generation: Generation): AsyncGenerator<LanguageModelV3StreamPart, number> {
  let count = 0;
  const order = ["reasoning", "text"] as const;
  let open: (typeof order)[number] | undefined;
  for await (const { thinking, text, calls } of generation.parts()) {
    for (const [index, delta] of [thinking, text].entries()) {
      const kind = order[index];
      if (delta === "" || kind === undefined) {
        continue;
      }
      if (open !== kind) {
        if (open !== undefined) {
          yield { type: `${open}-end`, id: open };
        }
        yield { type: `${kind}-start`, id: kind };
        open = kind;
      }
      yield { type: `${kind}-delta`, id: kind, delta };
    }
    for (const call of calls) {
      if (open !== undefined) {
        yield { type: `${open}-end`, id: open };
        open = undefined;
      }
      yield callOf(call);
      count += 1;
    }
  }
  if (open !== undefined) {
    yield { type: `${open}-end`, id: open };
  }
  return count;
}

/** Throws as other providers do where `signal` has fired: what was written is then in vain. */
function check(signal: AbortSignal | undefined): void {
  signal?.throwIfAborted();
}

/** A stream of `parts`; `cancel` is called where nobody reads on. */
function streamOf<T>(parts: AsyncGenerator<T>, cancel: () => void): ReadableStream<T> {
  return new ReadableStream<T>({
    async pull(controller) {
      const { done, value } = await parts.next();
      if (done) {
        controller.close();
      } else {
        controller.enqueue(value);
      }
    },
    cancel,
  });
}

/** How much a model is to think: an option of version 7, as the server takes `reasoning_effort`. */
interface WithReasoning {
  reasoning?: "provider-default" | "none" | (string & {});
}

/** The options of this library. */
function optionsOf(options: LanguageModelV3CallOptions & WithReasoning): GenerateOptions {
  const { reasoning = "provider-default", responseFormat } = options;
  const own = ownOptions<BitNetProviderOptions>(options.providerOptions, OPTIONS);
  const effort = reasoning === "provider-default" ? {} : { enable_thinking: reasoning !== "none", reasoning_effort: reasoning };
  const kwargs = { ...effort, ...own.chatTemplateKwargs };
  const all: { [K in keyof GenerateOptions]: GenerateOptions[K] | undefined } = {
    maxTokens: options.maxOutputTokens,
    temperature: options.temperature,
    topP: options.topP,
    topK: options.topK,
    seed: options.seed,
    presencePenalty: options.presencePenalty,
    frequencyPenalty: options.frequencyPenalty,
    separateThinking: true,
    ...toolsOf(options),
    stop: options.stopSequences,
    responseFormat: responseFormat?.type === "json" ? formOf(responseFormat.schema) : undefined,
    signal: options.abortSignal,
    ...own,
    chatTemplateKwargs: Object.keys(kwargs).length > 0 ? kwargs : undefined,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

/** The functions that may be called. */
function toolsOf({ tools = [], toolChoice }: LanguageModelV3CallOptions): Pick<GenerateOptions, "tools" | "toolChoice"> {
  const functions = tools.flatMap((tool): Tool[] => {
    if (tool.type !== "function") {
      return [];
    }
    const { name, description, inputSchema: parameters, strict } = tool;
    return [{ type: "function", function: { name, parameters, ...(description === undefined ? {} : { description }), ...(strict === undefined ? {} : { strict }) } }];
  });
  if (functions.length === 0) {
    return {};
  }
  const choice: ToolChoice | undefined = toolChoice?.type === "tool" ? { type: "function", function: { name: toolChoice.toolName } } : toolChoice?.type;
  return { tools: functions, ...(choice === undefined ? {} : { toolChoice: choice }) };
}

function formOf(schema: object | undefined): ResponseFormat {
  return schema === undefined ? { type: "json_object" } : { type: "json_schema", schema };
}

/** What `providerOptions` say to this provider. */
function ownOptions<T extends object>(all: Record<string, object> | undefined, known: readonly (keyof T & string)[]): Partial<T> {
  const own = all?.[PROVIDER] ?? {};
  for (const name of Object.keys(own)) {
    if (!known.includes(name as keyof T & string)) {
      throw new BitNetError("argument", `providerOptions.${PROVIDER}.${name}: expected one of ${known.join(", ")}`);
    }
  }
  return own as Partial<T>;
}

/** What is asked for and not done here. */
function warningsOf({ tools, includeRawChunks }: LanguageModelV3CallOptions): SharedV3Warning[] {
  const asked: [string, boolean, string][] = [
    ["tools of providers", !!tools?.some(({ type }) => type !== "function"), "the model calls functions alone"],
    ["includeRawChunks", !!includeRawChunks, "there is no server whose chunks could be shown"],
  ];
  return asked.filter(([, isAsked]) => isAsked).map(([feature, , details]) => ({ type: "unsupported", feature, details }));
}

/** A message as this library takes it. Earlier thinking is left out, as chat templates do. */
function messagesOf(message: LanguageModelV3Message, index: number): ChatMessage[] {
  if (message.role === "system") {
    return [{ role: "system", content: message.content }];
  }
  const calls: ToolCall[] = [];
  const results: ChatMessage[] = [];
  const content = message.content.flatMap((part) => {
    switch (part.type) {
      case "text":
        return [{ type: "text" as const, text: part.text }];
      case "reasoning":
        return [];
      case "tool-call":
        calls.push({ id: part.toolCallId, type: "function", function: { name: part.toolName, arguments: JSON.stringify(part.input ?? {}) } });
        return [];
      case "tool-result":
        results.push({ role: "tool", tool_call_id: part.toolCallId, name: part.toolName, content: resultOf(part.output) });
        return [];
      default:
        throw new BitNetError("unsupported", `prompt[${index}]: expected parts of text, found one of type ${JSON.stringify(part.type)}; models here read text alone`);
    }
  });
  if (message.role === "tool") {
    return results;
  }
  return [{ role: message.role, content, ...(calls.length > 0 ? { tool_calls: calls } : {}) }, ...results];
}

/** The result of a call as a text. */
function resultOf(output: LanguageModelV3ToolResultOutput): string {
  switch (output.type) {
    case "text":
    case "error-text":
      return output.value;
    case "execution-denied":
      return output.reason ?? "The call was denied.";
    default:
      return JSON.stringify(output.value);
  }
}

/** Why a text ended, and what it took. */
function endOf(generation: Generation, calls: number): { finishReason: LanguageModelV3FinishReason; usage: LanguageModelV3Usage } {
  const { reason, timings } = generation;
  const { promptTokens, cachedTokens, generatedTokens } = timings ?? {};
  const unified = calls > 0 ? "tool-calls" : reason === "end" || reason === "stop" ? "stop" : reason === "length" || reason === "context" ? "length" : "other";
  const noCache = promptTokens === undefined ? undefined : promptTokens - (cachedTokens ?? 0);
  return {
    finishReason: { unified, raw: reason },
    usage: {
      inputTokens: { total: promptTokens, noCache, cacheRead: cachedTokens, cacheWrite: undefined },
      outputTokens: { total: generatedTokens, text: undefined, reasoning: undefined },
    },
  };
}

class BitNetEmbeddingModel implements EmbeddingModelV3 {
  readonly specificationVersion = "v3";
  readonly provider = PROVIDER;
  readonly modelId: string;
  readonly maxEmbeddingsPerCall = Number.POSITIVE_INFINITY;
  /** One call after the other has the same pace, and less to hold. */
  readonly supportsParallelCalls = false;
  private readonly model: BitNet;

  constructor(model: BitNet, id: string) {
    this.model = model;
    this.modelId = id;
  }

  async doEmbed({ values, abortSignal, providerOptions, dimensions }: EmbeddingModelV3CallOptions & { dimensions?: number }) {
    check(abortSignal);
    const own = ownOptions<BitNetEmbeddingOptions>(providerOptions, EMBEDDING_OPTIONS);
    const asked = { ...(dimensions === undefined ? {} : { dimensions }), ...(abortSignal === undefined ? {} : { signal: abortSignal }), ...own };
    const { vectors, truncated, tokens } = await this.model.embed(values, asked).catch((error: unknown) => {
      check(abortSignal);
      throw error;
    });
    const cut: SharedV3Warning = { type: "other", message: `${truncated} of ${values.length} texts were longer than the context, and were cut to it` };
    return { embeddings: vectors.map((vector) => Array.from(vector)), usage: { tokens }, warnings: truncated > 0 ? [cut] : [] };
  }
}
