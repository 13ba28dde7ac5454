/**
 * A schedule as data: what is bought, and what goes wrong when. Made from a number, so that a failure is one line; plain
 * JSON, so that it can be made smaller fault by fault and carried out again.
 *
 * Operations are counted over the whole run, whichever process does them: every durable operation and outside call of the
 * purchase (../crash/points.ts says which count). What is only asked by the clock is no operation.
 */
import type { FaultRule } from 'holdfast-simulators/kit'
import { seededRandom } from 'holdfast/testing'

export type When = 'before' | 'after'
export type Partner = 'telegram' | 'cryptoPay' | 'panel'

export type Trouble =
  /** The process that does this operation dies: before it happened, or after, without having learned of it. */
  | { readonly kind: 'kill'; readonly at: number; readonly when: When; readonly restartAfterMs: number }
  /** The process that does this operation stands still. Another one is started in its place, and then it goes on: a zombie. */
  | { readonly kind: 'pause'; readonly at: number; readonly when: When; readonly forMs: number; readonly replaceAfterMs: number }
  /** The store is away for this one operation, or its answer is lost after the commit. */
  | { readonly kind: 'store'; readonly at: number; readonly when: When }
  /** A partner misbehaves. */
  | { readonly kind: 'partner'; readonly partner: Partner; readonly rule: FaultRule }

export interface Plan {
  readonly seed: number
  readonly purchase: 'card' | 'crypto'
  readonly instances: 1 | 2
  /** One way, of each outside call. */
  readonly latencyMs: readonly [min: number, max: number]
  /** Of each transaction, at most. */
  readonly storeLatencyMs: number
  readonly troubles: readonly Trouble[]
}

/** Beyond the longest purchase without troubles (measured: the tests look), so that late operations of recovery are hit, too. */
const OPERATIONS = 75

/** The plan of a number. Each draws its own mixture of troubles, so that some runs are rich in one kind and free of others. */
export function planOf(seed: number): Plan {
  const random = seededRandom(seed ^ 0x5bd1e995)
  const chance = (p: number): boolean => random() < p
  const int = (min: number, max: number): number => min + Math.floor(random() * (max - min + 1))
  const pick = <T>(items: readonly T[]): T => items[int(0, items.length - 1)] as T
  const when = (): When => (chance(0.5) ? 'before' : 'after')
  const purchase = chance(0.5) ? 'card' : 'crypto'
  const instances = chance(0.3) ? 2 : 1
  const latencyMs = pick([[0, 0], [1, 40], [1, 40], [5, 300]] as const)
  const storeLatencyMs = pick([0, 0, 5, 60])
  const troubles: Trouble[] = []
  if (chance(0.7)) for (let left = pick([1, 1, 1, 2, 3]); left > 0; left--) troubles.push({ kind: 'kill', at: int(1, OPERATIONS), when: when(), restartAfterMs: pick([50, 1_000, 4_000, 9_000]) })
  if (chance(0.3)) troubles.push({ kind: 'pause', at: int(1, OPERATIONS), when: when(), forMs: int(LEASE_MS, 4 * LEASE_MS), replaceAfterMs: int(100, LEASE_MS) })
  if (chance(0.25)) for (let left = int(1, 2); left > 0; left--) troubles.push({ kind: 'store', at: int(1, OPERATIONS), when: when() })
  if (chance(0.6)) for (let left = int(1, 4); left > 0; left--) troubles.push(partnerTrouble(pick, int, chance))
  return { seed, purchase, instances, latencyMs, storeLatencyMs, troubles }
}

/** How long what a dead instance held stays taken, in every schedule. */
export const LEASE_MS = 5_000

type Draw = readonly [pick: <T>(items: readonly T[]) => T, int: (min: number, max: number) => number, chance: (p: number) => boolean]

function partnerTrouble(...[pick, int, chance]: Draw): Trouble {
  const times = int(1, 3)
  const slow: FaultRule['fault'] = { kind: 'delay', ms: int(50, 5_000) }
  switch (pick(['webhook', 'webhook', 'send', 'crypto', 'crypto-webhook', 'panel', 'panel'] as const)) {
    // News comes twice, late, in another order, or is handled and not believed.
    case 'webhook': return {
      kind: 'partner', partner: 'telegram',
      rule: { match: { operation: 'webhook:*', probability: 0.7, times: int(1, 6) }, fault: pick([{ kind: 'duplicate' }, { kind: 'apply-then-drop' }, { kind: 'drop-before' }, { kind: 'reorder', withinMs: 3_000 }, slow]) },
    }
    // Telegram has no idempotency keys: a request that arrives twice is two messages, and nobody could help it. So that is left out.
    case 'send': return {
      kind: 'partner', partner: 'telegram',
      rule: {
        match: { operation: chance(0.7) ? 'send*' : ['answerPreCheckoutQuery', 'answerCallbackQuery'], probability: 0.7, times },
        fault: pick([{ kind: 'apply-then-drop' }, { kind: 'apply-then-hang' }, { kind: 'drop-before', code: 'ECONNREFUSED' }, { kind: 'rate-limit', retryAfterS: int(1, 20) }, { kind: 'status', status: 502 }, { kind: 'truncated' }, { kind: 'late', ms: int(1_000, 15_000) }, slow]),
      },
    }
    case 'crypto': return {
      kind: 'partner', partner: 'cryptoPay',
      rule: { match: { operation: ['createInvoice', 'getInvoices'], probability: 0.7, times }, fault: pick([{ kind: 'apply-then-drop' }, { kind: 'hang' }, { kind: 'status', status: 503 }, { kind: 'malformed' }, { kind: 'duplicate' }, slow]) },
    }
    case 'crypto-webhook': return {
      kind: 'partner', partner: 'cryptoPay',
      rule: { match: { operation: 'webhook', times }, fault: pick([{ kind: 'drop-before' }, { kind: 'apply-then-drop' }, { kind: 'duplicate' }, slow]) },
    }
    case 'panel': return {
      kind: 'partner', partner: 'panel',
      rule: {
        match: { operation: '*User', probability: 0.8, times: int(1, 8) },
        fault: pick([{ kind: 'apply-then-drop' }, { kind: 'apply-then-drop' }, { kind: 'apply-then-hang' }, { kind: 'drop-before' }, { kind: 'hang' }, { kind: 'status', status: 503 }, { kind: 'empty' }, { kind: 'truncated' }, { kind: 'duplicate' }, { kind: 'late', ms: int(1_000, 20_000) }, { kind: 'flapping', upMs: 2_000, downMs: 3_000 }, slow]),
      },
    }
  }
}

/** A purchase in which one process dies once, and nothing else goes wrong. */
export function singleKill(purchase: Plan['purchase'], at: number, when: When): Plan {
  return { seed: at, purchase, instances: 1, latencyMs: [1, 40], storeLatencyMs: 0, troubles: [{ kind: 'kill', at, when, restartAfterMs: 1_000 }] }
}

/** A purchase without any trouble. */
export function quiet(purchase: Plan['purchase']): Plan {
  return { seed: 1, purchase, instances: 1, latencyMs: [1, 40], storeLatencyMs: 0, troubles: [] }
}
