/**
 * How long the work of a killed instance stayed with the dead: from the kill until another has taken up, or finished, all of it.
 *
 * Looked up in the database past the proxies. Work is what the dead held of orders, charges, runs, lanes with messages, and
 * leadership. Kills during which the server itself was down are kept apart: nobody can take over without it.
 */
import type createSql from 'postgres'
import { withinSeconds } from './bounded.ts'

export interface Recoveries {
  /** Milliseconds, in the order of the kills. */
  readonly quiet: readonly number[]
  /** The server was crashed meanwhile. */
  readonly acrossServerCrash: readonly number[]
  /** Killed, and still holding something when the run ended. */
  readonly open: readonly string[]
}

export interface RecoveryWatch {
  readonly recoveries: Recoveries
  onKill(instance: string): void
  onServer(up: boolean): void
  stop(): Promise<void>
}

interface Killed {
  readonly instance: string
  readonly atMs: number
  serverWasDown: boolean
}

const LOOK_EVERY_MS = 100

/** Who holds unfinished work. Partial indexes find the open rows. */
const HOLDERS = `
  SELECT DISTINCT split_part(owner, ':', 1) AS instance FROM (
    SELECT owner FROM holdfast.inbox_row WHERE state = 'working'
    UNION ALL SELECT owner FROM holdfast.once_record WHERE state = 'started'
    UNION ALL SELECT owner FROM holdfast.saga_run WHERE state IN ('running', 'undoing')
    UNION ALL SELECT owner FROM holdfast.lease WHERE name = 'worker:beat'
    UNION ALL SELECT owner FROM holdfast.outbox_sender s
      WHERE EXISTS (SELECT 1 FROM holdfast.outbox_message m WHERE m.lane = s.lane AND (m.state IN ('queued', 'sending') OR m.holds_lane))) held
   WHERE owner IS NOT NULL`

export function watchRecoveries(sql: createSql.Sql): RecoveryWatch {
  const killed = new Set<Killed>()
  const quiet: number[] = []
  const acrossServerCrash: number[] = []
  let stopped = false
  let down = false

  const look = async (): Promise<void> => {
    while (!stopped) {
      await new Promise(resolve => { setTimeout(resolve, LOOK_EVERY_MS) })
      if (killed.size === 0 || down) continue
      // Before the question, so that the time is not shorter than it was.
      const candidates = [...killed]
      try {
        const rows = await withinSeconds(5, sql.unsafe<{ instance: string }[]>(HOLDERS))
        const nowMs = performance.now()
        const holding = new Set(rows.map(row => row.instance))
        for (const each of candidates) {
          if (holding.has(each.instance)) continue
          killed.delete(each)
          ;(each.serverWasDown ? acrossServerCrash : quiet).push(nowMs - each.atMs)
        }
      } catch {
        // The server is away: looked at again.
        for (const each of candidates) each.serverWasDown = true
      }
    }
  }
  const looking = look()

  return {
    get recoveries() {
      return { quiet, acrossServerCrash, open: [...killed].map(each => each.instance) }
    },
    onKill: instance => { killed.add({ instance, atMs: performance.now(), serverWasDown: down }) },
    onServer: up => {
      down = !up
      for (const each of killed) each.serverWasDown = true
    },
    stop: async () => {
      stopped = true
      await looking
    },
  }
}
