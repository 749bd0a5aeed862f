declare module "@echogarden/speex-resampler-wasm/simd" {
  /** An Emscripten module around libspeexdsp's `speex_resampler.h`; pointers are byte offsets into its heap. */
  export interface SpeexModule {
    /** New after the heap has grown: read it anew after every call that may allocate. */
    readonly HEAP32: Int32Array;
    readonly HEAPF32: Float32Array;
    _malloc(bytes: number): number;
    _free(pointer: number): void;
    _speex_resampler_init(channels: number, from: number, to: number, quality: number, error: number): number;
    _speex_resampler_skip_zeros(state: number): number;
    _speex_resampler_get_input_latency(state: number): number;
    _speex_resampler_process_float(
      state: number,
      channel: number,
      input: number,
      inputLength: number,
      output: number,
      outputLength: number,
    ): number;
    _speex_resampler_destroy(state: number): void;
  }
  export default function load(): Promise<SpeexModule>;
}
