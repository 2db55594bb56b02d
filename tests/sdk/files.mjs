// files - reading, writing and watching through the SDK.

import { FileNotFoundError, FileType, FilesystemEventType, InvalidArgumentError, NotFoundError } from 'e2b'
import { assert, eventually, main, request, test } from './lib.mjs'

/** A signed URL carries no routing headers: it goes to the sandbox's own name. */
function signed(sandbox, url, options) {
  const target = new URL(url)
  return request(`http://${sandbox.getHost(49983)}${target.pathname}${target.search}`, options)
}

const notFound = (error) => error instanceof FileNotFoundError || error instanceof NotFoundError

test('write and read text', async (sandbox) => {
  const info = await sandbox.files.write('text.txt', 'content\n')
  assert.equal(info.path, '/home/user/text.txt')
  assert.equal(info.name, 'text.txt')
  assert.equal(info.type, FileType.FILE)
  assert.equal(await sandbox.files.read('text.txt'), 'content\n')
  assert.equal(await sandbox.files.read('~/text.txt'), 'content\n')
})

test('a file belongs to the user, and commands see it', async (sandbox) => {
  await sandbox.files.write('/home/user/deep/er/file', 'x')
  const done = await sandbox.commands.run('stat -c "%U %a" deep deep/er deep/er/file; cat deep/er/file')
  assert.equal(done.stdout, 'user 755\nuser 755\nuser 644\nx')
})

test('files in new folders at the top, many at once', async (sandbox) => {
  const entries = ['/top-a/one', '/top-b/deep/two', '/home/user/three'].map((path) => ({ path, data: `of ${path}` }))
  const infos = await sandbox.files.write(entries)
  assert.deepEqual(infos.map((info) => info.path), entries.map((entry) => entry.path))
  for (const { path, data } of entries) {
    assert.equal(await sandbox.files.read(path), data)
  }
  assert.equal((await sandbox.files.makeDir('/top-c')), true)
  await sandbox.files.remove('/top-a')
  assert.equal(await sandbox.files.exists('/top-a'), false)
})

test('bytes, blobs and streams', async (sandbox) => {
  const bytes = new Uint8Array(300_000).map((_, i) => (i * 7) % 256)
  await sandbox.files.write('bytes', bytes.buffer)
  assert.deepEqual(await sandbox.files.read('bytes', { format: 'bytes' }), bytes)
  await sandbox.files.write('blob', new Blob([bytes]))
  assert.deepEqual(new Uint8Array(await (await sandbox.files.read('blob', { format: 'blob' })).arrayBuffer()), bytes)
  await sandbox.files.write('stream', new Blob([bytes]).stream())
  const chunks = []
  for await (const chunk of await sandbox.files.read('stream', { format: 'stream' })) {
    chunks.push(chunk)
  }
  assert.deepEqual(new Uint8Array(Buffer.concat(chunks)), bytes)
})

test('an empty file', async (sandbox) => {
  await sandbox.files.write('empty', '')
  assert.equal(await sandbox.files.read('empty'), '')
  assert.equal((await sandbox.files.getInfo('empty')).size, 0)
})

test('overwriting truncates', async (sandbox) => {
  await sandbox.files.write('over', 'a long first version')
  await sandbox.files.write('over', 'short')
  assert.equal(await sandbox.files.read('over'), 'short')
})

test('several files in one call', async (sandbox) => {
  const infos = await sandbox.files.write([
    { path: 'many/one', data: 'first' },
    { path: '/tmp/many-two', data: 'second' },
    { path: 'many/ž "quoted" name', data: 'third' },
  ])
  assert.equal(infos.length, 3)
  assert.equal(await sandbox.files.read('many/one'), 'first')
  assert.equal(await sandbox.files.read('/tmp/many-two'), 'second')
})

