"""Points as jobs of a cluster, by submitit (Slurm, or `cluster=local`: the same path in processes of this machine).

A job does one point, as `running` does it here; results come back by the files in the sweep's folder, which the cluster has to
see under the same path. Where Slurm takes the machine back or the time is up, submitit calls `checkpoint`: the run saves itself,
the job is queued again and goes on. submitit hands the job over as a pickle, which it writes and reads itself below `jobs/`;
nothing of a result is read that way.
Rejected: launching by ssh (accounting, queues and limits are the cluster's), Ray (a cluster inside the cluster).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from latentthought.config import parse_yaml
from latentthought.errors import ConfigError, require_extra
from latentthought.processes import child_environment
from latentthought.sweeping.running import Children, Record, Work, carry_out

JOBS_FOLDER = "jobs"
# submitit's own are two and five minutes, after which it stops a job
_DEFAULTS = {"timeout_min": 24 * 60, "name": "latentthought-sweep"}
_POLL_SECONDS = 1.0


class PointJob:
    """What a job calls: one point, from wherever it stands.

    The work is done in a thread of its own, because submitit's signals interrupt the main one, and wait there for the run to save
    itself."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._children: Children | None = None

    def __call__(self) -> None:
        self._children = Children()
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(carry_out, self.work, self._children, child_environment())
            try:
                done.result()
            except BaseException:
                self._children.stop()
                raise

    def checkpoint(self) -> Any:
        """Called by submitit when the machine is wanted back: let the run save itself, and queue the rest."""
        from submitit.helpers import DelayedSubmission

        if self._children is not None:
            self._children.stop()
            self._children.wait()
        return DelayedSubmission(PointJob(self.work))


class SubmititLauncher:
    """Points as jobs of submitit, at most `jobs` of them at a time (None: all at once, as an array).

    options: `cluster` (slurm or local; None: Slurm where there is one), and what `AutoExecutor.update_parameters` takes.
    Raises `MissingExtraError` without submitit and `ConfigError` for an option that it does not know.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any], jobs: int | None) -> None:
        submitit = require_extra("submitit", "sweep", "--launcher submitit")
        given = {**_DEFAULTS, **options}
        cluster = given.pop("cluster", None)
        try:
            self._executor = submitit.AutoExecutor(folder=folder / JOBS_FOLDER / "%j", cluster=cluster)
            self._executor.update_parameters(**given)
        except (ValueError, NameError, AssertionError, RuntimeError, TypeError) as error:
            raise ConfigError(f"--launcher-option: {' '.join(str(error).split())}") from None
        # one after the other on this machine, unless told otherwise: a local executor has no queue
        self.jobs = jobs or (1 if self._executor.cluster in ("local", "debug") else None)
        self.cluster = self._executor.cluster

    def run(
        self,
        works: Sequence[Work],
        finished: Callable[[Work, Record], None],
        waiting: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        """As `LocalLauncher.run`; an interrupt cancels the jobs, whose runs save themselves if the cluster lets them."""
        # a job begins in a Python of its own, which has to find this package
        os.environ["PYTHONPATH"] = child_environment()["PYTHONPATH"]
        left = list(works)
        running: list[tuple[Any, Work]] = []
        try:
            while left or running:
                room = len(left) if self.jobs is None else self.jobs - len(running)
                if now := left[:room]:
                    del left[:room]
                    running += zip(self._submit(now), now, strict=True)
                ended = [(job, work) for job, work in running if job.done()]
                for job, work in ended:
                    running.remove((job, work))
                    finished(work, _record_of(job, work))
                waiting()
                if not ended:
                    time.sleep(_POLL_SECONDS)
        except BaseException:
            if running:
                say(f"cancelling {len(running)} {'job' if len(running) == 1 else 'jobs'}")
            for job, _ in running:
                job.cancel(check=False)
            raise

    def _submit(self, works: Sequence[Work]) -> list[Any]:
        for work in works:  # a record of an earlier attempt says nothing about this one
            work.folder.parent.mkdir(parents=True, exist_ok=True)
            work.write(work.read().replace(state="running", error="", remark=""))
        with self._executor.batch():
            return [self._executor.submit(PointJob(work)) for work in works]


def read_options(arguments: Sequence[str]) -> dict[str, Any]:
    """`key=value` options of the launcher, the values read as YAML."""
    options: dict[str, Any] = {}
    for text in arguments:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--launcher-option {text!r}: expected key=value, such as timeout_min=600")
        options[key.strip()] = parse_yaml(f"value: {value}", f"--launcher-option {text!r}")["value"]
    return options


def _record_of(job: Any, work: Work) -> Record:
    """What a job that has ended left; one that was lost on the way could not write it."""
    record = work.read()
    if record.state != "running":
        return record
    where = job.paths.stderr
    return work.write(
        record.replace(state="failed", error=f"job {job.job_id} was lost ({job.state}); see {where}")
    )
