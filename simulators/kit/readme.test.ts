import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { FAULT_KINDS, parseFaultRule } from './index.ts'

const PAGES = ['README.md', 'kit/README.md', 'telegram/README.md', 'crypto-pay/README.md', 'vpn-panel/README.md'].map(name => [name, readFileSync(new URL(`../${name}`, import.meta.url), 'utf8')] as const)

describe('the READMEs', () => {
  it('show only faults that are accepted', () => {
    const examples = PAGES.flatMap(([name, text]) => [...text.matchAll(/__sim\/faults -d '([^']+)'/g)].map(match => [name, match[1] ?? ''] as const))
    expect(examples.length).toBeGreaterThan(6)
    for (const [name, json] of examples) expect(() => parseFaultRule(JSON.parse(json)), `${name}: ${json}`).not.toThrow()
  })

  it('name every kind of fault', () => {
    const kit = PAGES.find(([name]) => name === 'kit/README.md')?.[1] ?? ''
    for (const kind of FAULT_KINDS) expect(kit).toContain(`\`${kind}\``)
  })
})
