/**
 * The guides of docs/guides: their code compiles, and what is marked `ts run` runs and prints what is said to be printed;
 * each option is named in the guide of its policy with the default that the source has, and none that there isn't; codes,
 * events and metrics exist, and links lead somewhere.
 *
 * The blocks are files that exist only for the compiler, inside the package, so that `holdfast/guard` is its source; no
 * disk is touched to run them either. Code of other libraries is in `js` blocks and not looked at.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { format } from 'node:util'
import { runInThisContext } from 'node:vm'
import * as core from 'holdfast/core'
import * as guard from 'holdfast/guard'
import {
  ADAPTIVE_DEFAULTS, BREAKER_DEFAULTS, BREAKER_PARTITIONS_DEFAULTS, CONCURRENCY_DEFAULTS, DEPENDENCY_DEFAULTS, FALLBACK_DEFAULTS, FAULT_DEFAULTS, HEDGE_DEFAULTS, RATE_DEFAULTS, RATE_LIMIT_DEFAULTS,
  RETRY_BUDGET_DEFAULTS, RETRY_DEFAULTS, STALE_CACHE_DEFAULTS,
} from 'holdfast/guard'
import * as holdfast from 'holdfast'
import * as http from 'holdfast/http'
import * as memory from 'holdfast/memory'
import * as testing from 'holdfast/testing'
import ts from 'typescript'
import { beforeAll, describe, expect, it } from 'vitest'
import * as zod from 'zod'
import { ONCE_DEFAULTS } from '../src/durable/index.ts'

const root = resolve(import.meta.dirname, '..')
const guides = join(root, 'docs/guides')
const pages = readdirSync(guides).filter(name => name.endsWith('.md')).map(name => ({ name, text: readFileSync(join(guides, name), 'utf8') }))
const guide = (name: string): string => pages.find(page => page.name === name)?.text ?? ''

interface Block {
  readonly name: string
  readonly code: string
  /** Whether it is marked `ts run`. */
  readonly runs: boolean
  /** The `text` block that follows it, if one does. */
  readonly prints: string | undefined
}

/** A path with a line number leads from a complaint to the block. */
function blocksOf(page: string, text: string): readonly Block[] {
  return [...text.matchAll(/```ts( run)?\n([\s\S]*?)```(?:\n\n?```text\n([\s\S]*?)```)?/g)].map(match => ({
    name: `${page.replace('.md', '')}-${String(text.slice(0, match.index).split('\n').length)}`, code: match[2] ?? '', runs: match[1] !== undefined, prints: match[3],
  }))
}

const MODULES: Readonly<Record<string, unknown>> = { 'holdfast/core': core, 'holdfast/guard': guard, 'holdfast/testing': testing, holdfast, 'holdfast/http': http, 'holdfast/memory': memory, zod }

/** Runs a block; what it printed. Imports become look-ups among MODULES, since only a file can import. */
async function printedBy(code: string): Promise<string> {
  const { outputText } = ts.transpileModule(code, { compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2023 } })
  const run = runInThisContext(`(async (require, exports, console) => {${outputText}\n})`) as (require: (name: string) => unknown, exports: object, console: { log: (...words: unknown[]) => void }) => Promise<void>
  const lines: string[] = []
  const load = (name: string): unknown => {
    if (!(name in MODULES)) throw new Error(`a block imports ${name}, which guides don't`)
    return MODULES[name]
  }
  await run(load, {}, { log: (...words) => { lines.push(format(...words)) } })
  return lines.map(line => `${line}\n`).join('')
}

