// What programs in TypeScript write; checked with the package's declarations in tests/pack.test.ts.

import type { EmbeddingModelV3, LanguageModelV3 } from "@ai-sdk/provider";
import { BitNet, BitNetError, type ChatCompletionChunk, type LoadOptions, modelCache, savedSessions, SemanticIndex } from "bitnet-web";
import { createBitNet } from "bitnet-web/ai-sdk";
import { useBitNet } from "bitnet-web/react";
import { useBitNet as useBitNetInVue } from "bitnet-web/vue";

export async function chat(): Promise<string> {
  const options: LoadOptions = { device: "auto", cache: "revalidate" };
  const model = await BitNet.load("model.gguf", options);
  const messages = [{ role: "user" as const, content: "Hello!" }];
  const answer = await model.chat.completions.create({ messages, stop: null });
  const chunks: AsyncIterable<ChatCompletionChunk> = await model.chat.completions.create({ messages, stream: true });
  for await (const { choices } of chunks) {
    console.log(choices[0].delta.content);
  }
  try {
    await modelCache.list();
    await savedSessions.list();
  } catch (error) {
    if (error instanceof BitNetError && error.code === "quota") {
      console.log(error.tensor);
    }
  }
  return answer.choices[0].message.content ?? "";
}

export function sdk(model: BitNet): [LanguageModelV3, EmbeddingModelV3] {
  const bitnet = createBitNet(model);
  return [bitnet(), bitnet.embeddingModel()];
}

export async function search(model: BitNet): Promise<number | undefined> {
  const index = SemanticIndex.from(new SemanticIndex(model).export(), model);
  await index.add([{ id: "1", text: "text" }]);
  return (await index.search("query"))[0]?.score;
}

export function Component(): string {
  const { status, send } = useBitNet("demo");
  void send(status);
  return useBitNetInVue(() => "model.gguf").text.value;
}
