/**
 * Gives the browser tests a Chromium: prints its path, and installs Debian's `chromium` by apt-get when there is none (./apt.mjs).
 *
 *   node scripts/install-chromium.mjs            a path on standard output, when a browser is there
 *
 * `CHROMIUM` names another binary.
 */
import { programFrom } from './apt.mjs'

const path = programFrom({
  program: 'chromium',
  candidates: [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'],
  // Without a font a page is drawn as empty boxes.
  packages: ['chromium', 'fonts-inter'],
  tests: 'Browser tests',
  remedy: 'install Chromium (Debian: apt-get install chromium) or set CHROMIUM=/path/to/chromium',
})
process.stdout.write(`${path}\n`)
