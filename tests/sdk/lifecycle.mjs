// lifecycle - a sandbox from create to kill through the SDK.

import { NotFoundError } from 'e2b'
import { assert, eventually, main, Sandbox, sleep, test } from './lib.mjs'

const run = `run-${Date.now()}-${Math.floor(Math.random() * 1e9)}`

async function listAll(options) {
  const paginator = Sandbox.list(options)
  const found = []
  let pages = 0
  while (paginator.hasNext) {
    found.push(...(await paginator.nextItems()))
    pages++
  }
  return { found, pages }
}

test('create with metadata, getInfo', async () => {
  const metadata = { run, 'odd k é': 'a=b&c %', empty: '' }
  const sandbox = await Sandbox.create({ timeoutMs: 90_000, metadata, envs: { FROM_CREATE: 'yes' } })
  try {
    assert.match(sandbox.sandboxId, /^[a-z0-9]+$/)
    const info = await sandbox.getInfo()
    assert.equal(info.sandboxId, sandbox.sandboxId)
    assert.deepEqual(info.metadata, metadata)
    assert.equal(info.state, 'running')
    assert.ok(info.cpuCount > 0 && info.memoryMB > 0)
    const left = info.endAt.getTime() - Date.now()
    assert.ok(left > 60_000 && left <= 91_000, `${left} ms left`)
    assert.equal((await sandbox.commands.run('echo $FROM_CREATE')).stdout, 'yes\n')
    const { found } = await listAll({ query: { metadata } })
    assert.deepEqual(found.map((s) => s.sandboxId), [sandbox.sandboxId])
    assert.deepEqual((await listAll({ query: { metadata: { run: 'another' } } })).found, [])
  } finally {
    await sandbox.kill()
  }
})

test('list, page by page', async () => {
  const tag = { page: run }
  const made = await Promise.all([1, 2, 3].map(() => Sandbox.create({ timeoutMs: 60_000, metadata: tag })))
  try {
    const { found, pages } = await listAll({ query: { metadata: tag }, limit: 1 })
    assert.deepEqual(found.map((s) => s.sandboxId).sort(), made.map((s) => s.sandboxId).sort())
    assert.ok(pages >= 3)
    const running = await listAll({ query: { metadata: tag, state: ['running'] } })
    assert.equal(running.found.length, 3)
    await made[0].pause()
    const paused = await listAll({ query: { metadata: tag, state: ['paused'] } })
    assert.deepEqual(paused.found.map((s) => s.sandboxId), [made[0].sandboxId])
    assert.equal(paused.found[0].state, 'paused')
  } finally {
    await Promise.all(made.map((s) => s.kill()))
  }
})

test('isRunning and kill', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000 })
  assert.equal(await sandbox.isRunning(), true)
  assert.equal(await sandbox.kill(), true)
  assert.equal(await sandbox.isRunning(), false)
  assert.equal(await Sandbox.kill(sandbox.sandboxId), false)
  await assert.rejects(Sandbox.connect(sandbox.sandboxId), NotFoundError)
  await assert.rejects(sandbox.commands.run('true'))
})

test('connect by id shares the sandbox', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000 })
  try {
    await sandbox.files.write('shared', 'x')
    const same = await Sandbox.connect(sandbox.sandboxId)
    assert.equal(await same.files.read('shared'), 'x')
  } finally {
    await sandbox.kill()
  }
})

test('setTimeout shortens and the sandbox ends', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000 })
  await sandbox.setTimeout(2000)
  const left = (await sandbox.getInfo()).endAt.getTime() - Date.now()
  assert.ok(left > 0 && left <= 2500, `${left} ms left`)
  assert.equal(await sandbox.isRunning(), true)
  await eventually('the end', async () => !(await sandbox.isRunning()), 6000)
  await assert.rejects(Sandbox.getInfo(sandbox.sandboxId), NotFoundError)
})

test('setTimeout extends', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 2000 })
  try {
    await sandbox.setTimeout(60_000)
    await sleep(3000)
    assert.equal(await sandbox.isRunning(), true)
  } finally {
    await sandbox.kill()
  }
})

test('pause and connect keep memory, files and processes', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000, metadata: { kept: run } })
  try {
    await sandbox.files.write('kept', 'still here')
    const counter = await sandbox.commands.run('i=0; while :; do i=$((i+1)); echo $i > count; sleep 0.02; done', {
      background: true,
      timeoutMs: 0,
    })
    await eventually('the counter', () => sandbox.files.exists('count'))
    assert.equal(await sandbox.pause(), true)
    assert.equal((await Sandbox.getInfo(sandbox.sandboxId)).state, 'paused')
    assert.equal(await sandbox.pause(), false)
    await sleep(1000)

    const again = await Sandbox.connect(sandbox.sandboxId, { timeoutMs: 60_000 })
    assert.equal((await again.getInfo()).state, 'running')
    assert.deepEqual((await again.getInfo()).metadata, { kept: run })
    assert.equal(await again.files.read('kept'), 'still here')
    assert.ok((await again.commands.list()).some((p) => p.pid === counter.pid))
    const before = Number(await again.files.read('count'))
    await eventually('the counter to go on', async () => Number(await again.files.read('count')) > before)
  } finally {
    await sandbox.kill()
  }
})

test('a paused sandbox can be killed', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000 })
  await sandbox.pause()
  assert.equal(await sandbox.isRunning(), false)
  assert.equal(await sandbox.kill(), true)
  await assert.rejects(Sandbox.connect(sandbox.sandboxId), NotFoundError)
})

test('an unknown template is refused', async () => {
  await assert.rejects(Sandbox.create('no-such-template-here', { timeoutMs: 30_000 }))
})

test('a wrong key is refused', async () => {
  await assert.rejects(Sandbox.create({ apiKey: `e2b_${'0'.repeat(40)}`, timeoutMs: 30_000 }))
})

test('two sandboxes do not see each other', async () => {
  const [one, two] = await Promise.all([Sandbox.create({ timeoutMs: 60_000 }), Sandbox.create({ timeoutMs: 60_000 })])
  try {
    const handle = await one.commands.run('sleep 4242', { background: true })
    await one.files.write('/tmp/only-in-one', 'x')
    const seen = await two.commands.run('ps aux 2>/dev/null | grep -c "[s]leep 4242"; ls /tmp/only-in-one 2>&1; true')
    assert.match(seen.stdout, /^0\n/)
    assert.equal(await two.files.exists('/tmp/only-in-one'), false)
    await handle.kill()
  } finally {
    await Promise.all([one.kill(), two.kill()])
  }
})

main({ sandbox: null })
