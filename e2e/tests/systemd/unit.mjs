/** A unit of systemd, as systemctl and the journal tell of it. */
import { sh, until } from '../../dom0/shell.mjs';

export class Unit {
  constructor(name) {
    this.name = name;
  }

  /** Properties by their names. */
  async show(...properties) {
    const text = await sh(`systemctl show ${this.name} -p ${properties.join(',')}`);
    const lines = text.trim().split('\n');
    return Object.fromEntries(
      lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    );
  }

  async pid() {
    return Number((await this.show('MainPID')).MainPID);
  }

  /** How often it was started again by systemd's own decision. */
  async restarts() {
    return Number((await this.show('NRestarts')).NRestarts);
  }

  async isActive() {
    return (await this.show('ActiveState')).ActiveState === 'active';
  }

  /** Errors: it is not active, with what it said last. */
  async check() {
    if (await this.isActive()) return;
    throw new Error(`${this.name} is not active:\n${await sh(`systemctl status ${this.name} || true`)}`);
  }

  /** How much of the machine is open to it, as systemd counts: from 0 to 10. */
  async exposure() {
    const text = await sh(`systemd-analyze security ${this.name} --no-pager`);
    return Number(/Overall exposure level for \S+: (\S+)/.exec(text)?.[1]);
  }

  /** Waits until it is active with such a main process. */
  async servesAs(isWanted, { timeout = 300 } = {}) {
    const serves = async () => {
      const { MainPID, ActiveState } = await this.show('MainPID', 'ActiveState');
      return ActiveState === 'active' && isWanted(Number(MainPID));
    };
    await until(`${this.name} is active again`, serves, { timeout });
  }

  /** Whether a line of its log matches. */
  async said(pattern) {
    return (await sh(`journalctl -u ${this.name} -o cat --no-pager | grep -c -- '${pattern}' || true`)).trim() !== '0';
  }

  /** Of the log: how often a disk's service began, how often with requests in flight, and how many those were. */
  async recovered() {
    const lines = (await sh(`journalctl -u ${this.name} -o cat --no-pager | grep '^serving ' || true`)).split('\n');
    const counts = lines.filter(Boolean).map((line) => Number(/ recovered=(\d+)/.exec(line)?.[1] ?? 0));
    const hits = counts.filter((count) => count > 0);
    return { services: counts.length, recovering: hits.length, recovered: hits.reduce((sum, count) => sum + count, 0) };
  }
}
