/**
 * The outside world: a server that charges, reserves and sends, and counts what it did.
 *
 * It survives everything, and helps little: for charges and reservations it knows no idempotency keys, it only tells when asked
 * whether one happened. It is slow, sometimes fails before it acts, and sometimes acts and hangs up. It refuses what arrives
 * after its deadline, as no system can call back what a frozen process sends on its last instruction.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { seededRandom } from '../../src/testing/index.ts'
import type { Effect } from './protocol.ts'

export interface Done {
  readonly effect: Effect
  readonly receipt: string
}

export interface Outside {
  readonly url: string
  /** In the order in which they happened. */
  readonly done: readonly Done[]
  readonly counts: { calls: number; late: number; failedBefore: number; hungUp: number; repeated: number; refused: number }
  /** From now on it works well, for those who finish. */
  calm(): void
  onDone(listener: (effect: Effect) => void): void
  close(): Promise<void>
}

/** Honoured for these: their protocol says that they may be called again. */
const KEYED: ReadonlySet<Effect['kind']> = new Set(['release', 'confirm', 'push'])
const FAILS_BEFORE = 0.01
const HANGS_UP = 0.01
const LATENCY_MAX_MS = 8

export async function openOutside(seed: number): Promise<Outside> {
  const random = seededRandom(seed)
  const done: Done[] = []
  const byKey = new Map<string, Done>()
  const counts = { calls: 0, late: 0, failedBefore: 0, hungUp: 0, repeated: 0, refused: 0 }
  let listener: (effect: Effect) => void = () => undefined
  let moody = true

  const act = (effect: Effect, response: ServerResponse): void => {
    counts.calls += 1
    const mood = moody ? random() : 1
    if (Date.now() > effect.deadlineMs) {
      counts.late += 1
      return answer(response, 429, {})
    }
    if (mood < FAILS_BEFORE) {
      counts.failedBefore += 1
      return answer(response, 503, {})
    }
    if (effect.kind === 'confirm' && effect.refused) {
      counts.refused += 1
      return answer(response, 422, {})
    }
    const known = KEYED.has(effect.kind) ? byKey.get(`${effect.kind} ${effect.key}`) : undefined
    const one = known ?? { effect, receipt: `${effect.kind}-${String(done.length + 1)}` }
    if (known === undefined) {
      done.push(one)
      byKey.set(`${effect.kind} ${effect.key}`, one)
      listener(effect)
    } else counts.repeated += 1
    if (mood < FAILS_BEFORE + HANGS_UP) {
      counts.hungUp += 1
      response.destroy()
      return
    }
    answer(response, 200, { receipt: one.receipt })
  }

  const server = createServer((request, response) => {
    response.on('error', () => undefined)
    read(request).then(text => {
      if (request.url === '/find') {
        const { kind, key } = JSON.parse(text) as Pick<Effect, 'kind' | 'key'>
        answer(response, 200, { receipt: byKey.get(`${kind} ${key}`)?.receipt ?? null })
        return
      }
      const effect = JSON.parse(text) as Effect
      setTimeout(() => { act(effect, response) }, random() * LATENCY_MAX_MS)
    }, () => undefined)
  })
  server.keepAliveTimeout = 60_000
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  return {
    url: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`, done, counts,
    calm: () => { moody = false },
    onDone: given => { listener = given },
    close: () => new Promise<void>(resolve => {
      server.close(() => { resolve() })
      server.closeAllConnections()
    }),
  }
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

async function read(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  return text
}
