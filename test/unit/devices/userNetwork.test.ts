import { describe, expect, test } from 'vitest';
import { parseForward } from '../../../src/devices/net/userNetwork.ts';

describe('port forwards', () => {
  test('listen on the loopback address unless told otherwise', () => {
    expect(parseForward('tcp:2222:22')).toEqual({
      protocol: 'tcp',
      address: '127.0.0.1',
      hostPort: 2222,
      guestPort: 22,
    });
  });

  test('name an IPv4 or IPv6 address', () => {
    expect(parseForward('udp:0.0.0.0:5353:53')).toMatchObject({ protocol: 'udp', address: '0.0.0.0' });
    expect(parseForward('tcp:::1:8080:80')).toMatchObject({ address: '::1', hostPort: 8080, guestPort: 80 });
    expect(parseForward('tcp:fd00::2:1:65535')).toMatchObject({ address: 'fd00::2', guestPort: 65_535 });
  });

  test.each([
    '',
    'tcp',
    'tcp:22',
    'sctp:1:1',
    'tcp:0:22',
    'tcp:22:65536',
    'tcp:22:',
    'tcp:lo:1:2',
    'tcp:1.2.3.4/99:1:2',
    'tcp:1,2:3',
    'tcp:-1:3',
  ])('"%s" is refused', (text) => {
    expect(() => parseForward(text)).toThrow(/^The port forward ".*" is not like tcp:2222:22/);
  });
});
