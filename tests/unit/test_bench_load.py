"""What others used of the machine, read from files as the system writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bge_rerank_integrations.bench import load
from bge_rerank_integrations.bench.load import Load, average, busiest, observed, others_seconds

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux")


class Machine:
    """A /proc of its own."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder

    def core(self, **ticks: int) -> None:
        """What our first core has done; a core that we may not use has done much more."""
        names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
        figures = " ".join(str(ticks.get(name, 0)) for name in names)
        first, foreign = min(load.cores()), max(load.cores()) + 1
        lines = ["cpu  0 0 0 0 0 0 0 0 0 0", f"cpu{first} {figures}", f"cpu{foreign} {'99999 ' * 10}", "intr 1 2 3"]
        (self.proc / "stat").write_text("\n".join(lines))

    def process(self, pid: int, parent: int, *used: int, name: str = "python") -> None:
        """Its user, system, children's user and children's system ticks."""
        (self.proc / str(pid)).mkdir(exist_ok=True)
        fields = " ".join(map(str, (parent, 1, 1, 0, -1, 0, 0, 0, 0, 0, *used, 20, 0)))
        (self.proc / str(pid) / "stat").write_text(f"{pid} ({name}) R {fields}")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def test_others_are_all_but_us_and_what_we_started(machine: Machine) -> None:
    us, child, grandchild = os.getpid(), 5_000_001, 5_000_002
    loads: list[Load] = []
    machine.core(user=100, idle=1000)
    machine.process(us, 1, 0, 0, 0, 0)
    machine.process(child, us, 0, 0, 0, 0, name="odd) name (R 1")
    machine.process(grandchild, child, 0, 0, 0, 0)
    machine.process(5_000_003, 1, 0, 0, 0, 0)
    moments = iter([0.0, 10.0])
    with observed(loads, machine.proc, lambda: next(moments)):
        machine.core(user=1000, nice=50, system=30, irq=10, softirq=5, steal=5, idle=9999, iowait=9999, guest=900)
        machine.process(us, 1, 300, 20, 40, 0)
        machine.process(child, us, 100, 0, 0, 0, name="odd) name (R 1")
        machine.process(grandchild, child, 40, 0, 0, 0)
        machine.process(5_000_003, 1, 400, 0, 0, 0)
    assert loads == [Load(10.0, pytest.approx((1000 - 500) / TICK))]


def test_a_process_that_ended_is_still_ours(machine: Machine) -> None:
    """Its parent has its ticks then."""
    us, child = os.getpid(), 5_000_001
    machine.core(user=500)
    machine.process(us, 1, 10, 0, 0, 0)
    machine.process(child, us, 200, 0, 0, 0)
    before = others_seconds(machine.proc)
    (machine.proc / str(child) / "stat").unlink()
    machine.process(us, 1, 10, 0, 200, 0)
    assert others_seconds(machine.proc) == before == (500 - 210) / TICK


def test_rounded_ticks_never_make_others_negative(machine: Machine) -> None:
    loads: list[Load] = []
    machine.core(user=100)
    with observed(loads, machine.proc):
        machine.process(os.getpid(), 1, 3, 0, 0, 0)
    assert loads[0].others == 0.0


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    loads: list[Load] = []
    with observed(loads, tmp_path / "nothing"):
        pass
    assert loads[0].others is None
    assert average(loads) is None
    assert average([]) is None


def test_average_and_worst_are_in_cores() -> None:
    loads = [Load(1.0, 0.1), Load(3.0, 1.1)]
    assert average(loads) == pytest.approx(0.3)
    assert busiest(loads) == pytest.approx(1.1 / 3)


def test_this_machine_tells() -> None:
    found = others_seconds()
    assert found is not None
    assert found >= 0
