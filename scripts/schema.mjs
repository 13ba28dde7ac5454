/**
 * `npm run schema`: writes docs/schema.json anew from the migrations; what changed shows in the difference.
 */
import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const { status } = spawnSync(process.execPath, [resolve(root, 'node_modules/vitest/vitest.mjs'), 'run', 'test/schema.test.ts'], { cwd: root, stdio: 'inherit', env: { ...process.env, HOLDFAST_SCHEMA: 'write' } })
process.exit(status ?? 1)
