/** The library's client of libvirt's protocol with `tsvmmd` and with Debian's `libvirtd`. */
import { describe, expect, onTestFinished, test } from 'vitest';
import { connect, type LibvirtConnection, LibvirtError } from '../../src/libvirt.ts';
import { Daemon } from './daemon.ts';
import { Libvirtd } from './libvirtd.ts';
import { PAYLOAD } from './support.ts';

async function opened(uri: string, options: Parameters<typeof connect>[1] = {}): Promise<LibvirtConnection> {
  const connection = await connect(uri, options);
  onTestFinished(() => connection.close());
  return connection;
}

async function ours(): Promise<{ daemon: Daemon; uri: string; connection: LibvirtConnection }> {
  const daemon = new Daemon();
  await daemon.start();
  const uri = `tsvmm+unix:///system?socket=${daemon.dir}/virttsvmmd-sock`;
  return { daemon, uri, connection: await opened(uri) };
}

async function theirs(): Promise<{ libvirtd: Libvirtd; connection: LibvirtConnection }> {
  const libvirtd = new Libvirtd();
  await libvirtd.start();
  return { libvirtd, connection: await opened(`test+unix:///default?socket=${libvirtd.socket}`) };
}

const document = (name: string, cmdline: string) =>
  `<domain type='kvm'><name>${name}</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
   <os><type arch='x86_64'>hvm</type><kernel>${PAYLOAD}</kernel><cmdline>${cmdline}</cmdline></os>
   <devices><serial type='pty'/></devices></domain>`;

/** The next events of a domain, as words. */
async function heard(
  events: AsyncIterator<{ event: string; detail: string }>,
  count: number,
): Promise<string[]> {
  const found: string[] = [];
  for (let i = 0; i < count; i++) {
    const { value } = await events.next();
    if (value) found.push(`${value.event} ${value.detail}`);
  }
  return found;
}

async function codeOf(promise: Promise<unknown>): Promise<number> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(LibvirtError);
  return (error as LibvirtError).code;
}

describe('with tsvmmd', () => {
  test('a domain from its definition to its end, with its events', async () => {
    const { daemon, connection } = await ours();
    const events = await connection.domainEvents('lifecycle');
    expect(await connection.listDomains()).toEqual([]);
    const domain = await connection.defineDomain(document('one', 'run=idle'));
    expect(domain).toMatchObject({ name: 'one', id: -1 });
    expect(await domain.state()).toEqual({ state: 'shut off', reason: 'unknown' });
    await domain.start();
    expect(domain.id).toBe(1);
    expect(await codeOf(domain.start())).toBe(55);
    expect(await domain.info()).toMatchObject({ state: 'running', maxMemoryKib: 131_072, vcpus: 1 });
    await domain.suspend();
    expect(await domain.state()).toEqual({ state: 'paused', reason: 'user' });
    expect((await connection.listDomains({ paused: true })).map(({ name }) => name)).toEqual(['one']);
    await domain.resume();
    await domain.setAutostart(true);
    expect(await domain.autostart()).toBe(true);
    await domain.setMetadata('title', 'The <first>');
    expect(await domain.metadata('title')).toBe('The <first>');
    expect(await domain.metadata('description')).toBeUndefined();
    await domain.setMetadata({ namespace: 'urn:x' }, '<owner>me</owner>', { prefix: 'x' });
    expect(await domain.metadata({ namespace: 'urn:x' })).toContain('me');
    expect(await domain.xml()).toMatch(/<domain type='kvm' id='1'>[\s\S]*<title>The &lt;first&gt;<\/title>/);
    expect(await domain.vcpus()).toMatchObject([{ number: 0 }]);
    const [stats] = await connection.domainStats({ domains: [domain], groups: ['state', 'vcpu'] });
    expect(stats?.stats).toMatchObject({ 'state.state': 1, 'vcpu.current': 1 });
    expect(await daemon.list()).toEqual({ one: 'running' });
    await domain.destroy();
    await domain.undefine();
    expect(await codeOf(connection.lookupByName('one'))).toBe(42);
    const told: string[] = [];
    while (told.at(-1) !== 'undefined removed') told.push(...(await heard(events, 1)));
    // Its policy changed meanwhile.
    expect(told.filter((each) => each !== 'defined updated')).toEqual([
      'defined added',
      'started booted',
      'suspended paused',
      'resumed unpaused',
      'stopped destroyed',
      'undefined removed',
    ]);
  });

  test('a console is a stream both ways, and one more is refused unless it is taken', async () => {
    const { connection } = await ours();
    const domain = await connection.defineDomain(document('one', 'run=serial-echo then=idle'));
    await domain.start();
    const stream = await domain.openConsole();
    let text = '';
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    // The guest answers in capitals as soon as it runs.
    await expect
      .poll(() => {
        stream.write('x');
        return text;
      })
      .toContain('X');
    expect(await codeOf(domain.openConsole())).toBe(9);
    const lost = new Promise<Error>((resolve) => stream.once('error', resolve));
    const other = await domain.openConsole({ force: true });
    expect((await lost).message).toMatch(/stream had I\/O failure/);
    other.end();
    await new Promise((resolve) => other.resume().once('close', resolve));
    expect(await domain.isActive()).toBe(true);
  });

  test('the host, a connection that may only look, and what is not there', async () => {
    const { connection, uri } = await ours();
    expect([await connection.type(), await connection.libraryVersion()]).toEqual(['TSVMM', '9.0.0']);
    expect(connection.uri).toBe('tsvmm:///system');
    expect(await connection.nodeInfo()).toMatchObject({ model: 'x86_64', nodes: 1 });
    expect((await connection.cpuMap()).every((online) => online)).toBe(true);
    expect(await connection.capabilities()).toContain("<domain type='kvm'/>");
    expect(Object.keys(await connection.nodeMemoryStats())).toContain('total');
    expect((await connection.nodeCpuStats()).user).toBeGreaterThan(0);
    const looking = await opened(uri, { readOnly: true });
    expect(await codeOf(looking.defineDomain(document('one', 'run=idle')))).toBe(29);
    const domain = await connection.defineDomain(document('one', 'run=idle'));
    expect(await codeOf(domain.abortJob())).toBe(3);
    expect(await codeOf(domain.coreDump('/nonexistent/file'))).toBe(3);
  });

  test('the end of the daemon is heard at once', async () => {
    const { daemon, connection } = await ours();
    const events = await connection.domainEvents('lifecycle');
    const next = codeOf(events.next());
    await daemon.kill('SIGKILL');
    expect(await connection.closed).toMatchObject({ reason: expect.stringMatching(/lost|daemon/) });
    expect(await next).toBe(38);
  });
});

