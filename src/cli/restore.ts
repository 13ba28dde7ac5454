/**
 * `holdfast restore`: works on the files, without a service; the database is only loaded when it is asked for.
 */
import { isAbsolute, join } from 'node:path'
import type { Restored } from '../store/embedded/index.ts'
import type { Io } from './io.ts'
import { clean } from './text.ts'

export interface RestoredTo extends Restored {
  readonly file: string
  readonly dir: string
}

/** @throws HF_SNAPSHOT_INVALID, HF_STORE_LOCKED, HF_STORE_DIRECTORY, HF_OPTION_INVALID */
export async function restoreFile(io: Io, file: string, to: string, replace: boolean): Promise<RestoredTo> {
  const [from, dir] = [file, to].map(path => (isAbsolute(path) ? path : join(io.cwd, path))) as [string, string]
  const { restoreSnapshot } = await import('../store/embedded/index.ts')
  return { file: from, dir, ...await restoreSnapshot(from, dir, { env: io.env, replace }) }
}

export function renderRestored({ file, dir, takenAt, tables, rows, keptAside }: RestoredTo): string {
  const aside = keptAside === undefined ? '' : `\nThe database that was there is kept in ${clean(keptAside)}; remove it when you no longer need it.`
  return `${clean(file)}, taken ${clean(takenAt)}, is restored to ${clean(dir)}: ${String(tables)} tables, ${String(rows)} rows, every page read.${aside}`
}
