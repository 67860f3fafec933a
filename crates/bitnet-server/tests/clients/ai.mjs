// Vercel's `ai` with `@ai-sdk/openai-compatible` against a server of the demo model.
//
//     node ai.mjs http://127.0.0.1:8080
import assert from 'node:assert/strict';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, embedMany, generateText, jsonSchema, Output, streamText } from 'ai';

const [address] = process.argv.slice(2);
const at = (apiKey) => createOpenAICompatible({ name: 'bitnet', baseURL: `${address}/v1`, apiKey, supportsStructuredOutputs: true });
const provider = at('a key for tests');
const model = provider('demo');
const ask = { model, prompt: 'Tell me of a dog.', maxOutputTokens: 16, seed: 5, maxRetries: 0 };

const tests = {
  async 'a text and its stream are the same'() {
    const whole = await generateText(ask);
    assert.ok(whole.text.length > 0 && whole.usage.outputTokens > 0);
    const stream = streamText(ask);
    let text = '';
    for await (const piece of stream.textStream) text += piece;
    assert.equal(text, whole.text);
    assert.equal(await stream.finishReason, whole.finishReason);
  },
  async 'objects keep to their schema'() {
    const schema = jsonSchema({
      type: 'object', properties: { legs: { enum: [2, 4] } }, required: ['legs'], additionalProperties: false,
    });
    const { output } = await generateText({ ...ask, maxOutputTokens: 100, output: Output.object({ schema }) });
    assert.ok([2, 4].includes(output.legs));
  },
  async 'texts become vectors'() {
    const { embeddings } = await embedMany({ model: provider.embeddingModel('demo'), values: ['a dog', 'a cat'] });
    assert.equal(embeddings.length, 2);
  },
  async 'errors are told'() {
    await assert.rejects(generateText({ ...ask, temperature: -3 }), (error) => APICallError.isInstance(error) && /temperature/.test(error.message));
    await assert.rejects(generateText({ ...ask, model: at('wrong')('demo') }), (error) => error.statusCode === 401);
  },
};
for (const [name, test] of Object.entries(tests)) {
  await test();
  console.log(`ok  ${name}`);
}
console.log(`${Object.keys(tests).length} passed: ai with @ai-sdk/openai-compatible`);
