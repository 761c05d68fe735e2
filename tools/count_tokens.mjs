// How many tokens the forms of handles take, for docs/state.md. Needs: npm install --no-save gpt-tokenizer@4.0.0
import { randomInt, randomUUID } from "node:crypto";
import * as cl100k from "gpt-tokenizer/encoding/cl100k_base";
import * as o200k from "gpt-tokenizer/encoding/o200k_base";

const SAMPLES = 1000;
const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";

const random = (count, alphabet) =>
  Array.from({ length: count }, () => alphabet[randomInt(alphabet.length)]).join("");
const basket = (characters) => ["basket", ...characters.match(/.{3}/g)].join("-");

const texts = {
  "handle of a user": () => basket(random(9, "0123456789")),
  "handle of an anonymous client": () => basket(random(27, ALPHABET)),
  UUID: randomUUID,
  "description in a schema": () =>
    "A basket handle, as create_basket returned it. It expires 24 hours after its last use, and 30 days after it was made.",
};

for (const [name, text] of Object.entries(texts)) {
  for (const [encoding, { encode }] of Object.entries({ o200k, cl100k })) {
    let tokens = 0;
    for (let n = 0; n < SAMPLES; n++) tokens += encode(text()).length;
    console.log(`${name}, ${encoding}_base: ${(tokens / SAMPLES).toFixed(1)}`);
  }
}
