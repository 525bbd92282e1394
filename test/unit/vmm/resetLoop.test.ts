import { describe, expect, it } from 'vitest';
import { ResetLoop } from '../../../src/vmm/resetLoop.ts';

describe('a guest that resets itself again and again', () => {
  it('is named once, with cause and rate', () => {
    const loop = new ResetLoop();
    const said = Array.from({ length: 100 }, (_, index) => loop.count('triple-fault', 1000 + index * 20));
    expect(said.filter((text) => text !== undefined)).toEqual([
      'The guest resets itself again and again, 50 times a second, by a triple fault, as after a fault of a kernel ' +
        'that has no handler yet: it gets no further (this is said once)',
    ]);
    expect(said.findIndex((text) => text !== undefined)).toBe(9);
  });

  it('is not one that ran for a while in between', () => {
    const loop = new ResetLoop();
    for (let index = 0; index < 100; index++) expect(loop.count('acpi', index * 10_001)).toBeUndefined();
  });

  it('may be slow', () => {
    const loop = new ResetLoop();
    const said = Array.from({ length: 10 }, (_, index) => loop.count('watchdog', index * 4000));
    expect(said.at(-1)).toContain('0.3 times a second, by the watchdog');
  });
});
