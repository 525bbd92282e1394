/** Everybody has the same colour in all plots; style.mjs says which. */

/** In this order, as names start. */
const KNOWN = [
  'tsvmm, raw',
  'tsvmm',
  'baseline',
  'cloud-hypervisor',
  'firecracker sync',
  'firecracker',
  'qemu',
];

/**
 * The CSS class of a subject's marks.
 *
 * @param {string} subject
 */
export function classOf(subject) {
  const known = KNOWN.findIndex((name) => subject.startsWith(name));
  return `subject-${known < 0 ? 'other' : known}`;
}
