// The Vercel AI SDK, as a program would use it: reads what to do from the environment variable LAB, prints one line of
// JSON for each scenario with each model prefix. Given to Node.js on standard input, so that imports are found from the
// directory that the packages are installed in.
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogle } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const lab = JSON.parse(process.env.LAB);
const { url, key: apiKey } = lab;

// What each package calls by default is what is tested: `openai(…)` is the Responses API.
const providers = {
  "ai-sdk-openai": () => createOpenAI({ baseURL: `${url}/v1`, apiKey }),
  "ai-sdk-openai-compatible": () =>
    createOpenAICompatible({ name: "omniroute", baseURL: `${url}/v1`, apiKey, includeUsage: true }),
  "ai-sdk-anthropic": () => createAnthropic({ baseURL: `${url}/v1`, apiKey }),
  "ai-sdk-google": () => createGoogle({ baseURL: `${url}/v1beta`, apiKey }),
};
const provider = providers[lab.client]();
const asked = (prefix, name) => ({ model: provider(`${prefix}/${name}`), maxRetries: 0, maxOutputTokens: 2000 });

const scenarios = {
  async text(prefix) {
    const { text, finishReason, usage } = await generateText({ ...asked(prefix, "echo"), prompt: "say marigold" });
    return { text, finishReason, inputTokens: usage.inputTokens, outputTokens: usage.outputTokens };
  },

  async stream(prefix) {
    const answer = streamText({ ...asked(prefix, lab.story), prompt: "tell me something" });
    const pieces = [];
    for await (const piece of answer.textStream) pieces.push(piece);
    const usage = await answer.usage;
    return { pieces, finishReason: await answer.finishReason, outputTokens: usage.outputTokens };
  },

  async tools(prefix) {
    const whole = await loop(prefix, "whole", async (request) => generateText(request));
    const streamed = await loop(prefix, "streamed", async (request) => {
      const answer = streamText({ ...request, onError: () => {} });
      return { text: await answer.text, steps: await answer.steps, finishReason: await answer.finishReason };
    });
    return { whole, streamed };
  },

  async context(prefix) {
    const turns = lab.prompts.flatMap((content) => [
      { role: "user", content },
      { role: "assistant", content: "Noted." },
    ]);
    const refusals = [];
    for (;;) {
      const messages = [...turns, { role: "user", content: "say marigold" }];
      try {
        const { text } = await generateText({ ...asked(prefix, lab.crowded), messages });
        return { text, refusals };
      } catch (error) {
        if (!APICallError.isInstance(error) || turns.length === 0) throw error;
        refusals.push({ status: error.statusCode, message: error.message, body: error.responseBody });
        turns.splice(0, 2);
      }
    }
  },
};

async function loop(prefix, how, run) {
  const folder = join(lab.folder, prefix, how);
  await mkdir(folder, { recursive: true });
  const at = (path) => join(folder, path.replace(/^.*\//, ""));
  const path = z.string().describe("Where it is.");
  const tools = {
    list_directory: tool({
      description: "List the files of a directory.",
      inputSchema: z.object({ path }),
      execute: async () => readdir(folder),
    }),
    read_file: tool({
      description: "Read a file.",
      inputSchema: z.object({ path }),
      execute: async (input) => readFile(at(input.path), "utf8").catch(() => "no such file"),
    }),
    write_file: tool({
      description: "Write a file.",
      inputSchema: z.object({ path, content: z.string().describe("The whole new content.") }),
      execute: async (input) => writeFile(at(input.path), input.content).then(() => "written"),
    }),
  };
  const answer = await run({ ...asked(prefix, "agent"), prompt: lab.wish, tools, stopWhen: stepCountIs(6) });
  const rounds = answer.steps.map((step) => step.toolCalls.map((call) => call.toolName));
  return { text: answer.text, finishReason: answer.finishReason, rounds, folder };
}

for (const prefix of lab.prefixes) {
  for (const scenario of lab.scenarios) {
    let result;
    try {
      result = await scenarios[scenario](prefix);
    } catch (error) {
      result = { failed: `${error.name} ${error.statusCode ?? ""}: ${error.message}\n${error.responseBody ?? error.stack}` };
    }
    console.log(JSON.stringify({ prefix, scenario, ...result }));
  }
}
