/**
 * Works a section off in parts, some at a time, each in a process of its own; what is done is on disk and not done again.
 */
import { fork } from 'node:child_process'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Figures } from './figures.ts'
import { SEED_STEP, type SectionPlan } from './plan.ts'
import type { FromWorker, Part } from './worker.ts'

/** The progress of one section at one commit; another commit begins anew. */
export interface PartsState {
  readonly commit: string
  readonly seed: number
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
  const wanted = Math.ceil(plan.count / plan.part)
  const underWay = new Map<number, number>()
  const startedMs = performance.now()
  const before = counted(Object.values(done))
  const progress = (): void => {
    const count = counted(Object.values(done)) + [...underWay.values()].reduce((sum, part) => sum + part, 0)
    const perSecond = (count - before) / ((performance.now() - startedMs) / 1_000)
    const left = Math.max(0, plan.count - count) / perSecond
    say(`${plan.name}: ${String(count)} of ${String(plan.count)} ${plan.unit}, ${perSecond.toFixed(1)} a second, ${Number.isFinite(left) ? `about ${String(Math.ceil(left / 60))} min to go, ` : ''}${String(Object.values(done).reduce((sum, part) => sum + part.anomalies, 0))} anomalies`)
  }
  const timer = setInterval(progress, PROGRESS_EVERY_MS)
  let next = 0
  const work = async (): Promise<void> => {
    while (!signal.aborted && next < wanted) {
      const index = next++
      if (done[index] !== undefined) continue
      const part: Part = { section: plan.name, seed: seed + index * SEED_STEP, count: Math.min(plan.part, plan.count - index * plan.part), withControl: index === 0 }
      underWay.set(index, 0)
      const figures = await tried(part, signal, count => { underWay.set(index, count) }, say)
      underWay.delete(index)
      if (figures === undefined) continue
      done[index] = figures
      write(file, { commit, seed, done })
      for (const line of figures.found) say(`${plan.name}: VIOLATION ${line}`)
    }
  }
  try {
    await Promise.all(Array.from({ length: plan.atOnce }, work))
  } finally {
    clearInterval(timer)
  }
  progress()
  return Object.values(done)
}

async function tried(part: Part, signal: AbortSignal, onProgress: (count: number) => void, say: (line: string) => void): Promise<Figures | undefined> {
  for (let attempt = 1; attempt <= TRIES && !signal.aborted; attempt++) {
    const figures = await inProcess(part, signal, onProgress)
    if (typeof figures !== 'string') return figures
    if (!signal.aborted) say(`${part.section}: the part with seed ${String(part.seed)} ended without figures: ${figures}`)
  }
  return undefined
}

function inProcess(part: Part, signal: AbortSignal, onProgress: (count: number) => void): Promise<Figures | string> {
  return new Promise(resolve => {
    const child = fork(join(import.meta.dirname, 'worker.ts'), [JSON.stringify(part)], { execArgv: ['--import', 'tsx'], stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
    let stderr = ''
    let figures: Figures | undefined
    const stop = (): void => { child.kill('SIGTERM') }
    signal.addEventListener('abort', stop, { once: true })
    child.stderr?.on('data', (chunk: Buffer) => { stderr = `${stderr}${chunk.toString()}`.slice(-2_000) })
    child.on('message', (message: FromWorker) => {
      if (message.type === 'progress') onProgress(message.count)
      else figures = message.figures
    })
    child.once('close', (code, by) => {
      signal.removeEventListener('abort', stop)
      resolve(figures ?? `${by ?? `exit ${String(code)}`} ${stderr}`)
    })
  })
}

function counted(parts: readonly Figures[]): number {
  return parts.reduce((sum, part) => sum + part.count, 0)
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
