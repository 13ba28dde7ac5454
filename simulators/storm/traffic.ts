/**
 * The callers: calls that begin at random moments whatever became of the earlier ones, and what was counted of them.
 */
import { HoldfastError, type Env } from 'holdfast/core'
import type { Attempt, Dependency } from 'holdfast/guard'
import { seededRandom } from '../kit/index.ts'

/** One number for each second. A call counts, however it ends, in the second in which it began. */
export interface Counts {
  /** Calls that began. */
  readonly offered: number[]
  /** Those of them that ended well. */
  readonly ok: number[]
  /** Those of them that ended badly, refused ones included. */
  readonly failed: number[]
}

export function zeros(seconds: number): number[] {
  return Array.from({ length: seconds }, () => 0)
}

export function emptyCounts(seconds: number): Counts {
  return { offered: zeros(seconds), ok: zeros(seconds), failed: zeros(seconds) }
}

/** Counts one in its second; what is outside the seconds that are watched is not counted. */
export function countIn(counts: number[], second: number): void {
  const before = counts[second]
  if (before !== undefined) counts[second] = before + 1
}

export interface Traffic {
  readonly env: Env
  readonly seed: number
  readonly callsPerSecond: number
  /** Each call goes to one of them, by chance. */
  readonly clients: readonly Dependency[]
  readonly counts: Counts
  /** One attempt. */
  readonly request: (attempt: Attempt) => Promise<void>
}

/** Begins at monotonic 0. Calls arrive independently of each other (exponential gaps). */
export function startTraffic({ env, seed, callsPerSecond, clients, counts, request }: Traffic): { stop(): void } {
  const random = seededRandom(seed)
  const call = async (client: Dependency): Promise<void> => {
    const second = Math.floor(env.monotonic() / 1_000)
    countIn(counts.offered, second)
    const outcome = await client.try('get', { effect: 'read' }, request)
    countIn(outcome.ok ? counts.ok : counts.failed, second)
  }
  // Appointments, not pauses: a timer that is late does not make the calls fewer.
  let at = 0
  let timer = env.timer(0, () => undefined)
  const next = (): void => {
    at -= (1_000 / callsPerSecond) * Math.log(1 - random.next())
    timer = env.timer(at - env.monotonic(), () => {
      const client = clients[random.int(0, clients.length - 1)]
      if (client !== undefined) void call(client)
      next()
    })
  }
  next()
  return { stop: () => { timer.cancel() } }
}

/** Ends at once when its caller hangs up, as a request on a socket does; whoever serves it learns nothing of that. */
export function untilHungUp(signal: AbortSignal, answer: Promise<void>): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => { reject(new HoldfastError('HF_CANCELLED', { message: 'the caller hung up', stackless: true })) }, { once: true })
    answer.then(resolve, reject)
  })
}
