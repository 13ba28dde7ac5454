/**
 * `npm run drill -- vpn-bot`, `npm run soak -- vpn-bot --minutes 10`: runs one of an example's own programs.
 */
import { spawn } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const [program = '', name = '', ...rest] = process.argv.slice(2)
const fileOf = example => resolve(root, 'examples', example, 'dist', program, 'main.js')
const examples = readdirSync(resolve(root, 'examples')).filter(example => existsSync(fileOf(example)))

if (name === '' || name === '--help' || !examples.includes(name)) {
  const known = examples.length === 0 ? 'none is built: run npm run build' : examples.join(', ')
  const asked = name === '' || name === '--help' ? '' : `no example with a ${program} is called ${name}. `
  console.error(`${asked}usage: npm run ${program} -- EXAMPLE [options]; examples: ${known}; options: npm run ${program} -- EXAMPLE --help`)
  process.exit(name === '--help' ? 0 : 64)
}

const child = spawn(process.execPath, [fileOf(name), ...rest], { stdio: 'inherit', cwd: root })
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
child.on('exit', (code, signal) => process.exit(signal === null ? (code ?? 1) : 1))
