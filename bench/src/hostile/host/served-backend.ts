import { XenBlockBackend, type XenBlockBackendOptions } from '@xenpv/xen-block';

/** The backend of a round, which another one may take over from. */
export class ServedBackend {
  backend: XenBlockBackend;
  /** Never resolves; rejects when a backend does not close, or the next one does not start. */
  readonly failed: Promise<never>;
  readonly #options: XenBlockBackendOptions;
  readonly #patienceSeconds: number;
  #fail: (error: unknown) => void = () => {};

  private constructor(backend: XenBlockBackend, options: XenBlockBackendOptions, patienceSeconds: number) {
    this.backend = backend;
    this.#options = options;
    this.#patienceSeconds = patienceSeconds;
    this.failed = new Promise<never>((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {});
  }

  static async start(options: XenBlockBackendOptions, patienceSeconds: number): Promise<ServedBackend> {
    return new ServedBackend(await XenBlockBackend.start(options), options, patienceSeconds);
  }

  /** Its frontends notice nothing but a pause. */
  async takeOver(): Promise<void> {
    try {
      await this.close();
      this.backend = await XenBlockBackend.start(this.#options);
    } catch (error) {
      this.#fail(error);
    }
  }

  async close(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('the backend does not close')), this.#patienceSeconds * 1000);
    });
    await Promise.race([this.backend.close(), late]).finally(() => clearTimeout(timer));
  }
}
