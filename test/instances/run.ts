/**
 * A run: several instances of one service on one PostgreSQL, a nemesis, and at the end a verdict.
 *
 * The outside world, the sender of orders and the proxies live in this process, which survives. When the time is over everything
 * is healed, and all that was acknowledged must come to rest within a bound: that is liveness. Then it is judged.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import createSql from 'postgres'
import { withinSeconds } from './bounded.ts'
import { bundle, openFleet, type Fleet } from './fleet.ts'
import { judge, type Verdict } from './judge.ts'
import { unleash, type Faults } from './nemesis.ts'
import { openOutside } from './outside.ts'
import type { Guards } from './protocol.ts'
import { watchRecoveries } from './recovery-watch.ts'
import { openSender } from './sender.ts'
import { startServer } from './server-host.ts'

export interface RunOptions {
  readonly seconds: number
  /** Nothing goes wrong: how fast it is by itself. */
  readonly calm?: boolean
  /** Ends earlier when about so many steps are confirmed. */
  readonly steps?: number
  readonly seed: number
  readonly guards: Guards
  readonly leaseMs: number
  readonly instances: number
  /** Orders under way at a time, all instances together. */
  readonly backlog: number
  readonly lanes: number
  readonly concurrency: number
  readonly holders: number
  readonly leaseKeys: number
  readonly holderRestMs: number
  readonly crashEveryMs: number
  /** How long everything may take to come to rest at the end. */
  readonly restWithinMs: number
  readonly onProgress?: (progress: Progress) => void
  readonly onPhase?: (phase: string) => void
}

export interface Progress {
  readonly seconds: number
  readonly orders: number
  readonly finished: number
  readonly faults: number
  readonly recovered: number
}

export interface Quantiles {
  readonly n: number
  readonly p50: number
  readonly p95: number
  readonly max: number
}

export interface RunReport extends Verdict {
  readonly guards: Guards
  readonly seconds: number
  readonly seed: number
  readonly instances: number
  readonly leaseMs: number
  readonly orders: number
  readonly deliveries: { readonly sent: number; readonly again: number; readonly duplicates: number }
  readonly faults: Faults
  readonly faultsTotal: number
  readonly recovery: Quantiles & { readonly withinTwiceTheLease: number; readonly open: number; readonly acrossServerCrash: Quantiles }
  /** What had not come to rest in time; empty is good. */
  readonly stuck: readonly string[]
  readonly outside: Readonly<Record<string, number>>
  /** Instances that ended by themselves: none should, but for a start that meets a server that is down. */
  readonly endedByThemselves: readonly string[]
}

const LOOK_EVERY_MS = 250
const PROGRESS_EVERY_MS = 10_000
/** Confirmed per order, about: for ending early, not for the report. */
const STEPS_PER_ORDER = 16

export async function runInstances(options: RunOptions): Promise<RunReport> {
  const { seed, guards, leaseMs, onPhase = () => undefined } = options
  const historyDir = mkdtempSync(join(tmpdir(), 'holdfast-instances-'))
  const built = await bundle('instance')
  const server = await startServer()
  const outside = await openOutside(seed)
  const sql = createSql(server.url, { max: 2, onnotice: () => undefined, connect_timeout: 2 })
  const watch = watchRecoveries(sql)
  let fleet: Fleet | undefined
  const opened = (): Fleet => {
    if (fleet === undefined) throw new Error('the fleet is not open')
    return fleet
  }
  const sender = openSender({ fleet: () => fleet ?? { slots: [], ended: [], close: async () => undefined }, seed: seed + 1, lanes: options.lanes, backlog: options.backlog })
  const parked = new Map<string, string>()
  let finished = 0
  let kept = false
  outside.onDone(effect => {
    // The last thing of an order that is seen from outside; a mail may stay unknown.
    if (effect.kind !== 'confirm' && effect.kind !== 'release') return
    finished += 1
    sender.onFinished(effect.id)
  })
  try {
    fleet = await openFleet({
      size: options.instances, program: join(built.dir, 'instance.mjs'), historyDir, databaseUrl: server.url,
      settings: { outsideUrl: outside.url, leaseMs, guards, concurrency: options.concurrency, holders: options.holders, leaseKeys: options.leaseKeys, holderRestMs: options.holderRestMs },
      onAcknowledged: id => { sender.onAcknowledged(id) },
    })
    onPhase('instances start')
    await allReady(fleet)
    onPhase('faults')
    const beganMs = performance.now()
    const nemesis = unleash({ fleet, server, seed: seed + 2, leaseMs, crashEveryMs: options.crashEveryMs, onKill: instance => { watch.onKill(instance) }, onServer: up => { watch.onServer(up) } })
    if (options.calm === true) await nemesis.heal()
    const secondsSoFar = (): number => (performance.now() - beganMs) / 1_000
    for (let nextMs = PROGRESS_EVERY_MS; secondsSoFar() < options.seconds && finished * STEPS_PER_ORDER < (options.steps ?? Infinity);) {
      await sleep(LOOK_EVERY_MS)
      if (secondsSoFar() * 1_000 < nextMs) continue
      nextMs += PROGRESS_EVERY_MS
      await retryParked(sql, parked)
      options.onProgress?.({ seconds: Math.round(secondsSoFar()), orders: sender.acknowledged.size, finished, faults: sum(nemesis.faults), recovered: watch.recoveries.quiet.length + watch.recoveries.acrossServerCrash.length })
    }
    const seconds = secondsSoFar()
    onPhase('healing')
    await nemesis.heal()
    outside.calm()
    onPhase('coming to rest')
    const stuck = await comeToRest(sql, parked, sender.finish(), options.restWithinMs)
    sender.stop()
    await watch.stop()
    const ended = [...opened().ended]
    onPhase('stopping')
    await opened().close()
    onPhase('judging')
    const verdict = await judge({ sql, outside, acknowledged: sender.acknowledged, parked, historyDir })
    kept = guards === 'on' && (verdict.anomalies.length > 0 || stuck.length > 0)
    if (kept) onPhase(`what the instances wrote down is kept: ${historyDir}`)
    const { quiet, acrossServerCrash, open } = watch.recoveries
    return {
      ...verdict, guards, seconds: Math.round(seconds), seed, instances: options.instances, leaseMs, orders: sender.acknowledged.size, deliveries: sender.counts,
      faults: nemesis.faults, faultsTotal: sum(nemesis.faults),
      recovery: { ...quantiles(quiet), withinTwiceTheLease: quiet.filter(ms => ms <= 2 * leaseMs).length, open: open.length, acrossServerCrash: quantiles(acrossServerCrash) },
      stuck, outside: outside.counts, endedByThemselves: ended,
    }
  } finally {
    sender.stop()
    await watch.stop()
    await fleet?.close()
    await sql.end({ timeout: 1 })
    await outside.close()
    await server.close()
    built.remove()
    if (!kept) rmSync(historyDir, { recursive: true, force: true })
  }
}

