import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { Breakpoints } from '../../../../src/api/gdb/breakpoints.ts';
import { type DebuggedVmm, type Outcome, Session } from '../../../../src/api/gdb/session.ts';
import type { MachineHandle } from '../../../../src/native.ts';
import type { VmInfo } from '../../../../src/vmm/info.ts';
import { FAKE_RAM, type FakeDebug, fakeDebug } from '../../support/fakeDebug.ts';

let native: FakeDebug;
let quits: number;
let gone: boolean;
let session: Session;

beforeEach(async () => {
  native = fakeDebug();
  quits = 0;
  gone = false;
  const handle = {} as MachineHandle;
  const present = () => {
    if (gone) throw new Error('VM is not running');
  };
  const vmm: DebuggedVmm = {
    info: () => ({ config: { cpus: { boot_vcpus: 2 } } }) as VmInfo,
    debugStop: async () => {
      present();
      await native.machineDebugStop(handle);
    },
    debugResume: async (traps, orders = ['run', 'run']) => {
      present();
      native.machineDebugResume(handle, orders, traps);
    },
    debugAccess: async (use) => {
      present();
      return use({ native, handle });
    },
    quit: async () => {
      quits++;
    },
  };
  session = new Session(vmm, new Breakpoints());
  await session.begin();
});

async function ask(text: string): Promise<string | undefined> {
  const outcome = await session.answer(text);
  return outcome === 'later' ? 'later' : outcome.answer;
}

const NO_TRAPS = { hardware: [], software: [] };

