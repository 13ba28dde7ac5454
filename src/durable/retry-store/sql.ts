/**
 * The retry store in PostgreSQL's dialect. The primary key (store, owner, slot) serves everything but pruning.
 */
import type { SqlTx } from '../../store/index.ts'
import type { EntryRow, NewEntry, RetryStorePort } from './port.ts'

export const retryStoreSql: RetryStorePort<SqlTx> = { put, trim, get, list, clear, prune }

interface Row {
  readonly slot: string
  readonly input: string
  readonly stored_ms: number
}

const COLUMNS = 'slot, input, (extract(epoch FROM stored_at) * 1000)::float8 AS stored_ms'

function rowOf({ slot, input, stored_ms }: Row): EntryRow {
  return { slot, input, storedAtMs: stored_ms }
}

/** Of two callers with one slot the second waits for the first to commit, and stands. */
async function put(tx: SqlTx, { store, owner, slot, input, keepForMs }: NewEntry): Promise<void> {
  await tx.query(`
    INSERT INTO holdfast.retry_entry (store, owner, slot, input, stored_at, expires_at)
    VALUES ($1, $2, $3, $4, clock_timestamp(), clock_timestamp() + $5::float8 * interval '1 millisecond')
    ON CONFLICT (store, owner, slot) DO UPDATE SET input = excluded.input, stored_at = excluded.stored_at, expires_at = excluded.expires_at`, [store, owner, slot, input, keepForMs])
}

/** Two callers do not see each other's new slots: an owner may have as many more as are put at one instant, until the next put. */
async function trim(tx: SqlTx, store: string, owner: string, max: number): Promise<void> {
  await tx.query(`
    DELETE FROM holdfast.retry_entry
     WHERE store = $1 AND owner = $2 AND slot IN (SELECT slot FROM holdfast.retry_entry WHERE store = $1 AND owner = $2 ORDER BY stored_at DESC, slot OFFSET $3)`, [store, owner, max])
}

async function get(tx: SqlTx, store: string, owner: string, slot: string): Promise<EntryRow | undefined> {
  const rows = await tx.query<Row>(`SELECT ${COLUMNS} FROM holdfast.retry_entry WHERE store = $1 AND owner = $2 AND slot = $3 AND expires_at > clock_timestamp()`, [store, owner, slot])
  return rows[0] === undefined ? undefined : rowOf(rows[0])
}

async function list(tx: SqlTx, store: string, owner: string, limit: number): Promise<readonly EntryRow[]> {
  return (await tx.query<Row>(`SELECT ${COLUMNS} FROM holdfast.retry_entry WHERE store = $1 AND owner = $2 AND expires_at > clock_timestamp() ORDER BY stored_at DESC, slot LIMIT $3`, [store, owner, limit])).map(rowOf)
}

async function clear(tx: SqlTx, store: string, owner: string, slot: string | undefined): Promise<number> {
  return (await tx.query(`DELETE FROM holdfast.retry_entry WHERE store = $1 AND owner = $2 AND ($3::text IS NULL OR slot = $3) RETURNING 1`, [store, owner, slot ?? null])).length
}

/** Index retry_entry_expires, of which only what has expired is read (inbox/sql.ts). Two sweeps at once skip each other's rows. */
async function prune(tx: SqlTx, limit: number): Promise<number> {
  const rows = await tx.query(`
    DELETE FROM holdfast.retry_entry
     WHERE ctid = ANY (ARRAY (SELECT ctid FROM holdfast.retry_entry WHERE expires_at < (SELECT clock_timestamp()) ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))
     RETURNING 1`, [limit])
  return rows.length
}
