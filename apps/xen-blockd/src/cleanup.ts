type Step = () => unknown;

/** Closes resources, the last first. A step that fails does not keep the others from running. */
export class Cleanup implements AsyncDisposable {
  readonly #steps: Step[] = [];

  /** Adds something to be closed at the end, and gives it back. */
  use<T extends Disposable | AsyncDisposable>(resource: T): T {
    this.defer(() =>
      Symbol.asyncDispose in resource ? resource[Symbol.asyncDispose]() : (resource as Disposable)[Symbol.dispose](),
    );
    return resource;
  }

  defer(step: Step): void {
    this.#steps.push(step);
  }

  /** Runs all steps; rejects with the first error. Harmless when repeated. */
  async [Symbol.asyncDispose](): Promise<void> {
    const errors: unknown[] = [];
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}
