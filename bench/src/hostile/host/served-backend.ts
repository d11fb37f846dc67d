import { XenBlockBackend, type XenBlockBackendOptions } from '@xenpv/xen-block';
import { MortalProvider } from './mortal-provider.js';

export interface ServedBackendOptions {
  readonly options: XenBlockBackendOptions;
  readonly patienceSeconds: number;
  /** Its process is over when it was closed: called then, with what its storage has not answered. */
  readonly died?: (() => Promise<void>) | undefined;
}

/** The backend of a round, which another one may take over from. */
export class ServedBackend {
  backend!: XenBlockBackend;
  /** Never resolves; rejects when a backend does not close, or the next one does not start. */
  readonly failed: Promise<never>;
  readonly #o: ServedBackendOptions;
  #mortal: MortalProvider | undefined;
  #fail: (error: unknown) => void = () => {};

  private constructor(options: ServedBackendOptions) {
    this.#o = options;
    this.failed = new Promise<never>((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {});
  }

  static async start(options: ServedBackendOptions): Promise<ServedBackend> {
    const served = new ServedBackend(options);
    await served.#start();
    return served;
  }

  /** Its frontends notice nothing but a pause. */
  async takeOver(): Promise<void> {
    try {
      await this.close();
      await this.#o.died?.();
      this.#mortal?.die();
      await this.#start();
    } catch (error) {
      this.#fail(error);
    }
  }

  async close(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('the backend does not close')), this.#o.patienceSeconds * 1000);
    });
    await Promise.race([this.backend.close(), late]).finally(() => clearTimeout(timer));
  }

  async #start(): Promise<void> {
    const { options, died } = this.#o;
    this.#mortal = died && new MortalProvider(options.provider);
    const { provider } = this.#mortal ?? options;
    this.backend = await XenBlockBackend.start({ ...options, provider });
  }
}
