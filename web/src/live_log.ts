/** What a microphone has heard since the start (demo/ear.py). */

import { heard, NOTHING, type Heard } from "./heard";

const MAX_LOGGED = 5_000; // stretches; the oldest are dropped
const FORMULA = /^'*[=+\-@\t\r]/; // spreadsheets run a text that begins so (serving/files/csv_cells.py)

export class LiveLog {
  readonly stretches: Heard[] = [];
  private logged = 0;

  /** Add an answer about the sound from the last answer until `end`, in seconds. NOTHING ends the last stretch. */
  note(label: string, probability: number, end: number): void {
    const start = this.logged;
    this.logged = end;
    if (label === NOTHING || end <= start) return;
    const last = this.stretches.at(-1);
    if (last && last.label === label && last.end === start) {
      const parts = [last.start, start];
      const [joined] = heard(parts, [start, end], [label, label], [last.probability, probability]);
      this.stretches[this.stretches.length - 1] = joined!;
    } else {
      this.stretches.push({ label, start, end, probability });
    }
    if (this.stretches.length > MAX_LOGGED) this.stretches.shift();
  }

  /** CSV with a header: start_s, end_s, label, probability. */
  csv(): string {
    const safe = (text: string) => (FORMULA.test(text) ? `'${text}` : text);
    const cell = (text: string) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const rows = this.stretches.map(({ start, end, label, probability }) =>
      [start.toFixed(1), end.toFixed(1), cell(safe(label)), probability.toFixed(3)].join(","),
    );
    return ["start_s,end_s,label,probability", ...rows, ""].join("\n");
  }
}
