// @vitest-environment happy-dom
// The hook of React and the composable of Vue, with a model that follows a script.

import { act, createElement, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { beforeEach, expect, test, vi } from "vitest";
import { createApp, defineComponent, effectScope, h, nextTick, shallowRef } from "vue";
import { BitNet, BitNetError, type LoadOptions } from "../package/src/index.js";
import { type ChatModel, type UseBitNet, useBitNet } from "../package/src/react.js";
import { useBitNet as useInVue } from "../package/src/vue.js";
import { Scripted, until } from "./scripted.js";

Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });

/** What loads were asked for, and how to end them. */
let loads: { options: LoadOptions; give(model: Scripted): void; fail(error: Error): void }[] = [];

beforeEach(() => {
  loads = [];
  vi.spyOn(BitNet, "demo").mockImplementation(
    (options = {}) =>
      new Promise((resolve, reject) => {
        options.signal?.addEventListener("abort", () => reject(new BitNetError("aborted", "the operation was aborted")));
        loads.push({ options, give: ({ model }) => resolve(model), fail: reject });
      }),
  );
});

/** Mounts a component with the hook. */
async function mounted(source: ChatModel, strict = false) {
  const held: { chat: UseBitNet } = { chat: undefined as never };
  const Component = ({ source }: { source: ChatModel }) => {
    held.chat = useBitNet(source, { messages: [{ role: "system", content: "Be brief." }], generate: { maxTokens: 9 } });
    return createElement("p", null, held.chat.text);
  };
  const root = createRoot(document.createElement("div"));
  const show = (source: ChatModel) =>
    act(async () => {
      const component = createElement(Component, { source });
      root.render(strict ? createElement(StrictMode, null, component) : component);
    });
  await show(source);
  return { held, show, unmount: () => act(async () => root.unmount()) };
}

const said = (chat: Pick<UseBitNet, "messages">) => chat.messages.map(({ content }) => content);

test("React: loads, answers, answers again, and gives back", async () => {
  const { held, unmount } = await mounted("demo");
  expect(held.chat.status).toBe("loading");
  await act(async () => loads[0]?.options.onProgress?.({ phase: "download", done: 1, total: 2 }));
  expect(held.chat.progress).toEqual({ phase: "download", done: 1, total: 2 });
  // Before the model is there.
  let sent = Promise.resolve();
  await act(async () => {
    sent = held.chat.send("Hello!");
  });
  expect(said(held.chat)).toEqual(["Be brief.", "Hello!"]);
  const scripted = new Scripted({ pieces: ["Good", " day."] }, { pieces: [{ thinking: "Hm." }, "Again."] }, { pieces: ["half"], fails: new BitNetError("no-memory", "memory is short") });
  await act(async () => {
    loads[0]?.give(scripted);
    await sent;
  });
  expect(held.chat).toMatchObject({ status: "ready", text: "Good day.", error: undefined, model: scripted });
  expect(said(held.chat)).toEqual(["Be brief.", "Hello!", "Good day."]);
  expect(scripted.asked[0]?.options.maxTokens).toBe(9);
  await act(() => held.chat.regenerate());
  expect(said(held.chat)).toEqual(["Be brief.", "Hello!", "Again."]);
  expect(held.chat.thinking).toBe("Hm.");
  await act(() => held.chat.send("More"));
  expect(held.chat).toMatchObject({ status: "ready", text: "half", error: { code: "no-memory" } });
  await act(async () => held.chat.reset());
  expect([said(held.chat), held.chat.error]).toEqual([["Be brief."], undefined]);
  await act(() => held.chat.regenerate());
  expect(held.chat.error).toMatchObject({ code: "argument" });
  await unmount();
  expect(scripted.disposed).toBe(true);
});

