// What programs in TypeScript write; checked with the package's declarations in tests/pack.test.ts.

import { BitNet, BitNetError, type ChatCompletionChunk, type LoadOptions, modelCache, savedSessions } from "bitnet-web";

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
  return answer.choices[0].message.content;
}
