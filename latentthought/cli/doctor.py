"""`latentthought doctor`: what is installed, which devices are there, what is missing and how to get it."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from typing import Any

from latentthought.cli.launching import Finding, launching
from latentthought.cli.parser import Parser

DESCRIPTION = "Versions, devices, extras, data, launching, and what is missing. Exit code 1 when a required package is absent."

REQUIRED = (
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "safetensors",
    "pydantic",
    "PyYAML",
    "regex",
    "sympy",
    "rich",
)
EXTRAS = {  # extra -> (distribution, what it is for)
    "deepspeed": (("deepspeed",), "ZeRO training"),
    "peft": (("peft",), "LoRA"),
    "quantize": (("bitsandbytes",), "adapters on a base in 8 or 4 bits"),
    "eval": (("lm-eval", "math-verify"), "lm-evaluation-harness, a second grader"),
    "fp8": (("torchao",), "float8 training"),
    "te": (("transformer-engine",), "float8 training on NVIDIA GPUs"),
    "plot": (("matplotlib",), "figures"),
    "track": (("wandb",), "experiment tracking"),
    "sweep": (("submitit",), "sweeps as jobs of a cluster"),
}


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    findings = examine()
    if args.json:
        print(json.dumps(findings, indent=2))
    else:
        _show(findings)
    return 1 if findings["missing"] else 0


def package_version() -> str:
    """The installed version, or that this is a checkout that nobody installed."""
    return _version("latentthought") or "(not installed)"


def examine() -> dict[str, Any]:
    """Everything that `doctor` reports, as plain values."""
    required = {name: _version(name) for name in REQUIRED}
    return {
        "latentthought": package_version(),
        "python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        "required": required,
        "missing": [name for name, version in required.items() if version is None],
        "extras": {
            extra: {"for": purpose, "packages": {name: _version(name) for name in names}}
            for extra, (names, purpose) in EXTRAS.items()
        },
        "devices": _devices(),
        "environment": _environment(),
        "launching": launching(),
        "disk_free_gb": round(shutil.disk_usage(os.getcwd()).free / 1e9, 1),
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    devices: dict[str, Any] = {
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    }
    try:
        import torch
    except (
        Exception
    ) as error:  # a broken build raises OSError or RuntimeError: that is a finding, not a failure
        return {**devices, "torch": f"does not import: {error}"}
    devices["torch_threads"] = torch.get_num_threads()
    devices["cuda"] = [
        f"{torch.cuda.get_device_name(i)}, {torch.cuda.get_device_properties(i).total_memory / 2**30:.0f} GiB"
        for i in range(torch.cuda.device_count())
    ]
    devices["bf16"] = bool(devices["cuda"]) and torch.cuda.is_bf16_supported()
    devices["fp8"] = _float8("cuda" if devices["cuda"] else "cpu")
    devices["mps"] = torch.backends.mps.is_available()
    return devices


def _float8(device: str) -> str:
    """What `engine.precision: fp8` would do here."""
    from latentthought.cli.noise import quiet_libraries
    from latentthought.training.float8 import describe

    quiet_libraries()
    return describe(device)


def _environment() -> dict[str, str]:
    data = os.environ.get("LATENTTHOUGHT_DATA")
    if data is None:
        data_state = "not set: real data comes from the hub, or from data.path=FILE"
    else:
        data_state = data if os.path.isdir(data) else f"{data} (no such folder)"
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "ON", "YES")
    return {
        "LATENTTHOUGHT_DATA": data_state,
        "hub": "offline (HF_HUB_OFFLINE is set)" if offline else "online access allowed",
    }


def _show(findings: dict[str, Any]) -> None:
    print(f"latentthought {findings['latentthought']}   Python {findings['python']}   {sys.executable}")
    print("\nrequired")
    for name, version in findings["required"].items():
        print(f"  {name:<20} {version or 'MISSING'}")
    print("\nextras")
    for extra, entry in findings["extras"].items():
        absent = [name for name, version in entry["packages"].items() if version is None]
        have = ", ".join(f"{name} {version}" for name, version in entry["packages"].items() if version)
        state = (
            have
            if not absent
            else f"{have + '; ' if have else ''}missing {', '.join(absent)}: pip install 'latentthought[{extra}]'"
        )
        print(f"  {extra:<20} {entry['for']}: {state}")
    print("\ndevices")
    for key, value in findings["devices"].items():
        print(f"  {key:<20} {', '.join(value) or 'none' if isinstance(value, list) else value}")
    print("\nenvironment")
    for key, value in findings["environment"].items():
        print(f"  {key:<20} {value}")
    print(f"  {'free disk here':<20} {findings['disk_free_gb']} GB")
    print("\nlaunching")
    for found in findings["launching"]:
        print("\n".join(Finding(**found).lines()))
    if findings["missing"]:
        print(f"\nmissing: {', '.join(findings['missing'])}; install with: pip install latentthought")
    else:
        print("\neverything required is here")
