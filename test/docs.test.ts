/**
 * Documentation that cannot drift: codes, events, guarantees and links are held to the code both ways.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ERRORS } from '../src/core/error-catalogue.ts'

const root = resolve(import.meta.dirname, '..')
const read = (path: string): string => readFileSync(join(root, path), 'utf8')

function markdownFiles(): string[] {
  const found: string[] = []
  const walk = (dir: string): void => {
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      if (['node_modules', 'dist', '.git', 'data'].includes(entry.name)) continue
      const path = join(dir, entry.name)
      if (entry.isDirectory()) walk(path)
      else if (entry.name.endsWith('.md')) found.push(path)
    }
  }
  walk(root)
  return found
}

describe('docs/errors.md', () => {
  const text = read('docs/errors.md')
  const documented = [...text.matchAll(/^### (HF_[A-Z_]+)$/gm)].map(match => match[1] ?? '')

  it('explains every code of the catalogue, and no other', () => {
    expect([...documented].sort()).toEqual(Object.keys(ERRORS).sort())
  })

  it('says of each code its class, whether it may succeed later, and the operator sentence of the catalogue', () => {
    for (const [code, entry] of Object.entries(ERRORS)) {
      const section = text.split(`### ${code}\n`)[1]?.split('\n### ')[0] ?? ''
      expect(section, code).toContain(`\`${entry.failure}\``)
      expect(section, code).toContain(entry.retryable ? 'may succeed later' : 'will not succeed unchanged')
      expect(section, code).toContain(entry.operator)
    }
  })

  it('lists only codes that the code uses', () => {
    const source = sourceText()
    const unused = Object.keys(ERRORS).filter(code => !source.includes(`'${code}'`))
    expect(unused).toEqual([])
  })
})

describe('docs/events.md', () => {
  const text = read('docs/events.md')
  const catalogue = [...read('src/core/event-catalogue.ts').matchAll(/^ {2}'([a-z.-]+)':/gm)].map(match => match[1] ?? '')
  const documented = [...text.matchAll(/^\| `([a-z.-]+)` \|/gm)].map(match => match[1] ?? '')

  it('lists every event of the catalogue, and no other', () => {
    expect([...documented].sort()).toEqual([...catalogue].sort())
  })

  it('lists only events that the code emits', () => {
    const source = sourceText()
    expect(catalogue.filter(name => !new RegExp(`emit\\(\\s*'${name.replace('.', '\\.')}'`).test(source))).toEqual([])
  })
})

describe('docs/GUARANTEES.md', () => {
  const text = read('docs/GUARANTEES.md')
  const references = [...text.matchAll(/`((?:src|test|examples|simulators)\/[\w./-]+\.test\.ts)`(?: › "([^"]+)")?/g)].map(match => ({ path: match[1] ?? '', name: match[2] }))

  it('names tests that exist', () => {
    expect(references.length).toBeGreaterThan(10)
    for (const { path, name } of references) {
      expect(existsSync(join(root, path)), path).toBe(true)
      if (name !== undefined) expect(read(path), `${path} › ${name}`).toContain(name)
    }
  })

  it('gives each guarantee a test and a control', () => {
    const sections = text.split(/^## /m).slice(1).filter(section => /^\d/.test(section))
    expect(sections).toHaveLength(8)
    for (const section of sections) {
      const title = section.split('\n')[0] ?? ''
      expect(section, title).toMatch(/Proven by/)
      expect(section, title).toMatch(/Control/)
    }
  })
})

describe('links', () => {
  it('between documents resolve', () => {
    const broken: string[] = []
    for (const path of markdownFiles()) {
      for (const match of readFileSync(path, 'utf8').matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
        const target = match[1] ?? ''
        if (/^[a-z]+:/.test(target)) continue
        if (!existsSync(resolve(dirname(path), target))) broken.push(`${relative(root, path)}: ${target}`)
      }
    }
    expect(broken).toEqual([])
  })
})

function sourceText(): string {
  const parts: string[] = []
  const walk = (dir: string): void => {
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      if (['node_modules', 'dist'].includes(entry.name)) continue
      const path = join(dir, entry.name)
      if (entry.isDirectory()) walk(path)
      else if (entry.name.endsWith('.ts') && !entry.name.endsWith('.test.ts') && !entry.name.endsWith('-catalogue.ts')) parts.push(readFileSync(path, 'utf8'))
    }
  }
  walk(join(root, 'src'))
  walk(join(root, 'examples'))
  return parts.join('\n')
}
