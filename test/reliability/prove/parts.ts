/**
 * Works a section off in parts, some at a time, each in a process of its own; what is done is on disk and not done again.
 */
import { fork } from 'node:child_process'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bundled } from '../bundle.ts'
import { added, NOTHING, type Figures } from './figures.ts'
import { SEED_STEP, type SectionPlan } from './plan.ts'
import type { Part } from './protocol.ts'

/** The progress of one section at one commit; another commit begins anew. */
export interface PartsState {
  readonly commit: string
  readonly seed: number
  /** Parts by number, whole or as far as they got before they were ended. */
  readonly done: Readonly<Record<string, Figures>>
}

export interface PartsOptions {
  readonly plan: SectionPlan
  readonly seed: number
  readonly commit: string
  /** Where states of sections are kept. */
  readonly dir: string
  readonly signal: AbortSignal
  readonly say: (line: string) => void
}

const PROGRESS_EVERY_MS = 10_000
/** A part that dies for reasons of the machine is tried again. */
const TRIES = 2

export async function runParts({ plan, seed, commit, dir, signal, say }: PartsOptions): Promise<readonly Figures[]> {
  mkdirSync(dir, { recursive: true })
  const file = join(dir, `${plan.name}.json`)
  const done: Record<string, Figures> = { ...read(file, commit, seed) }
  const startedMs = performance.now()
  const before = added(Object.values(done)).count
  const progress = (): void => {
    const { count, anomalies } = added(Object.values(done))
    const perSecond = (count - before) / ((performance.now() - startedMs) / 1_000)
    const left = Math.max(0, plan.count - count) / perSecond
    say(`${plan.name}: ${String(count)} of ${String(plan.count)} ${plan.unit}, ${perSecond.toFixed(1)} a second, ${Number.isFinite(left) ? `about ${String(Math.ceil(left / 60))} min to go, ` : ''}${String(anomalies)} anomalies`)
  }
  const timer = setInterval(progress, PROGRESS_EVERY_MS)
  const program = plan.simulated ? await bundled(join(import.meta.dirname, 'simulating.ts')) : { script: join(import.meta.dirname, 'running.ts'), remove: () => undefined }
  let next = 0
  const work = async (): Promise<void> => {
    while (!signal.aborted && next * plan.part < plan.count) {
      const index = next++
      const wanted = Math.min(plan.part, plan.count - index * plan.part)
      for (let attempt = 0; attempt < TRIES && !signal.aborted; attempt++) {
        const had = done[index] ?? NOTHING
        if (had.count >= wanted) break
        // What is left of a part has a seed of its own, or it would do again what was done.
        const part: Part = { section: plan.name, seed: seed + index * SEED_STEP + had.count, count: wanted - had.count, withControl: index === 0 && Object.keys(had.control).length === 0 }
        const ended = await inProcess(program.script, part, signal, figures => {
          for (const line of figures.found.slice(done[index]?.found.length)) say(`${plan.name}: VIOLATION ${line}`)
          done[index] = added([had, figures])
          write(file, { commit, seed, done })
        })
        if (ended !== undefined && !signal.aborted) say(`${plan.name}: the part with seed ${String(part.seed)} ended early: ${ended}`)
      }
    }
  }
  try {
    await Promise.all(Array.from({ length: plan.atOnce }, work))
  } finally {
    clearInterval(timer)
    program.remove()
  }
  progress()
  return Object.values(done)
}

/** Undefined: it came to its end. */
function inProcess(script: string, part: Part, signal: AbortSignal, onFigures: (figures: Figures) => void): Promise<string | undefined> {
  return new Promise(resolve => {
    const child = fork(script, [JSON.stringify(part)], { execArgv: script.endsWith('.ts') ? ['--import', 'tsx'] : ['--max-semi-space-size=64'], stdio: ['ignore', 'inherit', 'pipe', 'ipc'] })
    let stderr = ''
    const stop = (): void => { child.kill('SIGTERM') }
    signal.addEventListener('abort', stop, { once: true })
    child.stderr?.on('data', (chunk: Buffer) => { stderr = `${stderr}${chunk.toString()}`.slice(-2_000) })
    child.on('message', (figures: Figures) => { onFigures(figures) })
    child.once('close', (code, by) => {
      signal.removeEventListener('abort', stop)
      resolve(code === 0 ? undefined : `${by ?? `exit ${String(code)}`} ${stderr}`)
    })
  })
}

function read(file: string, commit: string, seed: number): Readonly<Record<string, Figures>> {
  try {
    const state = JSON.parse(readFileSync(file, 'utf8')) as PartsState
    return state.commit === commit && state.seed === seed ? state.done : {}
  } catch {
    // Nothing was done yet.
    return {}
  }
}

function write(file: string, state: PartsState): void {
  writeFileSync(`${file}.part`, JSON.stringify(state))
  renameSync(`${file}.part`, file)
}
