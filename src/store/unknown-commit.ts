/**
 * A commit whose answer was lost: whether it happened is found out by doing it again, where doing it again finds itself.
 */
import { isHoldfastError } from '../core/index.ts'

const UNKNOWN_COMMIT_ATTEMPTS = 3

/** Running again is safe where the work finds its own record: the answer of a commit was lost, not necessarily the commit. */
export async function rerunUnknownCommit<T>(run: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await run()
    } catch (error) {
      if (attempt >= UNKNOWN_COMMIT_ATTEMPTS || !isHoldfastError(error) || error.code !== 'HF_STORE_UNKNOWN_COMMIT') throw error
    }
  }
}
