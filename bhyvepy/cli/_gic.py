"""bhyvectl --dump-gic: the distributor, each vCPU's interface, the interrupts.

JSON has every interrupt; the other forms those that are enabled, pending or active. What
the fields mean is in Arm's IHI 0069 (GICv3) and IHI 0048 (GICv2).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bhyvepy import vgic, vmmapi
from bhyvepy.cli._output import Report

KEY = "gic"
# ICH_LR<n>_EL2.State (IHI 0069, 12.4.6)
LR_STATE = ("invalid", "pending", "active", "pending+active")


def show(report: Report, vm: vmmapi.VM) -> None:
    """Three sections, one object in JSON."""
    gic = vgic.read(vm)
    _distributor(report, gic)
    _interfaces(report, gic)
    _interrupts(report, gic)


def _add(
    report: Report, value: dict[str, Any], title: str, columns: tuple[str, ...], rows: list[Any]
) -> None:
    report.add(
        KEY,
        value,
        ["\t".join(row) for row in [columns, *rows]],
        title=title,
        columns=columns,
        rows=rows,
    )


def _distributor(report: Report, gic: vgic.Vgic) -> None:
    value = {
        "version": gic.version,
        "list_regs": gic.list_regs,
        "gicd_ctlr": f"{gic.ctlr:#x}",
        "gicd": f"{gic.dist:#x}",
        "gicc" if gic.version == 2 else "gicr": f"{gic.redist:#x}",
        "its": None if gic.its is None else f"{gic.its:#x}",
    }
    names = {
        "version": "GICv",
        "list_regs": "List registers",
        "gicd_ctlr": "GICD_CTLR",
        "gicd": "GICD",
        "gicc": "GICC",
        "gicr": "GICR",
        "its": "ITS",
    }
    row = ["-" if v is None else str(v) for v in value.values()]
    _add(report, value, "Distributor", tuple(names[k] for k in value), [row])


def list_register(value: int) -> str:
    """INTID, state and priority of an ICH_LR<n>_EL2."""
    hw = " hw" if value >> 61 & 1 else ""
    return f"{value & 0xFFFFFFFF}:{LR_STATE[value >> 62]}:{value >> 48 & 0xFF:#04x}{hw}"


def _interfaces(report: Report, gic: vgic.Vgic) -> None:
    columns = ("vCPU", "Awake", "PMR", "Running", "VMCR", "HCR", "List registers")
    value: list[dict[str, Any]] = []
    rows = []
    for c in gic.cpus:
        lrs = [f"{x:#018x}" for x in c.list_registers]
        one: dict[str, Any] = {
            "vcpu": c.vcpu,
            "asleep": c.asleep,
            "pmr": c.pmr,
            "running": c.running,
            "ich_vmcr_el2": f"{c.vmcr:#x}",
            "ich_hcr_el2": f"{c.hcr:#x}",
            "list_registers": lrs,
        }
        if gic.version == 2:
            one["gicc_ctlr"] = f"{c.ctlr:#x}"
        else:
            one["lpis"] = c.lpis
        value.append(one)
        rows.append(
            (
                str(c.vcpu),
                _yes(not c.asleep),
                f"{c.pmr:#04x}",
                "-" if c.running == 0xFF else f"{c.running:#04x}",
                f"{c.vmcr:#x}",
                f"{c.hcr:#x}",
                ", ".join(map(list_register, c.list_registers)) or "-",
            )
        )
    _add(report, {"cpus": value}, "CPU interfaces", columns, rows)


def _interrupts(report: Report, gic: vgic.Vgic) -> None:
    columns = (
        *("INTID", "Kind", "vCPU", "Enabled", "Pending", "Active"),
        *("Trigger", "Line", "Group", "Priority", "Route"),
    )
    value = [
        {"kind": i.kind.lower()} | asdict(i) | {"route": f"{i.route:#x}"} for i in gic.interrupts
    ]
    rows = [
        (
            str(i.intid),
            i.kind,
            "-" if i.target is None else str(i.target),
            _yes(i.enabled),
            _yes(i.pending),
            _yes(i.active),
            "edge" if i.edge else "level",
            "high" if i.line else "low",
            str(i.group),
            f"{i.priority:#04x}",
            f"{i.route:#x}" if i.kind == "SPI" else "-",
        )
        for i in gic.interrupts
        if i.enabled or i.pending or i.active
    ]
    _add(report, {"interrupts": value}, "Interrupts", columns, rows)


def _yes(on: bool) -> str:
    return "yes" if on else "no"
