/** The console: one page that says what is true, how old that is, and lets an operator act. */
import { render } from 'preact'
import { Page } from './page.tsx'
import { begin } from './store.ts'
import './style.css'

const root = document.getElementById('app')
if (root !== null) {
  begin()
  render(<Page />, root)
}
