/**
 * `holdfast/guard` by itself: what it pulls in, how large it is, and that a plain script can use it.
 */
import { execFile } from 'node:child_process'
import { relative, resolve } from 'node:path'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { build, type Rollup } from 'vite'
import { describe, expect, it } from 'vitest'

const root = resolve(import.meta.dirname, '..')

interface Bundle { readonly modules: readonly string[]; readonly imports: readonly string[]; readonly gzippedBytes: number }

/** Everything that `entry` needs, minified, with nothing but Node's own modules left outside. */
async function bundled(entry: string): Promise<Bundle> {
  const built = await build({
    root, configFile: false, logLevel: 'silent',
    resolve: { conditions: ['holdfast-source'] },
    build: { write: false, minify: true, target: 'node20', lib: { entry: resolve(root, entry), formats: ['es'] }, rollupOptions: { external: [/^node:/] } },
  })
  const outputs = (Array.isArray(built) ? built : [built]) as readonly Rollup.RollupOutput[]
  const chunks = outputs.flatMap(({ output }) => output.filter(part => part.type === 'chunk'))
  return {
    modules: chunks.flatMap(chunk => Object.keys(chunk.modules)).map(id => relative(root, id)),
    imports: chunks.flatMap(chunk => chunk.imports),
    gzippedBytes: chunks.reduce((sum, chunk) => sum + gzipSync(chunk.code).length, 0),
  }
}

describe('holdfast/guard alone', () => {
  it('pulls in nothing but core, and stays below 32 kB gzipped', async () => {
    const { modules, imports, gzippedBytes } = await bundled('src/guard/index.ts')
    expect(modules.filter(id => !/^src\/(?:guard|core)\//.test(id))).toEqual([])
    expect(modules.length).toBeGreaterThan(20)
    expect(imports.filter(id => !id.startsWith('node:'))).toEqual([])
    expect(gzippedBytes).toBeLessThan(32 * 1024)
  })

  it('control: the same look at a larger room sees more than core', async () => {
    const { modules } = await bundled('src/durable/index.ts')
    expect(modules.some(id => id.startsWith('src/store/'))).toBe(true)
  })

  it('works in a plain script without an app or a store, which ends by itself', async () => {
    const script = `
      import { breaker, compose, concurrencyLimit, deadline, dependency, retry, timeout } from 'holdfast/guard'
      const panel = dependency('panel', { tier: 'degradable', runbook: 'panel-down', retry: { attempts: 3, minWait: '1ms' } })
      let calls = 0
      const answer = await panel.call('get', { effect: 'read' }, () => { calls += 1; if (calls < 3) throw Object.assign(new Error('reset'), { code: 'ECONNRESET' }); return 'third' })
      const stack = compose([deadline('2s'), retry({ attempts: 2, minWait: '1ms' }), breaker('mailer', { failures: 2 }), concurrencyLimit('mailer', 5), timeout('1s')])
      const sent = await stack.run(() => 'sent', { effect: 'idempotent' })
      panel.force('open', { by: 'me', reason: 'try' })
      const refused = await panel.try('get', { effect: 'read' }, () => 1)
      console.log(JSON.stringify([answer, sent, refused.reason, stack.explain().attempts]))`
    // The package refers to itself by name, through its exports, as an installed one would be.
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], { cwd: root, timeout: 20_000 })
    expect([JSON.parse(stdout), stderr]).toEqual([['third', 'sent', 'breaker-open', 2], ''])
  })
})
