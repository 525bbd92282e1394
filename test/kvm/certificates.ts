/** A certificate authority that lives as long as its folder. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

export class Authority {
  readonly folder: string;

  /** @param folder gets `cacert.pem` */
  constructor(folder: string, name = 'tsvmm test') {
    this.folder = folder;
    this.#openssl(
      ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', `/CN=${name}`],
      ['-keyout', 'cakey.pem', '-out', 'cacert.pem', '-addext', 'basicConstraints=critical,CA:TRUE'],
      ['-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
    );
  }

  server(): void {
    this.#issue(
      this.folder,
      'server',
      '/O=Example/CN=localhost',
      'serverAuth',
      'subjectAltName=DNS:localhost,IP:127.0.0.1',
    );
  }

  /** @returns a folder as `pkipath` of libvirt's URIs has it */
  client(subject: string): string {
    const folder = fs.mkdtempSync(path.join(this.folder, 'client-'));
    this.#issue(folder, 'client', subject, 'clientAuth', '');
    fs.copyFileSync(path.join(this.folder, 'cacert.pem'), path.join(folder, 'cacert.pem'));
    return folder;
  }

  /** Writes `cacrl.pem`. @param client its folder */
  revoke(client: string): void {
    const config = [
      ...['[ca]', 'default_ca=it', '[it]', 'database=index.txt', 'crlnumber=crlnumber', 'default_md=sha256'],
      ...['default_crl_days=2', 'private_key=cakey.pem', 'certificate=cacert.pem'],
    ];
    for (const [name, text] of [
      ['ca.cnf', config.join('\n')],
      ['index.txt', ''],
      ['crlnumber', '01'],
    ] as const) {
      fs.writeFileSync(path.join(this.folder, name), text);
    }
    this.#openssl(['ca', '-config', 'ca.cnf', '-revoke', path.join(client, 'clientcert.pem')]);
    this.#openssl(['ca', '-config', 'ca.cnf', '-gencrl', '-out', 'cacrl.pem']);
  }

  #issue(folder: string, name: string, subject: string, usage: string, more: string): void {
    const file = (suffix: string) => path.join(folder, `${name}${suffix}`);
    this.#openssl(
      ['req', '-newkey', 'rsa:2048', '-nodes', '-subj', subject],
      ['-keyout', file('key.pem'), '-out', file('.csr')],
    );
    const extensions = ['basicConstraints=critical,CA:FALSE', `extendedKeyUsage=${usage}`, more];
    fs.writeFileSync(
      file('.ext'),
      `keyUsage=critical,digitalSignature,keyEncipherment\n${extensions.join('\n')}\n`,
    );
    this.#openssl(
      ['x509', '-req', '-in', file('.csr'), '-CA', 'cacert.pem', '-CAkey', 'cakey.pem', '-CAcreateserial'],
      ['-days', '2', '-extfile', file('.ext'), '-out', file('cert.pem')],
    );
  }

  #openssl(...words: readonly (readonly string[])[]): void {
    execFileSync('openssl', words.flat(), { cwd: this.folder, stdio: 'pipe' });
  }
}
