/**
 * The guides of docs/guides: their code compiles, each option is named in the guide of its policy, and links lead somewhere.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const root = resolve(import.meta.dirname, '..')
const guides = join(root, 'docs/guides')
const pages = readdirSync(guides).filter(name => name.endsWith('.md')).map(name => ({ name, text: readFileSync(join(guides, name), 'utf8') }))

function blocksOf(name: string, text: string): readonly { readonly name: string; readonly code: string }[] {
  return [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map((match, index) => ({ name: `${name.replace('.md', '')}-${String(index + 1)}`, code: match[1] ?? '' }))
}

/** What the compiler says of blocks, each a module of its own inside the package, so that `holdfast/guard` is its source. */
function complaints(blocks: readonly { readonly name: string; readonly code: string }[]): readonly string[] {
  const folder = mkdtempSync(join(root, 'test/.guides-'))
  try {
    const files = blocks.map(({ name, code }) => {
      const path = join(folder, `${name}.ts`)
      writeFileSync(path, `${code}\nexport {}\n`)
      return path
    })
    const { config } = ts.readConfigFile(join(root, 'tsconfig.base.json'), path => readFileSync(path, 'utf8')) as { readonly config: unknown }
    const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
    const program = ts.createProgram(files, { ...options, noEmit: true, allowImportingTsExtensions: true, rewriteRelativeImportExtensions: false, noUnusedLocals: false, isolatedDeclarations: false, declaration: false, composite: false, incremental: false })
    return ts.getPreEmitDiagnostics(program).filter(({ file }) => file?.fileName.includes('.guides-') === true)
      .map(({ file, messageText }) => `${file?.fileName.split('/').at(-1) ?? ''}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** The guide of each interface of options. */
const OPTIONS: readonly (readonly [file: string, names: readonly string[], guide: string])[] = [
  ['breaker/rules.ts', ['BreakerOptions', 'RateOptions', 'SlowCallRateOptions'], 'breaker.md'],
  ['breaker/partitions.ts', ['PartitionRateOptions'], 'breaker.md'],
  ['retry/retry.ts', ['RetryOptions', 'RetryPolicyOptions'], 'retry.md'],
  ['retry/budget.ts', ['RetryBudgetOptions'], 'retry.md'],
  ['concurrency/adaptive.ts', ['AdaptiveOptions'], 'concurrency-limit.md'],
  ['rate-limit.ts', ['RateLimitOptions'], 'rate-limit.md'],
  ['hedge.ts', ['HedgeOptions', 'HedgeQuantile'], 'hedging.md'],
  ['fallback.ts', ['FallbackValue', 'FallbackFunction', 'FallbackStale', 'FallbackBase'], 'fallback.md'],
  ['faults.ts', ['ErrorFault', 'LatencyFault', 'HangFault', 'OutcomeFault', 'RateRule', 'ScriptRule', 'RuleBase', 'Arming'], 'fault-injection.md'],
]

function propertiesOf(file: string, name: string): readonly string[] {
  const source = ts.createSourceFile(file, readFileSync(join(root, 'src/guard', file), 'utf8'), ts.ScriptTarget.Latest)
  const found = source.statements.find((statement): statement is ts.InterfaceDeclaration => ts.isInterfaceDeclaration(statement) && statement.name.text === name)
  return (found?.members ?? []).flatMap(member => (member.name !== undefined && ts.isIdentifier(member.name) ? [member.name.text] : []))
}

function missing(guide: string, file: string, names: readonly string[]): readonly string[] {
  return names.flatMap(name => propertiesOf(file, name)).filter(property => !['by', 'reason'].includes(property) && !new RegExp(`\`[^\`\n]*\\b${property}\\b[^\`\n]*\``).test(guide))
}

describe('the guides', () => {
  it('are all there', () => {
    expect(pages.map(({ name }) => name).sort()).toEqual(['README.md', 'breaker.md', 'composing.md', 'concurrency-limit.md', 'fallback.md', 'fault-injection.md', 'hedging.md', 'migrating.md', 'rate-limit.md', 'retry.md', 'timeout-and-deadline.md'])
    for (const { name, text } of pages) if (name !== 'README.md') expect(text, name).toMatch(/## When not to /)
  })

  it('hold code that compiles', () => {
    const blocks = pages.flatMap(({ name, text }) => blocksOf(name, text))
    expect(blocks.length).toBeGreaterThan(10)
    expect(complaints(blocks)).toEqual([])
  }, 60_000)

  it('control: code that does not compile is seen', () => {
    expect(complaints([{ name: 'planted', code: "import { retry } from 'holdfast/guard'\nretry({ attemps: 3 })" }]).join()).toContain('attemps')
  }, 60_000)

  it('name every option of their policy', () => {
    for (const [file, names, name] of OPTIONS) {
      expect(names.flatMap(one => propertiesOf(file, one)).length, file).toBeGreaterThan(0)
      expect(missing(readFileSync(join(guides, name), 'utf8'), file, names), name).toEqual([])
    }
    expect(missing('`ratio`', 'retry/budget.ts', ['RetryBudgetOptions'])).toEqual(['perSecond'])
  })

  it('link to what exists', () => {
    const links = pages.flatMap(({ name, text }) => [...text.matchAll(/\]\((?!http)([^)#]+)/g)].map(match => join(dirname(join(guides, name)), match[1] ?? '')))
    expect(links.length).toBeGreaterThan(10)
    expect(links.filter(path => !existsSync(path))).toEqual([])
  })
})
