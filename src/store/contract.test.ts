import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { realEnv } from '../core/index.ts'
import { testPostgres } from '../../test/postgres.ts'
import { inSql, storeContract, type ContractSubject } from './contract.ts'
import { embedded } from './embedded/index.ts'
import { pgliteMemory } from './embedded/testing.ts'
import { memory } from './memory/index.ts'
import type { MemoryTx } from './port.ts'
import { postgres } from './postgres/index.ts'

const inMemory: ContractSubject<MemoryTx> = {
  name: 'memory',
  env: realEnv(),
  store: () => Promise.resolve(memory()),
  setUp: database => database.transaction('set-up', async tx => {
    const table = tx.table('counter')
    for (const [key] of table.entries()) table.delete(key)
  }),
  read: async (tx, key) => tx.table<number>('counter').get(key),
  readForUpdate: async (tx, key) => tx.table<number>('counter').get(key),
  write: async (tx, key, value) => { tx.table<number>('counter').set(key, value) },
}

const dirs: string[] = []
afterAll(() => { for (const dir of dirs) rmSync(dir, { recursive: true, force: true }) })

storeContract(inMemory)
storeContract({ ...inSql, name: 'PGlite in memory', store: () => Promise.resolve(pgliteMemory()) })
storeContract({
  ...inSql,
  name: 'embedded, on disk',
  store: () => {
    const dir = mkdtempSync(join(tmpdir(), 'holdfast-contract-'))
    dirs.push(dir)
    return Promise.resolve(embedded(dir, { singleInstance: true }))
  },
})
storeContract({ ...inSql, name: 'postgres', store: async () => postgres(await (await testPostgres()).url()) })
storeContract({ ...inSql, name: 'postgres, as behind a transaction pooler', store: async () => postgres(await (await testPostgres()).url(), { prepare: false, connections: 2 }) })
