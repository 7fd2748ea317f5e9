"""The manifests for Kubernetes: schemas, what must agree in them, the Pod that they make."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pod
import pytest
import yaml
from attached import EARLY_STOPPED, ROOT, convergd

DIRECTORY = ROOT / "deploy/kubernetes"
BUILT = ("example", "example/once", "example/values", "monitoring", "training")
VERSIONS = ("1.29", "1.33", "1.37")
"""The first with native sidecars, the first where they are stable, the newest that is known."""
OPERATOR = ROOT / "target/tools/operator"
"""Where the schemas of the Prometheus operator are, if anywhere."""


@pytest.fixture(scope="module")
def manifests():
    """What kustomize makes of each directory: lists of objects."""
    if shutil.which("kubectl") is None:
        pytest.skip("there is no `kubectl`, which brings kustomize")
    told = subprocess.run(
        ["kubectl", "version", "--client", "--output=json"], capture_output=True, text=True
    )
    if "kustomizeVersion" not in json.loads(told.stdout or "{}"):
        pytest.skip("`kubectl` is too old: its kustomize has no components")

    def build(name):
        said = subprocess.run(
            ["kubectl", "kustomize", DIRECTORY / name], capture_output=True, text=True
        )
        assert said.returncode == 0, said.stderr
        return list(yaml.safe_load_all(said.stdout))

    return {name: build(name) for name in BUILT}


def only(objects, kind):
    (found,) = (one for one in objects if one["kind"] == kind)
    return found


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_of_the_schemas(manifests, version):
    validate = pytest.importorskip("kubernetes_validate")
    seen = set()
    for objects in manifests.values():
        for one in objects:
            if not one["apiVersion"].startswith("monitoring"):
                validate.validate(one, version, strict=True)
                seen.add(one["kind"])
    assert seen == {"Job", "PersistentVolumeClaim", "ConfigMap"}
    broken = json.loads(json.dumps(only(manifests["example"], "Job")))
    broken["spec"]["template"]["spec"]["initContainers"][-1]["restartPolicies"] = "Always"
    with pytest.raises(validate.ValidationError):
        validate.validate(broken, version, strict=True)


def test_objects_of_the_prometheus_operator_are_of_its_schemas(manifests):
    package = "@kubernetes-models/prometheus-operator"
    if shutil.which("node") is None or not (OPERATOR / "node_modules" / package).is_dir():
        pytest.skip(f"`npm install --prefix {OPERATOR} {package}@6.0.0`")
    script = OPERATOR / "check.mjs"
    script.write_text(
        'import { readFileSync } from "fs";\n'
        f'import * as kinds from "{package}/monitoring.coreos.com/v1";\n'
        "for (const one of JSON.parse(readFileSync(0))) new kinds[one.kind](one).validate();\n"
    )

    def check(objects):
        return subprocess.run(
            ["node", script], input=json.dumps(objects), capture_output=True, text=True
        )

    objects = manifests["monitoring"]
    assert [one["kind"] for one in objects] == ["PodMonitor", "PrometheusRule"]
    said = check(objects)
    assert said.returncode == 0, said.stderr
    objects = json.loads(json.dumps(objects))
    objects[0]["spec"]["podMetricsEndpoints"][0]["port"] = 9464
    assert "must be string" in check(objects).stderr


def test_the_rules_are_those_that_prometheus_reads():
    made = subprocess.run(
        [sys.executable, DIRECTORY / "make_rules.py"], capture_output=True, text=True, check=True
    )
    assert (DIRECTORY / "monitoring/prometheusrule.yaml").read_text() == made.stdout
    rules = yaml.safe_load((ROOT / "deploy/prometheus/convergd.rules.yml").read_text())
    assert yaml.safe_load(made.stdout)["spec"] == rules


def test_what_is_scraped_is_what_the_alerts_ask_for(manifests):
    monitor = only(manifests["monitoring"], "PodMonitor")["spec"]
    template = only(manifests["example"], "Job")["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    (sidecar,) = (one for one in containers(template["spec"]) if one["name"] == "convergd")
    assert [port["name"] for port in sidecar["ports"]] == [endpoint["port"]]
    replaced = {one["targetLabel"]: one for one in endpoint["relabelings"]}
    assert replaced["job"]["replacement"] == "convergd"
    # The label of the run, as Prometheus writes it.
    wanted = "__meta_kubernetes_pod_label_app_kubernetes_io_instance"
    assert wanted in replaced["instance"]["sourceLabels"]
    assert labels["app.kubernetes.io/instance"] == "digits"
    values = only(manifests["example/values"], "Job")["spec"]["template"]["metadata"]["labels"]
    assert not monitor["selector"]["matchLabels"].items() <= values.items()


@pytest.mark.parametrize("name", ["example", "example/once", "example/values"])
def test_pods_are_restricted(manifests, name):
    """By the rules of the Pod Security Standard `restricted`, as far as they concern these Pods."""
    spec = only(manifests[name], "Job")["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim"}
    assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"}
    for container in containers(spec):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"]
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]


def test_shards_are_as_many_as_completions(manifests):
    spec = only(manifests["example/values"], "Job")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert spec["completionMode"] == "Indexed"
    assert container["args"][-2:] == ["--shard", f"$(SHARD)/{spec['completions']}"]
    (shard,) = container["env"]
    wanted = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert (shard["name"], shard["valueFrom"]["fieldRef"]["fieldPath"]) == ("SHARD", wanted)


@pytest.mark.parametrize("name", ["example/once", "example/values"])
def test_volume_and_configuration_are_those_of_the_run(manifests, name):
    assert [one["kind"] for one in manifests[name]] == ["Job"]
    names = {
        kind: only(manifests["example"], kind)["metadata"]["name"]
        for kind in ("ConfigMap", "PersistentVolumeClaim")
    }
    volumes = only(manifests[name], "Job")["spec"]["template"]["spec"]["volumes"]
    (claim,) = (one["persistentVolumeClaim"] for one in volumes if "persistentVolumeClaim" in one)
    (configuration,) = (one["configMap"] for one in volumes if "configMap" in one)
    assert claim["claimName"] == names["PersistentVolumeClaim"]
    assert configuration["name"] == names["ConfigMap"]


def test_gpus_are_for_the_trainings(tmp_path):
    """The component is in no example, since not every cluster has GPUs."""
    if shutil.which("kubectl") is None:
        pytest.skip("there is no `kubectl`, which brings kustomize")
    # From there, since kustomize takes no absolute path.
    near = os.path.relpath(DIRECTORY.resolve(), tmp_path.resolve())
    mine = {"resources": [f"{near}/example"], "components": [f"{near}/gpu"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(mine))
    said = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    job = only(list(yaml.safe_load_all(said.stdout)), "Job")
    spec = job["spec"]["template"]["spec"]
    gpus = {
        container["name"]: container["resources"]["limits"].get("nvidia.com/gpu", 0)
        for container in containers(spec)
    }
    assert {name for name, count in gpus.items() if count} == {"target", "baseline"}
    assert gpus["target"] == gpus["baseline"] == 1
    validate = pytest.importorskip("kubernetes_validate")
    for version in VERSIONS:
        validate.validate(job, version, strict=True)


@pytest.fixture
def make_pod(manifests, tmp_path):
    """Makes the Pod of the example, with a volume of the test and a free port; a `with` ends it."""
    why = pod.missing()
    if why:
        pytest.skip(why)
    program = convergd()
    spec = only(manifests["example"], "Job")["spec"]["template"]["spec"]
    text = only(manifests["example"], "ConfigMap")["data"]["run.yaml"]
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    assert text.count("0.0.0.0:9464") == 1
    places = {name: tmp_path / name for name in ("run", "configuration", "logs")}
    for place in places.values():
        place.mkdir()
    (places["configuration"] / "run.yaml").write_text(text.replace(":9464", f":{port}"))
    environment = {"PATH": f"/mnt/convergd:{sys.prefix}/bin:/usr/bin:/bin"}
    environment |= {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT / "python")}
    torch = Path(sys.prefix, "lib").glob("python3*/site-packages/torch")
    environment["LIBTORCH"] = os.environ.get("LIBTORCH", str(next(torch)))
    images = {
        "registry.example/convergd:0.1.0-cpu": pod.Image(
            ["convergd"], "/run/convergd", environment, {"/mnt/convergd": program.parent}
        ),
        "registry.example/digits:1": pod.Image([], str(ROOT / "examples/pytorch"), environment),
    }
    made = pod.Pod(spec, images, places, places["logs"])
    made.port, made.program = port, program
    made.configuration = places["configuration"] / "run.yaml"
    made.run = places["run"]
    with made:
        yield made


def get(made, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{made.port}{path}", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def wait_until(made, what):
    while not what():
        assert made.left() > 0, made.said()
        made.look_after_sidecars()
        time.sleep(0.1)


def pairs(made):
    return made.said().get("convergd", "").count("INFO pair step=")


def check_stopped(made, codes):
    sidecar = codes.pop("convergd")
    assert codes == dict.fromkeys(("prepare", "doctor", "target", "baseline"), 0), made.said()
    # Also where SIGTERM comes before it has noticed that both have answered.
    assert sidecar == EARLY_STOPPED, made.said()
    # Its YAML names the places of the container.
    text = made.configuration.read_text().replace("/run/convergd", str(made.run))
    outside = made.run / "outside.yaml"
    outside.write_text(text)
    status = [made.program, "status", "-c", outside, "--json"]
    told = json.loads(subprocess.run(status, check=True, capture_output=True).stdout)
    assert [decision["action"] for decision in told["decisions"]] == ["stop"]
    said = made.said()
    assert all("told to stop" in said[name] for name in ("target", "baseline"))
    # The state is on the volume, with checkpoints as hard links.
    kept = list((made.run / "state/best").rglob("*.safetensors"))
    assert len(kept) == 2 and all(file.stat().st_nlink == 2 for file in kept)


def test_a_pod_is_stopped_by_its_sidecar_which_ends_with_it(make_pod):
    made = make_pod
    assert made.start(), made.said()
    (sidecar,) = made.sidecars()
    paths = [sidecar[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")]
    wait_until(made, lambda: [get(made, path) for path in paths] == [200, 200])
    codes = made.finish()
    check_stopped(made, codes)
    # It has waited in its grace, so it was never started anew.
    assert made.running["convergd"].restarts == 0
    # Processes of other containers are none of its own: nothing was known of their ends.
    acknowledged = json.loads((made.run / "control/ack-target.json").read_text())
    assert acknowledged["process"]["pid"] == 1


def test_a_sidecar_that_dies_goes_on_where_it_was(make_pod):
    made = make_pod
    assert made.start(), made.said()
    wait_until(made, lambda: pairs(made) >= 3)
    made.running["convergd"].signal(signal.SIGKILL)
    codes = made.finish()
    check_stopped(made, codes)
    assert made.running["convergd"].restarts == 1
    steps = re.findall(r"INFO pair step=(\d+)", made.said()["convergd"])
    assert steps == [str(step) for step in range(1, len(steps) + 1)], "each once, in order"


def test_a_mistake_is_found_before_the_trainings_begin(make_pod):
    made = make_pod
    with open(made.configuration, "a", encoding="utf-8") as file:
        file.write("nonsense: 1\n")
    assert not made.start()
    assert made.codes == {"prepare": 0, "doctor": 64}
    assert "nonsense" in made.said()["doctor"] and "target" not in made.said()


def test_a_pod_that_is_made_anew_does_not_fail_for_checkpoints(make_pod, tmp_path):
    """Its checkpoints may be what the one before has left."""
    made = make_pod
    assert made.start(), made.said()
    wait_until(made, lambda: pairs(made) >= 1)
    made.__exit__()
    left = [*made.run.glob("target/*.safetensors"), *made.run.glob("baseline/*.safetensors")]
    assert left
    for checkpoint in left:
        checkpoint.write_bytes(b"torn")
    logs = tmp_path / "anew"
    logs.mkdir()
    (doctor,) = (one for one in made.spec["initContainers"] if one["name"] == "doctor")
    with pod.Pod(made.spec, made.images, made.volumes, logs) as anew:
        assert anew.begin(doctor).process.wait(anew.left()) == 0
        assert "BAD" in anew.said()["doctor"]
        for history in (made.run / "state").glob("history.sqlite*"):
            history.unlink()
        assert anew.begin(doctor).process.wait(anew.left()) == 65


def test_shards_of_the_indexed_job_make_all_tables_between_them(make_pod, manifests, tmp_path):
    """After the run, which had made none of them itself."""
    made = make_pod
    assert made.start(), made.said()
    check_stopped(made, made.finish())
    tables = made.run / "state/values"
    before = {table.name: table.read_bytes() for table in tables.glob("*.safetensors")}
    assert before
    for table in tables.glob("*.safetensors"):
        table.unlink()

    job = only(manifests["example/values"], "Job")["spec"]
    spec = job["template"]["spec"]
    index = "batch.kubernetes.io/job-completion-index"
    shards = []
    for number in range(job["completions"]):
        logs = tmp_path / f"shard-{number}"
        logs.mkdir()
        shard = pod.Pod(spec, made.images, made.volumes, logs, {index: str(number)})
        with shard:
            assert shard.start()
            assert shard.finish() == {"values": 0}, shard.said()
        shards.append(int(re.search(r"(\d+) tables made", shard.said()["values"])[1]))
    assert sum(shards) > max(shards) > 0, "more than one had something to do"
    after = {table.name: table.read_bytes() for table in tables.glob("*.safetensors")}
    assert before.items() <= after.items()

    # The run once more from the beginning, over these tables; another time nothing is left to do.
    for history in (made.run / "state").glob("history.sqlite*"):
        history.unlink()
    spec = only(manifests["example/once"], "Job")["spec"]["template"]["spec"]
    for evaluated in (True, False):
        logs = tmp_path / f"once-{evaluated}"
        logs.mkdir()
        once = pod.Pod(spec, made.images, made.volumes, logs)
        with once:
            assert once.start()
            assert once.finish() == {"once": 0}, once.said()
        said = once.said()["once"]
        assert "early-stopped" in said and ("INFO pair step=" in said) == evaluated, said
    assert after == {table.name: table.read_bytes() for table in tables.glob("*.safetensors")}
