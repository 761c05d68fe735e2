// Both TypeScript clients: argument "sdk" is @modelcontextprotocol/sdk, "client" is @modelcontextprotocol/client.
// A second argument pins the protocol version of the latter, or is "auto"; without one it does the handshake.
import { createInterface } from "node:readline";

const [, , library, version] = process.argv;

// Each gives the classes, and names the requests that a client answers as its library wants them named.
async function load() {
  if (library === "client") {
    const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
    return { Client, StreamableHTTPClientTransport, ELICIT: "elicitation/create", SAMPLE: "sampling/createMessage" };
  }
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const types = await import("@modelcontextprotocol/sdk/types.js");
  const { ElicitRequestSchema: ELICIT, CreateMessageRequestSchema: SAMPLE } = types;
  return { Client, StreamableHTTPClientTransport, ELICIT, SAMPLE };
}

const { Client, StreamableHTTPClientTransport, ELICIT, SAMPLE } = await load();
let client, transport;

function say(event, content) {
  process.stdout.write(`${JSON.stringify({ event, ...content })}\n`);
}

function newClient() {
  const info = { name: `typescript-${library}`, version: "1.0.0" };
  if (version) {
    const mode = version === "auto" ? version : { pin: version };
    return new Client(info, { versionNegotiation: { mode } });
  }
  const asked = new Client(info, { capabilities: { elicitation: {}, sampling: {} } });
  asked.setRequestHandler(ELICIT, async ({ params }) => {
    say("asked", { value: params.message });
    return { action: "accept", content: { age: 33 } };
  });
  asked.setRequestHandler(SAMPLE, async ({ params }) => {
    say("asked", { value: params.messages[0].content.text });
    return { role: "assistant", content: { type: "text", text: "42" }, model: "m" };
  });
  return asked;
}

async function open(url, sessionId) {
  transport = new StreamableHTTPClientTransport(new URL(url), { sessionId });
  client = newClient();
  await client.connect(transport);
}

async function call(tool, args, more = {}) {
  const onprogress = ({ progress, total, message }) => say("progress", { value: [progress, total, message] });
  const params = { name: tool, arguments: args };
  const options = { onprogress, ...more };
  return library === "client" ? client.callTool(params, options) : client.callTool(params, undefined, options);
}

// Call, and close without a word to the server after the first progress: what is needed to resume.
async function leave(tool, args) {
  let token;
  const { sessionId } = transport;
  await new Promise((resolve, reject) => {
    const onprogress = () => resolve();
    call(tool, args, { onprogress, onresumptiontoken: (id) => (token = id) }).catch(reject);
  });
  await client.close();
  return { session: sessionId, token };
}

async function obey(command) {
  switch (command.do) {
    case "open":
      await open(command.url);
      return transport.protocolVersion;
    case "tools":
      return (await client.listTools()).tools.map((tool) => tool.name);
    case "call":
      return call(command.tool, command.arguments);
    case "leave":
      return leave(command.tool, command.arguments);
    case "resume":
      await open(command.url, command.session);
      return call(command.tool, command.arguments, { resumptionToken: command.token });
    case "close":
      if (transport.sessionId) await transport.terminateSession();
      return client.close();
    default:
      throw new Error(`not a command: ${JSON.stringify(command)}`);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  try {
    say("answer", { value: (await obey(command)) ?? null });
  } catch (error) {
    say("error", { message: `${error.name}: ${error.message}` });
  }
  if (command.do === "close") break;
}
process.exit(0);
