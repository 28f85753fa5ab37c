"""Runs answer.sbatch on a Slurm cluster of one machine, disturbs it, and compares with an undisturbed run.

    python3 examples/slurm/check.py                 (make example-slurm installs Slurm and builds first)
    python3 examples/slurm/check.py --no-cluster    (two shards in a plain shell, without Slurm)

Starts munged, slurmctld and slurmd with a configuration in a temporary folder, and stops them afterwards. Each
disturbance waits for answers on the disk: one task's pdrop-run is killed with SIGKILL, one task is requeued, and one
gets the signal of its time limit. PDROP_RUN is the program to run, by default the release build.
"""
import argparse
import concurrent.futures
import glob
import os
import re
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

SHARDS, RECORDS = 4, 400
# The number of answers, of 100, after which a shard is disturbed; up to one batch of 16 may follow before the stop.
MIDDLE = 10
# A requeued task waits for cred_expire; the default of 120 s would make the check long.
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
    """Starts the daemons; returns them in the order in which to stop them."""
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


def has_pending_sigterm(process):
    """Whether a stopped process has received SIGTERM; also true once it runs again or has ended."""
    try:
        with open("/proc/%d/status" % process) as file:
            status = file.read()
    except OSError:
        return True
    pending = int(re.search(r"^ShdPnd:\s*(\w+)", status, re.MULTILINE)[1], 16)
    return bool(pending >> (signal.SIGTERM - 1) & 1) or not re.search(r"^State:\s*T", status, re.MULTILINE)


def disturb(folder, job):
    """Disturbs three tasks, each in the middle of its shard; at the same time, as their order is up to Slurm."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        futures = [pool.submit(disturb_shard, folder, job, *how) for how in [(2, kill), (3, requeue), (4, end_time)]]
        for future in futures:
            future.result()


def disturb_shard(folder, job, shard, act):
    path = "%s/answers/%d-of-%d.jsonl" % (folder, shard, SHARDS)
    wait_until(lambda: os.path.exists(path) and len(lines(path)) >= MIDDLE, "answers of shard %d" % shard)
    ids = program_ids(path)
    assert len(ids) == 1, "expected one process for shard %d, found %s" % (shard, ids)
    # Stopped until the signal has arrived, so that a fast model does not finish the shard before Slurm acts.
    os.kill(ids[0], signal.SIGSTOP)
    act(job, shard, ids[0])
    wait_until(lambda: has_pending_sigterm(ids[0]), "a signal to process %d" % ids[0])
    if ids[0] in program_ids(path):
        os.kill(ids[0], signal.SIGCONT)
    wait_until(lambda: ids[0] not in program_ids(path), "the end of process %d" % ids[0])
    count = len(lines(path))
    assert MIDDLE <= count < RECORDS // SHARDS, "shard %d was not in the middle: %d answers" % (shard, count)
    print("shard %d %s after %d answers" % (shard, act.__doc__, count), flush=True)


def kill(job, shard, process):
    """killed"""
    os.kill(process, signal.SIGKILL)


def requeue(job, shard, process):
    """requeued"""
    subprocess.run(["scontrol", "requeue", "%s_%d" % (job, shard)], check=True)


def end_time(job, shard, process):
    """stopped as at its time limit"""
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
    gather(folder, SHARDS)
    for shard, words in [(2, "ended with status 137"), (3, "stopped;"), (4, "ended with status 143")]:
        log = open("%s/pdrop.%d.log" % (folder, shard)).read()
        assert words in log and "answered by earlier runs" in log, log


def gather(folder, shard_count):
    subprocess.run([sys.executable, HERE + "/gather.py", folder + "/questions.jsonl", folder + "/union.jsonl",
                    *glob.glob("%s/answers/*-of-%d.jsonl" % (folder, shard_count))], check=True)
    compare(folder)


def run_without_slurm(folder):
    """Runs answer.sbatch for two shards in a plain shell, with Slurm's variables set here and a stand-in for srun."""
    make_questions(folder, 60)
    answer_undisturbed(folder)
    os.mkdir(folder + "/bin")
    with open(folder + "/bin/srun", "w") as file:
        file.write('#!/bin/sh\nshift  # --cpus-per-task=N\nexec "$@"\n')
    os.chmod(folder + "/bin/srun", 0o755)
    for shard in [1, 2]:
        environment = {
            **os.environ, "SHARDS": "2", "ANSWERS": folder + "/answers", "PDROP_RUN": PROGRAM,
            "PATH": "%s/bin:%s" % (folder, os.environ["PATH"]), "SLURM_ARRAY_TASK_ID": str(shard),
            "SLURM_CPUS_PER_TASK": str(os.cpu_count()), "SLURM_MEM_PER_NODE": "2048"}
        subprocess.run(["bash", HERE + "/answer.sbatch", "--input", folder + "/questions.jsonl", *options(folder)],
                       env=environment, stderr=subprocess.DEVNULL, check=True)
    gather(folder, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-cluster", action="store_true", help="run two shards in a plain shell, without Slurm")
    arguments = parser.parse_args()
    # Debian installs the daemons in a folder that is not on every user's PATH.
    os.environ["PATH"] += ":/usr/sbin"
    missing = [name for name in ["munged", "slurmctld", "slurmd", "sbatch"] if not shutil.which(name)]
    if missing and not arguments.no_cluster:
        sys.exit("%s not found; make example-slurm installs Slurm, --no-cluster runs without it" % ", ".join(missing))
    # A terminated check stops the daemons as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.mkdtemp(prefix="pdrop-slurm-")
    os.chmod(folder, 0o755)
    print("all files are in %s; they stay after a failure" % folder, flush=True)
    if arguments.no_cluster:
        run_without_slurm(folder)
    else:
        daemons = start_slurm(folder)
        try:
            run(folder)
        finally:
            stop(daemons)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
