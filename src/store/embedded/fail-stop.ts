/**
 * Ends an embedded database for good when PostgreSQL has given up (PANIC: a flush or a write of the log failed, or memory is broken).
 *
 * On a server the process would end, and its successor replay the log. In here PGlite swallows PostgreSQL's end: it asks
 * the dead program again for ever, which hangs the process, or answers later statements with no rows and no error. So
 * the end is noticed where it happens, and from then on every statement throws it.
 * Not here: ordinary errors of statements, which PostgreSQL survives.
 */
import type { PGlite } from '@electric-sql/pglite'
import { messageOf } from '../../core/index.ts'

/** What PostgreSQL throws to itself for an ordinary error (PGlite's POSTGRES_MAIN_LONGJMP). */
const ORDINARY = 100

/** The database ended: named as what the WebAssembly runtime throws, so that it counts as lost (../failure.ts). */
export class DatabaseEnded extends Error {
  override readonly name = 'ExitStatus'
}

/** `reason` gives the last words of the database, if there were any. `onEnded` is called once. */
export function failStop(pglite: PGlite, reason: () => string | undefined, onEnded: (error: DatabaseEnded) => void): void {
  const module = pglite.Module
  const loop = module._PostgresMainLoopOnce.bind(module)
  let ended: DatabaseEnded | undefined
  module._PostgresMainLoopOnce = () => {
    if (ended !== undefined) throw ended
    try {
      loop()
    } catch (error) {
      if ((error as { readonly status?: unknown }).status === ORDINARY) throw error
      const end = new DatabaseEnded(`the embedded database stopped: ${reason() ?? messageOf(error)}`)
      ended = end
      // What PGlite calls after a failed statement, before it would go on: from here the error gets out.
      const refuse = (): never => { throw end }
      Object.assign(module, { stackRestore: refuse, _PostgresSendReadyForQueryIfNecessary: refuse, _pgl_pq_flush: refuse })
      onEnded(end)
      throw end
    }
  }
}
