/**
 * Loops that take leases and write under them, and write down what they were told: the history of DESIGN's leases.
 *
 * Everybody meets on a few keys at a time, which move on, so that in the end many keys have long histories with real contention.
 */
import { isHoldfastError, type SqlTx } from '../../src/index.ts'
import { lease, type DurableKit, type HeldLease } from '../../src/durable/index.ts'
import { sharedMs, type InstanceSettings } from './protocol.ts'

/** Keys that are used at a time, and for how long. */
const KEYS_AT_A_TIME = 12
const KEYS_FOR_MS = 4_000
const HOLD_MS = 30
const AWAY_MS = 200

export function holdLeases(kit: DurableKit<SqlTx>, settings: InstanceSettings, record: (line: object) => void): void {
  for (let loop = 0; loop < settings.holders; loop++) void run(kit, settings, record, `${kit.instance}/${String(loop)}`)
}

async function run(kit: DurableKit<SqlTx>, { leaseMs, leaseKeys, guards, holderRestMs }: InstanceSettings, record: (line: object) => void, process: string): Promise<never> {
  let calls = 0
  /** Runs an operation and writes down its end; undefined when it did not happen or nobody knows. */
  const told = async <T>(key: string, action: string, value: number | null, work: () => Promise<T>, answer: (result: T) => number | boolean | null): Promise<T | undefined> => {
    const id = `${process}/${String(++calls)}`
    record({ id, type: 'invoke', at: sharedMs(), process, key, action, value })
    try {
      const result = await work()
      record({ id, type: 'ok', at: sharedMs(), value: answer(result) })
      return result
    } catch (error) {
      const code = isHoldfastError(error) ? error.code : 'unknown'
      if (code === 'HF_LEASE_LOST' && action === 'write') record({ id, type: 'ok', at: sharedMs(), value: false })
      else record({ id, type: code === 'HF_STORE_UNKNOWN_COMMIT' || code === 'unknown' ? 'info' : 'fail', at: sharedMs() })
      return undefined
    }
  }
  for (;;) {
    const turn = Math.floor(sharedMs() / KEYS_FOR_MS)
    const key = `key-${String((turn * KEYS_AT_A_TIME + Math.floor(kit.env.random() * KEYS_AT_A_TIME)) % leaseKeys)}`
    let held: HeldLease<SqlTx> | undefined
    const answered = await told(key, 'acquire', null, async () => {
      held = await lease<SqlTx>(key, { ttl: `${leaseMs}ms` }, kit).acquire()
      return held?.fence ?? null
    }, fence => fence)
    if (held === undefined) {
      await kit.env.sleep(answered === undefined ? AWAY_MS : holderRestMs)
      continue
    }
    const mine = held
    const { fence } = mine
    const write = (tx: SqlTx): Promise<unknown> => tx.query('INSERT INTO written (lease, fence) VALUES ($1, $2)', [key, fence])
    for (let n = 0; n < 3; n++) {
      // With the guards off it believes that what it once got is still its own.
      await told(key, 'write', fence, () => (guards === 'on' ? mine.transaction('held.write', write) : kit.database().transaction('held.write', write)), () => true)
      await kit.env.sleep(kit.env.random() * HOLD_MS)
      if (guards === 'on' && !mine.held) break
    }
    // Not recorded, as it never says whether it worked: to whoever judges, the lease may have ended by time as well.
    await mine.release()
    await kit.env.sleep(kit.env.random() * holderRestMs)
  }
}
