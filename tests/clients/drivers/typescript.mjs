// Both TypeScript clients: argument "sdk" is @modelcontextprotocol/sdk, "client" is @modelcontextprotocol/client.
// A second argument pins the protocol version of the latter; without one it does the handshake.
import { createInterface } from "node:readline";

const [, , library, version] = process.argv;

async function load() {
  if (library === "client") return import("@modelcontextprotocol/client");
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
  return { Client, StreamableHTTPClientTransport };
}

const { Client, StreamableHTTPClientTransport } = await load();
const options = version ? { versionNegotiation: { mode: { pin: version } } } : {};
const client = new Client({ name: `typescript-${library}`, version: "1.0.0" }, options);
let transport;

function say(event, content) {
  process.stdout.write(`${JSON.stringify({ event, ...content })}\n`);
}

async function call(tool, args) {
  const onprogress = ({ progress, total, message }) => say("progress", { value: [progress, total, message] });
  const params = { name: tool, arguments: args };
  return library === "client"
    ? client.callTool(params, { onprogress })
    : client.callTool(params, undefined, { onprogress });
}

async function obey(command) {
  switch (command.do) {
    case "open":
      transport = new StreamableHTTPClientTransport(new URL(command.url));
      await client.connect(transport);
      return transport.protocolVersion;
    case "tools":
      return (await client.listTools()).tools.map((tool) => tool.name);
    case "call":
      return call(command.tool, command.arguments);
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
