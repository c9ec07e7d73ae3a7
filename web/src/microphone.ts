/** The microphone, without the browser's processing for voice calls: noise suppression lowers steady sounds by 20 dB. */

import workletUrl from "./microphone_worklet.ts?worker&url";

const REASONS: Record<string, string> = {
  NotAllowedError: "the browser may not use it; allow it in the address bar",
  NotFoundError: "this machine has none; connect one",
  NotReadableError: "another program uses it",
};

export class MicrophoneError extends Error {}

export class Microphone {
  private constructor(
    private readonly context: AudioContext,
    private readonly stream: MediaStream,
  ) {}

  get rateHz(): number {
    return this.context.sampleRate;
  }

  /** Turn the microphone on. hear: gets each block of samples, at `rateHz`. */
  static async open(hear: (block: Float32Array) => void): Promise<Microphone> {
    const devices = navigator.mediaDevices; // browsers have none on a page that is neither local nor HTTPS
    if (!devices) throw new MicrophoneError("browsers allow it only on this machine's own address or over HTTPS");
    const context = new AudioContext();
    let stream: MediaStream | null = null;
    try {
      const untouched = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      stream = await devices.getUserMedia({ audio: untouched });
      await context.audioWorklet.addModule(workletUrl);
      const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
      node.port.onmessage = ({ data }: MessageEvent<Float32Array>) => hear(data);
      context.createMediaStreamSource(stream).connect(node);
      await context.resume();
      return new Microphone(context, stream);
    } catch (error) {
      turnOff(context, stream);
      const { name, message } = error as Error;
      throw new MicrophoneError(REASONS[name] ?? message);
    }
  }

  close(): void {
    turnOff(this.context, this.stream);
  }
}

function turnOff(context: AudioContext, stream: MediaStream | null): void {
  for (const track of stream?.getTracks() ?? []) track.stop(); // otherwise the browser shows that it listens
  void context.close();
}

/** The last samples of a sound that comes in blocks. */
export class LastSamples {
  private readonly blocks: Float32Array[] = [];
  private kept = 0;
  heard = 0; // samples since the start

  constructor(private readonly most: number) {}

  push(block: Float32Array): void {
    this.blocks.push(block);
    this.kept += block.length;
    this.heard += block.length;
    while (this.kept - this.blocks[0]!.length >= this.most) this.kept -= this.blocks.shift()!.length;
  }

  /** At most `most` samples that end with the newest one. */
  wave(): Float32Array {
    const all = new Float32Array(this.kept);
    let at = 0;
    for (const block of this.blocks) {
      all.set(block, at);
      at += block.length;
    }
    return all.subarray(Math.max(0, all.length - this.most));
  }
}
