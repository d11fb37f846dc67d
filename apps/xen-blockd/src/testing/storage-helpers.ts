import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endProcessesOf, ownFolder } from '@xenpv/test-support/own-folder';
import { expect, vi } from 'vitest';
import type { StorageDaemonEvent } from '../images/storage-daemon/events.js';
import type { FormatImageOptions } from '../images/storage-daemon/format-image.js';
import { findTool, runTool } from '../tools.js';

/** The processes that have a path in their command line, whoever's children they are; no zombies. */
export function processesWith(path: string): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(path);
    } catch {
      return false;
    }
  });
}

/** A folder with images, and storage helpers' own folder below it. */
export class HelperBench implements AsyncDisposable {
  readonly directory = ownFolder(tmpdir(), 'blockd-helper');
  readonly helpers = join(this.directory, 'helpers');
  readonly events: StorageDaemonEvent[] = [];
  /** The genuine program. */
  readonly program = findTool('qemu-storage-daemon');
  #images = 0;
  #programs = 0;

  path(name: string): string {
    return join(this.directory, name);
  }

  async qcow2(): Promise<string> {
    const path = this.path(`${this.#images++}.qcow2`);
    const { code, stderr } = await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', path, '4M']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    return path;
  }

  /** A file of no format. */
  file(): string {
    const path = this.path(`${this.#images++}.file`);
    writeFileSync(path, new Uint8Array(512));
    return path;
  }

  options(path: string, options: Partial<FormatImageOptions> = {}): FormatImageOptions {
    const onEvent = (event: StorageDaemonEvent) => this.events.push(event);
    return { path, format: 'qcow2', readOnly: false, directory: this.helpers, onEvent, ...options };
  }

  /** From now on a shell script is the qemu-storage-daemon. `$REAL` is the genuine one. */
  fake(script: string): string {
    return this.install(`#!/bin/sh\nREAL=${this.program}\n${script}\n`, 0o755);
  }

  /** From now on this file is what is found as qemu-storage-daemon; none at all if it cannot be executed. */
  install(content: string, mode: number): string {
    const bin = this.path(`bin-${this.#programs++}`);
    mkdirSync(bin);
    const program = join(bin, 'qemu-storage-daemon');
    writeFileSync(program, content);
    chmodSync(program, mode);
    vi.stubEnv('PATH', mode & 0o100 ? `${bin}:${process.env.PATH}` : bin);
    return program;
  }

  /** Nothing is left of any helper. */
  expectNothingLeft(): void {
    expect(processesWith(this.directory)).toEqual([]);
    expect(namesIn(this.helpers)).toEqual([]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    vi.unstubAllEnvs();
    endProcessesOf(this.directory);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function namesIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
