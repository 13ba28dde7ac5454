/**
 * What a durable feature is handed: the world, the event spine, and the database once it is open.
 *
 * The database is asked for at each call and never kept, so that everything can be declared before the store is opened.
 */
import type { Kit } from '../core/index.ts'
import type { Database } from '../store/index.ts'

export interface DurableKit<Tx> extends Kit {
  /** @throws HF_NOT_STARTED before the store is open */
  database(): Database<Tx>
}
