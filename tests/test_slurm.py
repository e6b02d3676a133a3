"""deploy/slurm.sh, submitted to a real Slurm of one node that this test starts."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from pipelines import tracking

ROOT = Path(__file__).parents[1]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")
CONFIG = """
ClusterName=unroll
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
JobRequeue=1
SchedulerParameters=batch_sched_delay=1,sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def slurm():
    """Starts authentication, controller and node; gives the environment of its commands."""
    if os.getuid() != 0 or not all(map(shutil.which, PROGRAMS)):
        pytest.skip("a Slurm is started by root, where slurm-wlm and munge are installed")
    # Munge wants a socket in a folder that all may enter, and others may not write to.
    folder = Path(
        subprocess.check_output(["mktemp", "-d", "/tmp/unroll-XXXXXX"], text=True).strip()
    )
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(
        CONFIG.format(
            host=host,
            folder=folder,
            port=free_port(),
            node_port=free_port(),
            cores=os.cpu_count(),
        )
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/root"),
        "SLURM_CONF": str(folder / "slurm.conf"),
    }
    munge = {"key-file": "key", "socket": "munge.socket", "pid-file": "munged.pid"}
    munge |= {"log-file": "munged.log", "seed-file": "munge.seed"}

    def begin(*command):
        subprocess.run(command, env=environment, check=True, timeout=60)

    try:
        begin("munged", "--force", *(f"--{name}={folder / file}" for name, file in munge.items()))
        begin("slurmctld", "-c")
        begin("slurmd", "-N", host)
        for _ in range(60):
            found = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, stdout=-1, text=1)
            if found.stdout.strip() == "idle":
                break
            time.sleep(1)
        else:
            pytest.skip(f"Slurm did not start: {(folder / 'slurmctld.log').read_text()[-2000:]}")
        yield environment
    finally:
        for name in ("slurmd", "slurmctld", "munged"):
            pid = folder / f"{name}.pid"
            if pid.exists():
                subprocess.run(["kill", pid.read_text().strip()], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def state(job, environment):
    shown = subprocess.run(
        ["scontrol", "-o", "show", "job", job], env=environment, stdout=-1, text=True, check=True
    )
    return dict(field.partition("=")[::2] for field in shown.stdout.split())


def wait_for(condition, log, seconds=300):
    for _ in range(seconds):
        if condition():
            return
        time.sleep(1)
    raise AssertionError(log.read_text()[-3000:] if log.exists() else "nothing was written")


def test_a_job_that_is_stopped_is_queued_again_and_goes_on(slurm, tmp_path):
    log, uri = tmp_path / "log", f"sqlite:///{tmp_path}/mlflow.db"
    environment = slurm | {"MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}
    given = ["--config=pipelines/configs/series/lstm.yaml", "--trainer.accelerator=cpu"]
    given += ["--data.sizes=[2000,60,40]", "--trainer.max_epochs=30"]
    given += [f"--checkpoints={tmp_path}/kept"]
    submitted = subprocess.run(
        [
            "sbatch",
            "--parsable",
            "--ntasks-per-node=2",
            f"--output={log}",
            "deploy/slurm.sh",
            *given,
        ],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    job = submitted.stdout.strip()
    wait_for((tmp_path / "kept/last.ckpt").exists, log)
    subprocess.run(["scancel", "--signal=USR1", job], env=slurm, check=True)
    wait_for(lambda: "stopped by SIGUSR1" in log.read_text(), log)
    # Slurm lets a job that was queued again wait for two minutes.
    wait_for(lambda: state(job, slurm)["JobState"] == "PENDING", log)
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], env=slurm, check=True)
    wait_for(lambda: state(job, slurm)["JobState"] in ("COMPLETED", "FAILED"), log)
    found = state(job, slurm)
    assert (found["JobState"], found["Restarts"]) == ("COMPLETED", "1"), log.read_text()[-3000:]
    said = log.read_text()
    assert said.count("stopped by SIGUSR1") == said.count("goes on from step") == 1
    assert said.count("test_mse ") == 1
    store = tracking.client(uri)
    experiments = [each.experiment_id for each in store.search_experiments()]
    (run,) = tracking.runs(store, experiments, "")
    assert run.info.status == "FINISHED"
    steps = [each.step for each in store.get_metric_history(run.info.run_id, "train_loss")]
    assert len(steps) == len(set(steps)) == 30


def test_a_job_that_could_not_go_on_is_refused(slurm, tmp_path):
    refused = subprocess.run(
        ["deploy/slurm.sh", "--config", "x.yaml"], cwd=ROOT, env=slurm, stderr=-1, text=True
    )
    assert refused.returncode == 2
    assert "give --checkpoints" in refused.stderr
