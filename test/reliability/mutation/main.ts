/**
 * `npm run mutation`: how many small changes to the durable core its fast tests notice, slice by slice. `--help` says the rest.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { compiler } from './compiler.ts'
import type { MutationScore, Reliability } from '../prove/figures.ts'
import { rendered } from '../prove/render.ts'
import { SLICES, type Slice } from './slices.ts'

const ROOT = resolve(import.meta.dirname, '../../..')
const CACHE = join(ROOT, 'node_modules/.cache/holdfast-mutation')

interface Mutant {
  readonly mutatorName: string
  readonly replacement?: string
  readonly status: 'Killed' | 'Timeout' | 'Survived' | 'NoCoverage' | 'CompileError' | 'RuntimeError' | 'Ignored'
  readonly location: { readonly start: { readonly line: number; readonly column: number }; readonly end: { readonly line: number; readonly column: number } }
}

interface Report {
  readonly files: Readonly<Record<string, { readonly source: string; readonly mutants: readonly Mutant[] }>>
}

const HELP = `npm run mutation -- [options]
Changes the durable core in one small way at a time and runs the fast tests of that slice.
The score of each file goes into docs/reliability.json and docs/reliability.md; survivors are printed, and kept under
node_modules/.cache/holdfast-mutation, for whoever explains them in docs/mutation.md.
  --only a,b     some slices: ${SLICES.map(({ name }) => name).join(', ')}
  --survivors    looks again at what survived the last run on this machine, and at files that have changed since
  --help         this text
`

const { slices, onlySurvivors } = parseArguments()
for (const slice of slices) {
  const startedMs = performance.now()
  const report = onlySurvivors ? again(slice) : run(slice, slice.mutate)
  writeFileSync(lastOf(slice), JSON.stringify(report))
  publish(report, (performance.now() - startedMs) / 1_000)
  writeFileSync(join(CACHE, `${slice.name}.survivors.txt`), survivors(report))
  process.stdout.write(survivors(report))
}

/** Ends the process where there is nothing to run. */
function parseArguments(): { readonly slices: readonly Slice[]; readonly onlySurvivors: boolean } {
  try {
    const { values } = parseArgs({ options: { only: { type: 'string' }, survivors: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } } })
    if (values.help) {
      process.stdout.write(HELP)
      process.exit(0)
    }
    const names = values.only?.split(',') ?? SLICES.map(slice => slice.name)
    const chosen = names.map(name => {
      const slice = SLICES.find(each => each.name === name)
      if (slice === undefined) throw new RangeError(`--only: no slice is called ${name}; they are ${SLICES.map(each => each.name).join(', ')}`)
      if (values.survivors && !existsSync(lastOf(slice))) throw new RangeError(`--survivors: the slice ${name} was not run here before; run it without --survivors first`)
      return slice
    })
    return { slices: chosen, onlySurvivors: values.survivors }
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n(npm run mutation -- --help)\n`)
    process.exit(64)
  }
}

/** Where the last report of a slice is kept. */
function lastOf({ name }: Slice): string {
  return join(CACHE, `${name}.last.json`)
}

/** The last run of the slice, with its survivors run again, and the files that have changed since as a whole. */
function again(slice: Slice): Report {
  const { files } = JSON.parse(readFileSync(lastOf(slice), 'utf8')) as Report
  const changed = new Set(Object.entries(files).filter(([file, { source }]) => readFileSync(join(ROOT, file), 'utf8') !== source).map(([file]) => file))
  const left = Object.entries(files).flatMap(([file, { mutants }]) => changed.has(file) ? [] : mutants.filter(isSurvivor).map(mutant => ({ file, mutant })))
  // Ranges of the tool begin at column 0, those of its report at 1.
  const ranges = left.map(({ file, mutant: { location: { start, end } } }) => `${file}:${String(start.line)}:${String(start.column - 1)}-${String(end.line)}:${String(end.column - 1)}`)
  const now = run(slice, [...changed, ...ranges])
  const same = (a: Mutant, b: Mutant): boolean => a.mutatorName === b.mutatorName && a.replacement === b.replacement && JSON.stringify(a.location) === JSON.stringify(b.location)
  return {
    files: Object.fromEntries(Object.entries(files).map(([file, before]) => [file, changed.has(file) ? now.files[file] ?? before : {
      source: before.source, mutants: before.mutants.map(mutant => isSurvivor(mutant) ? now.files[file]?.mutants.find(each => same(each, mutant)) ?? mutant : mutant),
    }])),
  }
}

function run(slice: Slice, mutate: readonly string[]): Report {
  mkdirSync(CACHE, { recursive: true })
  const file = join(CACHE, `${slice.name}.json`)
  const config = join(CACHE, `${slice.name}.config.json`)
  writeFileSync(config, JSON.stringify({
    testRunner: 'vitest', plugins: ['@stryker-mutator/vitest-runner'], vitest: { configFile: 'test/reliability/mutation/vitest.config.ts', related: false },
    mutate, coverageAnalysis: 'perTest', concurrency: 1, reporters: ['progress-append-only', 'json'], jsonReporter: { fileName: file },
    tempDirName: join(CACHE, 'sandbox'), ignorePatterns: ['dist/*', '!dist/embedded-template*', 'examples', 'simulators', 'bench', 'web', 'docs'], timeoutMS: 10_000,
    // Of texts in messages a test that noticed each word would be a copy of them.
    mutator: { excludedMutations: ['StringLiteral'] },
  }))
  const { status } = spawnSync(process.execPath, [join(ROOT, 'node_modules/@stryker-mutator/core/bin/stryker.js'), 'run', config], {
    cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, HOLDFAST_MUTATION_TESTS: [...slice.tests, 'test/reliability/mutation/simulated.ts'].join(','), HOLDFAST_MUTATION_FLOWS: slice.flows.source, HOLDFAST_TEST_STORES: 'memory' },
  })
  if (status !== 0) throw new Error(`the mutation run of ${slice.name} failed`)
  return compiled(JSON.parse(readFileSync(file, 'utf8')) as Report)
}

/** Survivors that would not compile are no survivors. */
function compiled({ files }: Report): Report {
  const refuses = compiler(ROOT)
  return {
    files: Object.fromEntries(Object.entries(files).map(([file, { source, mutants }]) => [file, {
      source, mutants: mutants.map(mutant => isSurvivor(mutant) && refuses(file, source, { ...mutant.location, replacement: mutant.replacement ?? '' }) ? { ...mutant, status: 'CompileError' as const } : mutant),
    }])),
  }
}

function isSurvivor({ status }: Mutant): boolean {
  return status === 'Survived' || status === 'NoCoverage'
}

function scores({ files }: Report): readonly MutationScore[] {
  return Object.entries(files).map(([file, { mutants }]) => {
    const count = (...statuses: readonly Mutant['status'][]): number => mutants.filter(mutant => statuses.includes(mutant.status)).length
    return { file, killed: count('Killed', 'Timeout'), refused: count('CompileError'), survived: count('Survived'), noCoverage: count('NoCoverage') }
  })
}

/** `src/x.ts:12 ConditionalExpression: a > b -> true`, one a line. */
function survivors({ files }: Report): string {
  return Object.entries(files).flatMap(([file, { source, mutants }]) => mutants.filter(isSurvivor).map(({ status, mutatorName, replacement = '', location: { start, end } }) => {
    const line = source.split('\n')[start.line - 1] ?? ''
    const original = start.line === end.line ? line.slice(start.column - 1, end.column - 1) : `${line.slice(start.column - 1)} ...`
    return `${file}:${String(start.line)} ${status === 'NoCoverage' ? 'not reached, ' : ''}${mutatorName}: ${original} -> ${replacement.split('\n')[0] ?? ''}\n`
  })).join('')
}

function publish(report: Report, seconds: number): void {
  const file = join(ROOT, 'docs/reliability.json')
  const reliability = JSON.parse(readFileSync(file, 'utf8')) as Reliability
  const now = scores(report)
  const others = (reliability.mutation?.files ?? []).filter(old => !now.some(each => each.file === old.file))
  const mutation = {
    commit: execFileSync('git', ['rev-parse', '--short=12', 'HEAD'], { cwd: ROOT, encoding: 'utf8' }).trim(), date: new Date().toISOString().slice(0, 10), node: process.versions.node,
    files: [...others, ...now].toSorted((a, b) => a.file < b.file ? -1 : 1), seconds: Math.round((reliability.mutation?.seconds ?? 0) + seconds),
  }
  const next = { ...reliability, mutation }
  writeFileSync(file, `${JSON.stringify(next, null, 2)}\n`)
  writeFileSync(join(ROOT, 'docs/reliability.md'), rendered(next))
}
