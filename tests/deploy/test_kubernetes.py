"""The manifests: valid for Kubernetes, true to the programs, and hard where they claim to be."""

import copy
import os
import pathlib
import re
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
OVERLAYS = sorted((ROOT / "deploy/kubernetes/overlays").iterdir())
VERSIONS = ("1.29", "1.32", "1.37")
PROGRAMS = {"lectern-gateway": "LECTERN_GATEWAY", "lectern-worker": "LECTERN_WORKER"}
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
# Weights, RocksDB's memory and gRPC's: what the flags do not bound.
UNBOUNDED_BYTES = 2 << 30


def size(text):
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]*)", text).groups()
    return int(number) * UNITS[unit]


def render(overlay):
    kubectl = shutil.which("kubectl")
    assert kubectl, "kubectl is missing: scripts/setup test"
    out = subprocess.run([kubectl, "kustomize", str(overlay)], check=True, capture_output=True, text=True)
    return [document for document in yaml.safe_load_all(out.stdout) if document]


@pytest.fixture(params=OVERLAYS, ids=lambda path: path.name)
def objects(request):
    return render(request.param)


def workloads(objects):
    return [o for o in objects if o["kind"] in ("Deployment", "StatefulSet")]


def container(workload):
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    return only


def flags(workload):
    return dict(argument.removeprefix("--").split("=", 1) for argument in container(workload)["args"])


def of_kind(objects, kind):
    return [o for o in objects if o["kind"] == kind]


def schema_errors(document):
    errors = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            errors.append(f"{version}: {error.message}")
    return errors


def hardening_errors(workload):
    """What the restricted pod security standard asks for, and what we add to it."""
    pod = workload["spec"]["template"]["spec"]
    errors = []
    if pod.get("automountServiceAccountToken") is not False:
        errors.append("token")
    context = pod.get("securityContext", {})
    if not context.get("runAsNonRoot") or context.get("runAsUser", 0) == 0:
        errors.append("root")
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        errors.append("seccomp")
    if any("hostPath" in volume for volume in pod.get("volumes", [])):
        errors.append("hostPath")
    if pod.get("hostNetwork") or pod.get("hostPID") or pod.get("hostIPC"):
        errors.append("host")
    for c in pod["containers"] + pod.get("initContainers", []):
        own = c.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            errors.append("escalation")
        if own.get("capabilities", {}) != {"drop": ["ALL"]}:
            errors.append("capabilities")
        if own.get("readOnlyRootFilesystem") is not True:
            errors.append("writable root")
        for bound in ("requests", "limits"):
            if not {"cpu", "memory"} <= c.get("resources", {}).get(bound, {}).keys():
                errors.append(bound)
    return errors


def grace_errors(workload):
    hook = container(workload)["lifecycle"]["preStop"]["exec"]["command"]
    assert hook[0] == "sleep"
    needed = int(hook[1]) + int(flags(workload)["drain_seconds"])
    # Strictly more: closing comes after the drain.
    return [] if workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > needed else ["grace"]


def memory_errors(worker):
    own = flags(worker)
    needed = sum(size(own[name]) for name in ("pool_bytes", "index_bytes", "request_bytes")) + UNBOUNDED_BYTES
    resources = container(worker)["resources"]
    errors = [] if needed <= size(resources["limits"]["memory"]) else ["memory"]
    if resources["limits"]["memory"] != resources["requests"]["memory"]:
        errors.append("memory may be taken back")
    (claim,) = worker["spec"]["volumeClaimTemplates"]
    if size(own["disk_cap"]) > 0.8 * size(claim["spec"]["resources"]["requests"]["storage"]):
        errors.append("disk")
    if own["threads"] != resources["limits"]["cpu"]:
        errors.append("threads")
    return errors


