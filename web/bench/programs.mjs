// The programs that are compared, as functions that run in the page: `load(name, threads)` gives a description and leaves
// `run(prompt, tokens)`, which says how many tokens it read and wrote, and in how many milliseconds.

export const PROGRAMS = {
  async "bitnet-web"(name, threads) {
    const { BitNet } = await import("/package/index.js");
    const model = await BitNet.load(`/bench/${name}`, { threads, cache: false, contextLength: 1024 });
    globalThis.run = async (prompt, maxTokens) => {
      const generation = model.generate(prompt, { maxTokens, temperature: 0, ignoreEnd: true, speculate: false });
      await generation.text();
      const { promptTokens, cachedTokens, promptMilliseconds, generatedTokens, decodeMilliseconds } = generation.timings;
      return { read: promptTokens - cachedTokens, readTime: promptMilliseconds, wrote: generatedTokens - 1, writeTime: decodeMilliseconds };
    };
    return `${model.info.device}, ${model.info.variant}`;
  },
  async wllama(name, threads) {
    const { Wllama } = await import("/modules/@wllama/wllama/esm/index.js");
    const wllama = new Wllama({ default: "/modules/@wllama/wllama/esm/wasm/wllama.wasm" }, { suppressNativeLog: true });
    const file = await (await fetch(`/bench/${name}`)).blob();
    await wllama.loadModel([file], { n_threads: threads, n_ctx: 1024, n_gpu_layers: 0, warmup: false });
    globalThis.run = async (prompt, max_tokens) => {
      const { timings } = await wllama.createCompletion({ prompt, max_tokens, temperature: 0, ignore_eos: true, cache_prompt: false });
      return { read: timings.prompt_n, readTime: timings.prompt_ms, wrote: timings.predicted_n - 1, writeTime: timings.predicted_ms };
    };
    return `llama.cpp ${Wllama.getLibllamaVersion()}, ${wllama.getNumThreads()} thread(s)`;
  },
};

/** Source of a call of `program` in the page. */
export function callOf(program, name, threads) {
  const source = PROGRAMS[program].toString().replace(/^async "?[\w-]+"?/, "async function");
  return `(${source})(${JSON.stringify(name)}, ${threads})`;
}

/** Text of about so many tokens, another for each number: characters that no tokenizer joins. */
export function text(tokens, number) {
  return Array.from({ length: tokens }, (_, i) => String.fromCharCode(33 + ((i * 37 + number * 11 + ((i * i) % 13)) % 90))).join("");
}
