/**
 * Fresh stores for many runs: a database of its own per slot, emptied before each run; a copy of a prepared directory.
 */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Env, EventBus } from 'holdfast/core'
import { postgres } from 'holdfast/postgres'
import { openOutside } from './outside.ts'
import { startProgram } from './program.ts'
import type { ChildSettings } from './protocol.ts'

export interface RunStores {
  readonly kind: ChildSettings['store']['kind']
  /** Empty, for one run. Runs of one slot follow each other. */
  fresh(slot: number): Promise<ChildSettings['store']>
  close(): Promise<void>
}

/** `url` makes a new database whenever it is called. */
export function postgresStores(env: Env, url: () => Promise<string>): RunStores {
  const urls = new Map<number, string>()
  return {
    kind: 'postgres',
    async fresh(slot) {
      const known = urls.get(slot) ?? await url()
      if (urls.has(slot)) {
        const database = await postgres(known, { connections: 1 }).open({ env, events: new EventBus(env), service: 'crash-rig' })
        await database.transaction('rig.empty', tx => tx.query('DROP SCHEMA IF EXISTS shop CASCADE; DROP SCHEMA IF EXISTS holdfast CASCADE'))
        await database.close()
      }
      urls.set(slot, known)
      return { kind: 'postgres', url: known }
    },
    close: async () => undefined,
  }
}

/** Making a database takes PGlite seconds, copying one a fraction of one. */
export function embeddedStores(env: Env): RunStores {
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-crash-'))
  const template = join(dir, 'template')
  let made: Promise<void> | undefined
  const make = async (): Promise<void> => {
    const outside = await openOutside(env, 1)
    try {
      const program = await startProgram(env, { port: outside.port, store: { kind: 'embedded', dir: template }, config: outside.config })
      program.tell({ type: 'stop' })
      await program.gone
    } finally {
      await outside.close()
    }
  }
  return {
    kind: 'embedded',
    async fresh(slot) {
      made ??= make()
      await made
      const copy = join(dir, `slot-${String(slot)}`)
      rmSync(copy, { recursive: true, force: true })
      cpSync(template, copy, { recursive: true })
      return { kind: 'embedded', dir: copy }
    },
    close: async () => { rmSync(dir, { recursive: true, force: true }) },
  }
}
