// What programs with React, Vue and the AI SDK do; tests/frameworks.browser.ts calls it with the model of this package.

import { embed, generateObject, generateText, Output, streamText } from "ai";
import { BitNet, SemanticIndex } from "bitnet-web";
import { createBitNet } from "bitnet-web/ai-sdk";
import { useBitNet } from "bitnet-web/react";
import { useBitNet as useBitNetInVue } from "bitnet-web/vue";
import { createElement, useEffect } from "react";
import { createRoot } from "react-dom/client";
import { createApp, defineComponent, h } from "vue";
import { z } from "zod";

const QUESTION = "What is 47 + 38?";
const options = { load: { variant: "simd128" }, generate: { temperature: 0 } };

async function until(condition) {
  while (!condition()) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function react() {
  let chat;
  function Component() {
    chat = useBitNet("demo", options);
    useEffect(() => void chat.send(QUESTION), []);
    return createElement("p", null, chat.text);
  }
  const place = document.createElement("div");
  const root = createRoot(place);
  root.render(createElement(Component));
  await until(() => chat?.status === "ready" && chat.messages.length === 2);
  const { model } = chat;
  const shown = place.textContent;
  root.unmount();
  await until(() => chat !== undefined);
  const after = await model.tokenize("a").then(() => "open", ({ code }) => code);
  return { shown, after };
}

async function vue() {
  let chat;
  const app = createApp(
    defineComponent(() => {
      chat = useBitNetInVue("demo", options);
      return () => h("p", chat.text.value);
    }),
  );
  const place = document.createElement("div");
  app.mount(place);
  await chat.send(QUESTION);
  await until(() => place.textContent === chat.text.value);
  const model = chat.model.value;
  const shown = place.textContent;
  app.unmount();
  const after = await model.tokenize("a").then(() => "open", ({ code }) => code);
  return { shown, after };
}

async function sdk() {
  const open = await BitNet.demo({ variant: "simd128", device: "wasm" });
  const bitnet = createBitNet(open);
  const model = bitnet();
  const { text, finishReason, usage } = await generateText({ model, prompt: QUESTION, temperature: 0 });
  const streamed = streamText({ model, prompt: QUESTION, temperature: 0 });
  const same = (await streamed.text) === text;
  const cut = await generateText({ model, prompt: QUESTION, temperature: 0, maxOutputTokens: 1 });
  const schema = z.object({ sum: z.number().int() });
  const { object } = await generateObject({ model, schema, prompt: QUESTION, temperature: 0 });
  const { output } = await generateText({ model, output: Output.object({ schema }), prompt: QUESTION, temperature: 0 });
  const controller = new AbortController();
  let aborts = 0;
  const long = streamText({ model, prompt: "Tell a story.", maxOutputTokens: 500, abortSignal: controller.signal, providerOptions: { bitnet: { ignoreEnd: true } }, onAbort: () => void (aborts += 1) });
  for await (const _ of long.textStream) {
    controller.abort();
  }
  const { embedding } = await embed({ model: bitnet.embeddingModel(), value: "a boy" });
  const index = new SemanticIndex(open);
  await index.add([{ id: "boy", text: "a boy" }, { id: "sum", text: QUESTION }]);
  const [hit] = await SemanticIndex.from(index.export(), open).search("a boy", { count: 1 });
  const width = open.info.hidden;
  open.dispose();
  return { text, finishReason, usage, same, cut: cut.finishReason, kinds: [typeof object.sum, typeof output.sum], aborts, embedding: embedding.length === width, hit };
}

globalThis.frameworks = { react, vue, sdk };
