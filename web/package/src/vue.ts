/**
 * A conversation with a model in a Vue component.
 *
 * ```ts
 * import { useBitNet } from "bitnet-web/vue";
 *
 * const { status, messages, send, stop } = useBitNet("demo");
 * ```
 *
 * @packageDocumentation
 */

import { computed, type ComputedRef, getCurrentInstance, type MaybeRefOrGetter, onMounted, onScopeDispose, shallowRef, toValue, watch } from "vue";
import { Chat, type ChatActions, type ChatModel, type ChatOptions, type ChatState } from "./chat-state.js";

export type { ChatActions, ChatModel, ChatOptions, ChatState, ChatStatus } from "./chat-state.js";

/** A conversation: what there is to show, each a `ref`, and to do. */
export type UseBitNet = { [K in keyof ChatState]: ComputedRef<ChatState[K]> } & ChatActions;

/**
 * A conversation with the model of `source`, which is loaded when the component is mounted (outside of components: at once), and given
 * back when its scope ends: then loads and answers under way end. Another `source` begins another conversation; one that is no text
 * lies in a `shallowRef`, as a `ref` would look into it. A {@link BitNet} that
 * is given is not disposed of.
 */
export function useBitNet(source: MaybeRefOrGetter<ChatModel>, options: MaybeRefOrGetter<ChatOptions> = {}): UseBitNet {
  let chat: Chat;
  let leave = () => {};
  const begin = () => {
    chat = new Chat(toValue(source), toValue(options));
    leave = chat.subscribe(() => (state.value = chat.state()));
    return chat.state();
  };
  const end = () => {
    chat.close();
    leave();
  };
  const state = shallowRef<ChatState>(undefined as never);
  state.value = begin();
  const open = () => chat.open();
  if (getCurrentInstance() === null) {
    open();
  } else {
    // Not on a server.
    onMounted(open);
  }
  watch(
    () => toValue(source),
    () => {
      end();
      state.value = begin();
      open();
    },
  );
  watch(
    () => toValue(options),
    (next) => (chat.options = next),
  );
  onScopeDispose(end);
  const part = <K extends keyof ChatState>(name: K) => computed(() => state.value[name]);
  return {
    status: part("status"),
    progress: part("progress"),
    messages: part("messages"),
    text: part("text"),
    thinking: part("thinking"),
    error: part("error"),
    model: part("model"),
    send: (message) => chat.send(message),
    stop: () => chat.stop(),
    regenerate: () => chat.regenerate(),
    reset: (messages) => chat.reset(messages),
  };
}