test('an odd name', async (sandbox) => {
  const name = `odd +&%#?'" ž 🐎`
  await sandbox.files.write(name, 'x')
  assert.equal(await sandbox.files.read(name), 'x')
  assert.ok((await sandbox.files.list('.')).some((e) => e.name === name))
})

test('packed on the way', async (sandbox) => {
  const text = 'the same again and again\n'.repeat(10_000)
  await sandbox.files.write('packed', text, { gzip: true })
  assert.equal(await sandbox.files.read('packed'), text)
  assert.equal(await sandbox.files.read('packed', { gzip: true }), text)
  assert.deepEqual(
    await sandbox.files.read('packed', { format: 'bytes', gzip: true }),
    new TextEncoder().encode(text)
  )
  const infos = await sandbox.files.writeFiles(
    [1, 2, 3].map((i) => ({ path: `packed-${i}`, data: `file ${i}` })),
    { gzip: true }
  )
  assert.equal(infos.length, 3)
  assert.equal(await sandbox.files.read('packed-2'), 'file 2')
})

test('metadata', async (sandbox) => {
  const metadata = { author: 'mish', purpose: 'upload' }
  for (const useOctetStream of [false, true]) {
    const path = `about/${useOctetStream}`
    const info = await sandbox.files.write(path, 'x', { metadata, useOctetStream })
    assert.deepEqual(info.metadata, metadata)
    assert.deepEqual((await sandbox.files.getInfo(path)).metadata, metadata)
  }
  for (const entry of await sandbox.files.list('about')) {
    assert.deepEqual(entry.metadata, metadata)
  }
  assert.deepEqual((await sandbox.files.rename('about/true', 'about/moved')).metadata, metadata)
  const infos = await sandbox.files.writeFiles(
    [{ path: 'about/a', data: '1' }, { path: 'about/b', data: '2' }],
    { metadata }
  )
  for (const info of infos) {
    assert.deepEqual(info.metadata, metadata)
    assert.deepEqual((await sandbox.files.getInfo(info.path)).metadata, metadata)
  }
  await sandbox.commands.run('setfattr -n user.e2b.author -v other about/b')
  assert.deepEqual((await sandbox.files.getInfo('about/b')).metadata, { author: 'other', purpose: 'upload' })
  assert.equal((await sandbox.files.write('about/a', 'again')).metadata, undefined)
  assert.equal((await sandbox.files.getInfo('about/a')).metadata, undefined)
})

test('as an octet stream', async (sandbox) => {
  const bytes = new Uint8Array(100_000).map((_, i) => i % 251)
  await sandbox.files.write('octets', new Blob([bytes]), { useOctetStream: true })
  assert.deepEqual(await sandbox.files.read('octets', { format: 'bytes' }), bytes)
  assert.deepEqual(await sandbox.files.write([]), [])
})

test('files as another user', async (sandbox) => {
  await sandbox.files.write('/root/secret', 'x', { user: 'root' })
  assert.equal(await sandbox.files.read('/root/secret', { user: 'root' }), 'x')
})

test('missing files and folders in the way', async (sandbox) => {
  await assert.rejects(sandbox.files.read('missing'), notFound)
  await assert.rejects(sandbox.files.getInfo('missing'), notFound)
  await assert.rejects(sandbox.files.list('missing'), notFound)
  await assert.rejects(sandbox.files.rename('missing', 'else'), notFound)
  await sandbox.files.makeDir('folder')
  await assert.rejects(sandbox.files.read('folder'), InvalidArgumentError)
  await assert.rejects(sandbox.files.write('folder', 'x'), InvalidArgumentError)
})

test('exists, makeDir, remove', async (sandbox) => {
  assert.equal(await sandbox.files.exists('made'), false)
  assert.equal(await sandbox.files.makeDir('made/in/depth'), true)
  assert.equal(await sandbox.files.makeDir('made/in/depth'), false)
  assert.equal(await sandbox.files.exists('made/in'), true)
  await sandbox.files.write('made/in/file', 'x')
  await sandbox.files.remove('made')
  assert.equal(await sandbox.files.exists('made'), false)
  await sandbox.files.remove('made')
})

