/**
 * What a command may touch: arguments' surroundings, output, the end. Tests give their own.
 */
import type { Env } from '../core/index.ts'

export interface Io {
  readonly env: Env
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  /** The user of the operating system: who is written to the audit. */
  readonly user: string
  /** Is standard output a terminal? Decides colour, width and redrawing. */
  readonly terminal: boolean
  readonly columns: number
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal
  out(text: string): void
  err(text: string): void
}

/** Exit codes: BSD's sysexits where they have one, 2 for "it answers, and says it is degraded". */
export const EXIT = { ok: 0, failed: 1, degraded: 2, usage: 64, unavailable: 69, denied: 77 } as const
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]
