"""The model of large clusters: what it is fitted to it must reproduce, and its rules must be the program's."""

import importlib.util
import json
import math
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load():
    spec = importlib.util.spec_from_file_location("cluster_model", ROOT / "deploy" / "cluster_model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["cluster_model"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


model = load()
A = model.Assumptions()
MEASURED = model.RESULTS / "engine_h100.json"
C = model.calibrate(MEASURED)


def test_reproduces_what_one_gpu_was_measured_to_do():
    rows = json.loads(MEASURED.read_text())["rows"]
    compared = 0
    for row in rows:
        n = row["size"]
        if row["model"] != model.BUNDLED.name:
            continue
        if row["metric"] == "step_over_floor":
            predicted = C.step(model.BUNDLED, n, 1, 1, A)[0] * 1e3
        elif row["metric"] == "prefill" and n >= 131072:
            predicted = n / C.prefill(model.BUNDLED, n, 1, A)
        elif row["metric"] == "ttft_device":
            predicted = C.first_token(model.BUNDLED, n, "device", 1, A) * 1e3
        elif row["metric"] == "ttft_disk":
            predicted = C.first_token(model.BUNDLED, n, "disk", 1, A) * 1e3
        else:
            continue
        compared += 1
        assert predicted == pytest.approx(row["value"], rel=0.1), row
    assert compared >= 12


def test_bytes_of_the_bundled_model_are_those_of_its_configuration():
    config = json.loads((ROOT / "models" / "default" / "config.json").read_text())
    kv = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"] * 2
    index = config["num_hidden_layers"] * config["sparse_attention_config"]["sparse_index_dim"] * 2
    assert (model.BUNDLED.kv_token, model.BUNDLED.index_token) == (kv, index)
    assert model.TOP_BLOCKS == config["sparse_attention_config"]["sparse_topk_blocks"]


def test_leases_are_those_of_the_worker():
    flags = (ROOT / "services" / "cluster" / "member_flags.cc").read_text()
    member = (ROOT / "services" / "cluster" / "member.cc").read_text()
    assert int(re.search(r"lease_seconds, (\d+)", flags)[1]) == A.lease_seconds
    assert int(re.search(r"kRenewalsPerLease = (\d+)", member)[1]) == A.renewals_per_lease


def test_a_cache_is_as_full_as_it_can_be():
    sizes = [1.0 + i % 7 for i in range(3000)]
    rates = [1.0 / (i + 1) for i in range(3000)]
    probabilities = model.kept(sizes, rates, 2000.0)
    assert sum(s * p for s, p in zip(sizes, probabilities)) == pytest.approx(2000.0, rel=1e-3)
    assert probabilities == sorted(probabilities, reverse=True)
    assert model.kept(sizes, rates, sum(sizes)) == [1.0] * len(sizes)


def test_the_tail_in_buckets_loses_nothing():
    group = [(1 / (i + 1), 10.0 + i, 100.0) for i in range(1234)]
    buckets = model.alike(group)
    assert len(buckets) == len(model.lengths(len(group)))
    assert sum(model.lengths(len(group))) == len(group)
    assert math.fsum(b[0] for b in buckets) == pytest.approx(math.fsum(g[0] for g in group))
    assert math.fsum(b[1] for b in buckets) == pytest.approx(math.fsum(g[1] for g in group))


def test_ranks_share_work_and_pay_for_it():
    shares = [model.fullest_share(ranks) for ranks in (1, 2, 4, 8)]
    assert shares[0] == 1.0 and shares == sorted(shares, reverse=True) and shares[3] > 1 / 8
    for shape in model.SHAPES:
        assert model.collectives(shape, 1, 1, A) == 0
        for ranks in (2, 4, 8):
            assert model.collectives(shape, 1, ranks, A) > 0
            assert C.prefill(shape, 1e6, 1, A) / ranks < C.prefill(shape, 1e6, ranks, A) < C.prefill(shape, 1e6, 1, A)


def test_a_fleet_is_bound_by_its_most_loaded_group():
    small = model.fleet(model.BUNDLED, 8, 1, 3000, C, A)
    large = model.fleet(model.BUNDLED, 64, 1, 3000, C, A)
    assert small.questions <= small.even and large.questions <= large.even
    assert large.hottest > small.hottest > 1
    assert large.disk_used == pytest.approx(small.disk_used / 8)
    assert 0 <= large.on_device + large.on_host <= 1 + 1e-9
    assert large.ttft_p50 <= large.ttft_p99
