/**
 * `await work()` with nothing around it: what a call costs anyway.
 */
import { answer, answerWithSignal, fail } from './work.mjs'

const bare = () => () => answer()

/** Parts of cases, by name; see ./index.mjs. */
export default {
  'retry': bare,
  'breaker': bare,
  'timeout': bare,
  'concurrency': bare,
  'full stack': bare,
  'full stack, signal read': () => () => answerWithSignal({ signal: new AbortController().signal }),
  'failure in a window': () => ({ call: () => fail() }),
  // A process that holds nothing: what the idle cases are compared with.
  'idle breakers': () => ({ make: () => undefined }),
}