/** What the compiler says of blocks, each a module of its own. */
function complaints(blocks: readonly Block[]): readonly string[] {
  const folder = join(root, 'test/guides-of-no-disk')
  const sources = new Map(blocks.map(({ name, code }) => [join(folder, `${name}.ts`), `${code}\nexport {}\n`]))
  const { config } = ts.readConfigFile(join(root, 'tsconfig.base.json'), path => readFileSync(path, 'utf8')) as { readonly config: unknown }
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
  const rules: ts.CompilerOptions = {
    ...options, noEmit: true, allowImportingTsExtensions: true, rewriteRelativeImportExtensions: false, customConditions: ['holdfast-source'],
    noUnusedLocals: false, isolatedDeclarations: false, declaration: false, composite: false, incremental: false,
  }
  const disk = ts.createCompilerHost(rules)
  const host: ts.CompilerHost = {
    ...disk,
    readFile: path => sources.get(path) ?? disk.readFile(path),
    fileExists: path => sources.has(path) || disk.fileExists(path),
    getSourceFile: (path, languageVersion, ...rest) => {
      const source = sources.get(path)
      return source === undefined ? disk.getSourceFile(path, languageVersion, ...rest) : ts.createSourceFile(path, source, languageVersion)
    },
  }
  const program = ts.createProgram([...sources.keys()], rules, host)
  return [...sources.keys()].flatMap(path => ts.getPreEmitDiagnostics(program, program.getSourceFile(path)))
    .map(({ file, messageText }) => `${file?.fileName.split('/').at(-1) ?? 'the options'}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`)
}

/** The guide of each interface of options. */
const OPTIONS: readonly (readonly [file: string, names: readonly string[], guide: string])[] = [
  ['breaker/rules.ts', ['BreakerOptions', 'RateOptions', 'SlowCallRateOptions'], 'breaker.md'],
  ['breaker/partitions.ts', ['PartitionRateOptions', 'ParentBreakerOptions', 'BreakerPartitionsOptions'], 'breaker.md'],
  ['retry/retry.ts', ['RetryOptions', 'RetryPolicyOptions'], 'retry.md'],
  ['retry/budget.ts', ['RetryBudgetOptions'], 'retry.md'],
  ['concurrency/limit.ts', ['QueueOptions', 'FixedConcurrency', 'AdaptiveConcurrency'], 'concurrency-limit.md'],
  ['concurrency/adaptive.ts', ['AdaptiveOptions'], 'concurrency-limit.md'],
  ['rate-limit.ts', ['RateLimitOptions'], 'rate-limit.md'],
  ['hedge.ts', ['HedgeOptions', 'HedgeQuantile', 'HedgePolicyOptions'], 'hedging.md'],
  ['fallback.ts', ['FallbackValue', 'FallbackFunction', 'FallbackStale', 'FallbackBase', 'FallbackReason'], 'fallback.md'],
  ['stale-cache.ts', ['StaleCacheOptions'], 'fallback.md'],
  ['faults.ts', ['ErrorFault', 'LatencyFault', 'HangFault', 'OutcomeFault', 'RateRule', 'ScriptRule', 'RuleBase', 'FaultOptions', 'Arming'], 'fault-injection.md'],
  ['attempt.ts', ['Attempt'], 'timeout-and-deadline.md'],
  ['options.ts', ['DependencyOptions'], 'composing.md'],
  ['call.ts', ['CallBase', 'RepeatableCall', 'OnceCall', 'WithFallback'], 'composing.md'],
  ['policy.ts', ['RunOptions'], 'composing.md'],
  ['../durable/once/types.ts', ['OnceBase', 'LocalOnce', 'OutsideOnce'], 'idempotency.md'],
  ['../http/idempotency.ts', ['OperationBase', 'WriteOperation', 'CallOperation'], 'idempotency.md'],
]

/** Options that are part of another one's value, or of a dependency, beside those of OPTIONS. */
const BESIDE: Readonly<Record<string, readonly string[]>> = { 'timeout-and-deadline.md': ['deadline', 'timeout'], 'fallback.md': ['for', 'cache', 'key'] }

