/**
 * Ternary (1.58-bit) language models in the browser.
 *
 * ```ts
 * import { BitNet } from "bitnet-web";
 *
 * const model = await BitNet.demo(); // or BitNet.load("https://…/model.gguf")
 * for await (const piece of model.generate("Once upon a time")) {
 *   document.body.append(piece);
 * }
 * model.dispose();
 * ```
 *
 * @packageDocumentation
 */

export { type CachedModel, modelCache } from "./cache.js";
export type { ChatChoice, ChatCompletion, ChatCompletionChunk, ChatCompletions, ChatDelta, ChatLogprobs, FinishReason, Usage } from "./chat.js";
export type { ChatCompletionRequest, ChatMessage, ChatResponseFormat, TextPart, ToolCall } from "./chat-request.js";
export type { EmbedOptions, Embeddings } from "./embedding.js";
export type { CreateEmbeddingResponse, EmbeddingRequest } from "./embeddings-request.js";
export { BitNetError, type BitNetErrorCode } from "./errors.js";
export type { Fallback, Variant } from "./features.js";
export type { GenerateOptions, Generation, GenerationPart, ResponseFormat, StopReason, Timings, TokenLogprob, WrittenLogprob } from "./generation.js";
export { type AttendedToken, BitNet, type LikelyToken, type LoadOptions, type LoadProgress, type ModelInfo, type NextToken, type RestoreOptions, type TensorInfo } from "./model.js";
export type { CachePolicy, ChatTemplate } from "./protocol.js";
export { type Embedder, type IndexedText, type SearchHit, type SearchOptions, SemanticIndex } from "./semantic-index.js";
export { type SavedSession, savedSessions, type Session } from "./sessions.js";
export type { ModelSource } from "./source.js";
export type { Tool, ToolChoice, ToolOptions, WrittenCall } from "./tools.js";