async function allReady(fleet: Fleet): Promise<void> {
  const startedMs = performance.now()
  while (fleet.slots.some(slot => slot.instance === undefined)) {
    if (performance.now() - startedMs > 60_000) throw new Error(`the instances are not ready: ${fleet.ended.join('\n')}`)
    await sleep(50)
  }
}

/**
 * What an operator does with an order that five holders died over. It goes to the end of its lane; who it was and why it was parked is kept for
 * the verdict, and before it is done: the answer may be lost.
 */
async function retryParked(sql: createSql.Sql, parked: Map<string, string>): Promise<void> {
  try {
    const rows = await withinSeconds(5, sql.unsafe<{ id: string; reason: string | null }[]>("SELECT id, reason FROM holdfast.inbox_row WHERE state = 'parked'"))
    if (rows.length === 0) return
    for (const { id, reason } of rows) parked.set(id, reason ?? '')
    await withinSeconds(5, sql.unsafe(`
      UPDATE holdfast.inbox_row SET state = 'queued', attempts = 0, wake_at = clock_timestamp(), seq = nextval(pg_get_serial_sequence('holdfast.inbox_row', 'seq'))
       WHERE state = 'parked' AND id = ANY ($1)`, [rows.map(row => row.id)]))
  } catch {
    // The server is away; the next turn looks again.
  }
}

async function comeToRest(sql: createSql.Sql, parked: Map<string, string>, acknowledged: Promise<void>, withinMs: number): Promise<readonly string[]> {
  const startedMs = performance.now()
  let sent = false
  void acknowledged.then(() => { sent = true })
  for (;;) {
    await retryParked(sql, parked)
    const open = [...(sent ? [] : ['orders that nobody acknowledged']), ...await openWork(sql)]
    if (open.length === 0 || performance.now() - startedMs > withinMs) return open
    await sleep(LOOK_EVERY_MS)
  }
}

async function openWork(sql: createSql.Sql): Promise<readonly string[]> {
  const rows = await withinSeconds(5, sql.unsafe<{ what: string; n: string }[]>(`
    SELECT 'inbox ' || state AS what, count(*) AS n FROM holdfast.inbox_row WHERE state <> 'done' GROUP BY state
    UNION ALL SELECT 'once ' || name || ' ' || state, count(*) FROM holdfast.once_record WHERE state IN ('started', 'unknown') GROUP BY name, state
    UNION ALL SELECT 'saga ' || state, count(*) FROM holdfast.saga_run WHERE state NOT IN ('done', 'undone') GROUP BY state
    UNION ALL SELECT 'outbox ' || state, count(*) FROM holdfast.outbox_message WHERE state IN ('queued', 'sending', 'dead') GROUP BY state`)).catch(() => [{ what: 'servers that do not answer', n: '1' }])
  return rows.map(({ what, n }) => `${n} ${what}`)
}

function quantiles(values: readonly number[]): Quantiles {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (q: number): number => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0)
  return { n: sorted.length, p50: at(0.5), p95: at(0.95), max: at(1) }
}

function sum(faults: Faults): number {
  let total = 0
  for (const each of Object.values(faults) as number[]) total += each
  return total
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => { setTimeout(resolve, ms) })
}
