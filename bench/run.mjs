/**
 * Runs a bench: each figure from processes of its own, those of different subjects one after the other or taking turns.
 *
 * A disturbance of the machine so hits neighbours alike, and each run begins with another subject. A figure is the
 * median over the runs of what the processes say. Progress goes to standard error.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { median } from './measure.mjs'

/** A process that takes longer hangs. */
const PROCESS_TIMEOUT_MS = 180_000

/** The bench's definition: `{ summary, subjects, cases, budgets }` and, where its processes share something, `setup`. */
export async function definitionOf(name) {
  const { default: definition } = await import(`./${name}/index.mjs`)
  return definition
}

/** The peers' packages that these cases need. */
export function packagesOf(definition, cases) {
  return [...new Set(cases.flatMap(one => one.subjects.flatMap(key => subjectOf(definition, key).packagesIn(one))))]
}

/**
 * @returns {Promise<{ rows: object[], failures: string[], server: string | undefined }>} one row per case, subject and unit, in the order of the definition
 */
export async function run(bench, definition, cases, options) {
  const shared = await definition.setup?.()
  try {
    return { ...await measured(bench, definition, cases, options, shared?.env), server: shared?.conditions }
  } finally {
    await shared?.close()
  }
}

async function measured(bench, definition, cases, { runs, quick, source }, sharedEnv) {
  const figures = new Map()
  const failures = new Set()
  for (let number = 1; number <= runs; number += 1) {
    for (const one of cases) {
      process.stderr.write(`${bench}: run ${number} of ${runs}: ${one.name}\n`)
      for (const { unit, flags, takesTurns } of one.measures) {
        const subjects = rotated(one.subjects, number - 1)
        const turns = takesTurns ? new Turns(subjects.length) : undefined
        const measure = async subject => {
          const key = [one.name, unit, subject].join('\n')
          try {
            const figure = await inProcess(flags, { bench, caseName: one.name, subject, unit, quick }, { source, sharedEnv, turns })
            figures.set(key, [...(figures.get(key) ?? []), figure])
          } catch (error) {
            failures.add(`${subject}, ${one.name} (${unit}): ${error instanceof Error ? error.message : String(error)}`)
          }
        }
        if (takesTurns) await Promise.all(subjects.map(measure))
        else for (const subject of subjects) await measure(subject)
      }
    }
  }
  const rows = cases.flatMap(one => one.measures.flatMap(({ unit, better }) => one.subjects.flatMap(subject => {
    const measured = figures.get([one.name, unit, subject].join('\n')) ?? []
    // A median of fewer runs than the others would pass for one of as many.
    if (measured.length < runs) return []
    return [{
      bench, case: one.name, subject: nameOf(definition, subject, one), unit,
      value: rounded(median(measured.map(figure => figure.value))),
      best: rounded(Math[better === 'higher' ? 'max' : 'min'](...measured.map(figure => figure.best))),
      p99: rounded(median(measured.map(figure => figure.p99))),
    }]
  })))
  return { rows, failures: [...failures] }
}

/** A peer's name with the version that is installed. */
function nameOf(definition, key, one) {
  const packages = subjectOf(definition, key).packagesIn(one)
  return packages.length === 0 ? key : packages.map(name => `${name}@${installedVersion(name)}`).join(' + ')
}

function subjectOf(definition, key) {
  return definition.subjects.find(subject => subject.key === key)
}

function installedVersion(name) {
  return JSON.parse(readFileSync(resolve(import.meta.dirname, 'node_modules', name, 'package.json'), 'utf8')).version
}

/** Of processes that are all there one is at work, in turn; nobody begins before everybody is ready. */
class Turns {
  #missing
  #waiting = []
  #busy

  constructor(processes) {
    this.#missing = processes
  }

  /** `child` has ended its turn, if it had one, and waits for the next. */
  ask(child, first) {
    if (first) this.#missing -= 1
    this.#waiting.push(child)
    this.#next(child)
  }

  leave(child, asked) {
    if (!asked) this.#missing -= 1
    this.#waiting = this.#waiting.filter(other => other !== child)
    this.#next(child)
  }

  #next(child) {
    if (this.#busy === child) this.#busy = undefined
    if (this.#busy !== undefined || this.#missing > 0) return
    this.#busy = this.#waiting.shift()
    this.#busy?.stdin.write('go\n')
  }
}

/** One figure from a process of its own. */
function inProcess(flags, task, { source, sharedEnv, turns }) {
  return new Promise((done, failed) => {
    const fromSource = source && task.subject === 'holdfast'
    const tsx = fromSource ? ['--import', import.meta.resolve('tsx')] : []
    const args = [...flags, ...tsx, resolve(import.meta.dirname, 'process.mjs'), JSON.stringify(task)]
    const env = { ...process.env, NODE_ENV: 'production', ...sharedEnv, ...(fromSource ? { HOLDFAST_BENCH_SOURCE: '1' } : {}) }
    const child = spawn(process.execPath, args, { env, stdio: [turns === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'], timeout: PROCESS_TIMEOUT_MS })
    const end = signal => {
      child.kill()
      process.exit(signal === 'SIGINT' ? 130 : 143)
    }
    process.once('SIGINT', end).once('SIGTERM', end)
    let out = ''
    let err = ''
    let asked = 0
    child.stdin?.on('error', () => undefined)
    child.stdout.on('data', text => {
      out += text
      const asks = out.split('\n').slice(0, -1).filter(line => line === 'turn').length
      for (; asked < asks; asked += 1) turns.ask(child, asked === 0)
    })
    child.stderr.on('data', text => { err += text })
    child.on('error', failed)
    child.on('close', (code, signal) => {
      process.off('SIGINT', end).off('SIGTERM', end)
      turns?.leave(child, asked > 0)
      const last = out.trim().split('\n').at(-1) ?? ''
      if (code === 0 && last.startsWith('{')) done(JSON.parse(last))
      else failed(new Error(`${signal === null ? `exit code ${String(code)}` : `ended by ${signal}`}\n${err.trim() || 'it said nothing'}`))
    })
  })
}

function rotated(list, by) {
  const at = by % list.length
  return [...list.slice(at), ...list.slice(0, at)]
}

function rounded(value) {
  return Math.round(value * 10) / 10
}
