"""torch.nn.LSTM (cuDNN on a GPU) as the peer of bench:gpu, and what the device can do at most.

Prints one line of JSON. Without a GPU it measures PyTorch on the CPU, and says so.
"""
import argparse, json, time
import torch


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--batches", default="1,16,64,256,512")
    parser.add_argument("--numbers", default="bf16", choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--lengths", help="a file with a JSON array of steps, to be served padded and in buckets")
    return parser.parse_args()


options = parse()
gpu = torch.cuda.is_available()
device = torch.device("cuda" if gpu else "cpu")
dtype = torch.bfloat16 if options.numbers == "bf16" else torch.float32
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.numbers == "tf32"
if not gpu:
    torch.set_num_threads(1)


def wait():
    if gpu:
        torch.cuda.synchronize()


def seconds_of(run, warm=3, least=5, most=50):
    """Median of the time of a call, waited for."""
    for _ in range(warm):
        run()
    times = []
    end = time.perf_counter() + options.seconds / 3
    while len(times) < least or (len(times) < most and time.perf_counter() < end):
        wait()
        start = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def state(rows):
    return tuple(torch.zeros(1, rows, options.hidden, device=device, dtype=dtype) for _ in range(2))


def graph_of(run):
    """A CUDA graph of a call, after the warm-up that capturing asks for."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


def chained(step, x, start, steps):
    def run():
        now = start
        for _ in range(steps):
            now = step(x, now)
    return run


def step_times(lstm, cell, rows):
    """Microseconds of a step: 64 steps of one call, one step a call, and 16 steps of one graph."""
    x = torch.randn(64, rows, options.hidden, device=device, dtype=dtype)
    start = state(rows)
    found = {"rows": rows, "sequenceUs": seconds_of(lambda: lstm(x, start)) / 64 * 1e6}
    one = chained(lambda x, now: lstm(x, now)[1], x[:1], start, 16)
    found["stepUs"] = seconds_of(one) / 16 * 1e6
    if gpu:
        found["graphUs"] = seconds_of(graph_of(one).replay) / 16 * 1e6
        flat = tuple(part[0] for part in start)
        found["cellGraphUs"] = seconds_of(graph_of(chained(cell, x[0], flat, 16)).replay) / 16 * 1e6
    return found


def limits():
    """Rates of the device; floors of a step follow from them."""
    big = torch.empty((1 << 30 if gpu else 1 << 26) // 4, device=device)
    small = torch.zeros((16 << 20) // 4, device=device)
    copy = torch.empty_like(big)
    size = 8192 if gpu else 1024
    a = torch.randn(size, size, device=device, dtype=dtype)
    return {
        "copyGBs": 2 * big.numel() * 4 / seconds_of(lambda: copy.copy_(big)) / 1e9,
        # 16 MiB stay in the second cache; 20 sums a call hide most of what a launch costs.
        "cacheReadGBs": 20 * small.numel() * 4 / seconds_of(lambda: [small.sum() for _ in range(20)]) / 1e9,
        "matrixTflops": 2 * size**3 / seconds_of(lambda: a @ a) / 1e12,
    }


class Buckets:
    """Requests padded to buckets of 10 steps, in batches; the fullest bucket first."""

    def __init__(self, lstm, lengths, batch):
        self.lstm, self.lengths, self.batch = lstm, lengths, batch
        self.inputs = torch.randn(max(lengths) + 10, batch, options.hidden, device=device, dtype=dtype)
        self.waiting = {}
        # Every shape once: the first call of a shape costs more.
        for bucket in sorted({-(-length // 10) for length in lengths}):
            self.lstm(self.inputs[: bucket * 10], state(batch))
        wait()

    def add(self, number, meant):
        bucket = -(-self.lengths[number % len(self.lengths)] // 10)
        self.waiting.setdefault(bucket, []).append(meant)

    def run(self):
        """Runs one batch and answers when each of its requests was meant to be sent."""
        bucket = max(self.waiting, key=lambda one: (min(len(self.waiting[one]), self.batch), -self.waiting[one][0]))
        queue = self.waiting[bucket]
        taken, rest = queue[: self.batch], queue[self.batch :]
        if rest:
            self.waiting[bucket] = rest
        else:
            del self.waiting[bucket]
        h = self.lstm(self.inputs[: bucket * 10, : len(taken)], state(len(taken)))[1][0]
        h.float().cpu()
        return taken


def peak(buckets):
    """Requests per second with a backlog that does not end."""
    sent = done = 0
    start = time.perf_counter()
    while time.perf_counter() - start < options.seconds:
        while sent - done < 8 * buckets.batch:
            buckets.add(sent, sent)
            sent += 1
        done += len(buckets.run())
    buckets.waiting.clear()
    return done / (time.perf_counter() - start)


def offered(buckets, rate):
    """Latencies at a rate, from when each request was meant to be sent; the first quarter is not counted."""
    gaps = torch.empty(int(rate * options.seconds)).exponential_(rate, generator=torch.Generator().manual_seed(1))
    times = gaps.double().cumsum(0).tolist()
    latencies, sent, start = [], 0, time.perf_counter()
    while sent < len(times) or buckets.waiting:
        now = time.perf_counter() - start
        while sent < len(times) and times[sent] <= now:
            buckets.add(sent, times[sent])
            sent += 1
        if not buckets.waiting:
            continue
        taken = buckets.run()
        now = time.perf_counter() - start
        latencies += [(now - meant) * 1000 for meant in taken if meant > options.seconds / 4]
    latencies.sort()
    at = lambda share: latencies[min(len(latencies) - 1, int(share * len(latencies)))] if latencies else None
    return {"rate": rate, "p50Ms": at(0.5), "p99Ms": at(0.99)}


with torch.no_grad():
    lstm = torch.nn.LSTM(options.hidden, options.hidden).to(device, dtype).eval()
    cell = torch.nn.LSTMCell(options.hidden, options.hidden).to(device, dtype).eval()
    result = {
        "device": torch.cuda.get_device_name() if gpu else "CPU, one thread",
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version() if gpu else None,
        "numbers": options.numbers,
        "hidden": options.hidden,
        "limits": limits(),
        "steps": [step_times(lstm, cell, int(rows)) for rows in options.batches.split(",")],
    }
    if options.lengths:
        with open(options.lengths) as file:
            lengths = json.load(file)
        tried = [(peak(buckets), buckets.batch, buckets) for buckets in (Buckets(lstm, lengths, n) for n in (64, 256))]
        best, batch, buckets = max(tried, key=lambda one: one[0])
        result["buckets"] = {
            "peakPerSecond": best,
            "batch": batch,
            "tried": {str(size): rate for rate, size, _ in tried},
            "at70": offered(buckets, 0.7 * best),
        }
print(json.dumps(result))
