/**
 * @module holdfast/memory
 * A store in this process: transactional tables for tests, simulation, and services that need no memory across restarts.
 *
 * ```ts
 * import { createHoldfast } from 'holdfast'
 * import { memory } from 'holdfast/memory'
 *
 * const hold = createHoldfast({ service: 'quotes', store: memory() })
 * ```
 * Nothing outlives the process: a purchase that must survive a crash needs `embedded` or `postgres`.
 */
import { HoldfastError } from '../../core/index.ts'
import { openDatabase } from '../transaction.ts'
import type { Database, MemoryTx, OpenOptions, Store } from '../port.ts'
import { Disk, memoryDisk, type MemoryDisk } from './disk.ts'
import { MEMORY_DURABILITY, MemoryDriver } from './driver.ts'

export { memoryDisk, type MemoryDisk, type MemorySnapshot } from './disk.ts'
export type { Database, Durability, MemoryTable, MemoryTx, Store, TransactionOptions } from '../port.ts'

export interface MemoryStore extends Store<MemoryTx> {
  /**
   * The death of the simulated process that opened this store, for tests: whatever it has open is rolled back and its
   * turn passes on; nothing that the dead process awaits from this store ever settles. Other stores on the same disk go on.
   */
  abandon(): void
}

/**
 * A store whose state lives on `disk` (default: one of its own, gone with the process).
 * Give several stores the same disk to simulate several instances, or a restart.
 *
 * Transactions run one at a time, in the order in which they were asked for. `now()` is the wall clock of the Env that
 * opened it, so that simulated instances on one clock share one database's clock.
 */
export function memory(disk: MemoryDisk = memoryDisk()): MemoryStore {
  if (!(disk instanceof Disk)) throw new HoldfastError('HF_OPTION_INVALID', { message: 'memory: expected a disk made by memoryDisk()' })
  const drivers: MemoryDriver[] = []
  return {
    kind: 'store',
    name: 'memory',
    durability: MEMORY_DURABILITY,
    open: (options: OpenOptions): Promise<Database<MemoryTx>> => {
      const driver = new MemoryDriver(disk, options.env)
      drivers.push(driver)
      return Promise.resolve(openDatabase(driver, options))
    },
    abandon: () => { for (const driver of drivers) driver.abandon() },
  }
}
