"""A Pod without Kubernetes: its containers by bubblewrap, in the order of kubelet.

Each container has its own processes, a root that nobody can write, an unprivileged user without
capabilities, and of the Pod the volumes that it mounts. What it stands on is this machine, not an
image; the network is shared, as in a Pod.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from attached import ROOT

DEADLINE = 300
"""Seconds until all of a Pod has ended."""
NOT_OF_THE_ROOT = {"dev", "etc", "lost+found", "mnt", "proc", "run", "sys", "tmp"}
"""What an image does not bring, or should not show."""
OF_ETC = ("ld.so.cache", "ssl", "passwd", "group", "nsswitch.conf")


def missing():
    """Why there can be no Pod here, or nothing."""
    if shutil.which("bwrap") is None:
        return "there is no `bwrap`; `apt-get install bubblewrap`"
    tried = subprocess.run(
        ["bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "true"],
        capture_output=True, text=True,
    )  # fmt: skip
    return None if tried.returncode == 0 else f"bubblewrap cannot work here: {tried.stderr}"


@dataclass
class Image:
    """What a container is made of."""

    entrypoint: list[str]
    directory: str
    environment: dict[str, str]
    programs: dict[str, str] = field(default_factory=dict)
    """Directories of this machine, by where the image has them."""


@dataclass
class Container:
    """One that runs or has run."""

    name: str
    process: subprocess.Popen
    pid: int
    """Of its first process, in this machine's numbers."""
    restarts: int = 0

    def signal(self, number):
        """To its first process, as kubelet does."""
        if self.process.poll() is None:
            os.kill(self.pid, number)


class Pod:
    """A Pod of a manifest's `spec`.

    Args:
        spec: with `initContainers`, `containers`, `volumes` and `securityContext`.
        images: by the name that the manifest gives.
        volumes: a directory of this machine for each volume that is not an `emptyDir`.
        logs: where the output of each container goes.
        annotations: of the Pod, such as the index that an Indexed Job gives.
    """

    def __init__(self, spec, images, volumes, logs, annotations=None):
        self.spec, self.images, self.volumes, self.logs = spec, images, volumes, Path(logs)
        self.annotations = annotations or {}
        self.running = {}
        self.codes = {}
        self.ends = time.monotonic() + DEADLINE

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for container in self.running.values():
            if container.process.poll() is None:
                container.signal(signal.SIGKILL)
                container.process.wait()

    def start(self):
        """Init containers in turn, sidecars among them, then the others; whether all began."""
        for described in self.spec.get("initContainers", []):
            container = self.begin(described)
            if described.get("restartPolicy") == "Always":
                continue
            self.codes[container.name] = container.process.wait(self.left())
            if self.codes[container.name] != 0:
                return False
        for described in self.spec["containers"]:
            self.begin(described)
        return True

    def finish(self):
        """Waits for the end of the trainings, then ends the sidecars; exit codes by name."""
        names = [described["name"] for described in self.spec["containers"]]
        while any(self.running[name].process.poll() is None for name in names):
            self.look_after_sidecars()
            assert self.left() > 0, self.said()
            time.sleep(0.1)
        self.codes |= {name: self.running[name].process.returncode for name in names}
        for described in self.sidecars():
            sidecar = self.running[described["name"]]
            sidecar.signal(signal.SIGTERM)
            grace = self.spec["terminationGracePeriodSeconds"]
            self.codes[sidecar.name] = sidecar.process.wait(min(grace, self.left()))
        return self.codes

    def look_after_sidecars(self):
        """Starts one that has ended anew."""
        for described in self.sidecars():
            before = self.running[described["name"]]
            if before.process.poll() is not None:
                self.begin(described).restarts = before.restarts + 1

    def sidecars(self):
        """Those of the init containers that are none."""
        always = [one for one in self.spec.get("initContainers", []) if one.get("restartPolicy")]
        assert {one["restartPolicy"] for one in always} <= {"Always"}
        return always

    def left(self):
        """Seconds."""
        return max(0.0, self.ends - time.monotonic())

    def said(self):
        """By container."""
        return {log.stem: log.read_text() for log in self.logs.glob("*.log")}

    def begin(self, described):
        """Starts a container."""
        name = described["name"]
        read, write = os.pipe()
        with open(self.logs / f"{name}.log", "ab") as log:
            command = self.command(described, ["--info-fd", str(write)])
            process = subprocess.Popen(command, stdout=log, stderr=log, pass_fds=[write])
        os.close(write)
        with os.fdopen(read) as told:
            pid = json.loads(told.read())["child-pid"]
        self.running[name] = Container(name, process, pid)
        return self.running[name]

    def command(self, described, options):
        """That of bubblewrap."""
        image = self.images[described["image"]]
        user, own = self.spec["securityContext"], described["securityContext"]
        assert own["readOnlyRootFilesystem"] and own["capabilities"]["drop"] == ["ALL"]
        words = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--as-pid-1"]
        words += ["--uid", str(user["runAsUser"]), "--gid", str(user["runAsGroup"])]
        words += ["--cap-drop", "ALL", "--die-with-parent", *options, *root()]
        for inside, here in image.programs.items():
            words += ["--ro-bind", str(here), inside]
        for mount in described["volumeMounts"]:
            words += self.mount(mount)
        # A checkout may lie under what has just been covered, such as /tmp.
        words += ["--ro-bind", str(ROOT), str(ROOT)]
        words += ["--remount-ro", "/", "--chdir", image.directory, "--clearenv"]
        given = {one["name"]: self.value(one) for one in described.get("env", [])}
        for name, value in (image.environment | given).items():
            words += ["--setenv", name, value]
        command = [*described.get("command", image.entrypoint), *described.get("args", [])]
        for name, value in given.items():
            command = [word.replace(f"$({name})", value) for word in command]
        return words + command

    def value(self, variable):
        """What a variable of `env` is, also where it comes from an annotation of the Pod."""
        if "value" in variable:
            return variable["value"]
        path = variable["valueFrom"]["fieldRef"]["fieldPath"]
        return self.annotations[path.removeprefix("metadata.annotations['").removesuffix("']")]

    def mount(self, mount):
        """A volume, where the container wants it."""
        (volume,) = (one for one in self.spec["volumes"] if one["name"] == mount["name"])
        if "emptyDir" in volume:
            return ["--tmpfs", mount["mountPath"]]
        how = "--ro-bind" if mount.get("readOnly") else "--bind"
        return [how, str(self.volumes[mount["name"]]), mount["mountPath"]]


def root():
    """This machine, to be read."""
    words = ["--proc", "/proc", "--dev", "/dev"]
    for entry in sorted(Path("/").iterdir()):
        if entry.name in NOT_OF_THE_ROOT:
            continue
        if entry.is_symlink():
            words += ["--symlink", os.readlink(entry), str(entry)]
        elif entry.is_dir():
            words += ["--ro-bind", str(entry), str(entry)]
    for name in filter(lambda name: Path("/etc", name).exists(), OF_ETC):
        words += ["--ro-bind", f"/etc/{name}", f"/etc/{name}"]
    return words
