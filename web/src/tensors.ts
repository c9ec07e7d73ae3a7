/** Arrays in a safetensors file: an 8-byte length, a JSON header, and the numbers. */

export type Numbers = Float32Array | Int8Array | Uint8Array | Int32Array;

const KINDS = {
  F32: [Float32Array, 4],
  I32: [Int32Array, 4],
  I8: [Int8Array, 1],
  U8: [Uint8Array, 1],
} as const;

export class Tensors {
  constructor(
    private readonly arrays: Map<string, Numbers>,
    private readonly shapes: Map<string, number[]>,
  ) {}

  static parse(content: ArrayBuffer): Tensors {
    const length = Number(new DataView(content).getBigUint64(0, true));
    const header: Record<string, { dtype: keyof typeof KINDS; shape: number[]; data_offsets: [number, number] }> =
      JSON.parse(new TextDecoder().decode(new Uint8Array(content, 8, length)));
    const arrays = new Map<string, Numbers>();
    const shapes = new Map<string, number[]>();
    for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
      if (name === "__metadata__") continue;
      const kind = KINDS[dtype];
      if (!kind) throw new Error(`${name}: has the type ${dtype}; wanted one of ${Object.keys(KINDS).join(", ")}`);
      const [start, end] = data_offsets;
      arrays.set(name, new kind[0](content.slice(8 + length + start, 8 + length + end)));
      shapes.set(name, shape);
    }
    return new Tensors(arrays, shapes);
  }

  has(name: string): boolean {
    return this.arrays.has(name);
  }

  floats(name: string): Float32Array {
    return this.get(name, Float32Array);
  }

  get<T extends Numbers>(name: string, kind: new (length: number) => T): T {
    const found = this.arrays.get(name);
    if (!(found instanceof kind)) throw new Error(`the file has no ${kind.name} ${name}`);
    return found;
  }

  shape(name: string): number[] {
    return this.shapes.get(name) ?? [];
  }
}
