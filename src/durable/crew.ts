/**
 * Works on what sweeps found: a bounded number at a time, over all sweeps together.
 *
 * A sweep is waited for as long as its caller likes, and the work goes on: an outside call that hangs keeps its own record (and one place
 * of the crew), never the recovery of the others.
 */
export class Crew {
  readonly #max: number
  #busy = 0

  constructor(max: number) {
    this.#max = max
  }

  get busy(): number {
    return this.#busy
  }

  /** Answers how many were begun, when all are over or `enough` aborts; then no other is begun. `work` must not reject. */
  async run<Item>(items: readonly Item[], work: (item: Item) => Promise<void>, enough: AbortSignal): Promise<number> {
    const queue = [...items]
    let begun = 0
    const lane = async (): Promise<void> => {
      this.#busy += 1
      try {
        for (let item = queue.shift(); item !== undefined && !enough.aborted; item = queue.shift()) {
          begun += 1
          await work(item)
        }
      } finally {
        this.#busy -= 1
      }
    }
    const lanes = Promise.all(Array.from({ length: Math.min(this.#max - this.#busy, queue.length) }, lane))
    await new Promise<void>((resolve, reject) => {
      const stop = (): void => { resolve() }
      enough.addEventListener('abort', stop, { once: true })
      if (enough.aborted) stop()
      lanes.then(stop, reject).finally(() => { enough.removeEventListener('abort', stop) })
    })
    return begun
  }
}
