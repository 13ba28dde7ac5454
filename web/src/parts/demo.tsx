/** Only with simulators: break something, and watch what the service makes of it. */
import { setFault } from '../commands.ts'
import { faults } from '../store.ts'
import { Card } from './card.tsx'

export function Demo() {
  if (faults.value.length === 0) return null
  return (
    <Card id="demo" title="Break something" note="the partners here are simulators">
      <ul class="faults">
        {faults.value.map(fault => (
          <li key={fault.id}>
            <button type="button" class="fault" aria-pressed={fault.active} onClick={() => { void setFault(fault) }}>
              <span class="fault-label">{fault.label}</span>
              <span class="fault-hint">{fault.active ? 'Broken now. Press to repair.' : fault.hint}</span>
            </button>
          </li>
        ))}
      </ul>
    </Card>
  )
}
