/**
 * What control's durable features are handed: the kit of every room, and the database once it is open.
 *
 * `database()` is asked at each call and not at definition, because definitions are made before `start()` opens
 * anything; until then it throws HF_NOT_STARTED.
 */
import type { Kit } from '../core/index.ts'
import type { Database } from '../store/index.ts'

export interface StoreKit<Tx> extends Kit {
  /** @throws HF_NOT_STARTED */
  database(): Database<Tx>
}