describe("with Debian's libvirtd", () => {
  test('its test driver: domains, events, answers of every kind', async () => {
    const { connection } = await theirs();
    expect(await connection.type()).toBe('TEST');
    expect(await connection.libraryVersion()).toMatch(/^\d+\.\d+\.\d+$/);
    expect(await connection.nodeInfo()).toMatchObject({ model: 'i686', cpus: 16, nodes: 2 });
    const events = await connection.domainEvents('lifecycle');
    const domain = await connection.lookupByName('test');
    expect(await connection.lookupByUuid(domain.uuid)).toEqual(domain);
    expect(await connection.lookupById(domain.id)).toEqual(domain);
    await domain.suspend();
    await domain.resume();
    await domain.destroy();
    expect(await domain.state()).toEqual({ state: 'shut off', reason: 'destroyed' });
    await domain.start();
    expect(await heard(events, 4)).toEqual([
      'suspended paused',
      'resumed unpaused',
      'stopped destroyed',
      'started booted',
    ]);
    const xml = (await domain.xml({ inactive: true }))
      .replace('<name>test</name>', '<name>mine</name>')
      .replace(/<uuid>.*<\/uuid>/, '');
    const mine = await connection.defineDomain(xml);
    expect((await connection.listDomains({ inactive: true })).map(({ name }) => name)).toEqual(['mine']);
    await mine.setMetadata('title', 'Mine', { config: true });
    expect(await mine.metadata('title', { config: true })).toBe('Mine');
    expect(await mine.metadata('description', { config: true })).toBeUndefined();
    expect(await mine.vcpuCount({ config: true, maximum: true })).toBe(2);
    await mine.undefine();
    expect(await codeOf(connection.lookupByName('mine'))).toBe(42);
    expect(await codeOf(connection.defineDomain('<domain'))).toBe(35);
    expect(await codeOf(domain.openConsole())).toBe(3);
    const [stats] = await connection.domainStats({ domains: [domain] });
    expect(stats).toMatchObject({ domain: { name: 'test' }, stats: { 'state.state': 1 } });
    expect(await domain.cpuStats()).toHaveProperty('cpu_time');
    expect(await domain.interfaceAddresses()).toMatchObject([{ addresses: [{ family: 'ipv4' }] }]);
  });

  test('its QEMU driver, a URI that it does not know, and its end', async () => {
    const { libvirtd, connection } = await theirs();
    const qemu = await opened(`qemu+unix:///session?socket=${libvirtd.socket}`);
    expect(await qemu.type()).toBe('QEMU');
    expect(await qemu.listDomains()).toEqual([]);
    expect(await qemu.capabilities()).toContain('<capabilities>');
    expect(await codeOf(connect(`odd+unix:///x?socket=${libvirtd.socket}`))).toBe(5);
    libvirtd.kill();
    expect(await connection.closed).toMatchObject({ reason: 'lost' });
    expect(await codeOf(connection.hostname())).toBe(1);
  });
});
