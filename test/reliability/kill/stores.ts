/**
 * The databases of kill runs: a real PostgreSQL and the embedded store in a directory, made once per run.
 *
 * PostgreSQL is read by the judge himself. The embedded store belongs to one process at a time, so the judge asks whoever
 * has it open.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SqlTx } from '../../../src/store/index.ts'
import { embedded } from '../../../src/store/embedded/index.ts'
import { postgres } from '../../../src/store/postgres/index.ts'
import { testPostgres } from '../../postgres.ts'
import type { StoreAddress } from './protocol.ts'
import { prepareDatabase } from './timed-store.ts'

export interface KillStore {
  readonly address: StoreAddress
  /** Reads committed state. Undefined: only the process that has it open can. */
  readonly read: (<T>(work: (tx: SqlTx) => Promise<T>) => Promise<T>) | undefined
  close(): Promise<void>
}

export async function postgresKillStore(nowMs: () => number): Promise<KillStore> {
  const url = await (await testPostgres()).url()
  const database = await prepareDatabase(postgres(url, { connections: 1 }), nowMs)
  return {
    address: { kind: 'postgres', url },
    read: work => database.transaction('judge.read', work),
    close: () => database.close(),
  }
}

export async function embeddedKillStore(nowMs: () => number): Promise<KillStore> {
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-kill-'))
  const database = await prepareDatabase(embedded(dir, { singleInstance: true, transactionTimeout: '30s' }), nowMs)
  await database.close()
  return {
    address: { kind: 'embedded', dir },
    read: undefined,
    close: async () => { rmSync(dir, { recursive: true, force: true }) },
  }
}
