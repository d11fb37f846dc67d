import { request } from 'node:http';
import { text } from 'node:stream/consumers';

const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;
const SAMPLE = /^(\w+)(?:\{(.*)\})? (\S+)$/;

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** One answer to a scrape. */
export class Scrape {
  readonly text: string;
  readonly samples: readonly Sample[];

  constructor(answer: string) {
    this.text = answer;
    this.samples = answer
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map(sampleOf);
  }

  /** Asks on the socket of the metrics. */
  static from(socketPath: string): Promise<Scrape> {
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath, path: '/metrics' }, async (response) => {
        const answer = await text(response);
        if (response.statusCode === 200) resolve(new Scrape(answer));
        else reject(new Error(`${response.statusCode}: ${answer}`));
      });
      asked.on('error', reject).end();
    });
  }

  /** The metrics that it tells of, with or without a value. */
  get families(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name, type]) => [name, type]));
  }

  /** Those with this name and at least these labels. */
  all(name: string, labels: Readonly<Record<string, string>> = {}): readonly Sample[] {
    const fits = (sample: Sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value);
    return this.samples.filter((sample) => sample.name === name && fits(sample));
  }

  /** Of the only one of those; undefined if there is none. */
  value(name: string, labels: Readonly<Record<string, string>> = {}): number | undefined {
    const found = this.all(name, labels);
    if (found.length > 1) throw new Error(`${name} has ${found.length} values, expected one: ${JSON.stringify(found)}`);
    return found[0]?.value;
  }
}

function sampleOf(line: string): Sample {
  const [, name, labels = '', value] = SAMPLE.exec(line) ?? [];
  if (name === undefined) throw new Error(`not a sample: ${line}`);
  const pairs = [...labels.matchAll(LABEL)].map(([, key, text]) => [key, text.replace(/\\(.)/g, unescaped)]);
  return {
    name,
    labels: Object.fromEntries(pairs),
    value: value === '+Inf' ? Number.POSITIVE_INFINITY : Number(value),
  };
}

function unescaped(_: string, character: string): string {
  return character === 'n' ? '\n' : character;
}
