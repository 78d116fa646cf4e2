"""`omniroute sandbox`: the simulated provider on a port of its own."""

from __future__ import annotations

import click


@click.command("sandbox")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9999,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option("--latency-ms", type=click.FloatRange(0), default=0.0, help="Wait before every answer.")
@click.option("--jitter-ms", type=click.FloatRange(0), default=0.0, help="Up to this much more, by chance.")
@click.option("--chunks", type=click.IntRange(1), help="Pieces that `story` tells, each with its number.")
@click.option("--chunk-size", type=click.IntRange(1), metavar="BYTES", help="Text in one streamed piece.")
@click.option("--chunk-interval-ms", type=click.FloatRange(0), help="Time between two streamed pieces.")
@click.option("--fail-rate", type=click.FloatRange(0, 1), default=0.0, help="Share of requests that fail.")
@click.option(
    "--fail-status", type=click.IntRange(400, 599), default=500, show_default=True, help="Status of those that fail."
)
@click.option("--rate-limit", type=click.IntRange(1), metavar="N", help="Requests per window and key; 429 beyond.")
@click.option(
    "--rate-window-s",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="Length of a window.",
)
@click.option("--require-key", metavar="KEY", help="Refuse every other credential with 401.")
@click.option("--seed", type=int, default=0, show_default=True, help="Start of the chance behind jitter and failures.")
def command(
    *,
    host: str,
    port: int,
    latency_ms: float,
    jitter_ms: float,
    chunks: int | None,
    chunk_size: int | None,
    chunk_interval_ms: float | None,
    fail_rate: float,
    fail_status: int,
    rate_limit: int | None,
    rate_window_s: float,
    require_key: str | None,
    seed: int,
) -> None:
    """Run the simulated provider as a server of its own.

    It speaks OpenAI Chat Completions at /v1/chat/completions and Anthropic Messages at /v1/messages, always says
    the same to the same request, and needs no account. GET /v1/models lists its models, GET /__stats what it did, and
    GET /__invoice what it would bill: CSV with its own count of every answer.
    """
    from gevent import monkey

    monkey.patch_all()

    import gc
    import random
    import resource
    import signal
    import time

    import gevent

    from omniroute.providers.sandbox import Options
    from omniroute.providers.sandbox.window import RateWindow
    from omniroute.runtime.sandbox_server import SandboxServer
    from omniroute.secret import Secret

    server = SandboxServer(
        host=host,
        port=port,
        options=Options(
            latency_ms=latency_ms,
            jitter_ms=jitter_ms,
            chunks=chunks,
            chunk_size=chunk_size,
            chunk_interval_ms=chunk_interval_ms,
            fail_rate=fail_rate,
            fail_status=fail_status,
            require_key=Secret(require_key) if require_key else None,
        ),
        rng=random.Random(seed),  # noqa: S311 - simulated bad luck, not a secret
        now=time.monotonic,
        rate_window=RateWindow(rate_limit, rate_window_s) if rate_limit else None,
    )
    # One descriptor for each client: a thousand streams need more than the usual soft limit.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, server.stop)
    try:
        server.start()
    except OSError as error:
        raise click.ClickException(f"Cannot listen on {host}:{port}: {error.strerror}") from error
    gc.freeze()
    click.echo(f"listening on http://{f'[{host}]' if ':' in host else host}:{server.port}")
    server.serve_forever()
