/** Sends each block of the microphone's samples, the mean of its channels, to the page. */

declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;

class Microphone extends AudioWorkletProcessor {
  process(inputs: Float32Array[][]): boolean {
    const channels = inputs[0] ?? [];
    const first = channels[0];
    if (first) {
      const mono = new Float32Array(first.length);
      for (const channel of channels) channel.forEach((sample, i) => (mono[i]! += sample / channels.length));
      this.port.postMessage(mono, [mono.buffer]);
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
export {};
