import { BitNet } from "bitnet-web";

const model = await BitNet.demo();
for await (const piece of model.generate("Once upon a time")) {
  document.body.append(piece);
}
