/** Every flow by its name, and on which tiers it makes sense. */
import type { Flow } from '../flow.ts'
import { leaseFlow } from './lease.ts'
import { inboxFlow, outboxFlow } from './messages.ts'
import { onceLocal, onceOutside } from './once.ts'
import { recoveryFlow } from './recovery.ts'
import { retryStoreFlow } from './retry-store.ts'
import { sagaFlow } from './saga.ts'
import { cancelFlow, confirmFlow, trackFlow } from './saga-depth.ts'
import { scheduleFlow } from './schedule.ts'
import { workerFlow } from './worker.ts'

export const FLOWS: readonly Flow[] = [
  onceLocal, onceOutside('retry'), onceOutside('verify'), onceOutside('hold'),
  sagaFlow({ last: 'idempotent', ends: 'done' }), sagaFlow({ last: 'idempotent', ends: 'undone', patient: true }),
  sagaFlow({ last: 'verify', ends: 'done' }), sagaFlow({ last: 'hold', ends: 'done' }), sagaFlow({ last: 'idempotent', ends: 'stuck' }), sagaFlow({ last: 'idempotent', ends: 'skipped' }), trackFlow, confirmFlow, cancelFlow,
  leaseFlow, inboxFlow(), outboxFlow({ repeatable: true }), outboxFlow({ repeatable: false }), workerFlow, scheduleFlow, retryStoreFlow, recoveryFlow,
]