/** Defaults that are one word or number, by the guide whose tables show them. */
const DEFAULTS: readonly (readonly [guide: string, defaults: Readonly<Record<string, unknown>>])[] = [
  ['breaker.md', { ...BREAKER_DEFAULTS, ...RATE_DEFAULTS, max: BREAKER_PARTITIONS_DEFAULTS.max, idleFor: BREAKER_PARTITIONS_DEFAULTS.idleFor }],
  ['retry.md', { ...RETRY_DEFAULTS, ...RETRY_BUDGET_DEFAULTS }],
  ['timeout-and-deadline.md', { ...DEPENDENCY_DEFAULTS }],
  ['concurrency-limit.md', { ...CONCURRENCY_DEFAULTS }],
  ['concurrency-limit.md', { min: ADAPTIVE_DEFAULTS.min, max: ADAPTIVE_DEFAULTS.max, initial: ADAPTIVE_DEFAULTS.initial, tolerance: ADAPTIVE_DEFAULTS.tolerance, eventLoop: ADAPTIVE_DEFAULTS.eventLoop }],
  ['rate-limit.md', { maxWait: RATE_LIMIT_DEFAULTS.maxWait }],
  ['hedging.md', { ...HEDGE_DEFAULTS }],
  ['fallback.md', { ...FALLBACK_DEFAULTS, ...STALE_CACHE_DEFAULTS }],
  ['idempotency.md', { keepFor: ONCE_DEFAULTS.keepFor, lease: ONCE_DEFAULTS.lease, bodyLimit: http.IDEMPOTENCY_DEFAULTS.bodyLimit, answerLimit: http.IDEMPOTENCY_DEFAULTS.answerLimit }],
  ['composing.md', { ...DEPENDENCY_DEFAULTS, concurrency: CONCURRENCY_DEFAULTS.limit }],
]

function propertiesOf(file: string, name: string): readonly string[] {
  const source = ts.createSourceFile(file, readFileSync(join(root, 'src/guard', file), 'utf8'), ts.ScriptTarget.Latest)
  const found = source.statements.find((statement): statement is ts.InterfaceDeclaration => ts.isInterfaceDeclaration(statement) && statement.name.text === name)
  return (found?.members ?? []).flatMap(member => (member.name !== undefined && ts.isIdentifier(member.name) ? [member.name.text] : []))
}

/** What is set as code within the text, blocks left out. */
function spansOf(text: string): readonly string[] {
  return text.replace(/```[\s\S]*?```/g, '').split('\n').flatMap(line => [...line.matchAll(/`([^`]+)`/g)].map(match => match[1] ?? ''))
}

function missing(text: string, properties: readonly string[]): readonly string[] {
  const spans = spansOf(text)
  return properties.filter(property => !spans.some(span => new RegExp(`\\b${property}\\b`).test(span)))
}

/** Options whose row in a table shows another default, or that have no row. */
function otherDefaults(text: string, defaults: Readonly<Record<string, unknown>>): readonly string[] {
  return Object.entries(defaults).filter(([name, value]) => {
    const shown = `\`${typeof value === 'string' ? `'${value}'` : String(value)}\``
    return !text.split('\n').some(line => line.startsWith(`| \`${name}\` | ${shown} |`))
  }).map(([name]) => name)
}