describe('a debugging session', () => {
  it('stops the guest, and says what can be asked', async () => {
    expect(native.stops).toBe(1);
    expect(await ask('?')).toBe('T05thread:1;');
    expect(await ask('qSupported:multiprocess+;swbreak+')).toBe(
      'PacketSize=4000;QStartNoAckMode+;qXfer:features:read+;vContSupported+;swbreak+;hwbreak+',
    );
    expect(await ask('vMustReplyEmpty')).toBe('');
    expect(await ask('qAttached')).toBe('1');
    expect(await ask('vCont?')).toBe('vCont;c;C;s;S');
    expect(await ask('!')).toBe('');
    expect(await ask('')).toBe('');
    expect(await ask('qCRC:0,1')).toBe('');
  });

  it('has a thread for each vCPU', async () => {
    expect(await ask('qfThreadInfo')).toBe('m1,2');
    expect(await ask('qsThreadInfo')).toBe('l');
    expect(await ask('qC')).toBe('QC1');
    expect(await ask('qThreadExtraInfo,2')).toBe(Buffer.from('vCPU 1').toString('hex'));
    expect([await ask('T2'), await ask('T3'), await ask('Tx'), await ask('T0')]).toEqual([
      'OK',
      'E03',
      'E03',
      'E03',
    ]);
    expect([await ask('Hg2'), await ask('qC')]).toEqual(['OK', 'QC2']);
    expect([await ask('Hg0'), await ask('qC'), await ask('Hg3')]).toEqual(['OK', 'QC2', 'E03']);
  });

  it('describes the registers in pieces that fit together', async () => {
    let text = '';
    for (let offset = 0; ; offset += 0x100) {
      const part = await ask(`qXfer:features:read:target.xml:${offset.toString(16)},100`);
      text += part?.slice(1).replace(/}(.)/g, (_, c) => String.fromCharCode(c.charCodeAt(0) ^ 0x20));
      if (part?.[0] === 'l') break;
      expect(part?.[0]).toBe('m');
    }
    expect(text).toMatch(/^<\?xml.*<\/target>$/s);
    // Those that gdb insists on, in its order ("i386 Features").
    const names = [...text.matchAll(/<reg name="(\w+)"/g)].map(([, name]) => name);
    expect(names.slice(0, 26).join(' ')).toBe(
      'rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip eflags cs ss ds es fs gs st0 st1',
    );
    expect(names.slice(32, 42).join(' ')).toBe('fctrl fstat ftag fiseg fioff foseg fooff fop xmm0 xmm1');
    expect(names.slice(56, 59).join(' ')).toBe('mxcsr ymm0h ymm1h');
    expect(names.slice(72).join(' ')).toBe('ymm15h fs_base gs_base cr0 cr2 cr3 cr4 cr8 efer');
    const bits = [...text.matchAll(/bitsize="(\d+)"/g)].reduce((sum, [, size]) => sum + Number(size), 0);
    expect(((await ask('g')) ?? '').length).toBe(bits / 4);
    expect(await ask('qXfer:features:read:other.xml:0,100')).toBe('E00');
  });

  it("finds registers in KVM's structures, and changes only the structure that one is in", async () => {
    const general = new Uint8Array(144);
    const special = new Uint8Array(312);
    const vector = new Uint8Array(832);
    const word = (bytes: Uint8Array, offset: number, value: bigint) =>
      new DataView(bytes.buffer).setBigUint64(offset, value, true);
    word(general, 6 * 8, 0x1122334455667788n); // rsp
    word(general, 16 * 8, 0xffffffff81000000n); // rip
    new DataView(special.buffer).setUint16(0 + 12, 0x10, true); // cs
    word(special, 4 * 24, 0xffff888000000000n); // gs base
    word(special, 240, 0x1000n); // cr3
    vector[4] = 0x80; // st7 is in use
    vector[576 + 15 * 16] = 0x5a; // ymm15's upper half
    native.registers.set('1 general', general).set('1 special', special).set('1 vector', vector);
    await ask('Hg2');
    expect(await ask('p7')).toBe('8877665544332211');
    expect(await ask('p10')).toBe('00000081ffffffff');
    expect(await ask('p12')).toBe('10000000');
    expect(await ask(`p${(22 + 8 + 4).toString(16)}`)).toBe('ff3f0000'); // ftag
    expect(await ask(`p${(72).toString(16)}`)).toBe(`5a${'00'.repeat(15)}`);
    expect(await ask(`p${(74).toString(16)}`)).toBe('000000008088ffff');
    expect(await ask(`p${(77).toString(16)}`)).toBe('0010000000000000');
    expect(await ask('P0=0100000000000080')).toBe('OK');
    expect(native.registers.get('1 general')?.slice(0, 8)).toEqual(
      new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0x80]),
    );
    expect(native.registers.get('1 special')).toBe(special);
    for (const wrong of ['P0=01', 'P0=', 'Pffff=0000000000000000', 'P=', 'P0=zz00000000000000']) {
      expect(await ask(wrong)).toBe('E16');
    }
    expect([await ask('pffff'), await ask('p')]).toEqual(['E03', 'E03']);
    const all = (await ask('g')) ?? '';
    expect(await ask(`G${'ff'.repeat(8)}${all.slice(16)}`)).toBe('OK');
    expect(await ask('p0')).toBe('ff'.repeat(8));
    expect(await ask('p7')).toBe('8877665544332211');
    expect(await ask('G00')).toBe('E16');
  });

  it('reads and writes memory, and nothing but RAM', async () => {
    expect(await ask('M0ffe,4:01020304')).toBe('OK');
    expect(await ask('mffe,4')).toBe('01020304');
    expect(await ask('X2000,3:\x00\xff#')).toBe('OK');
    expect(await ask('m2000,3')).toBe('00ff23');
    const end = FAKE_RAM;
    expect(await ask(`m${(end - 2).toString(16)},8`)).toBe('0000');
    expect(await ask(`m${end.toString(16)},1`)).toBe('E0e');
    expect(await ask('mffffffffffffffff,8')).toBe('E0e');
    expect(await ask(`M${(end - 1).toString(16)},2:0101`)).toBe('E0e');
    expect(await ask('M3ffff,1:01')).toBe('E0e');
    expect(await ask('m0,ffffffff')).toHaveLength(2 * 8192);
    expect(await ask('m0,0')).toBe('');
    for (const wrong of ['m', 'm0', 'm,1', 'mx,1', 'm0,fffffffff', 'M0,2:01', 'M0,1', 'X0,1:', 'M0,1:0']) {
      expect(await ask(wrong)).toBe('E16');
    }
  });

  it("finds a program's pages, which KVM does not where the kernel is kept from them", async () => {
    const special = new DataView(new ArrayBuffer(312));
    const entry = (place: number, value: bigint) =>
      new DataView(native.ram.buffer).setBigUint64(place, value, true);
    special.setBigUint64(224, 0x80000001n, true); // cr0
    special.setBigUint64(224 + 2 * 8, 0x1000n, true); // cr3
    special.setBigUint64(224 + 5 * 8, 0x500n, true); // efer
    native.registers.set('0 special', new Uint8Array(special.buffer));
    entry(0x1000 + 0xff * 8, 0x2007n); // of 0x7f8000000000
    entry(0x2000, 0x3007n);
    entry(0x3000, 0x4007n);
    entry(0x3000 + 8, 0x87n); // 2 MiB
    entry(0x4000 + 5 * 8, 0x8000000000006067n);
    native.ram[0x6123] = 0x5a;
    expect(await ask('m7f8000005123,1')).toBe('5a');
    expect(await ask('m7f8000206123,1')).toBe('5a');
    for (const none of ['7f8000006123', '7f8040000000', '7f0000000000', '80007f8000005123']) {
      expect(await ask(`m${none},1`)).toBe('E0e');
    }
    expect(await ask('Z0,7f8000005123,1')).toBe('OK');
    expect(native.ram[0x6123]).toBe(0xcc);
    special.setBigUint64(224 + 5 * 8, 0n, true); // not in long mode
    expect(await ask('m7f8000005123,1')).toBe('E0e');
  });

  it("finds the kernel's memory by the page tables of a vCPU that has it, and a program's only by its own", async () => {
    native.ram[0x1000] = 0x55;
    native.secret = { vcpu: 1, address: 0xffffffff81000000n, physical: 0x1000n };
    expect(await ask('mffffffff81000000,1')).toBe('55');
    expect(await ask('Mffffffff81000000,1:56')).toBe('OK');
    expect(await ask('Z0,ffffffff81000000,1')).toBe('OK');
    expect(native.ram[0x1000]).toBe(0xcc);
    native.secret = { vcpu: 1, address: 0x7fff00000000n, physical: 0x1000n };
    expect(await ask('m7fff00000000,1')).toBe('E0e');
    await ask('Hg2');
    expect(await ask('m7fff00000000,1')).toBe('cc');
  });

  it('puts breakpoints into memory, hides them, and takes them out again', async () => {
    native.ram[0x1000] = 0x55;
    expect(await ask('Z0,1000,1')).toBe('OK');
    expect(await ask('Z0,1000,1')).toBe('OK');
    expect(native.ram[0x1000]).toBe(0xcc);
    expect(await ask('m0fff,2')).toBe('0055');
    expect(await ask('vCont;c')).toBe('later');
    expect(native.resumes).toEqual([[['run', 'run'], { hardware: [], software: [0x1000n] }]]);
    expect(await session.stopped({ vcpu: 1, cause: 'breakpoint', address: 0x1000n })).toBe(
      'T05thread:2;swbreak:;',
    );
    expect(await ask('?')).toBe('T05thread:2;swbreak:;');
    expect(await ask('qC')).toBe('QC2');
    expect(await ask('z0,1000,1')).toBe('OK');
    expect(await ask('z0,1000,1')).toBe('OK');
    expect(native.ram[0x1000]).toBe(0x55);
  });

  it("has the processor's breakpoints stand in where there is no RAM yet", async () => {
    expect(await ask('Z0,ffffffff81000000,1')).toBe('OK');
    expect(await ask('Z0,ffffffff81000000,1')).toBe('OK');
    expect(await ask('Z0,12000,1')).toBe('OK'); // a device's
    expect(await ask('Z2,2000,8')).toBe('OK');
    expect(await ask('Z1,3000,1')).toBe('OK');
    expect(await ask('Z0,30000,1')).toBe('E0e');
    expect(await ask('Z1,4000,1')).toBe('E0e');
    expect(await ask('c')).toBe('later');
    expect(native.resumes[0]?.[1]).toEqual({
      hardware: [
        { kind: 'write', address: 0x2000n, length: 8 },
        { kind: 'execute', address: 0x3000n, length: 1 },
        { kind: 'execute', address: 0xffffffff81000000n, length: 1 },
        { kind: 'execute', address: 0x12000n, length: 1 },
      ],
      software: [],
    });
    const stop = { vcpu: 0, cause: 'hardware-breakpoint' } as const;
    expect(await session.stopped({ ...stop, address: 0xffffffff81000000n })).toBe('T05thread:1;swbreak:;');
    await ask('c');
    expect(await session.stopped({ ...stop, address: 0x3000n })).toBe('T05thread:1;hwbreak:;');
    expect(await ask('z0,ffffffff81000000,1')).toBe('OK');
    expect(await ask('Z0,30000,1')).toBe('OK');
    await session.answer('D');
    expect(native.resumes.at(-1)?.[1]).toEqual(NO_TRAPS);
  });

  it('keeps a breakpoint in memory that the debugger writes over', async () => {
    await ask('Z0,1001,1');
    expect(await ask('M1000,3:010203')).toBe('OK');
    expect([...native.ram.slice(0x1000, 0x1003)]).toEqual([1, 0xcc, 3]);
    expect(await ask('m1000,3')).toBe('010203');
    expect(await ask(`Mfffe,3:${'040506'}`)).toBe('E0e');
    await ask('z0,1001,1');
    expect([...native.ram.slice(0x1000, 0x1003)]).toEqual([1, 2, 3]);
  });

  it('tells of a watchpoint that was met while another stop was told, once its vCPU is to go on', async () => {
    await ask('Z2,2000,8');
    await ask('Z0,1000,1');
    await ask('c');
    const watchpoint = { vcpu: 1, cause: 'write-watchpoint', address: 0x2000n } as const;
    expect(await session.stopped({ vcpu: 0, cause: 'breakpoint', address: 0x1000n })).toBe(
      'T05thread:1;swbreak:;',
    );
    expect(await session.stopped(watchpoint)).toBeUndefined();
    expect(await ask('vCont;s:1')).toBe('later');
    expect(native.resumes).toHaveLength(2);
    expect(await session.stopped({ vcpu: 0, cause: 'step', address: 0x1001n })).toBe('T05thread:1;');
    expect(await ask('vCont;c')).toBe('T05thread:2;watch:2000;');
    expect(await ask('?')).toBe('T05thread:2;watch:2000;');
    expect(native.resumes).toHaveLength(2);
    expect(await ask('qC')).toBe('QC2');
    expect(await ask('vCont;c')).toBe('later');
    expect(native.resumes).toHaveLength(3);
    // One that is not wanted any more, and a breakpoint, which is met again.
    expect(await session.interrupt()).toBe('T02thread:1;');
    await session.stopped(watchpoint);
    await session.stopped({ vcpu: 0, cause: 'breakpoint', address: 0x1000n });
    await ask('z2,2000,8');
    expect(await ask('vCont;c')).toBe('later');
  });

  it('leaves what the guest has written over a breakpoint', async () => {
    await ask('Z0,1000,1');
    native.ram[0x1000] = 0x90;
    expect(await ask('z0,1000,1')).toBe('OK');
    expect(native.ram[0x1000]).toBe(0x90);
  });

  it("has the processor's four breakpoints, and watches memory with them", async () => {
    expect(await ask('Z1,ffffffff81000000,1')).toBe('OK');
    expect(await ask('Z2,2000,8')).toBe('OK');
    expect(await ask('Z3,2010,4')).toBe('OK');
    expect(await ask('Z4,2020,1')).toBe('OK');
    expect(await ask('Z1,1000,1')).toBe('E0e');
    expect(await ask('z4,2020,1')).toBe('OK');
    expect(await ask('Z2,2001,4')).toBe('E0e');
    expect(await ask('Z2,2000,3')).toBe('E0e');
    for (const wrong of ['Z', 'Z5,0,1', 'Z0,', 'Z0,1', 'Z1,x,1']) expect(await ask(wrong)).toBe('E16');
    expect(await ask('c')).toBe('later');
    expect(native.resumes[0]?.[1]).toEqual({
      hardware: [
        { kind: 'execute', address: 0xffffffff81000000n, length: 1 },
        { kind: 'write', address: 0x2000n, length: 8 },
        { kind: 'access', address: 0x2010n, length: 4 },
      ],
      software: [],
    });
    expect(await session.stopped({ vcpu: 0, cause: 'write-watchpoint', address: 0x2000n })).toBe(
      'T05thread:1;watch:2000;',
    );
    await ask('c');
    expect(await session.stopped({ vcpu: 0, cause: 'access-watchpoint', address: 0x2010n })).toBe(
      'T05thread:1;awatch:2010;',
    );
    await ask('c');
    expect(await session.stopped({ vcpu: 0, cause: 'hardware-breakpoint', address: 1n })).toBe(
      'T05thread:1;hwbreak:;',
    );
  });

  it.each([
    ['vCont;c', ['run', 'run']],
    ['vCont;s:2;c', ['run', 'step']],
    ['vCont;s:1', ['step', 'hold']],
    ['vCont;S05:2;C05:1', ['run', 'step']],
    ['vCont;c:1;s:-1', ['run', 'step']],
    ['vCont;s:0', ['step', 'hold']],
    ['c', ['run', 'run']],
    ['s', ['step', 'run']],
    ['C05', ['run', 'run']],
    ['S05;1000', ['step', 'run']],
  ])('%s', async (packet, orders) => {
    expect(await ask(packet)).toBe('later');
    expect(native.resumes).toEqual([[orders, NO_TRAPS]]);
  });

  it('lets one thread go on if that was chosen', async () => {
    expect(await ask('Hc2')).toBe('OK');
    expect(await ask('s')).toBe('later');
    expect(native.resumes).toEqual([[['hold', 'step'], NO_TRAPS]]);
  });

  it('goes on from another address', async () => {
    expect(await ask('c2000')).toBe('later');
    expect(native.registers.get('0 general')?.slice(128, 136)).toEqual(
      new Uint8Array([0, 0x20, 0, 0, 0, 0, 0, 0]),
    );
  });

  it('refuses what is no way to go on', async () => {
    for (const wrong of ['vCont;', 'vCont;t', 'vCont;x', 'vCont;c:3', 'vCont;r1,2', 'cx', 's!']) {
      expect(await ask(wrong)).toBe('E16');
    }
    expect(native.resumes).toEqual([]);
    await ask('c');
    expect(await ask('c')).toBe('E10');
    expect(await ask('Z0,1000,1')).toBe('E10');
  });

  it('is interrupted, and tells each stop once', async () => {
    expect(await session.interrupt()).toBeUndefined();
    await ask('c');
    expect(await session.interrupt()).toBe('T02thread:1;');
    expect(await session.interrupt()).toBeUndefined();
    expect(await session.stopped({ vcpu: 0, cause: 'step', address: 0n })).toBeUndefined();
    expect(session.running).toBe(false);
  });

  it('lets the guest go when it detaches, without breakpoints', async () => {
    await ask('Z0,1000,1');
    await ask('Z1,2000,1');
    expect(await session.answer('D')).toEqual({ answer: 'OK', close: true });
    expect(native.resumes).toEqual([[['run', 'run'], NO_TRAPS]]);
    expect(native.ram[0x1000]).toBe(0);
  });

  it('that vanishes leaves a guest running that ran, and stopped that was stopped', async () => {
    await ask('Z0,1000,1');
    await session.vanish();
    expect(native.resumes).toEqual([]);
    expect(native.ram[0x1000]).toBe(0);
    await ask('Z0,1000,1');
    await ask('c');
    await session.vanish();
    expect(native.resumes.at(-1)).toEqual([['run', 'run'], NO_TRAPS]);
    expect(native.ram[0x1000]).toBe(0);
  });

  it('ends the VM when it kills', async () => {
    expect(await session.answer('vKill;1')).toEqual({ answer: 'OK', close: true });
    expect(await session.answer('k')).toEqual({ answer: undefined, close: true });
    expect(quits).toBe(2);
  });

  it('goes on over a restart of the guest, into whose memory breakpoints are put anew', async () => {
    await ask('Z0,1000,1');
    await ask('Z0,40000,1');
    await ask('Z1,2000,1');
    await ask('c');
    native.ram.fill(0x90);
    expect(await session.restarted()).toBe('T05thread:1;');
    expect(native.ram[0x1000]).toBe(0xcc);
    await ask('c');
    expect(native.resumes.at(-1)?.[1]).toEqual({
      hardware: [
        { kind: 'execute', address: 0x2000n, length: 1 },
        { kind: 'execute', address: 0x40000n, length: 1 },
      ],
      software: [0x1000n],
    });
    await session.interrupt();
    expect(await ask('z0,1000,1')).toBe('OK');
    expect(native.ram[0x1000]).toBe(0x90);
  });

  it('answers with an error when there is no machine any more', async () => {
    gone = true;
    for (const packet of ['g', 'm0,1', 'M0,1:00', 'Z0,0,1', 'c', 'D']) expect(await ask(packet)).toBe('E10');
  });

  it('answers whatever comes, and with no more than fits', async () => {
    const letters = '?qQvTHgGpPmMXZzcsCSDk'.split('');
    const rest = fc.oneof(
      fc.string({ unit: 'binary-ascii', maxLength: 40 }),
      fc
        .tuple(fc.bigInt(0n, 2n ** 65n), fc.bigInt(0n, 2n ** 34n))
        .map(([a, b]) => `${a.toString(16)},${b.toString(16)}`),
      fc.constantFrom('Cont;', 'Cont;c:-1;s', 'Supported', 'Xfer:features:read:target.xml:0,ffffffff'),
    );
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...letters), rest, async (letter, more) => {
        const outcome: Outcome = await session.answer(letter + more);
        if (outcome !== 'later') expect(outcome.answer?.length ?? 0).toBeLessThanOrEqual(16 * 1024);
        await session.interrupt();
      }),
      { numRuns: 2000 },
    );
  });
});