test("React: stopping keeps what was written, and another message stops the answer before", async () => {
  const slow = { pieces: Array.from({ length: 200 }, () => "x"), wait: () => new Promise<void>((resolve) => setTimeout(resolve, 2)) };
  const scripted = new Scripted(slow, slow, { pieces: ["end"] });
  const { held, unmount } = await mounted(scripted.model);
  let sent = Promise.resolve();
  await act(async () => {
    sent = held.chat.send("one");
    await until(() => held.chat.text.length > 2);
    expect(held.chat.status).toBe("answering");
    held.chat.stop();
    await sent;
  });
  expect(held.chat.status).toBe("ready");
  expect(held.chat.messages.at(-1)).toMatchObject({ role: "assistant", content: expect.stringMatching(/^x{3,100}$/) });
  await act(async () => {
    const second = held.chat.send("two");
    await until(() => scripted.asked.length === 2 && held.chat.text.length > 0);
    const third = held.chat.send("three");
    await Promise.all([second, third]);
  });
  expect(held.chat).toMatchObject({ status: "ready", text: "end" });
  expect(said(held.chat).slice(-2)).toEqual(["three", "end"]);
  expect(scripted.asked[1]?.options.signal?.aborted).toBe(true);
  await unmount();
  // It is the caller's.
  expect(scripted.disposed).toBe(false);
});

test("React: unmounting, another source and strict mode end what was begun", async () => {
  const first = await mounted("demo");
  await first.unmount();
  expect(loads[0]?.options.signal?.aborted).toBe(true);

  const strict = await mounted("demo", true);
  expect(loads.slice(1).map(({ options }) => options.signal?.aborted)).toEqual([true, false]);
  const loaded = new Scripted({ pieces: ["a"] });
  await act(async () => loads[2]?.give(loaded));
  expect(strict.held.chat.status).toBe("ready");
  await strict.show(new Scripted({ pieces: ["b"] }).model);
  expect(loaded.disposed).toBe(true);
  await act(() => strict.held.chat.send("Hello!"));
  expect(strict.held.chat.text).toBe("b");
  await strict.unmount();

  const failing = await mounted("demo");
  await act(async () => loads[3]?.fail(new BitNetError("network", "no such host")));
  expect(failing.held.chat).toMatchObject({ status: "failed", error: { code: "network" } });
  await act(() => failing.held.chat.send("Hello?"));
  expect(failing.held.chat).toMatchObject({ status: "failed", error: { code: "network" } });
  await failing.unmount();
});

test("Vue: in a component the model is loaded when it is mounted, and given back when it goes", async () => {
  let chat: ReturnType<typeof useInVue> | undefined;
  const app = createApp(
    defineComponent(() => {
      chat = useInVue("demo");
      expect(loads).toHaveLength(0);
      const { status, text } = chat;
      return () => h("p", `${status.value} ${text.value}`);
    }),
  );
  const place = document.createElement("div");
  app.mount(place);
  expect(loads).toHaveLength(1);
  const scripted = new Scripted({ pieces: ["Good", " day."] });
  loads[0]?.give(scripted);
  await chat?.send("Hello!");
  await nextTick();
  expect(place.textContent).toBe("ready Good day.");
  app.unmount();
  expect(scripted.disposed).toBe(true);
  expect(chat?.status.value).toBe("closed");
});

test("Vue: in a scope, with a source that changes", async () => {
  const [one, two] = [new Scripted({ pieces: ["one"] }), new Scripted({ pieces: ["two"] })];
  const source = shallowRef<ChatModel>("demo");
  const scope = effectScope();
  const chat = scope.run(() => useInVue(source, { generate: { temperature: 0 } }));
  loads[0]?.give(one);
  await chat?.send("Which?");
  expect(chat?.messages.value.map(({ content }) => content)).toEqual(["Which?", "one"]);
  expect(one.asked[0]?.options.temperature).toBe(0);
  source.value = "model.gguf";
  vi.spyOn(BitNet, "load").mockImplementation(async () => two.model);
  await nextTick();
  expect(one.disposed).toBe(true);
  await chat?.send("Which?");
  await chat?.regenerate();
  expect(chat?.text.value).toBe("two");
  scope.stop();
  expect(two.disposed).toBe(true);
});
