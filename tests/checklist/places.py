"""Where production code and its tests are."""

from __future__ import annotations

EDGE = "services/gateway/entrypoints"
GATEWAY = "services/gateway"
AT = "tests/integration/gateway"
LIST = f"{AT}/test_checklist.py"
MORE = f"{AT}/test_checklist_edges.py"
WIRE = f"{AT}/test_wire.py"
FAULTS = f"{AT}/test_upstream_faults.py"
