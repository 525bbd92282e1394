import { describe, expect, it } from 'vitest';
import { readApiTls } from '../../../src/cli/apiTls.ts';

describe('--api-tls', () => {
  it('names an address, a folder and perhaps a list', () => {
    expect(readApiTls('address=0.0.0.0:8443,dir=/etc/pki')).toEqual({
      host: '0.0.0.0',
      port: 8443,
      folder: '/etc/pki',
      allowedSubjects: [],
    });
    expect(readApiTls('address="[::1]:1",dir=/p,allowed_dn=["O=Example,CN=*",CN=bob]')).toMatchObject({
      host: '::1',
      port: 1,
      allowedSubjects: ['O=Example,CN=*', 'CN=bob'],
    });
  });

  it.each([
    ['', 'missing field `address`'],
    ['address=h:1', 'missing field `dir`'],
    ['address=0.0.0.0,dir=/p', 'address: "0.0.0.0" is no ADDRESS:PORT'],
    ['address=h:65536,dir=/p', 'is no ADDRESS:PORT'],
    ['address=h:1,dir=/p,allowed_dn=[]', 'nobody is on the list'],
    ['address=h:1,dir=/p,allow=[a]', 'unknown option "allow"'],
    ['h:1', 'write address=h:1'],
  ])('refuses %j', (text, message) => {
    expect(() => readApiTls(text)).toThrow(message);
  });
});
