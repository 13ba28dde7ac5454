/**
 * How many of each name there are, and the age of the oldest: what GROUP BY does in the other dialect.
 */
export function countByName(rows: readonly (readonly [name: string, ageMs: number])[]): readonly { readonly name: string; readonly waiting: number; readonly oldestMs: number }[] {
  const counted = new Map<string, { readonly name: string; readonly waiting: number; readonly oldestMs: number }>()
  for (const [name, ageMs] of rows) {
    const known = counted.get(name)
    counted.set(name, { name, waiting: (known?.waiting ?? 0) + 1, oldestMs: Math.max(known?.oldestMs ?? 0, ageMs) })
  }
  return [...counted.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}
