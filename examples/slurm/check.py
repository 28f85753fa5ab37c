"""Runs answer.sbatch on a Slurm of one machine, disturbs it, and compares with an undisturbed run.

    python3 examples/slurm/check.py        (make example-slurm installs Slurm and builds first)

Starts munged, slurmctld and slurmd with a configuration in a temporary folder, and stops them. In the middle, one task's
pdrop-run is killed with SIGKILL, another task is queued again by the administrator, and a third is told that its time is up.
"""
import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from check_support import (PROGRAM, answer_undisturbed, compare, lines, make_questions, options,  # noqa: E402
                           program_ids, wait_until)

SHARDS, RECORDS = 4, 200
# cred_expire is how long Slurm makes a task wait that is queued again; its usual 120 s would only make the check long.
CONFIGURATION = """
ClusterName=example
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={megabytes}
PartitionName=main Nodes={host} Default=YES State=UP
"""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def start_slurm(folder):
    """Returns the daemons, to be stopped in this order."""
    for name in ["state", "spool"]:
        os.mkdir(os.path.join(folder, name))
    with open(folder + "/key", "wb") as file:
        os.chmod(folder + "/key", 0o400)
        file.write(os.urandom(1024))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with open(folder + "/slurm.conf", "w") as file:
        file.write(CONFIGURATION.format(
            host=socket.gethostname().split(".")[0], folder=folder, ports=free_ports(2), user=user_name(),
            cores=os.cpu_count(), megabytes=pages * 9 // 10 >> 20))
    os.environ["SLURM_CONF"] = folder + "/slurm.conf"
    # Debian keeps the daemons where only administrators look.
    os.environ["PATH"] += ":/usr/sbin"
    daemons = []

    def start(*command):
        log = open("%s/%s.log" % (folder, command[0]), "w")
        daemons.insert(0, subprocess.Popen(command, stdout=log, stderr=log))

    try:
        start("munged", "--foreground", "--force", "--key-file=%s/key" % folder, "--socket=%s/munge.socket" % folder,
              "--pid-file=%s/munged.pid" % folder, "--seed-file=%s/seed" % folder)
        wait_until(lambda: os.path.exists(folder + "/munge.socket"), "munged")
        start("slurmctld", "-D")
        start("slurmd", "-D")
        wait_until(lambda: b"idle" in output("sinfo", "-h", "-o", "%T"), "an idle node")
    except BaseException:
        stop(daemons)
        raise
    return daemons


def stop(daemons):
    for daemon in daemons:
        daemon.terminate()
        try:
            daemon.wait(timeout=20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def queue_is_empty():
    run = subprocess.run(["squeue", "-h"], stdout=subprocess.PIPE)
    return run.returncode == 0 and not run.stdout


def user_name():
    return output("id", "-un").decode().strip()


def disturb(folder, job):
    """Disturbs three tasks, each with answers on the disk and more to come."""
    for shard, act in [(2, kill), (3, requeue), (4, end_time)]:
        path = "%s/answers/%d-of-%d.jsonl" % (folder, shard, SHARDS)
        wait_until(lambda: os.path.exists(path) and len(lines(path)) >= 10, "answers of shard %d" % shard)
        ids = program_ids(path)
        assert len(ids) == 1, ids
        act(job, shard, ids[0])
        wait_until(lambda: not program_ids(path), "the end of process %d" % ids[0])
        count = len(lines(path))
        assert 10 <= count < RECORDS // SHARDS, "shard %d was not in the middle: %d answers" % (shard, count)
        print("%s shard %d after %d answers" % (act.__doc__, shard, count), flush=True)


def kill(job, shard, process):
    """killed"""
    os.kill(process, signal.SIGKILL)


def requeue(job, shard, process):
    """queued again"""
    subprocess.run(["scontrol", "requeue", "%s_%d" % (job, shard)], check=True)


def end_time(job, shard, process):
    """ended the time of"""
    subprocess.run(["scancel", "--signal=TERM", "%s_%d" % (job, shard)], check=True)  # As --signal=TERM@120 does.


def run(folder):
    questions = folder + "/questions.jsonl"
    make_questions(folder, RECORDS)
    answer_undisturbed(folder)
    environment = {**os.environ, "SHARDS": str(SHARDS), "ANSWERS": folder + "/answers", "PDROP_RUN": PROGRAM}
    submitted = subprocess.run(
        ["sbatch", "--parsable", "--array=1-%d" % SHARDS, "--cpus-per-task=1", "--mem=1G", "--chdir", folder,
         HERE + "/answer.sbatch", "--input", questions, *options(folder)],
        env=environment, stdout=subprocess.PIPE, text=True, check=True)
    job = submitted.stdout.strip()
    try:
        disturb(folder, job)
        wait_until(queue_is_empty, "the end of all tasks")
    finally:
        output("scancel", job)
        wait_until(queue_is_empty, "the end of all tasks")
    for log in sorted(glob.glob(folder + "/pdrop.*.log")):
        print("".join("  %s: %s" % (os.path.basename(log), line) for line in open(log) if "shard" in line), end="")
    subprocess.run([sys.executable, HERE + "/gather.py", questions, folder + "/union.jsonl",
                    *glob.glob("%s/answers/*-of-%d.jsonl" % (folder, SHARDS))], check=True)
    compare(folder)
    for shard, words in [(2, "ended with status 137"), (3, "stopped; to go on"), (4, "ended with status 143")]:
        log = open("%s/pdrop.%d.log" % (folder, shard)).read()
        assert words in log and "were answered before" in log, log


def main():
    # Daemons are stopped then as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.mkdtemp(prefix="pdrop-slurm-")
    os.chmod(folder, 0o755)
    print("all files, after a failure too, are in " + folder, flush=True)
    daemons = start_slurm(folder)
    try:
        run(folder)
    finally:
        stop(daemons)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
