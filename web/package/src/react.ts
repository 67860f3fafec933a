/**
 * A conversation with a model in a React component.
 *
 * ```tsx
 * import { useBitNet } from "bitnet-web/react";
 *
 * const { status, messages, send, stop } = useBitNet("demo");
 * ```
 *
 * @packageDocumentation
 */

import { useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { Chat, type ChatActions, type ChatModel, type ChatOptions, type ChatState } from "./chat-state.js";

export type { ChatActions, ChatModel, ChatOptions, ChatState, ChatStatus } from "./chat-state.js";

/** A conversation: what there is to show, and to do. */
export interface UseBitNet extends ChatState, ChatActions {}

/**
 * A conversation with the model of `source`, which is loaded when the component is mounted, and given back when it goes: then loads
 * and answers under way end. Another `source` begins another conversation; one that is no text must be the same object in every
 * render. A {@link BitNet} that is given is not disposed of.
 */
export function useBitNet(source: ChatModel, options: ChatOptions = {}): UseBitNet {
  const key = source instanceof URL ? source.href : source;
  const begin = () => ({ key, chat: new Chat(source, options) });
  const [held, hold] = useState(begin);
  let { chat } = held;
  if (held.key !== key) {
    const next = begin();
    hold(next);
    chat = next.chat;
  }
  useEffect(() => {
    chat.options = options;
  });
  useEffect(() => {
    chat.open();
    return () => chat.close();
  }, [chat]);
  const state = useSyncExternalStore(chat.subscribe, chat.state, chat.state);
  return useMemo(() => {
    const { send, stop, regenerate, reset } = chat;
    return { ...state, send, stop, regenerate, reset };
  }, [chat, state]);
}
