"""The calibration of coverage on records with a known rule, and the example that the server is held to."""

import gzip
import json
import pathlib
import subprocess
import sys

import pytest

np = pytest.importorskip("numpy")

import calibrate_coverage  # noqa: E402
import synthetic_records  # noqa: E402

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/coverage.json"


@pytest.fixture(scope="module")
def records():
    return synthetic_records.made(3000, seed=1)


@pytest.fixture(scope="module")
def made(records):
    return calibrate_coverage.calibrate(records)


def figures(calibration, records):
    every = [calibrate_coverage.features_of(record) for record in records]
    return [np.array([calibrate_coverage.figure(calibration[part], of) for of in every]) for part in ("attention", "risk")]


def test_finds_the_rule(made, records):
    assert made["fit"]["auc_masses"] > 0.9
    assert made["fit"]["auc_all"] >= made["fit"]["auc_masses"]
    assert made["fit"]["attention_mean_error"] < 0.02 < made["fit"]["uncalibrated_mean_error"]
    assert made["fit"]["attention_correlation"] > 0.95
    # The weights say where to look: less mass in the telling place, more risk.
    slope = {}
    for layer in range(3):
        for group in range(2):
            low, high = ({name: value.copy() for name, value in calibrate_coverage.features_of(records[0]).items()} for _ in range(2))
            for features, share in ((low, 0.2), (high, 0.9)):
                for name in ("mass", "first_mass"):
                    features[name][layer, group] = share
                    features[f"{name}_missed_log"][layer, group] = calibrate_coverage.missed_log(np.asarray(share))
            slope[layer, group] = calibrate_coverage.figure(made["risk"], low) - calibrate_coverage.figure(made["risk"], high)
    assert max(slope, key=slope.get) == synthetic_records.TELLING


def test_holds_on_records_it_never_saw(made):
    fresh = synthetic_records.made(3000, seed=2)
    attention, risk = figures(made, fresh)
    dense, sparse = (np.array([record[f"{mode}_right"] for record in fresh]) for mode in ("dense", "sparse"))
    missed = dense & ~sparse
    answered = dense | sparse
    assert abs(calibrate_coverage.auc(risk[answered], missed[answered]) - made["fit"]["auc_all"]) < 0.03
    assert abs(risk[answered].mean() - missed[answered].mean()) < 0.03  # a probability, not only an order
    assert abs((risk[sparse] >= made["threshold"]).mean() - 0.05) < 0.025
    assert (risk[missed] >= made["threshold"]).mean() > 0.4
    true = np.array([np.mean(record["true_mass"]) for record in fresh])
    assert np.abs(attention - true).mean() < 0.02


def test_the_threshold_is_the_allowed_share_of_false_alarms(records):
    for allowed in (0.0, 0.01, 0.2):
        fit = calibrate_coverage.calibrate(records[:1200], allowed)["fit"]
        assert fit["false_alarms"] <= allowed + 1e-9
        assert fit["false_alarms"] > allowed - 0.005


def test_no_context_is_on_both_sides():
    records = synthetic_records.made(200, seed=3)
    folds = calibrate_coverage.folds_of(records)
    for context in range(20):
        assert len({fold for fold, record in zip(folds, records) if record["context"] == context}) == 1
    # One context alone is parted by question.
    assert len(set(calibrate_coverage.folds_of([record | {"context": 0} for record in records]))) == calibrate_coverage.FOLDS


def test_auc():
    auc = calibrate_coverage.auc
    assert auc(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])) == 1
    assert auc(np.array([0.9, 0.2, 0.8, 0.1]), np.array([True, False, False, True])) == 0.5
    assert auc(np.array([0.5, 0.5, 0.5]), np.array([True, False, False])) == 0.5
    assert auc(np.array([0.5]), np.array([True])) is None


def test_refuses_records_that_say_too_little(records):
    with pytest.raises(ValueError, match="sparse,dense"):
        calibrate_coverage.calibrate([record | {"dense_right": None} for record in records])
    with pytest.raises(ValueError, match="too few"):
        calibrate_coverage.calibrate([record | {"sparse_right": True} for record in records])
    with pytest.raises(ValueError, match="different models"):
        calibrate_coverage.calibrate(records + synthetic_records.made(10, seed=4, layers=4))


def test_command_line_and_a_file_that_breaks_off(tmp_path, records):
    whole, broken = tmp_path / "records.jsonl.gz", tmp_path / "broken.jsonl.gz"
    with gzip.open(whole, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(record) + "\n" for record in records[:1500])
    broken.write_bytes(whole.read_bytes()[:-2000])
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    command = [sys.executable, str(ROOT / "training/calibrate_coverage.py"), "--records", f"{whole},{broken}", "--model", str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "breaks off after" in shown and "auc_all" in shown
    written = json.loads((tmp_path / "coverage_calibration.json").read_text())
    assert 2500 < written["fit"]["records"] < 3000
    # What the server hashes: the list of (length-prefixed name, size, SHA-256) of the weight files, in order of name.
    assert written["weights_sha256"] == "4d61ab8c7891ffbd8d9d9d602d77c194ff394299856b53c7b69d8e6b47a887dd"


def test_golden_example():
    """tests/engine/answer holds the server to the same file."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert golden["calibration"]["version"] == calibrate_coverage.VERSION
    marked = 0
    for answer in golden["answers"]:
        features = calibrate_coverage.features_of(answer)
        assert calibrate_coverage.figure(golden["calibration"]["attention"], features) == pytest.approx(answer["attention"], abs=1e-9)
        assert calibrate_coverage.figure(golden["calibration"]["risk"], features) == pytest.approx(answer["risk"], abs=1e-9)
        assert answer["low"] == (answer["risk"] >= golden["calibration"]["threshold"])
        marked += answer["low"]
    assert 0 < marked < len(golden["answers"])
