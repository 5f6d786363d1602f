"""The search on toys: what a trial costs, which are pruned, what a second call adds."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml

from emseg.config.schema import Space, Tune
from emseg.config.schema_data import VolumeConfig
from emseg.errors import UserError
from emseg.stages.decode_job import DecodeJob
from emseg.stages.search_space import split_space, start_of, suggest, with_parameters
from emseg.stages.sources import open_sources
from emseg.stages.study import search
from emseg.stages.trial import Task
from emseg.volumes import write_volume

TOYS = "stages.toy_decoders"
FACTS = {
    "format_version": 1,
    "fingerprint": "one",
    "kind": "prediction",
    "channels": ["mask"],
    "offsets": None,
    "edge_side": None,
    "step": 1,
}
BEHAVING = {"_target_": f"{TOYS}.behaving", "way": "well", "size": 0.5}
LEVELLED = {"_target_": f"{TOYS}.Levelled", "level": 0.5, "gain": 1.0}
LEVELS = Space(low=0.1, high=0.5, step=0.1)
GAINS = Space(low=0.5, high=2.0, step=0.25)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_prediction()
    labels = np.ones((2, 3, 4), np.uint8)
    write_volume("im.h5", labels, axes="zyx", voxel_size=None, attributes={})


def write_prediction(**facts: Any) -> None:
    values = np.zeros((1, 2, 3, 4), np.float32)
    write_volume("p.h5", values, axes="czyx", voxel_size=None, attributes=FACTS | facts)


def run(leaf, seed=0, **settings):
    (source,) = open_sources({"a": VolumeConfig(image="im.h5", label="im.h5")}, split="test")
    job = DecodeJob(Path("p.h5"), leaf, None, (TOYS,))
    task = Task(job, source, {"size": {"_target_": f"{TOYS}.size"}}, "size")
    defaults = {"study_name": "s", "metric": "size", "n_startup_trials": 100, "n_trials": 4}
    return search([task], Tune(**defaults | settings), folder=Path("tune"), seed=seed)


def best_of(leaf, **settings):
    return run(leaf, **settings).leaf


def stored():
    return optuna.load_study(study_name="s", storage="sqlite:///tune/s.sqlite3")


def decodes():
    return [float(line) for line in Path("decodes.txt").read_text().split()]


@pytest.mark.parametrize(("direction", "best"), [("maximize", 0.3), ("minimize", 0.1)])
def test_all_swept_values_cost_one_decode(inline, direction, best):
    space = {"level": Space(low=0.1, high=0.4, step=0.1)}
    leaf = best_of(LEVELLED, search_space=space, direction=direction)
    assert leaf == LEVELLED | {"level": best}
    # Once for four trials, which differ in nothing but the level, and once for the config's level,
    # which is not among theirs.
    assert decodes() == [1.0, 1.0]
    assert yaml.safe_load(yaml.safe_dump(leaf))["level"] == best


def test_equal_arguments_are_decoded_once(inline):
    space = {"level": LEVELS, "gain": Space(choices=[1.0, 2.0])}
    leaf = best_of(LEVELLED, search_space=space, direction="maximize", n_trials=12)
    assert leaf == LEVELLED | {"level": 0.3, "gain": 2.0}
    assert Counter(decodes()) == {1.0: 1, 2.0: 1}
    # Other levels are another question.
    space["level"] = Space(low=0.1, high=0.3, step=0.1)
    run(LEVELLED, search_space=space, direction="maximize", n_trials=4)
    assert set(Counter(decodes()).values()) == {2}


def test_the_configs_own_arguments_come_first(inline):
    run(LEVELLED, search_space={"gain": GAINS}, n_trials=1)
    assert stored().trials[0].params == {"gain": 1.0}


def test_the_configs_own_arguments_need_not_lie_on_the_steps(inline):
    for _ in range(2):  # and the study goes on from them
        run(
            LEVELLED | {"gain": 0.999}, search_space={"gain": GAINS}, n_trials=6, n_startup_trials=2
        )
    gains = [trial.params["gain"] for trial in stored().trials]
    assert gains[0] == 0.999 and len(gains) == 12
    assert {gain % 0.25 for gain in gains[1:]} == {0}


@pytest.mark.parametrize(
    ("level", "untuned", "scored_by"), [(0.5, 0.8, "a trial"), (0.45, 0.85, "itself")]
)
def test_untuned_is_the_config_as_it_stands(inline, level, untuned, scored_by):
    space = {"level": LEVELS, "gain": Space(choices=[0.5, 1.0])}
    found = run(LEVELLED | {"level": level}, search_space=space, direction="maximize", n_trials=6)
    assert (found.untuned, found.score) == pytest.approx((untuned, 1.0))
    assert found.leaf == LEVELLED | {"level": 0.3, "gain": 1.0}
    assert Counter(decodes()) == {0.5: 1, 1.0: 1 if scored_by == "a trial" else 2}


def test_a_tolerance_takes_the_middle_of_a_plateau(inline):
    leaf, space = (
        LEVELLED | {"_target_": f"{TOYS}.Spiked", "level": 0.2},
        Space(low=0.1, high=0.6, step=0.1),
    )
    settings = {"search_space": {"level": space}, "direction": "maximize"}
    assert run(leaf, **settings).leaf["level"] == 0.1
    found = run(leaf, tolerance=1.0, study_name="steady", **settings)
    assert (found.leaf["level"], found.score, found.untuned) == (0.4, 1.0, 0.2)
    assert run(leaf, tolerance=0.9, study_name="spike", **settings).leaf["level"] == 0.1
    with pytest.raises(UserError, match="study"):  # its trials were chosen otherwise
        run(leaf, tolerance=2.0, study_name="steady", **settings)


def test_what_no_trial_beats_stays_as_it_is(inline):
    own = LEVELLED | {"level": 0.3, "gain": 3.0}
    found = run(own, search_space={"level": LEVELS, "gain": GAINS}, direction="maximize")
    assert found.leaf == own
    assert found.score == found.untuned == 3.0


def test_a_config_that_cannot_be_scored_is_no_hindrance(inline, capsys):
    way = Space(choices=["well"])
    found = run(BEHAVING | {"way": "refuse"}, search_space={"way": way}, n_trials=1)
    assert found.untuned is None and found.leaf["way"] == "well"
    assert "own arguments have no score: no such thing" in capsys.readouterr().err
    # nan is no score either.
    size = Space(choices=[0.5])
    found = run(BEHAVING | {"size": 0.07}, search_space={"size": size}, study_name="nan")
    assert found.untuned is None and found.leaf["size"] == 0.5


def test_a_second_call_appends_other_draws(inline, capfd):
    space = {"gain": Space(low=0.0, high=2.0)}
    for count in (1, 2):
        run(LEVELLED, search_space=space, n_trials=5, direction="maximize")
        trials = stored().trials
        assert [trial.state.name for trial in trials] == ["COMPLETE"] * (5 * count)
    gains = [trial.params["gain"] for trial in trials]
    assert gains[0] == 1.0  # the config's own, and that once
    assert len(set(gains)) == 10
    told = capfd.readouterr()
    assert "adding to the 5 trials" in told.err
    assert told.out == ""
    assert all(line.startswith("emseg: ") for line in told.err.splitlines())


def test_the_same_seed_makes_the_same_study(inline):
    space = {"gain": Space(low=0.0, high=2.0)}
    found = []
    for _ in range(2):
        run(LEVELLED, search_space=space, n_trials=3, seed=5)
        found.append([trial.params for trial in stored().trials])
        Path("tune/s.sqlite3").unlink()
    assert found[0] == found[1]


def test_another_question_is_not_added_to_the_study(inline):
    space = {"gain": GAINS}
    run(LEVELLED, search_space=space)
    # The searched argument's own value and wider bounds do not matter.
    run(LEVELLED | {"gain": 1.5}, search_space={"gain": Space(low=0.0, high=2.0)})
    for change in (
        lambda: run(LEVELLED, search_space=space | {"level": LEVELS}),
        lambda: run(LEVELLED, search_space=space, direction="maximize"),
        lambda: run(LEVELLED | {"level": 0.4}, search_space=space),
        lambda: (write_prediction(fingerprint="two"), run(LEVELLED, search_space=space)),
    ):
        before = len(stored().trials)
        with pytest.raises(UserError, match="tune.study_name"):
            change()
        assert len(stored().trials) == before


def test_other_choices_are_another_study(inline):
    run(LEVELLED, search_space={"gain": Space(choices=[0.5, 1.0])}, n_trials=2)
    run(LEVELLED, search_space={"gain": Space(choices=[0.5, 1.0])}, n_trials=3)
    with pytest.raises(UserError, match="other predictions, arguments, choices.*tune.study_name"):
        run(LEVELLED, search_space={"gain": Space(choices=[1.0, 1.5])}, n_trials=4)


def test_a_study_killed_midway_goes_on(inline, capsys):
    run(LEVELLED, search_space={"gain": GAINS}, n_trials=2)
    stored().ask()  # what a kill leaves: a trial that runs for ever
    run(LEVELLED, search_space={"gain": GAINS}, n_trials=3)
    states = [trial.state.name for trial in stored().trials]
    assert states == ["COMPLETE"] * 2 + ["RUNNING"] + ["COMPLETE"] * 3
    told = capsys.readouterr().err
    assert "adding to the 2 trials" in told and "trial 3/3" in told


def test_slow_crashed_and_refused_trials_are_pruned_with_the_reason(capfd):
    space = {"way": Space(choices=["slow", "crash", "refuse", "well"]), "size": GAINS}
    leaf = best_of(
        BEHAVING | {"way": "slow"},
        search_space=space,
        trial_timeout=0.5,
        n_trials=10,
        direction="maximize",
    )
    assert leaf["way"] == "well"
    reasons = {"slow": "ran for more than 0.5 s", "crash": "SIGABRT", "refuse": "no such thing"}
    trials = stored().trials
    assert {trial.params["way"] for trial in trials} == {"well", *reasons}
    told = capfd.readouterr().err
    for trial in trials:
        way = trial.params["way"]
        assert trial.state.name == ("COMPLETE" if way == "well" else "PRUNED")
        assert (trial.value is None) == (way != "well")
        assert reasons.get(way, "size ") in told
    assert all(line.startswith("emseg: ") for line in told.splitlines())


def test_no_trial_that_ends_is_an_error_with_the_reason(inline):
    with pytest.raises(UserError, match="no trial of s .*: no such thing"):
        run(BEHAVING | {"way": "refuse"}, search_space={"size": GAINS})


def test_what_is_not_a_number_is_never_the_best(inline):
    # The metric is nan for the label 7, that is the size 0.07.
    space = {"size": Space(choices=[0.07, 0.5])}
    leaf = best_of(BEHAVING | {"size": 0.07}, search_space=space, n_trials=6)
    assert leaf["size"] == 0.5
    with pytest.raises(UserError, match="size is nan"):
        run(BEHAVING, search_space={"size": Space(choices=[0.07])}, study_name="none")


@pytest.mark.parametrize(
    ("space", "drawn"),
    [
        (Space(low=0, high=1, step=0.25), {0.0, 0.25, 0.5, 0.75, 1.0}),
        (Space(low=0, high=4, step=2), {0, 2, 4}),
        (Space(low=0, high=2), {0, 1, 2}),
    ],
)
def test_only_whole_numbers_throughout_mean_whole_numbers(space, drawn):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values = [suggest(study.ask(), "size", space) for _ in range(40)]
    assert set(values) == drawn
    assert {type(value) for value in values} == {type(min(drawn))}


@pytest.mark.parametrize(
    ("space", "start"),
    [
        (Space(choices=[0.5, 0.6]), {"size": 0.5}),
        (Space(choices=[0.6]), {}),
        (Space(low=0.1, high=0.9, step=0.1), {"size": 0.5}),
        (Space(low=0.1, high=0.9, step=0.25), {"size": 0.5}),
        (Space(low=0.1, high=0.45), {}),
        (Space(low=0.1, high=0.9, log=True), {"size": 0.5}),
    ],
)
def test_the_start_lies_in_the_space(space, start):
    assert start_of({"size": space}, BEHAVING) == start


def test_which_arguments_are_swept():
    sampled, swept = split_space({"level": LEVELS, "gain": GAINS}, LEVELLED, [TOYS])
    assert swept == ("level", [0.1, 0.2, 0.3, 0.4, 0.5]) and [*sampled] == ["gain"]
    for space in ({"level": Space(low=0.1, high=0.5)}, {"level": Space(choices=[0.1])}):
        assert split_space(space, LEVELLED, [TOYS]) == (space, None)


def test_parameters_reach_elements_of_lists():
    leaf = {"_target_": "t", "pair": [0.1, 0.9], "name": "a"}
    changed = with_parameters(leaf, {"pair.1": 0.5, "name": "b"})
    assert changed == {"_target_": "t", "pair": [0.1, 0.5], "name": "b"}
    assert leaf["pair"] == [0.1, 0.9]
