/**
 * Whoever sends the orders: like a payment provider's webhooks, again until they are acknowledged, and now and then once more.
 */
import { seededRandom } from '../../src/testing/index.ts'
import type { Fleet } from './fleet.ts'
import type { Order } from './protocol.ts'

export interface Sender {
  /** Of all that were acknowledged. */
  readonly acknowledged: ReadonlyMap<string, Order>
  readonly counts: { sent: number; again: number; duplicates: number }
  onAcknowledged(id: string): void
  /** The outside world saw the last of it; the next may come. */
  onFinished(id: string): void
  /** No new orders; resolves when all that were sent are acknowledged. */
  finish(): Promise<void>
  stop(): void
}

export interface SenderOptions {
  readonly fleet: () => Fleet
  readonly seed: number
  readonly lanes: number
  /** Orders acknowledged and not finished yet, at most. */
  readonly backlog: number
}

const RETRY_AFTER_MS = 1_500
const TICK_MS = 10
const DUPLICATES = 0.05
/** Behind the last step of so many: refused, and undone. */
const REFUSED = 0.08

interface Waiting {
  readonly order: Order
  deliveries: number
  nextMs: number
}

export function openSender({ fleet, seed, lanes, backlog }: SenderOptions): Sender {
  const random = seededRandom(seed)
  const acknowledged = new Map<string, Order>()
  const unfinished = new Set<string>()
  /** Finished before its acknowledgement arrived, which may come late or by a second delivery. */
  const finishedFirst = new Set<string>()
  const waiting = new Map<string, Waiting>()
  const positions = Array.from({ length: lanes }, () => 0)
  const busyLanes = new Set<number>()
  const counts = { sent: 0, again: 0, duplicates: 0 }
  let finishing = false

  const deliver = (each: Waiting): void => {
    const ready = fleet().slots.filter(slot => slot.instance !== undefined)
    // A frozen one is as good as any: the sender can't know.
    const slot = ready[Math.floor(random() * ready.length)]
    if (slot === undefined) return
    if (each.deliveries > 0) counts.again += 1
    each.deliveries += 1
    each.nextMs = performance.now() + RETRY_AFTER_MS
    slot.deliver(each.order, each.deliveries)
  }

  const begin = (lane: number): void => {
    busyLanes.add(lane)
    const position = (positions[lane] ?? 0) + 1
    positions[lane] = position
    const order: Order = { id: `${String(lane)}-${String(position)}`, lane: `lane-${String(lane)}`, position, refused: random() < REFUSED, topic: lane % 2 === 0 ? 'mail' : 'push' }
    const each = { order, deliveries: 0, nextMs: 0 }
    waiting.set(order.id, each)
    counts.sent += 1
    deliver(each)
  }

  const timer = setInterval(() => {
    const now = performance.now()
    for (const each of waiting.values()) if (now >= each.nextMs) deliver(each)
    for (let tries = 0; tries < lanes && !finishing && unfinished.size + waiting.size < backlog; tries++) {
      const lane = Math.floor(random() * lanes)
      if (!busyLanes.has(lane)) begin(lane)
    }
  }, TICK_MS)

  return {
    acknowledged, counts,
    onAcknowledged: id => {
      const each = waiting.get(id)
      if (each === undefined) return
      waiting.delete(id)
      acknowledged.set(id, each.order)
      if (!finishedFirst.delete(id)) unfinished.add(id)
      busyLanes.delete(Number(id.split('-')[0]))
      if (random() < DUPLICATES) {
        counts.duplicates += 1
        const slots = fleet().slots.filter(slot => slot.instance !== undefined)
        slots[Math.floor(random() * slots.length)]?.deliver(each.order, each.deliveries + 1)
      }
    },
    onFinished: id => { if (!unfinished.delete(id) && waiting.has(id)) finishedFirst.add(id) },
    finish: async () => {
      finishing = true
      while (waiting.size > 0) await new Promise(resolve => { setTimeout(resolve, 50) })
    },
    stop: () => { clearInterval(timer) },
  }
}
