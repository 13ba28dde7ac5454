import { describe, expect, it } from 'vitest'
import { readBody, secretMatches } from './bytes.ts'

const post = (body: string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>, headers: Record<string, string> = {}): Request =>
  new Request('http://x.test/', { method: 'POST', body, headers, duplex: 'half' })

describe('readBody', () => {
  it('returns the bytes exactly as they were sent', async () => {
    const sent = new Uint8Array([0, 255, 13, 10, 123])
    expect([...(await readBody(post(sent), '5b'))]).toEqual([...sent])
  })

  it('refuses a body that declares too much without reading it', async () => {
    await expect(readBody(post('x', { 'content-length': '999999' }), '10b')).rejects.toMatchObject({ code: 'HF_BODY_TOO_LARGE' })
  })

  it('stops reading a stream that goes on and on', async () => {
    let pulled = 0
    const endless = new ReadableStream<Uint8Array>({ pull: controller => { pulled += 1; controller.enqueue(new Uint8Array(1024)) } })
    await expect(readBody(post(endless), '10kb')).rejects.toMatchObject({ code: 'HF_BODY_TOO_LARGE' })
    expect(pulled).toBeLessThan(20)
  })

  it('takes no body as an empty one', async () => {
    expect((await readBody(new Request('http://x.test/'), '10b')).byteLength).toBe(0)
  })
})

describe('secretMatches', () => {
  it('accepts the same, also the old one while secrets are rotated', () => {
    expect(secretMatches('s3cret', ['s3cret'])).toBe(true)
    expect(secretMatches('old', ['new', 'old'])).toBe(true)
  })

  it.each([null, undefined, '', 's3cre', 's3cret ', 'S3cret'])('refuses %j', got => {
    expect(secretMatches(got, ['s3cret'])).toBe(false)
  })

  it('takes an empty secret for a missing one, never for one that matches', () => {
    expect(secretMatches('', [''])).toBe(false)
  })
})