def probe_errors(workload):
    c = container(workload)
    ports = {port["name"]: port["containerPort"] for port in c["ports"]}
    own = flags(workload)
    errors = []
    if ports != {"grpc": int(own["listen"].rsplit(":", 1)[1]), "metrics": int(own["metrics_listen"].rsplit(":", 1)[1])}:
        errors.append("ports")
    probes = {kind: c[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")}
    for kind, probe in probes.items():
        # A kubelet's gRPC probe speaks no TLS, so that it would fail for ever on a port that does.
        if probe.get("httpGet", {}).get("port") != "metrics" or "grpc" in probe:
            errors.append(f"{kind} port")
    if probes["readiness"]["httpGet"]["path"] != "/healthz":
        errors.append("readiness")
    # A gateway's /healthz follows its worker: restarting gateways because the worker is away helps nobody.
    if workload["metadata"]["name"] == "lectern-gateway":
        errors += [kind for kind in ("startup", "liveness") if probes[kind]["httpGet"]["path"] == "/healthz"]
    budget = {kind: probe["periodSeconds"] * probe["failureThreshold"] for kind, probe in probes.items()}
    if not budget["readiness"] < budget["liveness"]:
        errors.append("restarted before it is taken out of service")
    return errors


def in_cluster(objects):
    (gateway,) = of_kind(objects, "Deployment")
    return "etcd_endpoints" in flags(gateway)


def cluster_errors(objects):
    """What several workers need: an etcd that they and the gateways mean and reach, and names that gateways can find and check."""
    (worker,) = of_kind(objects, "StatefulSet")
    (gateway,) = of_kind(objects, "Deployment")
    errors = []
    if not in_cluster(objects):
        return [] if worker["spec"]["replicas"] == 1 else ["several workers and nobody who knows which has what"]
    own, others = flags(worker), flags(gateway)
    if "worker" in others:
        errors.append("one worker is named")
    shared = ("etcd_endpoints", "etcd_ca", "etcd_certificate", "etcd_key", "etcd_prefix")
    errors += [name for name in shared if own.get(name) != others.get(name)]
    if own.get("group") != "%h":
        errors.append("pods share a group")
    service = {s["metadata"]["name"]: s for s in of_kind(objects, "Service")}[worker["spec"]["serviceName"]]
    namespace = worker["metadata"]["namespace"]
    if own.get("advertise") != f"%h.{service['metadata']['name']}.{namespace}.svc:{own['listen'].rsplit(':', 1)[1]}":
        errors.append("gateways cannot find pods")
    if service["spec"].get("publishNotReadyAddresses") is not True:
        errors.append("pods have no name until they are ready")
    # Without a lease a worker is not ready; restarting it does not bring one.
    errors += [kind for kind in ("startup", "liveness")
               if container(worker)[f"{kind}Probe"]["httpGet"]["path"] == "/healthz"]
    port = int(own["etcd_endpoints"].rsplit(":", 1)[1])
    for workload in (worker, gateway):
        labels = workload["spec"]["template"]["metadata"]["labels"].items()
        reach = {p["port"] for policy in of_kind(objects, "NetworkPolicy")
                 if policy["spec"]["podSelector"].get("matchLabels", {"": ""}).items() <= labels
                 for rule in policy["spec"].get("egress", []) for p in rule["ports"]}
        if port not in reach:
            errors.append(f"{workload['metadata']['name']} cannot reach etcd")
    return errors


def known_flags(program):
    path = os.environ[PROGRAMS[program]]
    out = subprocess.run([path, "--helpfull"], capture_output=True, text=True).stdout
    return set(re.findall(r"^ +--(\w+) \(", out, re.M))


def flag_errors(workload):
    program = pathlib.Path(container(workload)["command"][0]).name
    return sorted(set(flags(workload)) - known_flags(program))


def test_every_object_is_valid(objects):
    assert {o["kind"] for o in objects} >= {"StatefulSet", "Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget",
                                            "HorizontalPodAutoscaler", "Namespace", "ServiceAccount"}
    assert {(o["kind"], o["metadata"]["name"]): schema_errors(o) for o in objects if schema_errors(o)} == {}


def test_workloads_are_hard_and_true_to_the_programs(objects):
    assert len(workloads(objects)) == 2
    for workload in workloads(objects):
        for check in (hardening_errors, grace_errors, probe_errors, flag_errors):
            assert check(workload) == [], (workload["metadata"]["name"], check.__name__)
    (worker,) = of_kind(objects, "StatefulSet")
    assert memory_errors(worker) == []


def set_path(document, path, value):
    *parents, last = path
    for key in parents:
        document = document[key]
    if value is None:
        del document[last]
    else:
        document[last] = value


POD = ("spec", "template", "spec")
ONLY = POD + ("containers", 0)
BROKEN = [
    ("Deployment", schema_errors, POD + ("terminationGracePeriodSecond",), 9),
    ("Deployment", schema_errors, ("spec", "selector"), None),
    ("StatefulSet", hardening_errors, ONLY + ("securityContext", "capabilities"), None),
    ("Deployment", hardening_errors, ONLY + ("securityContext", "allowPrivilegeEscalation"), True),
    ("Deployment", hardening_errors, ONLY + ("securityContext", "readOnlyRootFilesystem"), None),
    ("StatefulSet", hardening_errors, POD + ("securityContext", "runAsNonRoot"), None),
    ("StatefulSet", hardening_errors, POD + ("securityContext", "seccompProfile"), None),
    ("Deployment", hardening_errors, ONLY + ("resources", "limits"), {}),
    ("StatefulSet", grace_errors, POD + ("terminationGracePeriodSeconds",), 65),
    ("Deployment", grace_errors, POD + ("terminationGracePeriodSeconds",), 30),
    ("StatefulSet", memory_errors, ONLY + ("resources", "limits", "memory"), "5Gi"),
    ("StatefulSet", memory_errors, ONLY + ("resources", "limits", "cpu"), "4"),
    ("Deployment", probe_errors, ONLY + ("livenessProbe", "httpGet", "path"), "/healthz"),
    ("StatefulSet", probe_errors, ONLY + ("readinessProbe",), {"grpc": {"port": 7431}, "periodSeconds": 5,
                                                               "httpGet": {"path": "/healthz"}, "failureThreshold": 2}),
    ("Deployment", probe_errors, ONLY + ("ports", 0, "containerPort"), 7429),
    ("StatefulSet", flag_errors, ONLY + ("args", 0), "--data_folder=/var/lib/lectern"),
]


@pytest.mark.parametrize("kind, check, path, value", BROKEN, ids=lambda v: getattr(v, "__name__", None))
def test_the_checks_can_fail(objects, kind, check, path, value):
    (workload,) = of_kind(objects, kind)
    assert check(workload) == []
    broken = copy.deepcopy(workload)
    set_path(broken, path, value)
    assert check(broken) != []


def test_services_reach_ports_that_exist(objects):
    for service in of_kind(objects, "Service"):
        targets = [w for w in workloads(objects)
                   if service["spec"]["selector"].items() <= w["spec"]["template"]["metadata"]["labels"].items()]
        assert len(targets) == 1, service["metadata"]["name"]
        ports = {port["name"]: port["containerPort"] for port in container(targets[0])["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    services = {s["metadata"]["name"]: s for s in of_kind(objects, "Service")}
    (worker,) = of_kind(objects, "StatefulSet")
    (gateway,) = of_kind(objects, "Deployment")
    assert services[worker["spec"]["serviceName"]]["spec"]["clusterIP"] == "None"
    if not in_cluster(objects):
        host, port = flags(gateway)["worker"].split(":")
        assert int(port) in [p["port"] for p in services[host]["spec"]["ports"]]
    # Nobody but gateways and Prometheus: clients cannot reach the worker through the client service.
    assert services["lectern"]["spec"]["ports"] == [{"name": "grpc", "port": 7421, "targetPort": "grpc", "appProtocol": "grpc"}]


def test_network_is_closed_but_for_what_is_needed(objects):
    policies = {p["metadata"]["name"]: p["spec"] for p in of_kind(objects, "NetworkPolicy")}
    assert policies["lectern-default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (worker,) = [p for n, p in policies.items() if n == "lectern-worker"]
    assert "egress" not in worker
    for rule in worker["ingress"]:
        assert rule["from"] and rule["ports"]
    for rule in policies["lectern-gateway"]["egress"]:
        assert rule["to"] and rule["ports"]
    opened = {name: {port["port"] for rule in spec.get("ingress", []) for port in rule["ports"]} for name, spec in policies.items()}
    expected = {"lectern-default-deny": set(), "lectern-gateway": {7421, 7422}, "lectern-worker": {7431, 7432}}
    if in_cluster(objects):
        expected |= {"lectern-etcd-clients": set(), "lectern-etcd": {2379, 2380}, "lectern-workers": {7431}}
        for name in ("lectern-etcd-clients", "lectern-etcd", "lectern-workers"):
            for rule in policies[name].get("egress", []):
                assert rule["to"] and rule["ports"]
            for rule in policies[name].get("ingress", []):
                assert rule["from"] and rule["ports"]
    assert opened == expected


def test_data_outlives_the_set_and_secrets_are_files(objects):
    (worker,) = of_kind(objects, "StatefulSet")
    assert worker["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert of_kind(objects, "Secret") == []
    for workload in workloads(objects):
        c = container(workload)
        assert "env" not in c and "envFrom" not in c
        mounts = {m["mountPath"]: m for m in c["volumeMounts"]}
        volumes = {v["name"]: v for v in workload["spec"]["template"]["spec"]["volumes"]}
        for value in flags(workload).values():
            if not value.startswith("/etc/lectern/"):
                continue
            mount = mounts[str(pathlib.Path(value).parent)]
            assert mount["readOnly"] and "secret" in volumes[mount["name"]], value
        assert flags(workload).get("allow_insecure") is None
    data = flags(worker)["data_dir"]
    assert any(m["name"] == "data" and data.startswith(m["mountPath"]) for m in container(worker)["volumeMounts"])


def backup_errors(objects):
    """What `--backup_dir` needs, where it is given: a claim of ours that is not the data's."""
    (worker,) = of_kind(objects, "StatefulSet")
    directory = flags(worker).get("backup_dir")
    if directory is None:
        return []
    mounts = [m for m in container(worker)["volumeMounts"] if directory.startswith(m["mountPath"] + "/") and not m.get("readOnly")]
    volumes = {v["name"]: v for v in worker["spec"]["template"]["spec"]["volumes"]}
    claims = {claim["metadata"]["name"]: claim for claim in of_kind(objects, "PersistentVolumeClaim")}
    names = [volumes.get(m["name"], {}).get("persistentVolumeClaim", {}).get("claimName") for m in mounts]
    if len(names) != 1 or names[0] not in claims:
        return ["no claim of its own"]
    room = size(claims[names[0]]["spec"]["resources"]["requests"]["storage"])
    return [] if room >= 2 * size(flags(worker)["disk_cap"]) else ["the new backup does not fit beside the last one"]


def test_backups_have_a_volume_of_their_own():
    rendered = {overlay.name: render(overlay) for overlay in OVERLAYS}
    assert {name: backup_errors(objects) for name, objects in rendered.items() if backup_errors(objects)} == {}
    objects = rendered["cpu-one-node-backups"]
    (worker,) = of_kind(objects, "StatefulSet")
    guide = (ROOT / "deploy/OPERATIONS.md").read_text()
    assert flags(worker)["backup_dir"] in guide
    broken = copy.deepcopy(objects)
    (worker,) = of_kind(broken, "StatefulSet")
    container(worker)["args"].append("--backup_dir=/var/lib/lectern/backups")
    assert backup_errors(broken) == ["no claim of its own"]


def test_several_workers_form_a_cluster(objects):
    assert cluster_errors(objects) == []


def test_the_checks_of_the_cluster_can_fail():
    whole = render(ROOT / "deploy/kubernetes/overlays/cluster")
    assert in_cluster(whole) and cluster_errors(whole) == []
    guide = (ROOT / "deploy/OPERATIONS.md").read_text()
    for workload in workloads(whole):
        for volume in workload["spec"]["template"]["spec"]["volumes"]:
            assert volume.get("secret", {}).get("secretName", "") in guide

    def drop(kind, *arguments):
        broken = copy.deepcopy(whole)
        (workload,) = of_kind(broken, kind)
        kept = [a for a in container(workload)["args"] if a.removeprefix("--").split("=", 1)[0] not in arguments]
        container(workload)["args"] = kept
        return cluster_errors(broken)

    assert drop("StatefulSet", "group") == ["pods share a group"]
    assert drop("StatefulSet", "advertise") == ["gateways cannot find pods"]
    assert drop("Deployment", "etcd_ca") == ["etcd_ca"]
    assert drop("Deployment", "etcd_endpoints", "etcd_ca", "etcd_certificate", "etcd_key") == [
        "several workers and nobody who knows which has what"]
    closed = [o for o in whole if o["metadata"]["name"] != "lectern-etcd-clients"]
    assert cluster_errors(closed) == ["lectern-worker cannot reach etcd", "lectern-gateway cannot reach etcd"]
    for path, value, error in (
            (ONLY + ("livenessProbe", "httpGet", "path"), "/healthz", ["liveness"]),
            (ONLY + ("startupProbe", "httpGet", "path"), "/healthz", ["startup"])):
        broken = copy.deepcopy(whole)
        (worker,) = of_kind(broken, "StatefulSet")
        set_path(worker, path, value)
        assert cluster_errors(broken) == error


def test_budgets_and_autoscaler_find_their_pods(objects):
    for budget in of_kind(objects, "PodDisruptionBudget"):
        labels = budget["spec"]["selector"]["matchLabels"].items()
        assert any(labels <= w["spec"]["template"]["metadata"]["labels"].items() for w in workloads(objects))
    (scaler,) = of_kind(objects, "HorizontalPodAutoscaler")
    (gateway,) = of_kind(objects, "Deployment")
    assert scaler["spec"]["scaleTargetRef"]["name"] == gateway["metadata"]["name"]
    assert "replicas" not in gateway["spec"]
    assert scaler["spec"]["minReplicas"] >= 2


def test_namespace_enforces_restricted(objects):
    (namespace,) = of_kind(objects, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {o["metadata"].get("namespace") for o in objects if o["kind"] != "Namespace"} == {namespace["metadata"]["name"]}


def test_image_runs_as_the_user_that_the_manifests_name(objects):
    lines = (ROOT / "deploy/image/Dockerfile").read_text().splitlines()
    user = [line.split()[1] for line in lines if line.startswith("USER ")][-1]
    for workload in workloads(objects):
        context = workload["spec"]["template"]["spec"]["securityContext"]
        assert user == f"{context['runAsUser']}:{context['runAsGroup']}"
        program = container(workload)["command"][0]
        assert any(line.startswith("COPY --from=build") and pathlib.Path(program).name in line
                   and line.split()[-1] == str(pathlib.Path(program).parent) + "/" for line in lines)
    exposed = {int(port) for line in lines if line.startswith("EXPOSE") for port in line.split()[1:]}
    assert exposed == {p["containerPort"] for w in workloads(objects) for p in container(w)["ports"]}
