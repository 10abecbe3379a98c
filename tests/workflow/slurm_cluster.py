"""A real Slurm on this machine, from Debian's packages: a CPU node and two GPU nodes, all of it in one directory.

By hand: `python -m tests.workflow.slurm_cluster FOLDER COMMAND ...` starts one, runs a command on it, and stops it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

# Snakemake's Slurm plugin drops SLURM_CONF within jobs, so that srun finds no other place than Debian's own.
SLURM_CONF = Path("/etc/slurm/slurm.conf")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
PARTITIONS = {"cpu": ["cpu1"], "gpu": ["gpu1", "gpu2"]}
NODES = [node for nodes in PARTITIONS.values() for node in nodes]

# Nodes claim more memory and cores than there may be: Slurm routes and limits jobs by what they ask for.
CONF = """
ClusterName=mcsp
SlurmctldHost={host}
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MinJobAge=86400
ReturnToService=2
SlurmdTimeout=15
KillWait=15
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=200000 {more} State=UNKNOWN\n"
PARTITION = "PartitionName={name} Nodes={nodes} Default={default} MaxTime=INFINITE State=UP\n"


class NoSlurm(Exception):
    """Slurm can't be had on this machine; the message says why."""


def install() -> None:
    """Install Slurm from Debian's packages where it is absent. Raises NoSlurm where that can't be done by this user, and
    RuntimeError where it should have worked: on Debian, as root.
    """
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if not missing:
        if os.geteuid():
            raise NoSlurm("Slurm's daemons want root to run jobs")
        return
    if os.geteuid() or not shutil.which("apt-get"):
        raise NoSlurm(f"{', '.join(missing)} absent: apt-get install slurm-wlm munge, and run the tests as root")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in ("update -qq", "install -y -qq --no-install-recommends slurm-wlm munge"):
        done = subprocess.run(
            ["apt-get", "-o", "DPkg::Lock::Timeout=120", *command.split()], env=env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"apt-get {command}: {done.stderr.strip()[-2000:]}")


def _free_ports(n: int) -> list[int]:
    found = [socket.socket() for _ in range(n)]
    for one in found:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in found]
    for one in found:
        one.close()
    return ports


