// Reads and runs tests/clients/cases through ioredis. What the files say is in cases/README.md.
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const FOLDER = path.join(__dirname, "..", "cases");
const ESCAPES = { n: "\n", r: "\r", t: "\t" };
const EXPECTATION = /^(=|~|\.\.|sorted|save|redis|pugdb)( |$)/;

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// The words of a command as buffers.
function words(line, kept) {
  const found = [];
  const word = /"((?:[^"\\]|\\.)*)"(?:\s+|$)|<([^>]+)>(?:\s+|$)|(\S+)(?:\s+|$)/y;
  while (word.lastIndex < line.length) {
    const match = word.exec(line);
    if (!match) throw new Error(`cannot read ${line}`);
    const [, quoted, special, plain] = match;
    if (quoted !== undefined) found.push(unquote(quoted));
    else if (special !== undefined) found.push(expand(special, kept));
    else found.push(Buffer.from(plain));
  }
  return found;
}

function unquote(quoted) {
  const text = quoted.replace(/\\(x([0-9a-fA-F]{2})|.)/g, (_, escape, hex) =>
    hex ? String.fromCharCode(parseInt(hex, 16)) : (ESCAPES[escape] ?? escape));
  return Buffer.from(text, "latin1");
}

function expand(special, kept) {
  const now = /^(now|nowms)([+-]\d+)$/.exec(special);
  if (now) {
    const unit = now[1] === "nowms" ? 1 : 1000;
    return Buffer.from(String(Math.floor(Date.now() / unit) + Number(now[2])));
  }
  const times = /^(\d+)\*(.+)$/.exec(special);
  if (times) return Buffer.concat(Array(Number(times[1])).fill(unquote(times[2])));
  return kept.get(special);
}

// A reply in the notation of the cases. With `stringNumbers`, ioredis gives numbers as text and strings as buffers.
function render(reply) {
  if (reply === null) return "nil";
  if (reply instanceof Error) return `!${reply.message}`;
  if (Buffer.isBuffer(reply)) return `"${Array.from(reply, renderByte).join("")}"`;
  if (Array.isArray(reply)) return `[${reply.map(render).join(" ")}]`;
  return String(reply);
}

function renderByte(byte) {
  const special = { 10: "\\n", 13: "\\r", 9: "\\t", 34: '\\"', 92: "\\\\" }[byte];
  if (special) return special;
  return byte >= 32 && byte < 127 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`;
}

// Whether a reply is as a line of the cases says.
function holds(expected, reply, kept) {
  const [verb, rest] = split(expected);
  const got = render(reply);
  if (verb === "=") return got === rest;
  if (verb === "~") {
    const pattern = rest.split("*").map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, "\\$&")).join(".*");
    return new RegExp(`^${pattern}$`, "s").test(got);
  }
  if (verb === "..") {
    const [low, high] = words(rest, kept).map((bound) => BigInt(bound.toString()));
    return typeof reply === "string" && low <= BigInt(reply) && BigInt(reply) <= high;
  }
  if (verb === "sorted") return Array.isArray(reply) && `[${reply.map(render).sort().join(" ")}]` === rest;
  throw new Error(`no such expectation: ${expected}`);
}

function split(line) {
  const space = line.indexOf(" ");
  return space < 0 ? [line, ""] : [line.slice(0, space), line.slice(space + 1)];
}

// Runs the files on a server; `differences` holds what was not as they say.
class Runner {
  constructor({ open, server, version }) {
    Object.assign(this, { open, server, version });
    this.connections = new Map();
    this.kept = new Map();
    this.differences = [];
    this.count = 0;
  }

  async call(name, [command, ...rest]) {
    if (!this.connections.has(name)) this.connections.set(name, this.open({ stringNumbers: true }));
    try {
      return await this.connections.get(name).callBuffer(command.toString("latin1"), ...rest);
    } catch (error) {
      return error;
    }
  }

  // Whether the section is to be run.
  async beginSection(title) {
    this.close();
    const leftOut =
      (title.includes("(pugdb)") && this.server !== "pugdb") ||
      (title.includes("(7.2)") && this.version < 7.2);
    if (!leftOut) await this.call("a", [Buffer.from("FLUSHALL")]);
    return !leftOut;
  }

  async runAll() {
    for (const name of fs.readdirSync(FOLDER).filter((file) => file.endsWith(".txt")).sort()) {
      await this.run(name, fs.readFileSync(path.join(FOLDER, name), "utf8").split("\n"));
    }
    await this.beginSection("");
    this.close();
  }

  close() {
    for (const connection of this.connections.values()) connection.disconnect();
    this.connections.clear();
  }

  async run(name, lines) {
    let running = false;
    for (let place = 0; place < lines.length; ) {
      const line = lines[place++];
      if (line.startsWith("## ")) running = await this.beginSection(line);
      else if (line.startsWith("wait ") && running) await wait(Number(line.slice(5)));
      if (line === "" || line.startsWith("#") || line.startsWith("wait ")) continue;
      const where = `${name}:${place}`;
      const expected = [];
      while (place < lines.length && EXPECTATION.test(lines[place])) expected.push(lines[place++]);
      if (running) await this.step(where, line, expected);
    }
  }

  async step(where, line, expected) {
    const [connection, command] = line.slice(1, 3) === "> " ? [line[0], line.slice(3)] : ["a", line];
    const reply = await this.call(connection, words(command, this.kept));
    const special = expected.find((one) => one.startsWith(`${this.server} `));
    const mine = special ? split(special)[1] : expected.find((one) => !/^(redis|pugdb) /.test(one));
    this.count += 1;
    if (mine.startsWith("save ")) this.kept.set(mine.slice(5), Buffer.from(reply));
    else if (!holds(mine, reply, this.kept)) {
      this.differences.push(`${where}: ${line.slice(0, 200)}\n    expected ${mine}\n    got      ${render(reply).slice(0, 2000)}`);
    }
  }
}

module.exports = { Runner, wait };
