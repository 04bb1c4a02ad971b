"""Rules and dashboard: every alert can be provoked and is told apart, and every expression works on what a real server exports."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
RULES = {name: yaml.safe_load((PROMETHEUS / f"{name}.yaml").read_text()) for name in ("recording", "alerts")}
DASHBOARD = json.loads((ROOT / "deploy/grafana/lectern.json").read_text())
# The server of these tests has no certificates.
ONLY_WITH_TLS = {"lectern_certificate_expiry_time_seconds"}
DEADLINE_SECONDS = 120


def rules(name):
    return [rule for group in RULES[name]["groups"] for rule in group["rules"]]


def expressions():
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return panels + [rule["expr"] for rule in rules("recording")]


def promtool(*arguments, cwd=None):
    tool = shutil.which("promtool")
    assert tool, "promtool is missing: scripts/setup test"
    return subprocess.run([tool, *arguments], capture_output=True, text=True, cwd=cwd)


def copied(tmp_path, edit):
    """deploy/prometheus with its alerts edited."""
    folder = tmp_path / "prometheus"
    shutil.copytree(PROMETHEUS, folder)
    alerts = yaml.safe_load((folder / "alerts.yaml").read_text())
    for rule in alerts["groups"][0]["rules"]:
        edit(rule)
    (folder / "alerts.yaml").write_text(yaml.safe_dump(alerts))
    return folder


def test_rules_and_configurations_are_well_formed(tmp_path):
    for name in RULES:
        checked = promtool("check", "rules", str(PROMETHEUS / f"{name}.yaml"))
        assert checked.returncode == 0, checked.stderr
    # Debian builds Prometheus without Kubernetes discovery: what it cannot parse is taken out first.
    configuration = yaml.safe_load((PROMETHEUS / "prometheus-kubernetes.yaml").read_text())
    for job in configuration["scrape_configs"]:
        assert job.pop("kubernetes_sd_configs")
    folder = copied(tmp_path, lambda rule: None)
    (folder / "prometheus-kubernetes.yaml").write_text(yaml.safe_dump(configuration))
    for name in ("prometheus.yaml", "prometheus-kubernetes.yaml"):
        checked = promtool("check", "config", name, cwd=folder)
        assert checked.returncode == 0, checked.stderr


def test_every_alert_says_what_to_do():
    guide = (ROOT / "deploy/OPERATIONS.md").read_text()
    for rule in rules("alerts"):
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert len(rule["annotations"]["summary"]) > 20 and len(rule["annotations"]["runbook"]) > 80, rule["alert"]
        assert f"`{rule['alert']}`" in guide, rule["alert"]


def test_reasons_in_alerts_are_reasons_of_the_server():
    sources = "".join(path.read_text() for room in ("engine", "services", "storage") for path in (ROOT / room).rglob("*.[ch]*"))
    reasons = {reason for rule in rules("alerts") for match in re.findall(r'reason=~"([^"]*)"', rule["expr"])
               for reason in match.split("|")}
    assert len(reasons) >= 4
    assert [reason for reason in sorted(reasons) if f'"{reason}"' not in sources] == []


def test_every_alert_is_provoked_and_nothing_else_fires():
    tests = yaml.safe_load((PROMETHEUS / "tests/alerts_test.yaml").read_text())["tests"]
    assert {test["name"] for test in tests} == {rule["alert"] for rule in rules("alerts")} | {"healthy"}
    ran = promtool("test", "rules", "tests/alerts_test.yaml", cwd=PROMETHEUS)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_provocations_can_fail(tmp_path):
    def never(rule):
        rule["expr"] = "vector(1) > 2"

    ran = promtool("test", "rules", "tests/alerts_test.yaml", cwd=copied(tmp_path, never))
    assert ran.returncode != 0
    told = ran.stdout + ran.stderr
    assert [rule["alert"] for rule in rules("alerts") if rule["alert"] not in told] == []


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, what):
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what} did not happen within {DEADLINE_SECONDS} s")


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    return process.wait(DEADLINE_SECONDS)


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


@pytest.fixture(scope="module")
def lectern(tmp_path_factory):
    """A server that has ingested a document and answered twice; yields the address of its metrics, and the same again."""
    folder = tmp_path_factory.mktemp("lectern")
    program = os.environ["LECTERN"]
    with open(folder / "out", "w") as out, open(folder / "log", "w") as log:
        server = subprocess.Popen([program, "serve", f"--data_dir={folder}/data", "--listen=127.0.0.1:0",
                                   f"--model_dir={ROOT}/models/default", "--metrics_listen=127.0.0.1:0", "--threads=1",
                                   "--disk_cap=2GiB", "--pool_bytes=256MiB"], stdout=out, stderr=log)
    try:
        def ready():
            assert server.poll() is None, (folder / "log").read_text()
            return re.search(r"ready address=(\S+) metrics=(\S+)", (folder / "out").read_text())

        address, metrics = wait_for(ready, "ready").groups()

        def call(*arguments):
            done = subprocess.run([program, *arguments, f"--address={address}"], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr

        document = folder / "wc.txt"
        corpora = iter(range(100))

        def work():
            # Another text each time, of several blocks.
            corpus = next(corpora)
            document.write_text("".join(f"Option number {n} of program {corpus} prints the count of item {n * 7}. " for n in range(60)))
            call("upload", f"manual-{corpus}", str(document))
            for question in ("What does option number 7 print?", "What does option number 31 print?"):
                call("ask", f"manual-{corpus}", question)

        work()
        yield metrics, work
        assert stop(server) == 0
    finally:
        stop(server)


@pytest.fixture(scope="module")
def prometheus(lectern, tmp_path_factory):
    """A Prometheus that has scraped the server each second, before, while and after it answered."""
    metrics, work = lectern
    folder = copied(tmp_path_factory.mktemp("scrape"), lambda rule: None)
    configuration = yaml.safe_load((folder / "prometheus.yaml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": [metrics]}]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    recording = yaml.safe_load((folder / "recording.yaml").read_text())
    recording["groups"][0]["interval"] = "1s"
    (folder / "recording.yaml").write_text(yaml.safe_dump(recording))
    address = f"127.0.0.1:{free_port()}"
    with open(folder / "log", "w") as log:
        process = subprocess.Popen([shutil.which("prometheus"), f"--config.file={folder}/prometheus.yaml",
                                    f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"],
                                   stdout=log, stderr=log)

    def query(expression):
        status, body = get(f"http://{address}/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        assert status in (0, 400, 422, 503, 200), body
        return json.loads(body) if status in (200, 400, 422) else {"status": "away", "data": {"result": []}}

    def value(expression):
        result = query(expression)["data"]["result"]
        return float(result[0]["value"][1]) if result else 0

    try:
        wait_for(lambda: value("count_over_time(up[1m])") >= 2, "scrape")
        before = value("sum(lectern_generated_tokens_total)")
        work()
        wait_for(lambda: value("sum(lectern_generated_tokens_total)") > before, "scrape of new answers")
        scrapes = value("count_over_time(up[1m])")
        wait_for(lambda: value("count_over_time(up[1m])") >= scrapes + 3, "three more scrapes")
        yield query
    finally:
        stop(process)


def resolved(expression):
    # Grafana puts four scrape intervals or more here.
    return expression.replace("$__rate_interval", "1m")


def test_every_expression_returns_data(prometheus):
    problems = {}
    for expression in expressions():
        reply = prometheus(resolved(expression))
        empty = not reply.get("data", {}).get("result")
        if reply["status"] != "success":
            problems[expression] = reply.get("error")
        elif empty:
            problems[expression] = "no data"
    assert problems == {}


def test_alert_expressions_evaluate_and_nothing_fires(prometheus):
    for rule in rules("alerts"):
        assert prometheus(rule["expr"])["status"] == "success", rule["alert"]
    assert prometheus('ALERTS{alertstate="firing"}')["data"]["result"] == []


def test_a_broken_expression_is_noticed(prometheus):
    assert prometheus("sum(lectern_corpora")["status"] == "error"
    assert prometheus("lectern_no_such_metric")["data"]["result"] == []


def test_every_metric_that_is_used_is_exported(lectern):
    metrics, _ = lectern
    status, page = get(f"http://{metrics}/metrics")
    assert status == 200
    exported = set(re.findall(r"^# TYPE (\w+) ", page, re.M)) | ONLY_WITH_TLS
    everything = " ".join(expressions() + [rule["expr"] for rule in rules("alerts")])
    used = {re.sub(r"_bucket$", "", name) for name in re.findall(r"\b((?:lectern|process)_[a-z_]+)", everything)}
    assert used - exported - cluster_metrics() - {"lectern_"} == set()


def cluster_metrics():
    """What gateways and workers of a cluster export besides (tests/e2e/cluster_test.cc scrapes some)."""
    sources = "".join((ROOT / path).read_text() for path in ("services/cluster/collector.cc", "services/gateway/router_collector.cc"))
    return set(re.findall(r'"(lectern_cluster_[a-z_]+)"', sources))


def test_the_guide_names_every_metric_of_the_cluster():
    table = (ROOT / "deploy/OPERATIONS.md").read_text().split("| metric of a cluster |")[1].split("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert len(named) > 10
    assert named == cluster_metrics()


def test_the_guide_names_every_metric(lectern):
    metrics, _ = lectern
    _, page = get(f"http://{metrics}/metrics")
    exported = set(re.findall(r"^# TYPE (\w+) ", page, re.M))
    table = (ROOT / "deploy/OPERATIONS.md").read_text().split("| metric |")[1].split("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named - ONLY_WITH_TLS == exported


# Capitals in the sources that are no reason with which a call can end: starts, offline commands, names of other things.
NO_REASON_OF_A_CALL = re.compile(
    r"(CALIBRATION|DATA_DIR|KEYS_FILE|LECTERN|MODEL_CONFIG|MODEL_FILE|MODEL_TOKENIZER|MODEL_UNSUPPORTED|SAFETENSORS|SPARSE_CONFIG|TENSOR|TOKENIZER|F8)(_|$)"
    r"|(DEVICE_MEMORY_TOO_SMALL|DEVICE_UNSUPPORTED|FLAG_INVALID|LISTEN_FAILED|NO_GPU|OPTION_INVALID|XDG_DATA_HOME)$")


def test_counters_of_errors_exist_before_the_first(lectern):
    metrics, _ = lectern
    _, page = get(f"http://{metrics}/metrics")
    counted = set(re.findall(r'^lectern_errors_total\{.*reason="(\w+)".*\} ', page, re.M))
    sources = "".join(path.read_text() for room in ("engine", "services") for path in (ROOT / room).rglob("*.[ch]*")
                      if path.name != "error_reasons.h")
    reasons = {name for name in re.findall(r'"([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+|CANCELLED|DRAINING|INTERNAL)"', sources)
               if not NO_REASON_OF_A_CALL.match(name)}
    assert len(reasons) > 80
    assert reasons - counted == set()
    assert counted - reasons == {"UNKNOWN"}
    assert {kind for kind in re.findall(r'^lectern_damages_total\{kind="(\w+)"\} 0$', page, re.M)} == {
        "blocks", "catalog", "document", "hash", "layout"}