test('list, with depth', async (sandbox) => {
  await sandbox.files.makeDir('listed/b')
  await sandbox.files.write('listed/a', '12345')
  await sandbox.files.write('listed/b/c', 'x')
  const one = await sandbox.files.list('listed')
  assert.deepEqual(one.map((e) => [e.name, e.type, e.path]), [
    ['a', FileType.FILE, '/home/user/listed/a'],
    ['b', FileType.DIR, '/home/user/listed/b'],
  ])
  assert.equal(one[0].size, 5)
  const all = await sandbox.files.list('listed', { depth: 2 })
  assert.deepEqual(all.map((e) => e.path.slice('/home/user/listed/'.length)), ['a', 'b', 'b/c'])
  assert.deepEqual(await sandbox.files.list('listed/b/..', { depth: 1 }).then((l) => l.length), 2)
})

test('getInfo', async (sandbox) => {
  await sandbox.files.write('info', '12345')
  await sandbox.commands.run('chmod 640 info; ln -sf info info-link')
  const info = await sandbox.files.getInfo('info')
  assert.equal(info.size, 5)
  assert.equal(info.mode, 0o640)
  assert.equal(info.permissions, '-rw-r-----')
  assert.equal(info.owner, 'user')
  assert.equal(info.group, 'user')
  assert.ok(Math.abs(info.modifiedTime.getTime() - Date.now()) < 60_000)
  assert.equal(info.symlinkTarget, undefined)
  assert.equal((await sandbox.files.getInfo('info-link')).symlinkTarget, '/home/user/info')
})

test('rename', async (sandbox) => {
  await sandbox.files.write('before', 'moved')
  const info = await sandbox.files.rename('before', 'into/after')
  assert.equal(info.path, '/home/user/into/after')
  assert.equal(await sandbox.files.exists('before'), false)
  assert.equal(await sandbox.files.read('into/after'), 'moved')
  await sandbox.files.rename('into/after', '/tmp/across')
  assert.equal(await sandbox.files.read('/tmp/across'), 'moved')
})

test('watch', async (sandbox) => {
  const events = []
  await sandbox.files.makeDir('watched')
  const handle = await sandbox.files.watchDir('watched', (event) => events.push([event.type, event.name]))
  await sandbox.files.write('watched/file', 'x')
  await eventually('a write', () => events.some(([t, n]) => t === FilesystemEventType.WRITE && n === 'file'))
  await sandbox.files.rename('watched/file', 'watched/other')
  await eventually('a rename', () => events.some(([t, n]) => t === FilesystemEventType.RENAME && n === 'file'))
  await sandbox.files.remove('watched/other')
  await eventually('a removal', () => events.some(([t, n]) => t === FilesystemEventType.REMOVE && n === 'other'))
  await handle.stop()
  await assert.rejects(sandbox.files.watchDir('missing', () => {}), notFound)
  await assert.rejects(sandbox.files.watchDir('info', () => {}), InvalidArgumentError)
})

test('watch, recursively', async (sandbox) => {
  const events = []
  await sandbox.files.makeDir('tree/old')
  const handle = await sandbox.files.watchDir('tree', (event) => events.push(`${event.type} ${event.name}`), {
    recursive: true,
  })
  await sandbox.files.write('tree/old/file', 'x')
  await eventually('below', () => events.includes(`${FilesystemEventType.WRITE} old/file`))
  await sandbox.files.makeDir('tree/new')
  await sandbox.files.write('tree/new/file', 'x')
  await eventually('in a new folder', () => events.includes(`${FilesystemEventType.WRITE} new/file`))
  await handle.stop()
})

