/** What of a ceph.conf is needed to find a client's keyring. */

/** Where librados looks when no keyring is named. */
const DEFAULT_KEYRINGS = [
  '/etc/ceph/$cluster.$name.keyring',
  '/etc/ceph/$cluster.keyring',
  '/etc/ceph/keyring',
  '/etc/ceph/keyring.bin',
].join(',');

/** librados's name of a cluster that nobody has named. */
const CLUSTER = 'ceph';

/** The options of a ceph.conf for one client. */
export class CephConf {
  readonly #user: string;
  readonly #sections: ReadonlyMap<string, ReadonlyMap<string, string>>;

  /** `user` is without `client.`. */
  constructor(text: string, user: string) {
    this.#user = user;
    this.#sections = parse(text);
  }

  /** Whether it says that clients prove who they are, and not how by itself. */
  get needsKeyring(): boolean {
    const methods = this.#option('auth_client_required') ?? this.#option('auth_supported') ?? 'cephx';
    return methods.trim() !== 'none' && this.#option('key') === undefined && this.#option('keyfile') === undefined;
  }

  /** Where the client's key may be, the first place first. */
  get keyrings(): string[] {
    const named = this.#option('keyring') ?? DEFAULT_KEYRINGS;
    return named
      .split(/[,;\s]+/)
      .filter((path) => path !== '')
      .map((path) => this.#expanded(path));
  }

  /** Spelled with underscores. */
  #option(key: string): string | undefined {
    const sections = [`client.${this.#user}`, 'client', 'global'];
    return sections.map((section) => this.#sections.get(section)?.get(key)).find((value) => value !== undefined);
  }

  #expanded(path: string): string {
    const values: Record<string, string> = {
      cluster: CLUSTER,
      name: `client.${this.#user}`,
      type: 'client',
      id: this.#user,
    };
    return path.replace(
      /\$(?:\{(\w+)\}|(cluster|name|type|id))/g,
      (all, braced, bare) => values[braced ?? bare] ?? all,
    );
  }
}

/** Whether a keyring has the key of a client. */
export function hasKeyOf(keyring: string, user: string): boolean {
  return parse(keyring).get(`client.${user}`)?.has('key') ?? false;
}

function parse(text: string): Map<string, Map<string, string>> {
  const sections = new Map<string, Map<string, string>>();
  let options = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, section] = /^\s*\[([^\]]+)\]/.exec(line) ?? [];
    const [, key, value = ''] = /^\s*([^#;=\s[][^=]*?)\s*=\s*(.*?)\s*(?:[#;].*)?$/.exec(line) ?? [];
    if (section !== undefined) {
      options = sections.get(section.trim()) ?? new Map<string, string>();
      sections.set(section.trim(), options);
    } else if (key !== undefined) {
      options.set(key.toLowerCase().replaceAll(/[\s-]+/g, '_'), value.replace(/^(["'])(.*)\1$/, '$2'));
    }
  }
  return sections;
}