class Cluster:
    """A running Slurm. `env` is what a user of it has in the environment."""

    def __init__(self, root: Path):
        self.root = root
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        self.env["MCSP_TEST_CLUSTER"] = str(root)  # jobs inherit it
        self.env["MASTER_ADDR"] = "127.0.0.1"  # the nodes' names, which ranks would meet under, mean nothing here
        self.conf = root / "slurm.conf"
        self._daemons: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        """Start munged, slurmctld and a slurmd for each node. Raises NoSlurm where there is a Slurm already, RuntimeError when
        a node does not come up.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o755)
        self._claim()
        self._write_configuration()
        key = self.root / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        places = {"key-file": key, "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
        places |= {"seed-file": "munge.seed"}
        self._launch("munged", "--foreground", "--force", *(f"--{k}={self.root / v}" for k, v in places.items()))
        self._wait_for("munged", (self.root / "munge.socket").exists)
        self._launch("slurmctld", "-D", "-f", str(self.conf))
        for node in NODES:
            self.start_node(node)
        self._wait_for("nodes", lambda: self.states() == dict.fromkeys(NODES, "idle"))

    def _claim(self) -> None:
        """Be this machine's Slurm. What a killed test left behind is no obstacle."""
        if SLURM_CONF.is_symlink():
            pid = SLURM_CONF.resolve().with_name("slurmctld.pid")
            if not (pid.is_file() and psutil.pid_exists(int(pid.read_text()))):
                SLURM_CONF.unlink()
        if os.path.lexists(SLURM_CONF):
            raise NoSlurm(f"{SLURM_CONF} is there: this machine has a Slurm of its own, or other tests run one")
        SLURM_CONF.parent.mkdir(parents=True, exist_ok=True)
        SLURM_CONF.symlink_to(self.conf)

    def _write_configuration(self) -> None:
        host, ports = socket.gethostname(), _free_ports(1 + len(NODES))
        text = CONF.format(root=self.root, host=f"{host}(127.0.0.1)", ports=ports)
        for name, port in zip(NODES, ports[1:], strict=True):
            more = "Gres=gpu:1" if name in PARTITIONS["gpu"] else ""
            text += NODE.format(name=name, host=host, port=port, more=more)
            (self.root / f"spool-{name}").mkdir(exist_ok=True)
        for name, nodes in PARTITIONS.items():
            text += PARTITION.format(name=name, nodes=",".join(nodes), default="YES" if name == "cpu" else "NO")
        (self.root / "state").mkdir(exist_ok=True)
        self.conf.write_text(text)
        gpus = (f"NodeName={node} Name=gpu Count=1 File=/dev/null\n" for node in PARTITIONS["gpu"])
        (self.root / "gres.conf").write_text("".join(gpus))

    def _launch(self, program: str, *arguments: str, name: str = "") -> None:
        with open(self.root / f"{name or program}.out", "ab") as out:
            self._daemons[name or program] = subprocess.Popen(
                [program, *arguments], stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=self.env, start_new_session=True
            )

    def _wait_for(self, what: str, there, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not there():
            dead = [name for name, process in self._daemons.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                texts = [f"{p.name}: {p.read_text(errors='replace')[-1500:]}" for p in sorted(self.root.glob("*.[ol][uo]*"))]
                self.stop()
                raise RuntimeError(f"Slurm: {what} did not come up; ended: {dead}\n" + "\n".join(texts))
            time.sleep(0.2)

    def start_node(self, node: str) -> None:
        """Start a node's slurmd."""
        self._launch("slurmd", "-D", "-N", node, "-f", str(self.conf), name=f"slurmd-{node}")

    def kill_node(self, node: str) -> None:
        """SIGKILL to a node's slurmd and to all that runs there, as when the machine loses its power."""
        daemon = self._daemons.pop(f"slurmd-{node}")
        daemon.kill()
        daemon.wait()
        for process in self.processes(node):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def processes(self, node: str) -> list[psutil.Process]:
        """What runs on a node: its jobs' processes and the daemons that watch them."""
        found = set()
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                environment = process.environ()
                if (environment.get("SLURMD_NODENAME"), environment.get("MCSP_TEST_CLUSTER")) == (node, str(self.root)):
                    found |= {process, *(p for p in process.parents() if p.name().startswith("slurmstepd"))}
        return list(found)

    def stop(self) -> None:
        """Cancel what runs, and stop the daemons."""
        if "slurmctld" in self._daemons:
            subprocess.run(["scancel", "--user=root"], env=self.env, capture_output=True, timeout=30, check=False)
        for process in reversed(self._daemons.values()):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._daemons.clear()
        if SLURM_CONF.is_symlink() and SLURM_CONF.resolve() == self.conf:
            SLURM_CONF.unlink()

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def command(self, *arguments: str) -> str:
        """Output of one of Slurm's commands."""
        return subprocess.run(arguments, env=self.env, capture_output=True, text=True, check=True).stdout

    def states(self) -> dict[str, str]:
        """State of each node ('idle', 'mixed', 'down', ...); empty while the controller does not answer."""
        done = subprocess.run(
            ["sinfo", "-h", "-N", "-o", "%N %T"], env=self.env, capture_output=True, text=True, check=False
        )  # fmt: skip
        return dict(line.split() for line in done.stdout.splitlines())

    def jobs(self) -> list[dict[str, str]]:
        """Slurm's record of every job, in their order; beside Slurm's fields, `rule`."""
        found = []
        for line in self.command("scontrol", "--oneliner", "show", "jobs").splitlines():
            fields = dict(re.findall(r"(?:^| )([A-Za-z/:]+)=(\S*)", line))
            if "JobId" in fields:
                comment = fields.get("Comment", "")
                fields["rule"] = comment.removeprefix("rule_").removeprefix("group_").split("_wildcards_")[0]
                found.append(fields)
        return sorted(found, key=lambda fields: int(fields["JobId"]))


def main() -> int:
    """Start a cluster in a directory, run a command on it, print its jobs, stop it."""
    install()
    with Cluster(Path(sys.argv[1]).resolve()) as cluster:
        code = subprocess.run(sys.argv[2:], env=cluster.env, check=False).returncode
        for job in cluster.jobs():
            print(*(job.get(key, "") for key in ("JobId", "rule", "JobState", "Partition", "TresPerJob", "TRES", "RunTime")))
    return code


if __name__ == "__main__":
    sys.exit(main())