test('signed urls', async (sandbox) => {
  await sandbox.files.write('signed', 'for you')
  const url = await sandbox.downloadUrl('/home/user/signed', { useSignatureExpiration: 60 })
  const got = await signed(sandbox, url)
  assert.equal(got.status, 200)
  assert.equal(got.body.toString(), 'for you')
  assert.equal((await signed(sandbox, url.replace('signed&', 'other&'))).status, 401)
  assert.equal((await signed(sandbox, await sandbox.downloadUrl('/home/user/signed'))).status, 200)

  const upload = await sandbox.uploadUrl('/home/user/uploaded', { useSignatureExpiration: 60 })
  const form = new Response(
    (() => {
      const data = new FormData()
      data.append('file', new Blob(['from a form']), 'uploaded')
      return data
    })()
  )
  const sent = await signed(sandbox, upload, {
    method: 'POST',
    headers: { 'Content-Type': form.headers.get('content-type') },
    body: Buffer.from(await form.arrayBuffer()),
  })
  assert.equal(sent.status, 200, sent.body.toString())
  assert.equal(await sandbox.files.read('uploaded'), 'from a form')
  const old = await sandbox.downloadUrl('/home/user/signed', { useSignatureExpiration: -60 })
  assert.equal((await signed(sandbox, old)).status, 401)
})

test('signed urls as they are', async (sandbox) => {
  await sandbox.files.write('plain', 'hello world')
  assert.equal(await (await fetch(await sandbox.downloadUrl('plain', { useSignatureExpiration: 10_000 }))).text(), 'hello world')
  await sandbox.files.write('plain', 'of root', { user: 'root' })
  const ofRoot = await sandbox.downloadUrl('plain', { user: 'root', useSignatureExpiration: 10_000 })
  assert.equal(await (await fetch(ofRoot)).text(), 'of root')
  const late = await fetch(await sandbox.downloadUrl('plain', { useSignatureExpiration: -10_000 }))
  assert.equal(late.status, 401)
  assert.deepEqual(await late.json(), { code: 401, message: 'signature is already expired' })
  for (const [user, path] of [[undefined, '/home/user/sent'], ['root', '/root/sent']]) {
    const form = new FormData()
    form.append('file', 'file content')
    const url = await sandbox.uploadUrl('sent', { user, useSignatureExpiration: 10_000 })
    const sent = await fetch(url, { method: 'POST', body: form })
    assert.equal(sent.status, 200)
    assert.deepEqual(await sent.json(), [{ name: 'sent', path, type: 'file' }])
    assert.equal(await sandbox.files.read(path, { user }), 'file content')
  }
})

test('watch handles', async (sandbox) => {
  await sandbox.files.makeDir('brief')
  let exited = 0
  const handle = await sandbox.files.watchDir('brief', () => {}, { timeoutMs: 500, onExit: () => exited++ })
  await eventually('its timeout', () => exited === 1)
  await handle.stop()
  const seen = []
  const other = await sandbox.files.watchDir('brief', (event) => seen.push(event), { includeEntry: true })
  await sandbox.commands.run('echo x > brief/x; chmod 600 brief/x')
  await eventually('the entry', () => seen.some((e) => e.type === FilesystemEventType.CHMOD && e.name === 'x'))
  await other.stop()
  const count = seen.length
  await sandbox.files.write('brief/y', 'y')
  assert.equal(seen.length, count)
})

test('sixty-four megabytes up and down', async (sandbox) => {
  const bytes = new Uint8Array(64 << 20).fill(0x61)
  await sandbox.files.write('large', new Blob([bytes]), { requestTimeoutMs: 60_000 })
  const done = await sandbox.commands.run('stat -c %s large')
  assert.equal(done.stdout, `${bytes.length}\n`)
  const back = await sandbox.files.read('large', { format: 'bytes', requestTimeoutMs: 60_000 })
  assert.equal(back.length, bytes.length)
  assert.ok(Buffer.from(back).equals(Buffer.from(bytes)))
})

main()
