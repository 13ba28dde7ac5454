/**
 * What waits in outbox and inbox: how much, and since when. For status and metrics; nothing is locked or changed.
 *
 * Bounded: at most BACKLOG_MAX rows of each are looked at, in no particular order, so beyond that both figures are "at least".
 */
import { outboxPort } from './outbox/outbox.ts'
import { inboxPort } from './inbox/inbox.ts'
import type { DurableKit } from './kit.ts'

const BACKLOG_MAX = 10_000

export interface Backlog {
  readonly kind: 'outbox' | 'inbox'
  /** Of the topic or source; also one that this version does not know. */
  readonly name: string
  /** Not done yet: those that wait for their turn, for a pause or a backoff, and those at work. */
  readonly waiting: number
  /** Age of the oldest of them, by the database's clock. */
  readonly oldestMs: number
}

/** Names without anything waiting are left out. @throws what the store throws */
export async function backlog<Tx>(kit: DurableKit<Tx>): Promise<readonly Backlog[]> {
  const database = kit.database()
  return database.transaction('recovery.backlog', async tx => [
    ...(await outboxPort<Tx>(database).backlog(tx, BACKLOG_MAX)).map(each => ({ kind: 'outbox' as const, ...each })),
    ...(await inboxPort<Tx>(database).backlog(tx, BACKLOG_MAX)).map(each => ({ kind: 'inbox' as const, ...each })),
  ])
}
