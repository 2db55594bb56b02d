// lifecycle - Daytona's own SDK against tests/harness/daytona_double.py, which it keeps honest.
//
// Prints TAP. The environment names the server (DAYTONA_API_KEY, DAYTONA_API_URL); nothing here
// knows that it is not Daytona's own cloud.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Daytona, DaytonaNotFoundError } from '@daytonaio/sdk'

const daytona = new Daytona()
const folder = mkdtempSync(join(tmpdir(), 'daytona-sdk-'))
process.on('exit', () => rmSync(folder, { recursive: true }))
const name = `sdk-${process.pid}`
let sandbox

const tests = []
function test(title, run) {
  tests.push({ title, run })
}

test('create waits until it is started', async () => {
  sandbox = await daytona.create({ name, labels: { purpose: 'sdk test', run: name }, envVars: { COLOUR: 'grün' }, autoStopInterval: 7 })
  assert.equal(sandbox.state, 'started')
  assert.equal(sandbox.name, name)
  assert.equal(sandbox.autoStopInterval, 7)
  assert.equal(sandbox.labels.purpose, 'sdk test')
})

test('a name is taken once', async () => {
  await assert.rejects(daytona.create({ name }), /already exists/)
})

test('exec gives output and exit code', async () => {
  const done = await sandbox.process.executeCommand('echo "$COLOUR"; pwd; exit 3')
  assert.equal(done.exitCode, 3)
  assert.match(done.result, /^grün\n\/home\/daytona/)
})

test('exec takes a folder, variables and a timeout', async () => {
  const done = await sandbox.process.executeCommand('pwd; echo $A', '/tmp', { A: 'b c' }, 5)
  assert.equal(done.exitCode, 0)
  assert.equal(done.result.trim(), '/tmp\nb c')
  await assert.rejects(sandbox.process.executeCommand('sleep 20', undefined, undefined, 1), (error) => error.statusCode === 408)
})

const bytes = Buffer.from(Array.from({ length: 70000 }, (_, i) => (i * 7) % 256))

test('upload writes bytes, and a file from disk', async () => {
  await sandbox.fs.uploadFile(bytes, '/home/daytona/deep/er/bytes.bin')
  const local = join(folder, 'local.txt')
  writeFileSync(local, 'from disk\r\n--boundary\r\n')
  await sandbox.fs.uploadFile(local, '/home/daytona/local.txt')
  const done = await sandbox.process.executeCommand('wc -c < deep/er/bytes.bin; cat local.txt')
  assert.equal(done.result.replaceAll('\r', '').trim(), '70000\nfrom disk\n--boundary')
})

test('download reads the same bytes back, also to disk', async () => {
  const back = await sandbox.fs.downloadFile('/home/daytona/deep/er/bytes.bin')
  assert.ok(bytes.equals(back))
  const local = join(folder, 'back.bin')
  await sandbox.fs.downloadFile('/home/daytona/deep/er/bytes.bin', local)
  assert.ok(bytes.equals(readFileSync(local)))
})

test('download of what is not there is an error', async () => {
  await assert.rejects(sandbox.fs.downloadFile('/home/daytona/none'), /No such file|not found/i)
})

test('files are listed, described, made and removed', async () => {
  await sandbox.fs.createFolder('/home/daytona/made', '755')
  const names = (await sandbox.fs.listFiles('/home/daytona')).map((file) => file.name).sort()
  assert.deepEqual(names.filter((n) => !n.startsWith('.')), ['deep', 'local.txt', 'made'])
  const info = await sandbox.fs.getFileDetails('/home/daytona/local.txt')
  assert.equal(info.isDir, false)
  assert.equal(info.size, 23)
  await sandbox.fs.deleteFile('/home/daytona/local.txt')
  await sandbox.fs.deleteFile('/home/daytona/made', true)
  assert.deepEqual((await sandbox.fs.listFiles('/home/daytona')).map((file) => file.name).filter((n) => !n.startsWith('.')), ['deep'])
})

test('list finds it by its labels', async () => {
  const found = []
  for await (const box of await listed({ run: name })) {
    found.push(box.id)
  }
  assert.deepEqual(found, [sandbox.id])
  const none = []
  for await (const box of await listed({ run: 'another' })) {
    none.push(box.id)
  }
  assert.deepEqual(none, [])
})

// an async iterator in some versions, a page with items in others
async function listed(labels) {
  const answer = await daytona.list({ labels, limit: 1 })
  return Array.isArray(answer?.items) ? answer.items : answer
}

test('get finds it by id and by name', async () => {
  assert.equal((await daytona.get(sandbox.id)).name, name)
  assert.equal((await daytona.get(name)).id, sandbox.id)
})

test('a preview link carries a token', async () => {
  const link = await sandbox.getPreviewLink(3000)
  assert.match(link.url, new RegExp(`^http://3000-${sandbox.id}\\.`))
  assert.ok(link.token.length > 8)
})

test('stop keeps the disk and ends what ran', async () => {
  await sandbox.stop()
  assert.equal(sandbox.state, 'stopped')
  await assert.rejects(sandbox.process.executeCommand('true'), /Is the Sandbox started/)
})

test('start brings it back, with another token', async () => {
  const before = (await sandbox.getPreviewLink(3000)).token
  await sandbox.start()
  assert.equal(sandbox.state, 'started')
  assert.notEqual((await sandbox.getPreviewLink(3000)).token, before)
  const done = await sandbox.process.executeCommand('wc -c < deep/er/bytes.bin')
  assert.equal(done.result.trim(), '70000')
})

test('delete is final', async () => {
  await sandbox.delete()
  for (let i = 0; i < 50; i++) {
    try {
      await daytona.get(sandbox.id)
    } catch (error) {
      assert.ok(error instanceof DaytonaNotFoundError)
      return
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  assert.fail('it is still there')
})

let failed = 0
console.log(`TAP version 13\n1..${tests.length}`)
for (const [index, { title, run }] of tests.entries()) {
  try {
    await run()
    console.log(`ok ${index + 1} - ${title}`)
  } catch (error) {
    failed++
    console.log(`not ok ${index + 1} - ${title}`)
    console.log(String(error?.stack ?? error).split('\n').map((line) => `  # ${line}`).join('\n'))
  }
}
process.exit(failed === 0 ? 0 : 1)
