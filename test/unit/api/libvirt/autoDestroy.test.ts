/** Domains that end with the connection of whoever started them. */
import { expect, test } from 'vitest';
import { procedures } from '../../../../src/api/libvirt/procedures/index.ts';
import { Remote } from '../../../../src/api/libvirt/signatures/index.ts';

const AUTO_DESTROY = 2;
let runs = 0;

/** @param starting is called while it starts */
function fakeVm(starting: () => void = () => {}) {
  const vm = {
    alive: false,
    runId: undefined as number | undefined,
    async start() {
      starting();
      await Promise.resolve();
      Object.assign(vm, { alive: true, runId: ++runs });
    },
    async stop() {
      Object.assign(vm, { alive: false, runId: undefined });
    },
  };
  return vm;
}

function fakeSession() {
  const autoDestroy = new Map<unknown, number>();
  const session = { ended: false, autoDestroy };
  const start = async (vm: ReturnType<typeof fakeVm>) => {
    const dom = { name: 'one', uuid: '', id: -1 };
    const domains = { byUuid: () => vm, domOf: () => dom };
    const of = new Proxy(session, {
      get: (target, key) => (key === 'domains' ? domains : Reflect.get(target, key)),
    });
    const args = { dom, flags: AUTO_DESTROY };
    await procedures.get(Remote.domainCreateWithFlags.number)?.run({ session: of, args, serial: 1 } as never);
  };
  return { session, autoDestroy, start };
}

test('those that have ended before are not kept as long as the connection', async () => {
  const { autoDestroy, start } = fakeSession();
  for (let i = 0; i < 100; i++) {
    const vm = fakeVm();
    await start(vm);
    expect([...autoDestroy]).toContainEqual([vm, vm.runId]);
    await vm.stop();
  }
  expect(autoDestroy.size).toBe(1);
});

test('one whose connection goes while it starts ends when it has started', async () => {
  const { session, autoDestroy, start } = fakeSession();
  const vm = fakeVm(() => {
    session.ended = true;
  });
  await start(vm);
  expect(vm.alive).toBe(false);
  expect(autoDestroy.size).toBe(0);
});
