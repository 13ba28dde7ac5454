/** The fast tests of one slice, named by the environment: each mutant runs those that reach it, so no test may wait for a server. */
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

const conditions = ['holdfast-source']

/** The first failure ends a run, so what takes long comes last: simulated flows, and the database that dialects are compared on. */
class QuickFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => /dialects\.test/.test(moduleId) ? 2 : /simulated/.test(moduleId) ? 1 : 0
    return files.toSorted((a, b) => rank(a) - rank(b))
  }
}

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    include: (process.env['HOLDFAST_MUTATION_TESTS'] ?? '').split(','), exclude: ['**/node_modules/**', '**/*.types.test.ts', '**/*.stores.test.ts'],
    testTimeout: 10_000, fileParallelism: false, sequence: { sequencer: QuickFirst },
  },
})
