/**
 * Judges a run when everything has come to rest: what the outside world saw, what is in the database, what instances wrote down.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type createSql from 'postgres'
import { checkEffects, checkFences, checkLaneOrder, checkLinearizable, historyFrom, leaseModel, operationsOf, type Anomaly, type HistoryEvent } from '../../src/testing/index.ts'
import type { Outside } from './outside.ts'
import type { Order } from './protocol.ts'

export interface Verdict {
  /** Journalled durable operations that are confirmed, each counted once however often it was tried. */
  readonly steps: number
  readonly stepsByFeature: Readonly<Record<string, number>>
  readonly anomalies: readonly Anomaly[]
  readonly counts: Readonly<Record<'doubled' | 'lost' | 'outOfOrder' | 'fromNowhere' | 'staleWritesAccepted' | 'other', number>>
  readonly staleWritesRefused: number
  readonly leaseKeys: number
  readonly leaseOperations: number
  readonly leaseOperationsPerKey: { readonly min: number; readonly median: number }
  readonly unknownSends: number
  readonly parkedBecause: readonly string[]
  /** Interesting states and how often they were reached. */
  readonly reached: Readonly<Record<string, number>>
}

interface Booked { readonly kind: string; readonly id: string; readonly lane: string; readonly position: number }
/** What an instance wrote down besides the history of leases. */
interface Note { readonly confirmed?: string; readonly fact?: string; readonly id?: string; readonly value?: unknown }

export interface Evidence {
  readonly sql: createSql.Sql
  readonly outside: Outside
  readonly acknowledged: ReadonlyMap<string, Order>
  /** Orders that an operator tried again, and why they had been given up. */
  readonly parked: ReadonlyMap<string, string>
  readonly historyDir: string
}

export async function judge({ sql, outside, acknowledged, parked, historyDir }: Evidence): Promise<Verdict> {
  const { events, notes } = readNotes(historyDir)
  const ids = [...acknowledged.keys()]
  const anomalies: Anomaly[] = []
  const booked = await sql.unsafe<Booked[]>('SELECT kind, id, lane, position FROM booked ORDER BY n')
  const idsBooked = (kind: string): string[] => booked.filter(row => row.kind === kind).map(row => row.id)
  const idsDone = (kind: string): string[] => outside.done.filter(({ effect }) => effect.kind === kind).map(({ effect }) => effect.id)
  const confirmed = (what: string, value?: unknown): string[] => notes.filter(note => note.confirmed === what && (value === undefined || note.value === value)).map(note => note.id ?? '')

  // Acknowledged to the sender: to be handled, once, whatever happened.
  const refused = ids.filter(id => acknowledged.get(id)?.refused === true)
  const accepted = ids.filter(id => acknowledged.get(id)?.refused !== true)
  const requested = ids
  anomalies.push(...checkEffects({ key: 'note', effects: idsBooked('note'), confirmed: [...ids, ...confirmed('note')], requested }))
  anomalies.push(...checkEffects({ key: 'charge', effects: idsDone('charge'), confirmed: [...ids, ...confirmed('charge')], requested }))
  anomalies.push(...checkEffects({ key: 'reserve', effects: idsDone('reserve'), confirmed: ids, requested }))
  anomalies.push(...checkEffects({ key: 'book', effects: idsBooked('book'), confirmed: ids, requested }))
  anomalies.push(...checkEffects({ key: 'unbook', effects: idsBooked('unbook'), confirmed: refused, requested: refused }))
  anomalies.push(...checkEffects({ key: 'release', effects: idsDone('release'), confirmed: refused, requested: refused }))
  anomalies.push(...checkEffects({ key: 'confirm', effects: idsDone('confirm'), confirmed: accepted, requested: accepted }))
  anomalies.push(...oneTruth(notes))

  const messages = await sql.unsafe<{ once_key: string; topic: string; state: string }[]>('SELECT once_key, topic, state FROM holdfast.outbox_message')
  const unknown = new Set(messages.filter(row => row.topic === 'mail' && row.state === 'unknown').map(row => row.once_key))
  // Lanes keep their order but for what an operator tried again: that goes to the end of its lane.
  for (const topic of ['mail', 'push'] as const) {
    const asked = ids.filter(id => acknowledged.get(id)?.topic === topic)
    // At most once: what nobody knows is shown to a person and not lost.
    anomalies.push(...checkEffects({ key: topic, effects: idsDone(topic), confirmed: asked.filter(id => !unknown.has(id)), requested: asked }))
    anomalies.push(...checkLaneOrder(outside.done.filter(({ effect }) => effect.kind === topic && !parked.has(effect.id)).map(({ effect }) => ({ key: `${topic} ${effect.lane}`, position: effect.position }))))
  }
  anomalies.push(...checkLaneOrder(booked.filter(row => row.kind === 'note' && !parked.has(row.id)).map(row => ({ key: `orders ${row.lane}`, position: row.position }))))

  const operations = operationsOf(events)
  anomalies.push(...checkLinearizable(operations, leaseModel()))
  const written = await sql.unsafe<{ lease: string; fence: string }[]>('SELECT lease, fence FROM written ORDER BY n')
  anomalies.push(...checkFences(written.map(row => ({ key: row.lease, fence: Number(row.fence) })), 'writes'))

  const perKey = [...operations.reduce((counts, { key }) => counts.set(key, (counts.get(key) ?? 0) + 1), new Map<string, number>()).values()].sort((a, b) => a - b)
  const stepsByFeature = await countSteps(sql, operations.filter(({ action, end, output }) => end === 'ok' && action === 'acquire' && output !== null).length, written.length)
  const count = (...kinds: readonly string[]): number => anomalies.filter(anomaly => kinds.includes(anomaly.kind)).length
  const counts = {
    doubled: count('doubled'), lost: count('lost'), outOfOrder: count('out of order'), fromNowhere: count('from nowhere'), staleWritesAccepted: count('fence not rising'),
    other: count('not linearizable', 'undecided', 'two answers'),
  }
  const facts = (fact: string, of = ''): number => notes.filter(note => note.fact === fact && String(note.id ?? '').startsWith(of)).length
  return {
    steps: Object.values(stepsByFeature).reduce((sum, each) => sum + each, 0), stepsByFeature, anomalies, counts,
    staleWritesRefused: operations.filter(({ action, end, output }) => action === 'write' && end === 'ok' && output === false).length,
    leaseKeys: perKey.length, leaseOperations: operations.length, leaseOperationsPerKey: { min: perKey[0] ?? 0, median: perKey[Math.floor(perKey.length / 2)] ?? 0 },
    unknownSends: unknown.size, parkedBecause: [...new Set(parked.values())].slice(0, 20),
    reached: {
      'lease lost while held': facts('lease.lost'), 'call of unknown outcome': facts('once.unknown'), 'unknown commit of a lease operation': operations.filter(({ end }) => end === 'info').length,
      'request refused as late': outside.counts.late, 'answer lost after the effect': outside.counts.hungUp, 'run undone': refused.length, 'order parked and retried': parked.size,
    },
  }
}

