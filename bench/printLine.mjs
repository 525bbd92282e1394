/** The least that a program on one of our runtimes can do: what start-up is measured against. */
console.log('hello');
