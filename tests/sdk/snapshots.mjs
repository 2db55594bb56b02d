// snapshots - disks that outlive their sandbox's processes, through the SDK: snapshots, sandboxes made from
// them, forks, pauses without memory, and the list of templates.

import { NotFoundError, Template } from 'e2b'
import { assert, main, Sandbox, test } from './lib.mjs'

const name = `snap-${Date.now()}-${Math.floor(Math.random() * 1e9)}`
const bootId = async (sandbox) => (await sandbox.commands.run('cat /proc/sys/kernel/random/boot_id')).stdout.trim()

async function allSnapshots(options) {
  const paginator = Sandbox.listSnapshots(options)
  const found = []
  while (paginator.hasNext) {
    found.push(...(await paginator.nextItems()))
  }
  return found
}

test('a snapshot keeps the disk and the system', async (sandbox) => {
  await sandbox.files.write('kept.txt', 'from the first')
  await sandbox.commands.run('echo installed | sudo tee /usr/local/share/installed >/dev/null; chmod 600 kept.txt')
  const snapshot = await sandbox.createSnapshot({ name })
  assert.equal(snapshot.snapshotId, `${name}:default`)
  // what the first does afterwards is its own
  await sandbox.files.write('kept.txt', 'changed later')
  for (const id of [snapshot.snapshotId, name]) {
    const made = await Sandbox.create(id, { timeoutMs: 60_000 })
    try {
      assert.equal(await made.files.read('kept.txt'), 'from the first')
      assert.equal((await made.commands.run('cat /usr/local/share/installed; stat -c %U kept.txt')).stdout, 'installed\nuser\n')
      assert.notEqual(await bootId(made), await bootId(sandbox))
      await made.files.write('kept.txt', 'changed by the second')
    } finally {
      await made.kill()
    }
  }
  assert.equal(await sandbox.files.read('kept.txt'), 'changed later')
})

test('snapshots are listed and deleted', async (sandbox) => {
  const unnamed = await sandbox.createSnapshot()
  const ids = (await allSnapshots({ sandboxId: sandbox.sandboxId })).map((s) => s.snapshotId)
  assert.deepEqual(ids.sort(), [`${name}:default`, unnamed.snapshotId].sort())
  assert.equal((await allSnapshots({ sandboxId: 'inone00000000000000000' })).length, 0)
  assert.equal((await allSnapshots({ sandboxId: sandbox.sandboxId, limit: 1 })).length, 2)
  for (const id of ids) {
    assert.equal(await Sandbox.deleteSnapshot(id), true)
    assert.equal(await Sandbox.deleteSnapshot(id), false)
    await assert.rejects(Sandbox.create(id), /404/)
  }
  assert.equal((await allSnapshots({ sandboxId: sandbox.sandboxId })).length, 0)
})

test('a snapshot of a paused sandbox', async () => {
  const paused = await Sandbox.create({ timeoutMs: 60_000 })
  await paused.files.write('a', 'paused')
  await paused.pause()
  const snapshot = await Sandbox.createSnapshot(paused.sandboxId)
  await paused.kill()
  const made = await Sandbox.create(snapshot.snapshotId, { timeoutMs: 60_000 })
  assert.equal(await made.files.read('a'), 'paused')
  await made.kill()
  await Sandbox.deleteSnapshot(snapshot.snapshotId)
})

test('fork', async (sandbox) => {
  await sandbox.files.write('forked', 'once')
  const forks = await sandbox.fork({ count: 2, timeoutMs: 60_000 })
  assert.equal(forks.length, 2)
  for (const fork of forks) {
    assert.ok(fork instanceof Sandbox, String(fork))
    assert.notEqual(fork.sandboxId, sandbox.sandboxId)
    assert.equal(await fork.files.read('forked'), 'once')
    await fork.files.write('forked', fork.sandboxId)
  }
  assert.equal(await sandbox.files.read('forked'), 'once')
  await Promise.all(forks.map((fork) => fork.kill()))
  const gone = await Sandbox.create({ timeoutMs: 60_000 })
  await gone.kill()
  await assert.rejects(gone.fork(), NotFoundError)
  await assert.rejects(gone.createSnapshot(), NotFoundError)
})

test('a pause without memory boots again', async () => {
  const made = await Sandbox.create({ timeoutMs: 60_000, envs: { FROM_CREATE: 'yes' } })
  try {
    await made.files.write('a', 'kept')
    await made.commands.run('sleep 300', { background: true, timeoutMs: 0 })
    const before = await bootId(made)
    assert.equal(await made.pause({ keepMemory: false }), true)
    assert.equal((await made.getInfo()).state, 'paused')
    await made.connect()
    assert.equal(await made.files.read('a'), 'kept')
    assert.equal((await made.commands.run('pgrep -c sleep || true; echo $FROM_CREATE')).stdout, '0\nyes\n')
    assert.notEqual(await bootId(made), before)
  } finally {
    await made.kill()
  }
})

test('an automatic pause without memory', async () => {
  const made = await Sandbox.create({
    timeoutMs: 1000, lifecycle: { onTimeout: { action: 'pause', keepMemory: false } } })
  const before = await bootId(made)
  await made.files.write('a', 'kept')
  while ((await made.getInfo()).state !== 'paused') {
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  await made.connect({ timeoutMs: 60_000 })
  assert.equal(await made.files.read('a'), 'kept')
  assert.notEqual(await bootId(made), before)
  await made.kill()
})

test('templates exist or not', async () => {
  assert.equal(await Template.exists('base'), true)
  assert.equal(await Template.exists('not-there-at-all'), false)
})

await main()
