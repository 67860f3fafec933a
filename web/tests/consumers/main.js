// The smallest program that uses the package: the same for every bundler.

import { BitNet } from "bitnet-web";

const model = await BitNet.demo({ cache: false, threads: Number(new URLSearchParams(location.search).get("threads") ?? 1) });
for await (const piece of model.generate("Once upon a time", { maxTokens: 20, temperature: 0 })) {
  document.body.append(piece);
}
document.body.dataset.threads = String(model.info.threads);
document.body.dataset.variant = model.info.variant;
model.dispose();
