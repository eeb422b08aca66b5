"""One Apache Kafka node on loopback: its jars, its settings, its start and its end.

The node is the real broker (KRaft, broker and controller in one process) with its data on disk,
so what was acknowledged survives a restart and a kill. Nothing here knows topics.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from deploy.local.java import find_java
from deploy.local.problems import StackProblem
from deploy.local.processes import end, signal_group, spawn, wait_until

_HERE = Path(__file__).parent / "kafka"
_POM = _HERE / "pom.xml"
_ROOT = Path(__file__).parents[2]
CACHE_DIR = _ROOT / ".mesh" / "cache"

START_TIMEOUT_S = 90.0
MAVEN_TIMEOUT_S = 900.0

# Sized for one machine: few threads, few internal partitions, small buffers. The rest is default.
_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={log_dir}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
log.cleaner.dedupe.buffer.size=16777216
log.index.size.max.bytes=1048576
log.segment.bytes=134217728
"""


def kafka_version() -> str:
    """The version that `kafka/pom.xml` pins."""
    match = re.search(r"<kafka\.version>([^<]+)<", _POM.read_text())
    assert match is not None, "pom.xml pins no kafka.version"
    return match.group(1)


def jars_present(cache_dir: Path = CACHE_DIR) -> bool:
    """Whether `ensure_jars` would have nothing to do."""
    return (cache_dir / f"kafka-{kafka_version()}" / ".complete").exists()


def ensure_jars(cache_dir: Path = CACHE_DIR, say: Callable[[str], None] = print) -> Path:
    """The folder of the broker's jars; fetched by Maven once and shared by all users of the cache.

    Raises:
        StackProblem: Maven is missing or failed.
    """
    target = cache_dir / f"kafka-{kafka_version()}"
    if jars_present(cache_dir):
        return target
    cache_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(cache_dir / ".kafka.lock"):
        if not jars_present(cache_dir):
            _fetch(target, say)
    return target


def _fetch(target: Path, say: Callable[[str], None]) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise StackProblem("Maven is missing: install it (Debian: apt-get install maven).")
    say(f"fetching Apache Kafka {kafka_version()} with Maven (43 MB, once)")
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    started = time.monotonic()
    process = subprocess.Popen(
        [maven, "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies",
         f"-DoutputDirectory={part}", "-DincludeScope=runtime"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    while True:
        try:
            output, _ = process.communicate(timeout=10)
            break
        except subprocess.TimeoutExpired:
            elapsed_s = time.monotonic() - started
            say(f"fetching Apache Kafka: {elapsed_s:.0f} s")
            if elapsed_s > MAVEN_TIMEOUT_S:
                process.kill()
    if process.returncode != 0:
        last = output.decode(errors="replace").strip()[-600:]
        raise StackProblem(
            "Maven could not fetch Apache Kafka: check the network or Maven's settings.xml, then "
            f"start again. Maven said: {last}"
        )
    (part / ".complete").touch()
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class KafkaNode:
    """One broker with its data in `data_dir`; may be started again after `stop` or `kill`."""

    def __init__(
        self, data_dir: Path, port: int, controller_port: int, *, jars_dir: Path | None = None
    ) -> None:
        self._data_dir = data_dir.resolve()
        self._port = port
        self._controller_port = controller_port
        self._jars_dir = jars_dir if jars_dir is not None else ensure_jars()
        self._process: subprocess.Popen[bytes] | None = None
        self._archive_part: Path | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self._port}"

    @property
    def log_path(self) -> Path:
        """Where a node started by `start` writes what it says."""
        return self._data_dir / "broker.log"

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the broker and wait until it answers.

        Raises:
            StackProblem: a port is taken, Java is missing, or it did not answer in time.
        """
        assert self._process is None, "the node runs already"
        self.require_ports()
        command = self.command()
        with self.log_path.open("ab") as log:
            self._process = spawn(command, output=log, death_signal=signal.SIGTERM)
        try:
            wait_until(
                self.answers,
                what=f"Apache Kafka (see {self.log_path})",
                timeout_s=timeout_s,
                process=self._process,
            )
        except StackProblem:
            self.kill()
            raise

    def stop(self, grace_s: float = 20.0) -> None:
        """End the broker cleanly; killed after `grace_s`."""
        process, self._process = self._process, None
        if process is not None:
            end(process, grace_s=grace_s)
        self.keep_class_archive()

    def kill(self) -> None:
        """End the broker as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            signal_group(process.pid, signal.SIGKILL)
            process.wait()

    def require_ports(self) -> None:
        """Raise StackProblem if one of the ports is taken."""
        for port in (self._port, self._controller_port):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise StackProblem(
                        f"Port {port} (Kafka) is in use: end the process that listens on it or "
                        "choose another port."
                    ) from error

    def command(self) -> list[str]:
        """The broker's command line; writes its settings and formats new storage first."""
        java, java_version = find_java()
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = self._data_dir / "server.properties"
        log_dir = self._data_dir / "data"
        settings.write_text(
            _SETTINGS.format(
                port=self._port, controller_port=self._controller_port, log_dir=log_dir
            )
        )
        # A sorted list rather than `*`: the class archive is valid for one order only.
        jars = os.pathsep.join(str(jar) for jar in sorted(self._jars_dir.glob("*.jar")))
        base = [
            java, "-Xmx512m", "-Xms96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            f"-Dlog4j2.configurationFile={_HERE / 'log4j2.properties'}",
        ]  # fmt: skip
        if not (log_dir / "meta.properties").exists():
            self._format([*base, "-cp", jars], settings)
        archive = self._class_archive(java_version)
        return [*base, *archive, "-cp", jars, "kafka.Kafka", str(settings)]

    def _format(self, base: list[str], settings: Path) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        answer = subprocess.run(
            [*base, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}",
             "-c", str(settings)],
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        if answer.returncode != 0:
            said = (answer.stdout + answer.stderr).decode(errors="replace").strip()[-600:]
            raise StackProblem(f"Apache Kafka could not format its storage: {said}")

    def _class_archive(self, java_version: str) -> list[str]:
        """JVM options that load classes from an archive (halves the start), or record one."""
        archive = self._jars_dir / f"classes-{java_version}.jsa"
        if archive.exists():
            return ["-Xshare:auto", f"-XX:SharedArchiveFile={archive}"]
        self._archive_part = archive.with_suffix(f".{os.getpid()}-{self._port}.part")
        return [f"-XX:ArchiveClassesAtExit={self._archive_part}", "-Xlog:disable"]

    def keep_class_archive(self) -> None:
        """Keep what a cleanly ended broker recorded, for all later starts."""
        part, self._archive_part = self._archive_part, None
        if part is not None and part.exists():
            part.replace(part.with_name(part.name.split(f".{os.getpid()}-")[0] + ".jsa"))

    def answers(self) -> bool:
        """Whether the broker answers an ApiVersions request (KIP-35): it does once it serves."""
        request = struct.pack(">hhih", 18, 0, 1, -1)
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as client:
                client.settimeout(2)
                client.sendall(struct.pack(">i", len(request)) + request)
                return len(client.recv(8)) == 8
        except OSError:
            return False


if __name__ == "__main__":
    try:
        ensure_jars()
    except StackProblem as problem:
        raise SystemExit(f"mesh: {problem}") from None