/** Rows of option tables that are about none of the options. */
function unknownOptions(text: string, known: readonly string[]): readonly string[] {
  const rows = [...text.matchAll(/^\| option \|.*\n\|[-|]+\n((?:\|.*\n?)+)/gm)].flatMap(match => (match[1] ?? '').trim().split('\n'))
  return rows.flatMap(row => [...(row.split('|')[1] ?? '').matchAll(/`([^`]+)`/g)].map(match => match[1] ?? '')).filter(name => !known.includes(name))
}

/** Metrics that are named and not in the source. */
function unknownMetrics(text: string): readonly string[] {
  const read = (file: string): string => readFileSync(join(root, 'src', file), 'utf8')
  const known = new Set([
    ...[...read('app/gauges.ts').matchAll(/'(holdfast_[a-z_]+)'/g)].map(match => match[1]),
    ...[...read('observe/event-metrics.ts').matchAll(/count\('([a-z_]+)'/g)].map(match => `holdfast_${match[1] ?? ''}_total`),
  ])
  return spansOf(text).filter(span => /^holdfast_[a-z_]+$/.test(span) && !known.has(span))
}

/** Error codes that are named and not in the catalogue, and in the guides of policies events too. */
function unknownNames(text: string): readonly string[] {
  const errors = readFileSync(join(root, 'src/core/error-catalogue.ts'), 'utf8')
  const events = readFileSync(join(root, 'src/core/event-catalogue.ts'), 'utf8')
  return spansOf(text).filter(span => (/^HF_[A-Z_]+$/.test(span) && !errors.includes(`${span}:`)) || (/^(?:breaker|call|fault|faults|retry)\.[a-z.-]+$/.test(span) && !events.includes(`'${span}':`)))
}

/** What the guide of a policy lacks: a reader at 3 a.m. looks for the same headings on each page. */
function lacks(text: string): readonly string[] {
  const parts = ['```mermaid', '## Options', '## Events and errors', '## What an operator sees and can do', '## Special cases', '## When not to use it'].filter(part => !text.includes(`\n${part}`))
  const cases = (text.split('\n## Special cases\n')[1] ?? '').split('\n## ')[0]?.match(/^- /gm)?.length ?? 0
  return [...parts, ...(cases < 6 ? ['six special cases'] : []), ...(/\n```ts run\n/.test(text) ? [] : ['an example that runs'])]
}

/** Orders that a table says are refused: `breaker > retry`, `rate limit > retry, > hedge`. */
function refusedOrders(text: string): readonly (readonly [outside: string, inside: string])[] {
  const cells = [...text.matchAll(/^\| ([a-z ]+ > [a-z >,]+) \|/gm)].map(match => match[1] ?? '')
  return cells.flatMap(cell => {
    let outside = ''
    return cell.split(', ').map(pair => {
      const [left = '', right = ''] = pair.split(/ ?> /)
      outside = left === '' ? outside : left
      return [outside, right] as const
    })
  })
}

/** Their pages have parts of their own. */
const NOT_OF_A_POLICY = new Set(['README.md', 'crash-testing.md', 'migrating.md', 'sagas.md', 'stores.md'])

const POLICIES: Readonly<Record<string, () => guard.Policy>> = {
  breaker: () => guard.breaker('one'), retry: () => guard.retry(), hedge: () => guard.hedge({ after: '1s' }), timeout: () => guard.timeout('1s'),
  'rate limit': () => guard.rateLimit('one', { limit: 1, per: '1s' }), 'concurrency limit': () => guard.concurrencyLimit('one', 1),
}

/** Whether a composition in this order is refused. */
function isRefused(outside: string, inside: string): boolean {
  try {
    guard.compose([outside, inside].map(kind => POLICIES[kind]?.() ?? guard.deadline('1s')))
    return false
  } catch (error) {
    return core.isHoldfastError(error) && error.code === 'HF_OPTION_INVALID'
  }
}

describe('the guides', () => {
  const planted: Block = { name: 'planted', code: "import { retry } from 'holdfast/guard'\nretry({ attemps: 3 })", runs: false, prints: undefined }
  const blocks = pages.flatMap(({ name, text }) => blocksOf(name, text))
  let heard: readonly string[] = []
  // One program for the guides and the control: most of its time goes into the sources that both import.
  beforeAll(() => { heard = complaints([...blocks, planted]) }, 60_000)

  it('are all there, and say when not to use what they describe', () => {
    expect(pages.map(({ name }) => name).sort()).toEqual(['README.md', 'breaker.md', 'composing.md', 'concurrency-limit.md', 'crash-testing.md', 'fallback.md', 'fault-injection.md', 'hedging.md', 'idempotency.md', 'migrating.md', 'rate-limit.md', 'retry.md', 'sagas.md', 'stores.md', 'timeout-and-deadline.md'])
    for (const { name, text } of pages) if (name !== 'README.md') expect(text, name).toMatch(/## When not to /)
  })

  it.each(pages.filter(({ name }) => !NOT_OF_A_POLICY.has(name)))('have the same parts: $name', ({ text }) => {
    expect(lacks(text)).toEqual([])
  })

  it('control: a part that is missing is seen', () => {
    expect(lacks('\n```mermaid\n## Options\n## Events and errors\n## Special cases\n- one\n\n## When not to use it')).toEqual(['## What an operator sees and can do', 'six special cases', 'an example that runs'])
  })

  it('list as refused exactly the orders of two policies that are', () => {
    const kinds = Object.keys(POLICIES)
    const refused = kinds.flatMap(outside => kinds.filter(inside => inside !== outside && isRefused(outside, inside)).map(inside => [outside, inside]))
    expect([...refusedOrders(guide('composing.md'))].sort()).toEqual(refused.sort())
    expect(refused.length).toBeGreaterThan(5)
  })

  it('hold code that compiles', () => {
    expect(new Set(blocks.map(({ name }) => name)).size).toBe(blocks.length)
    expect(blocks.length).toBeGreaterThan(10)
    expect(heard.filter(complaint => !complaint.startsWith('planted.ts'))).toEqual([])
  })

  it('control: code that does not compile is seen', () => {
    expect(heard.filter(complaint => complaint.startsWith('planted.ts')).join()).toContain('attemps')
  })

  it.each(blocks.filter(({ runs }) => runs))('run, and print what they say: $name', async ({ code, prints }) => {
    const printed = await printedBy(code)
    if (prints !== undefined) expect(printed).toBe(prints)
  })

  it('control: a block that fails, or prints something else, is seen', async () => {
    const [printing, failing] = blocksOf('planted.md', "```ts run\nconsole.log('a', 1)\n```\n```text\na 2\n```\n\n```ts run\nthrow new Error('no')\n```\n")
    expect(await printedBy(printing?.code ?? '')).toBe('a 1\n')
    expect(printing?.prints).toBe('a 2\n')
    await expect(printedBy(failing?.code ?? '')).rejects.toThrow('no')
  })

  it.each(OPTIONS)('name every option of %s: %s, in %s', (file, names, name) => {
    for (const one of names) expect(propertiesOf(file, one).length, one).toBeGreaterThan(0)
    expect(missing(guide(name), names.flatMap(one => propertiesOf(file, one)))).toEqual([])
  })

  it('control: an option that is not named is seen, also between two spans of code', () => {
    expect(missing('`ratio` and perSecond are `numbers`', propertiesOf('retry/budget.ts', 'RetryBudgetOptions'))).toEqual(['perSecond'])
  })

  it.each([...new Set(OPTIONS.map(([, , name]) => name))])('list no option that there is not: %s', name => {
    const known = OPTIONS.filter(([, , page]) => page === name).flatMap(([file, names]) => names.flatMap(one => propertiesOf(file, one)))
    expect(guide(name)).toMatch(/^\| option \|/m)
    expect(unknownOptions(guide(name), [...known, ...(BESIDE[name] ?? [])])).toEqual([])
  })

  it('control: an option that there is not is seen', () => {
    expect(unknownOptions('| option | default |\n|---|---|\n| `ratio`, `perMinute` | `0.2` |\n', propertiesOf('retry/budget.ts', 'RetryBudgetOptions'))).toEqual(['perMinute'])
  })

  it.each(DEFAULTS)('show in %s the defaults of the source', (name, defaults) => {
    expect(otherDefaults(guide(name), defaults)).toEqual([])
  })

  it('say how long faults are armed at most', () => {
    expect(guide('fault-injection.md')).toContain(`\`'${FAULT_DEFAULTS.armedForMax}'\` at most`)
  })

  it('control: another default is seen', () => {
    expect(otherDefaults('| `ratio` | `0.2` | a share |\n| `perSecond` | `10` | a floor |', { ...RETRY_BUDGET_DEFAULTS })).toEqual(['perSecond'])
  })

  it('name errors and events that exist', () => {
    for (const { name, text } of pages) expect(unknownNames(text), name).toEqual([])
    expect(unknownNames('`HF_TIMEOUT`, `HF_TIMOUT`, `call.failed` and `call.fialed`')).toEqual(['HF_TIMOUT', 'call.fialed'])
  })

  it('name metrics that exist', () => {
    for (const { name, text } of pages) expect(unknownMetrics(text), name).toEqual([])
    expect(unknownMetrics('`holdfast_calls_total` and `holdfast_calls_totl`')).toEqual(['holdfast_calls_totl'])
  })

  it('link to what exists', () => {
    const links = pages.flatMap(({ name, text }) => [...text.matchAll(/\]\((?!http)([^)#]+)/g)].map(match => join(dirname(join(guides, name)), match[1] ?? '')))
    expect(links.length).toBeGreaterThan(10)
    expect(links.filter(path => !existsSync(path))).toEqual([])
  })
})
