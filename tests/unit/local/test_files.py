"""The files of the embedded stack: private, stable, bounded."""

from __future__ import annotations

import base64
import io
import stat
from pathlib import Path

from deploy.local.demo import Demo, read_demo, write_demo
from deploy.local.environment import ensure_secrets, stack_variables
from deploy.local.layout import Layout, Ports, read_env_file
from deploy.local.logs import Console, LogFile
from deploy.local.specs import DATABASES


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_data_directory_and_its_secrets_are_for_the_owner_alone(tmp_path: Path) -> None:
    layout = Layout.prepared(tmp_path / "data")
    ensure_secrets(layout)
    assert mode_of(layout.data_dir) == 0o700
    assert mode_of(layout.secrets) == 0o600


def test_secrets_are_made_once(tmp_path: Path) -> None:
    layout = Layout.prepared(tmp_path)
    first = ensure_secrets(layout)
    assert ensure_secrets(layout) == first
    assert len(first["MESH_SERVICE_SECRET"]) >= 32
    assert len(base64.b64decode(first["MESH_CATALOG_CREDENTIAL_KEY"])) == 32


def test_a_secret_that_is_new_to_the_product_joins_those_that_are_there(tmp_path: Path) -> None:
    layout = Layout.prepared(tmp_path)
    layout.secrets.write_text("MESH_SERVICE_SECRET=kept\n")
    assert ensure_secrets(layout)["MESH_SERVICE_SECRET"] == "kept"
    assert set(read_env_file(layout.secrets)) > {"MESH_SERVICE_SECRET"}


def test_the_stack_file_holds_no_secret(tmp_path: Path) -> None:
    layout = Layout.prepared(tmp_path)
    dsns = {name: f"postgresql:///{name}" for name in DATABASES}
    variables = stack_variables(Ports(), layout, dsns=dsns, bootstrap="127.0.0.1:9092")
    assert not set(variables) & set(ensure_secrets(layout))
    assert variables["MESH_LOCAL_MODEL_URL"] == "http://127.0.0.1:8300/v1"


def test_wiping_the_memory_only_data_keeps_the_data_of_the_other_mode(tmp_path: Path) -> None:
    Layout.prepared(tmp_path)
    for name in ("state", "memory"):
        (tmp_path / name).mkdir()
    Layout(tmp_path, memory_only=True).wipe()
    assert (tmp_path / "state").exists()
    assert not (tmp_path / "memory").exists()


def test_a_fresh_start_wipes_all_data_and_keeps_the_secrets(tmp_path: Path) -> None:
    layout = Layout.prepared(tmp_path)
    secrets = ensure_secrets(layout)
    write_demo(layout, Demo("http://a", "rsk_1", "http://b", "e", "p"))
    layout.state.mkdir()
    layout.wipe(everything=True)
    assert not layout.state.exists()
    assert read_demo(layout) is None
    assert ensure_secrets(layout) == secrets


def test_the_demo_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    layout = Layout.prepared(tmp_path)
    demo = Demo("http://127.0.0.1:8080", "rsk_1", "http://127.0.0.1:8090", "demo@x", "pw-_1")
    write_demo(layout, demo)
    assert read_demo(layout) == demo
    assert mode_of(layout.demo) == 0o600


def test_a_log_keeps_the_newest_file_and_the_one_before(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", bytes_max=20)
    for number in range(5):
        log.write(b"line number %d\n" % number)
    log.close()
    assert (tmp_path / "a.log").read_bytes() == b"line number 4\n"
    assert (tmp_path / "a.log.1").read_bytes() == b"line number 3\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_later_start_keeps_the_log_of_the_one_before(tmp_path: Path) -> None:
    first = LogFile(tmp_path / "a.log")
    first.write(b"why it ended\n")
    first.close()
    LogFile(tmp_path / "a.log").close()
    assert (tmp_path / "a.log.1").read_bytes() == b"why it ended\n"


def test_each_line_on_the_terminal_says_who_wrote_it() -> None:
    said = io.StringIO()
    console = Console(said)
    console.child("billing", b"ready\n")
    assert said.getvalue() == "billing    | ready\n"


def test_a_quiet_console_leaves_out_the_children_but_no_warning() -> None:
    said = io.StringIO()
    console = Console(said, quiet=True)
    console.child("billing", b"ready\n")
    console.warn("billing ended")
    assert said.getvalue() == "mesh       | WARNING: billing ended\n"