function readNotes(dir: string): { readonly events: readonly HistoryEvent[]; readonly notes: readonly Note[] } {
  const lines = historyFrom(...readdirSync(dir).map(name => readFileSync(join(dir, name), 'utf8'))) as readonly (HistoryEvent & Note)[]
  return { events: lines.filter(line => line.at !== undefined), notes: lines.filter(line => line.confirmed !== undefined || line.fact !== undefined) }
}

/** Whoever was told what became of a charge was told the same. */
function oneTruth(notes: readonly Note[]): readonly Anomaly[] {
  const told = new Map<string, unknown>()
  const anomalies: Anomaly[] = []
  for (const { confirmed, id, value } of notes) {
    if (confirmed === undefined) continue
    const key = `${confirmed} ${id ?? ''}`
    if (!told.has(key)) told.set(key, value)
    else if (told.get(key) !== value) anomalies.push({ kind: 'two answers', key, message: `${String(told.get(key))} and ${String(value)}` })
  }
  return anomalies
}

/** From the journals themselves, so that nothing is counted that was only tried. */
async function countSteps(sql: createSql.Sql, grants: number, writes: number): Promise<Readonly<Record<string, number>>> {
  const [row] = await sql.unsafe<Record<string, string>[]>(`
    SELECT (SELECT count(*) FROM holdfast.once_record WHERE state = 'done' AND name = 'note') AS local,
           (SELECT count(*) * 2 FROM holdfast.once_record WHERE state = 'done' AND name = 'charge') AS outside,
           (SELECT count(*) * 2 FROM holdfast.saga_run WHERE state IN ('done', 'undone')) AS runs,
           (SELECT sum(CASE WHEN name = 'book' THEN 1 ELSE 2 END + CASE WHEN state = 'undone' THEN 1 ELSE 0 END) FROM holdfast.saga_step) AS steps,
           (SELECT count(*) * 2 FROM holdfast.inbox_row WHERE state = 'done') AS inbox,
           (SELECT count(*) * 3 FROM holdfast.outbox_message WHERE state = 'sent') AS outbox,
           (SELECT count(*) FROM beat) AS worker`)
  const at = (name: string): number => Number(row?.[name] ?? 0)
  return {
    'once, local: written with its record': at('local'), 'once, outside: claim, completion': at('outside'), 'saga: begin, end': at('runs'), 'saga: intent and end of outside steps, local steps, undos': at('steps'),
    'inbox: kept, done': at('inbox'), 'outbox: kept, sending, sent': at('outbox'), 'worker: a leader\'s iteration': at('worker'), 'lease: granted': grants, 'lease: guarded write': writes,
  }
}
