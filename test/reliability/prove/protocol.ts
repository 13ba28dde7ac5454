/**
 * A part of a section, worked off in a process of its own: it is given as JSON, and what it came to so far is told again and
 * again, so that nothing is lost where it is ended.
 */
import type { Figures, SectionName } from './figures.ts'

export interface Part {
  readonly section: Exclude<SectionName, 'mutation'>
  readonly seed: number
  readonly count: number
  /** The first part of a section also takes protections away. */
  readonly withControl: boolean
}

const TELL_EVERY_MS = 5_000
let toldMs = 0

/** What it came to so far; told at most every five seconds. */
export function tellSoFar(figures: () => Figures): void {
  if (performance.now() - toldMs < TELL_EVERY_MS) return
  toldMs = performance.now()
  process.send?.(figures())
}

/** The program of such a process. */
export async function work(run: (part: Part) => Figures | Promise<Figures>): Promise<void> {
  process.send?.(await run(JSON.parse(process.argv[2] ?? '{}') as Part))
  process.disconnect()
}
