// The bytes of a stream in their order, over broken connections: what is missing is requested by Range.

/** The answer of the server, if it is not a stream. */
export class HttpError extends Error {
  constructor(
    readonly status: number,
    /** What the server says: `detail` of RFC 9457. */
    readonly detail: string,
    /** Seconds after which another attempt makes sense; 0 if the server does not say. */
    readonly retryAfter: number,
  ) {
    super(detail || `status ${status}`);
  }
}

/** The stream has another version than at the start of loading. */
export class ChangedError extends Error {}

export interface SourceOptions {
  /** Header fields for each request, such as `Authorization`. */
  headers?: () => Promise<Record<string, string>> | Record<string, string>;
  /** Called with the fields of a request that was answered by 401. */
  onUnauthorized?: (headers: Record<string, string>) => void;
  signal?: AbortSignal;
  /** Attempts without any progress after which loading fails; 3 at most before the first byte. */
  maxAttempts?: number;
  /** The wait after the first attempt, in milliseconds; doubles with each. */
  backoffMs?: number;
  fetch?: typeof fetch;
}

/** Attempts to get the first byte. */
const FIRST_ATTEMPTS = 3;

/** Reads a resource from its start, piece by piece. */
export class Source {
  /** The next byte that `take` gives. */
  position = 0;
  /** Bytes received. */
  received = 0;
  private etag: string | null = null;
  private reader: ReadableStreamDefaultReader<Uint8Array> | null = null;
  private chunks: Uint8Array[] = [];
  private buffered = 0;
  private end = Infinity;

  constructor(
    private readonly url: string,
    private readonly options: SourceOptions = {},
    private readonly onBytes: (received: number) => void = () => {},
  ) {}

  /** The next `length` bytes. */
  async take(length: number): Promise<Uint8Array> {
    while (this.buffered < length) await this.more();
    const first = this.chunks[0];
    let bytes: Uint8Array;
    if (first && first.length >= length) {
      bytes = first.subarray(0, length);
      this.chunks[0] = first.subarray(length);
      if (this.chunks[0].length === 0) this.chunks.shift();
    } else {
      bytes = new Uint8Array(length);
      for (let at = 0; at < length; ) {
        const chunk = this.chunks[0];
        const part = chunk.subarray(0, length - at);
        bytes.set(part, at);
        at += part.length;
        if (part.length === chunk.length) this.chunks.shift();
        else this.chunks[0] = chunk.subarray(part.length);
      }
    }
    this.buffered -= length;
    this.position += length;
    return bytes;
  }

  /** Ends the request, and drops what is buffered; `take` goes on where it was, by Range. */
  async pause(): Promise<void> {
    const { reader } = this;
    this.reader = null;
    this.chunks = [];
    this.buffered = 0;
    await reader?.cancel().catch(() => {});
  }

  private async more(): Promise<void> {
    const { backoffMs = 300, signal } = this.options;
    // A person who waits for the first byte is told soon; one who has half of a series is helped for longer.
    const maxAttempts = Math.min(this.options.maxAttempts ?? 8, this.received > 0 ? Infinity : FIRST_ATTEMPTS);
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted();
      try {
        this.reader ??= await this.open();
        const { done, value } = await this.reader.read();
        if (!done) {
          this.chunks.push(value);
          this.buffered += value.length;
          this.received += value.length;
          this.onBytes(this.received);
          return;
        }
        this.reader = null;
        // A body that ends too early is a broken connection.
        if (this.position + this.buffered >= this.end) throw new ChangedError("the stream is shorter than its index says");
      } catch (error) {
        this.reader = null;
        signal?.throwIfAborted();
        if (error instanceof ChangedError || !isTransient(error) || attempt >= maxAttempts) throw error;
        await wait(backoffMs * 2 ** (attempt - 1), signal);
        continue;
      }
      if (attempt >= maxAttempts) throw new TypeError("the connection ends too early");
      await wait(backoffMs * 2 ** (attempt - 1), signal);
    }
  }

  private async open(): Promise<ReadableStreamDefaultReader<Uint8Array>> {
    const { signal, onUnauthorized } = this.options;
    const from = this.position + this.buffered;
    const headers: Record<string, string> = { ...(await this.options.headers?.()) };
    if (from > 0) {
      headers.Range = `bytes=${from}-`;
      if (this.etag) headers["If-Range"] = this.etag;
    }
    const response = await (this.options.fetch ?? fetch)(this.url, { headers, signal });
    if (response.status === 401) onUnauthorized?.(headers);
    if (!response.ok || !response.body) throw await failure(response);
    const etag = response.headers.get("ETag");
    if (from > 0 && (response.status !== 206 || (this.etag && etag && etag !== this.etag))) {
      await response.body.cancel();
      throw new ChangedError("the stream has changed");
    }
    this.etag = etag;
    const length = Number(response.headers.get("Content-Length") ?? NaN);
    if (from === 0 && Number.isFinite(length) && !response.headers.get("Content-Encoding")) this.end = length;
    return response.body.getReader() as ReadableStreamDefaultReader<Uint8Array>;
  }
}

/** What the server says of a response that is not the wanted one. */
export async function failure(response: Response): Promise<HttpError> {
  const text = await response.text().catch(() => "");
  let detail = "";
  try {
    detail = JSON.parse(text).detail ?? "";
  } catch {
    // The body is of a proxy, and says nothing to a program.
  }
  return new HttpError(response.status, detail, Number(response.headers.get("Retry-After")) || 0);
}

/** Whether another attempt may succeed: the network failed, or the server is busy while the stream is under way. */
function isTransient(error: unknown): boolean {
  if (error instanceof HttpError) return [429, 500, 502, 504].includes(error.status);
  return error instanceof TypeError || (error instanceof DOMException && error.name === "NetworkError");
}

/** Waits, or fails when the signal aborts. */
export function wait(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
