// The official `openai` package for JavaScript against a server of the demo model.
//
//     node openai.mjs http://127.0.0.1:8080
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const [address] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: 'a key for tests', maxRetries: 0 });
const messages = [{ role: 'user', content: 'Tell me of a dog.' }];
// The demo model's answers are short.
const ask = { model: 'demo', messages, max_tokens: 16, seed: 5, ignore_eos: true };

const tests = {
  async 'a conversation and its stream say the same'() {
    const whole = await client.chat.completions.create(ask);
    let text = '';
    for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
      text += chunk.choices[0]?.delta?.content ?? '';
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(whole.usage.completion_tokens, 16);
    const runner = client.chat.completions.stream(ask);
    assert.equal((await runner.finalChatCompletion()).choices[0].message.content, text);
  },
  async 'content may come in parts'() {
    const parts = [{ role: 'user', content: [{ type: 'text', text: 'Tell me of ' }, { type: 'text', text: 'a dog.' }] }];
    const one = await client.chat.completions.create({ ...ask, messages: parts });
    const other = await client.chat.completions.create(ask);
    assert.equal(one.choices[0].message.content, other.choices[0].message.content);
  },
  async 'texts are continued and embedded'() {
    const text = await client.completions.create({ model: 'demo', prompt: 'Once', max_tokens: 4, echo: true });
    assert.match(text.choices[0].text, /^Once/);
    const rows = await client.embeddings.create({ model: 'demo', input: ['a dog', 'a cat'] });
    assert.equal(rows.data.length, 2);
    assert.equal(rows.data[0].embedding.length > 16, true);
  },
  async 'a response and its stream say the same'() {
    const question = { model: 'demo', input: messages[0].content, max_output_tokens: 16, seed: 5, ignore_eos: true };
    const whole = await client.responses.create(question);
    let text = '';
    for await (const event of await client.responses.create({ ...question, stream: true })) {
      if (event.type === 'response.output_text.delta') text += event.delta;
    }
    assert.equal(text, whole.output_text);
    assert.equal(text, (await client.chat.completions.create(ask)).choices[0].message.content);
    await assert.rejects(client.responses.create({ ...question, store: true }), OpenAI.BadRequestError);
  },
  async 'an aborted stream ends'() {
    const stream = await client.chat.completions.create({ ...ask, max_tokens: 2000, stream: true });
    for await (const _ of stream) break;
    stream.controller.abort();
  },
  async 'errors have their types'() {
    await assert.rejects(client.chat.completions.create({ ...ask, model: 'another' }), OpenAI.NotFoundError);
    await assert.rejects(client.chat.completions.create({ ...ask, n: 0 }), OpenAI.BadRequestError);
    const stranger = new OpenAI({ baseURL: `${address}/v1`, apiKey: 'wrong', maxRetries: 0 });
    await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
  },
};
for (const [name, test] of Object.entries(tests)) {
  await test();
  console.log(`ok  ${name}`);
}
console.log(`${Object.keys(tests).length} passed: openai for JavaScript`);
