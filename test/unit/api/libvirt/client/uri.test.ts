import { expect, test } from 'vitest';
import { sshArguments } from '../../../../../src/api/libvirt/client/sshCommand.ts';
import { localSocket, parseUri } from '../../../../../src/api/libvirt/client/uri.ts';
import { LibvirtError } from '../../../../../src/api/libvirt/libvirtError.ts';

test.each([
  ['qemu+unix:///system?socket=/run/x', 'unix', '', 'qemu:///system'],
  ['tsvmm:///system', 'unix', '', 'tsvmm:///system'],
  ['test:///default', 'unix', '', 'test:///default'],
  ['qemu+unix:///system?socket=/x&extra=1', 'unix', '', 'qemu:///system?extra=1'],
  ['tsvmm://host/system', 'tls', 'host', 'tsvmm:///system'],
  ['tsvmm+tls://[fe80::1]:1234/system?no_verify=1', 'tls', 'fe80::1', 'tsvmm:///system'],
  ['qemu+ssh://me@host:22/system?keyfile=/k', 'ssh', 'host', 'qemu:///system'],
  ['qemu+ssh://host/session?name=qemu%2Bx%3A%2F%2F%2Fy', 'ssh', 'host', 'qemu+x:///y'],
  ['remote+tcp://host/', 'tcp', 'host', ''],
  ['qemu+ext:///system?command=/bin/relay', 'ext', '', 'qemu:///system'],
])('%s', (uri, transport, host, name) => {
  expect(parseUri(uri)).toMatchObject({ transport, host, name });
});

test.each([
  ['/system', /is no URI/],
  ['qemu+unix://host/system', /using unix socket and remote server 'host' is not supported/],
  ['qemu+libssh2://host/system', /transport libssh2 is not supported: use ssh/],
  ['qemu+carrier://host/system', /transport 'carrier' is not known: unix, tls, ssh, tcp, ext/],
  ['qemu:///system?mode=odd', /mode 'odd' is not known: auto, direct, legacy/],
  ['qemu+ssh://host/system?proxy=odd', /proxy 'odd' is not known/],
  ['qemu:///system?auth=sasl.gssapi', /SASL authentication is not supported/],
  ['qemu:///system?authfile=/x', /authfile is not supported: SASL/],
  ['qemu+ssh://host/system?sshauth=agent', /sshauth is not supported: it is for libssh/],
  ['qemu+ssh://host/system?known_hosts_verify=odd', /known_hosts_verify 'odd' is not known/],
  ['qemu+tls://host/system?tls_priority=NORMAL', /tls_priority is not supported: it is for GnuTLS/],
  ['qemu+tls://host:70000/system', /port 70000/],
  ['qemu:///system?socket=%zz', /percent sign/],
  ['qemu:///system?socket=%00', /NUL/],
  ['qemu+ssh://a b/x?__proto__=1', undefined],
  [`qemu:///${'x'.repeat(100_000)}`, /is no URI/],
])('%s is refused', (uri, message) => {
  if (message === undefined) return expect(parseUri(uri).name).toBe('qemu:///x?__proto__=1');
  expect(() => parseUri(uri)).toThrow(LibvirtError);
  expect(() => parseUri(uri)).toThrow(message);
});

test('a socket is where libvirt looks for it', () => {
  const at = (uri: string, readOnly = false) => localSocket(parseUri(uri), readOnly, { TSVMM_DIR: '/vms' });
  expect(at('qemu+unix:///system?socket=/a+b%20c')).toBe('/a+b c');
  expect(at('odd:///system')).toBe('/run/libvirt/libvirt-sock');
  expect(at('odd:///system', true)).toBe('/run/libvirt/libvirt-sock-ro');
  expect(at('odd:///system?mode=direct', true)).toBe('/run/libvirt/virtoddd-sock-ro');
  expect(at('tsvmm:///system?mode=legacy')).toBe('/run/libvirt/libvirt-sock');
  expect(at('tsvmm:///system')).toMatch(/^\/(vms|run\/libvirt)\/virttsvmmd-sock$/);
});

const ssh = (uri: string, readOnly = false) => sshArguments(parseUri(uri), readOnly);

test('ssh is told what libvirt tells it', () => {
  expect(
    ssh('tsvmm+ssh://me@host:2222/system?keyfile=/k&no_tty=1&no_verify=1&proxy=native').slice(0, -1),
  ).toEqual([
    ...['-p', '2222', '-l', 'me', '-i', '/k', '-T', '-e', 'none'],
    ...['-o', 'BatchMode=yes', '-o', 'StrictHostKeyChecking=no', '--', 'host'],
  ]);
  expect(ssh('tsvmm+ssh://host/system?known_hosts=/h&known_hosts_verify=auto')).toEqual(
    expect.arrayContaining(['UserKnownHostsFile=/h', 'StrictHostKeyChecking=accept-new']),
  );
  expect(ssh('tsvmm+ssh://host/system?proxy=native').at(-1)).toBe(
    `sh -c 'exec virt-ssh-helper '\\''tsvmm:///system'\\'''`,
  );
  expect(ssh('tsvmm+ssh://host/system?proxy=native', true).at(-1)).toContain('virt-ssh-helper -r ');
  expect(ssh('tsvmm+ssh://host/system').at(-1)).toMatch(/virt-ssh-helper.*nc.*-q0 -U.*libvirt-sock/);
  const named = ssh('tsvmm+ssh://host/system?socket=/s').at(-1);
  expect(named).toMatch(/-U '\\''\/s'\\''/);
  expect(named).not.toContain('virt-ssh-helper');
  expect(() => ssh('tsvmm+ssh://host/system?socket=/s&mode=direct')).toThrow(/mode=direct/);
});

test('what is in a URI is no option of ssh and no word of a shell', () => {
  const args = ssh("tsvmm+ssh://host/system?socket=/a'%3Brm%20-rf%20x");
  expect(args.indexOf('--')).toBe(args.indexOf('host') - 1);
  // Unquoted twice, as two shells do, it is one word again.
  const unquote = (word: string) =>
    word.replaceAll("'\\''", '\u0001').replaceAll("'", '').replaceAll('\u0001', "'");
  expect(unquote(String(args.at(-1)).replace(/^sh -c /, ''))).toContain(`-U '/a'\\'';rm -rf x'`);
});

test.each(['-oProxyCommand=x', '$(x)', '`x`', 'a;x', 'a|x', 'a b', "a'b"])(
  'ssh is not given the host %j: its configuration may have it in a command',
  (host) => {
    expect(() => ssh(`tsvmm+ssh://${host}/system`)).toThrow(`'${host}' is no host`);
  },
);

test.each(['-oProxyCommand=x', 'a -o', '`x`', 'a;x', 'a\nb', 'a\\'])('nor the user %j', (user) => {
  expect(() => ssh(`tsvmm+ssh://${encodeURIComponent(user)}@host/system`)).toThrow('is no user');
});

test.each([
  ['DOMAIN\\me', 'host_1.example.org'],
  ['me@example.org', 'fe80::1'],
])('ssh is given the user %j of the host %j', (user, host) => {
  const authority = host.includes(':') ? `[${host}]` : host;
  const args = ssh(`tsvmm+ssh://${encodeURIComponent(user)}@${authority}/system`);
  expect(args).toEqual(expect.arrayContaining(['-l', user, '--', host]));
});
