/** The agent at the other end of a domain's console: runs commands in that domain. */
import { constants, openSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ReadStream } from 'node:tty';
import { CommandError, until } from './shell.mjs';
import { xsRead } from './xenstore.mjs';

export class DomainConsole {
  #name;
  #input;
  #fd;
  #rest = '';
  #next = 1;
  #waiting = new Map();
  #isReady = false;
  #heard;
  #onHeard;
  #closed = false;
  /** What was printed and is not the agent's. */
  noise = '';

  constructor(name, path) {
    this.#name = name;
    this.#fd = openSync(path, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
    this.#heard = new Promise((resolve) => {
      this.#onHeard = resolve;
    });
    this.#input = new ReadStream(this.#fd);
    this.#input.setRawMode(true);
    this.#input.on('data', (chunk) => this.#receive(chunk.toString('latin1')));
    this.#input.on('error', () => this.#end('its console is gone'));
    this.#input.on('close', () => this.#end('its console was closed'));
  }

  /** The console of domain `domid`. */
  static async open(name, domid) {
    const tty = await until(`console of ${name}`, () => xsRead(`/local/domain/${domid}/console/tty`));
    return new DomainConsole(name, tty);
  }

  /** When the agent runs. Errors: after `timeout` seconds, with what was printed. */
  async ready({ timeout = 180 } = {}) {
    const end = performance.now() + timeout * 1000;
    while (!this.#isReady) {
      if (performance.now() > end || this.#closed) {
        throw new Error(`${this.#name} is not up after ${timeout} s:\n${this.noise.slice(-2000)}`);
      }
      // What it said before we listened may be lost: it answers this as soon as it can.
      this.post('true');
      await Promise.race([this.#heard, sleep(2000)]);
    }
  }

  /** Runs a command; resolves with its output. Commands run one after another. Errors: CommandError. */
  sh(command, { timeout = 180 } = {}) {
    if (/\n/.test(command)) throw new Error('a command is one line');
    const id = String(this.#next++);
    return new Promise((resolve, reject) => {
      const fail = (why) => {
        this.#waiting.delete(id);
        clearTimeout(timer);
        reject(new CommandError(`${this.#name}: ${command}`, why, `${this.noise.slice(-1500)}`));
      };
      if (this.#closed) return reject(new CommandError(`${this.#name}: ${command}`, 'its console is closed', ''));
      const timer = setTimeout(() => fail(`not done after ${timeout} s`), timeout * 1000);
      this.#waiting.set(id, { chunks: [], command, resolve, reject, timer, fail });
      this.#send(`${id} ${command}\n`);
    });
  }

  /** Sends a command whose end nobody waits for, as one that stops the domain. */
  post(command) {
    this.#send(`0 ${command}\n`);
  }

  #send(text) {
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; ) {
      try {
        at += writeSync(this.#fd, bytes, at);
      } catch (error) {
        if (error.code !== 'EAGAIN') throw error;
      }
    }
  }

  #receive(text) {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line.replace(/\r/g, ''));
  }

  #line(line) {
    const at = line.indexOf('AGENT ');
    if (at < 0) {
      this.noise = `${this.noise}${line}\n`.slice(-20_000);
      return;
    }
    const [id, mark, value] = line.slice(at + 6).split(' ');
    this.#isReady = true;
    this.#onHeard();
    const command = this.#waiting.get(id);
    if (!command) return;
    if (mark === '+') return command.chunks.push(value);
    this.#waiting.delete(id);
    clearTimeout(command.timer);
    const output = Buffer.from(command.chunks.join(''), 'base64').toString();
    if (value === '0') command.resolve(output);
    else command.reject(new CommandError(`${this.#name}: ${command.command}`, `exit code ${value}`, output));
  }

  #end(why) {
    this.#closed = true;
    for (const command of [...this.#waiting.values()]) command.fail(why);
  }

  close() {
    this.#closed = true;
    this.#input.destroy();
    this.#end('its console was closed');
  }
}
