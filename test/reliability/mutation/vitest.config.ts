/** The fast tests of one slice, named by the environment: each mutant runs those that reach it, so no test may wait for a server. */
import { defineConfig } from 'vitest/config'

const conditions = ['holdfast-source']

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: { include: (process.env['HOLDFAST_MUTATION_TESTS'] ?? '').split(','), exclude: ['**/node_modules/**', '**/*.types.test.ts', '**/*.stores.test.ts'], testTimeout: 10_000 },
})
