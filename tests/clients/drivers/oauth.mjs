// Both TypeScript clients as OAuth clients: argument "sdk" is @modelcontextprotocol/sdk, "client" is
// @modelcontextprotocol/client. A second argument is the URL of a client id metadata document.
import { createInterface } from "node:readline";

const [, , library, document] = process.argv;

async function load() {
  if (library === "client") return import("@modelcontextprotocol/client");
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
  return { Client, StreamableHTTPClientTransport };
}

const { Client, StreamableHTTPClientTransport } = await load();

// Keeps what a client is given, and where it sends its user.
const kept = {};
const redirectUrl = "http://127.0.0.1:3000/callback";
const authProvider = {
  redirectUrl,
  clientMetadataUrl: document,
  clientMetadata: {
    client_name: `typescript-${library}`,
    redirect_uris: [redirectUrl],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => void (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => void (kept.tokens = tokens),
  redirectToAuthorization: (url) => void (kept.authorize = url.href),
  saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
  codeVerifier: () => kept.verifier,
  invalidateCredentials: (what) => {
    if (what === "all" || what === "tokens") delete kept.tokens;
    if (what === "all" || what === "client") delete kept.client;
  },
};
let client, transport;

function say(event, content) {
  process.stdout.write(`${JSON.stringify({ event, ...content })}\n`);
}

async function open(url) {
  transport = new StreamableHTTPClientTransport(new URL(url), { authProvider });
  client = new Client({ name: `typescript-${library}`, version: "1.0.0" });
  await client.connect(transport);
}

async function obey(command) {
  switch (command.do) {
    case "open":
      try {
        await open(command.url);
        return null;
      } catch (error) {
        if (!kept.authorize) throw error;
        const { authorize } = kept;
        delete kept.authorize;
        return authorize;
      }
    case "finish":
      return transport.finishAuth(command.code, command.iss);
    case "call":
      return client.callTool({ name: command.tool, arguments: command.arguments });
    case "kept":
      return { token: kept.tokens?.access_token, client: kept.client?.client_id, authorize: kept.authorize };
    case "leave":
      return client.close();
    case "close":
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
