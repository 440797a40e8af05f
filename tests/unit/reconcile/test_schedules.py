"""Whatever the watches have told so far, and whoever holds the Lease: nothing is trained twice, and every run ends.

What must never be is in `lagging_world.Laws`: two live pods of a run, two active runs of an entry, an attempt without a
cause, an attempt whose Job is made again once the run's status has said that it was made. Before it says so, the
operator may have been killed, or its write refused, and a user may have deleted the Job: then nobody knows of it, and
the next look makes it again, when no pod of it is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chorus_kube.resources import JOBS, PODS, PROJECTS, TRAINING_RUNS
from chorus_operator.decisions.names import ChildName
from chorus_operator.decisions.observed import JobView
from chorus_operator.reconcile import run_view, training_run
from chorus_operator.reconcile.children import Owner, Reader
from fakes import FakeKube
from lagging_world import PROJECT, LaggingWorld, Operator, run_key
from unit_manifests import container_plugin, plugin, project, run
from world import made_once

Step = Callable[[LaggingWorld], object]
RUNS = ("r1", "r2", "r3")
EVICTED = {"reason": "Evicted", "message": "The node was low on resource: memory. "}
RETRY = {"disruption": 2, "infrastructure": 1, "user": 1}
TYPES = ("lora", "container")
POLICIES = ("Queue", "Forbid")


def _prepared(type_name: str, policy: str) -> LaggingWorld:
    world = LaggingWorld()
    made = (
        plugin(retry=RETRY) if type_name == "lora" else container_plugin(describe=False, artefact="None", retry=RETRY)
    )
    world.put(made, project(trainOn="Manual", concurrencyPolicy=policy))
    world.frame_ready()
    return world


WORLDS = {(name, policy): made_once(partial(_prepared, name, policy)) for name in TYPES for policy in POLICIES}


def begun(lags: Mapping[str, int] | None = None, *, type_name: str = "lora", policy: str = "Queue") -> LaggingWorld:
    """Give a Project whose frame is ready, and that has no run yet."""
    world = WORLDS[type_name, policy]()
    world.begin(lags)
    return world


def user_makes(name: str, world: LaggingWorld) -> None:
    if name not in world.runs():
        world.kube.put(run(name))


def user_suspends_or_resumes(name: str, world: LaggingWorld) -> None:
    if name in world.runs():
        world.edit(name, suspend=not world.run(name)["spec"].get("suspend", False))


def on_operator(what: Callable[..., object], *arguments: object, **named: object) -> Step:
    """A step of the process that holds the Lease by then."""
    return lambda world: what(world.operator, *arguments, **named)


def on_world(what: Callable[..., object], *arguments: object, **named: object) -> Step:
    """A step of anybody else."""
    return lambda world: what(world, *arguments, **named)


def steps() -> dict[str, dict[str, Step]]:
    keys = {"home": PROJECT, **{name: run_key(name) for name in RUNS}}
    kinds = {each.plural: each for each in (PROJECTS, TRAINING_RUNS, JOBS, PODS)}
    return {
        "the operator": {
            "looks at everything": LaggingWorld.operator_looks_at_everything,
            **{f"looks at {name}": on_operator(Operator.looks, key) for name, key in keys.items()},
            **{f"begins to look at {name}": on_operator(Operator.begins, key) for name, key in keys.items()},
        },
        "a reconcile": {
            **{f"of {name} goes on": on_operator(Operator.goes_on, key) for name, key in keys.items()},
            **{
                f"of {name} goes on, unanswered": on_operator(Operator.goes_on, key, answered=False)
                for name, key in keys.items()
            },
        },
        "the process": {
            "is killed": LaggingWorld.operator_is_killed,
            "loses the Lease": LaggingWorld.lease_is_lost,
            "loses the Lease, and its last calls arrive between two lists": partial(
                LaggingWorld.lease_is_lost, arrivals_after=JOBS
            ),
            "has a late call arrive": LaggingWorld.late_call_arrives,
        },
        "a watch": {
            **{f"of {name} tells": on_operator(Operator.watch_tells, kind) for name, kind in kinds.items()},
            **{
                f"of {name} repeats its {word} event": on_operator(Operator.watch_repeats, kind, back=back)
                for name, kind in kinds.items()
                for word, back in (("last", 0), ("fourth last", 3))
            },
            **{f"of {name} loses events": on_operator(Operator.watch_loses, kind) for name, kind in kinds.items()},
            **{
                f"of {name} stands still": on_world(LaggingWorld.watch_stands_still, kind)
                for name, kind in kinds.items()
            },
            **{f"of {name} is prompt": on_world(LaggingWorld.watch_is_prompt, kind) for name, kind in kinds.items()},
            **{f"of {name} begins a list": on_operator(Operator.list_begins, kind) for name, kind in kinds.items()},
            **{f"of {name} ends its list": on_operator(Operator.list_ends, kind) for name, kind in kinds.items()},
        },
        "a user": {
            **{f"makes {name}": partial(user_makes, name) for name in RUNS},
            **{f"deletes the Job of {name}": on_world(LaggingWorld.job_is_deleted, name) for name in RUNS},
            **{f"cancels {name}": on_world(LaggingWorld.edit, name, cancel=True) for name in RUNS},
            **{f"suspends or resumes {name}": partial(user_suspends_or_resumes, name) for name in RUNS},
        },
        "the pod of": {
            f"{name} {what}": step
            for name in RUNS
            for what, step in {
                "starts": on_world(LaggingWorld.pod_begins, name),
                "reports": on_world(LaggingWorld.pod_reports, name),
                "ends well": on_world(LaggingWorld.pod_ends, name, 0),
                "fails": on_world(LaggingWorld.pod_ends, name, 1),
                "is killed": on_world(LaggingWorld.pod_ends, name, 137),
                "is evicted": on_world(LaggingWorld.pod_ends, name, 137, **EVICTED),
                "is lost with its node": on_world(LaggingWorld.node_is_lost, name),
            }.items()
        },
        "the cluster": {
            "stops the pods that are to end": LaggingWorld.pods_stop,
            "judges Jobs": LaggingWorld.jobs_are_judged,
            **{f"has {seconds} s pass": on_world(LaggingWorld.time_passes, seconds) for seconds in (2, 15, 200)},
        },
    }


STEPS = {f"{who} {what}": act for who, does in steps().items() for what, act in does.items()}
OTHERS = [word for word in STEPS if not word.startswith(("the operator", "a reconcile"))]
WORD = st.one_of(
    *(st.sampled_from([f"{who} {what}" for what in does]) for who, does in steps().items()),
    st.sampled_from([word for word in OTHERS if " r1" in word]),
    st.sampled_from(["the cluster judges Jobs", "the cluster has 15 s pass", "a user deletes the Job of r1"]),
)
DECISIVE = [
    "a user deletes the Job of r1",
    "the cluster stops the pods that are to end",
    "a watch of jobs tells",
    "the pod of r1 fails",
    "the operator looks at r1",
]
EVENTS = st.lists(
    st.one_of(
        st.sampled_from(OTHERS),
        st.sampled_from([word for word in OTHERS if " r1" in word]),
        st.sampled_from(DECISIVE),
    ),
    max_size=3,
)


@st.composite
def interrupted(draw: st.DrawFn) -> Sequence[str]:
    """A reconcile, what happens in the middle of it, and what becomes of it."""
    name = draw(st.sampled_from(["home", "r1", "home", "r2"]))
    begins = [
        f"the operator begins to look at {name}",
        *[f"a reconcile of {name} goes on"] * draw(st.sampled_from([5, 6, 4, 7, 1, 2, 3, 8, 0])),
    ]
    unanswered = [f"a reconcile of {name} goes on, unanswered"] * draw(st.sampled_from([0, 0, 1]))
    ends = draw(
        st.sampled_from(
            [
                f"the operator looks at {name}",
                f"the operator looks at {name}",
                "the process is killed",
                "the process loses the Lease",
                "the process loses the Lease, and its last calls arrive between two lists",
            ]
        )
    )
    return [*begins, *unanswered, *draw(EVENTS), ends, *draw(EVENTS), "the process has a late call arrive"]


TURNS = st.one_of(interrupted(), EVENTS, st.just(["the operator looks at everything"]), WORD.map(lambda word: [word]))
LAGS = st.fixed_dictionaries(
    {kind.plural: st.sampled_from([0, 1, 4, 1000]) for kind in (PROJECTS, TRAINING_RUNS, JOBS, PODS)}
)


@dataclass(frozen=True)
class Schedule:
    """What happens, in words; each step takes a tick."""

    words: Sequence[str]
    lags: Mapping[str, int]
    looks_every: int
    """In how many ticks the operator looks at everything beside."""
    type_name: str
    policy: str

    def happens(self) -> LaggingWorld:
        world = begun(type_name=self.type_name, policy=self.policy)
        told(world, ["a user makes r1", "a user makes r2"])
        world.lags, world.looks_every = self.lags, self.looks_every
        return told(world, self.words)


SCHEDULES = st.builds(
    Schedule,
    words=st.builds(
        lambda first, turns: [*first, *(word for turn in turns for word in turn)],
        interrupted(),
        st.lists(TURNS, min_size=6, max_size=15),
    ),
    lags=LAGS,
    looks_every=st.sampled_from([1, 3, 0]),
    type_name=st.sampled_from(TYPES),
    policy=st.sampled_from(POLICIES),
)


def told(world: LaggingWorld, words: Sequence[str]) -> LaggingWorld:
    """Have a schedule happen, with a tick after each of its steps."""
    for word in words:
        STEPS[word](world)
        world.passes()
    return world


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEDULES)
def test_no_schedule_trains_twice_or_leaves_a_run_open(schedule: Schedule) -> None:
    schedule.happens().comes_to_rest()


@pytest.mark.chaos
@pytest.mark.timeout(900)
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEDULES)
def test_no_schedule_of_a_thousand_trains_twice_or_leaves_a_run_open(schedule: Schedule) -> None:
    schedule.happens().comes_to_rest()


# What each guard keeps from happening: without it the same schedule breaks a law.

MADE_UNANSWERED = [
    "a user makes r1",
    "the operator begins to look at home",
    *["a reconcile of home goes on"] * 4,
    "a reconcile of home goes on, unanswered",
    "the operator looks at home",
]
"""A run is accepted, and nothing in its status says that its Job was made, since the answer to that was lost."""


def broken(schedule: Callable[[], object]) -> str:
    """Tell which law a schedule breaks."""
    with pytest.raises(AssertionError) as caught:
        schedule()
    return str(caught.value)


async def confirm_nothing(*_: object) -> None:
    """Leave out a live read."""


def a_job_is_deleted_after_a_late_write_has_said_that_it_was_made() -> None:
    world = told(
        begun(type_name="container"),
        [*MADE_UNANSWERED, "the operator begins to look at r1", "the process loses the Lease"],
    )
    world.lags = {"trainingruns": 1000}
    told(
        world,
        [
            "the process has a late call arrive",
            "a user deletes the Job of r1",
            "the cluster stops the pods that are to end",
            "the operator looks at r1",
        ],
    ).comes_to_rest()


def test_a_job_that_was_written_down_and_deleted_is_not_made_again_because_the_run_is_read_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a_job_is_deleted_after_a_late_write_has_said_that_it_was_made()
    monkeypatch.setattr(training_run, "confirm_unchanged", confirm_nothing)
    assert broken(a_job_is_deleted_after_a_late_write_has_said_that_it_was_made).endswith("was made again")


def a_job_is_deleted_whose_pod_no_watch_has_told_of() -> None:
    world = begun({"pods": 1000}, type_name="container")
    told(world, [*MADE_UNANSWERED, "a user deletes the Job of r1", "the operator looks at r1"]).comes_to_rest()


def test_no_second_pod_is_made_beside_one_that_still_saves_because_pods_are_read_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a_job_is_deleted_whose_pod_no_watch_has_told_of()
    monkeypatch.setattr(training_run, "confirm_no_pods", confirm_nothing)
    assert "two live pods" in broken(a_job_is_deleted_whose_pod_no_watch_has_told_of)


def a_holder_that_stood_still_makes_a_job_after_the_next_one_has_listed_jobs() -> None:
    world = told(
        begun(type_name="container"),
        ["a user makes r1", "the operator begins to look at home", *["a reconcile of home goes on"] * 4],
    )
    world.lags, world.pods_are_late = {"jobs": 1000, "pods": 1000}, True
    world.lease_is_lost(arrivals_after=JOBS, late_calls=2)
    told(world, ["the operator looks at r1"])
    world.pods_are_late = False
    told(world, ["the cluster has 15 s pass", "the operator looks at r1"] * 2).comes_to_rest()


def test_a_job_that_no_watch_has_told_of_is_not_taken_for_deleted_because_it_is_read_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The former holder does two calls after it lost the Lease: it makes the Job, and writes that it did.

    With one call alone there is no such schedule: who finds the Job there when it would make it reads it live.
    """
    a_holder_that_stood_still_makes_a_job_after_the_next_one_has_listed_jobs()
    read = run_view._job

    async def unless_live(reader: Reader, owner: Owner, name: str | ChildName, *, own_only: bool) -> JobView | None:
        return None if isinstance(reader, FakeKube) else await read(reader, owner, name, own_only=own_only)

    monkeypatch.setattr(run_view, "_job", unless_live)
    words = broken(a_holder_that_stood_still_makes_a_job_after_the_next_one_has_listed_jobs)
    assert words == "run r1 is at attempt 2, and the Job of 1 goes on"


def a_status_of_the_former_holder_arrives_when_the_run_is_at_its_next_attempt() -> None:
    told(
        begun(type_name="container"),
        [
            *MADE_UNANSWERED,
            "the operator begins to look at r1",
            "the process loses the Lease",
            "the operator looks at r1",
            "the pod of r1 starts",
            "the pod of r1 fails",
            "the cluster judges Jobs",
            "the operator looks at r1",
            "the process has a late call arrive",
        ],
    ).comes_to_rest()


def test_a_late_status_changes_nothing_because_it_names_the_version_that_it_was_decided_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a_status_of_the_former_holder_arrives_when_the_run_is_at_its_next_attempt()
    check_existing = FakeKube._existing

    def without_precondition(kube: FakeKube, key: Any, version: str, *rest: Any, **named: Any) -> Any:
        newest = kube.objects[key]["metadata"]["resourceVersion"] if key in kube.objects else version
        return check_existing(kube, key, newest, *rest, **named)

    monkeypatch.setattr(FakeKube, "_existing", without_precondition)
    words = broken(a_status_of_the_former_holder_arrives_when_the_run_is_at_its_next_attempt)
    assert words == "run r1 was at attempt 2, and is at 1"


def test_a_job_that_the_former_holder_makes_late_for_a_run_that_has_ended_is_removed() -> None:
    told(
        begun(type_name="container"),
        [
            "a user makes r1",
            "the operator begins to look at home",
            *["a reconcile of home goes on"] * 4,
            "a user cancels r1",
            "the process loses the Lease",
            "the operator looks at everything",
            "the process has a late call arrive",
        ],
    ).comes_to_rest()


def test_a_job_that_the_former_holder_makes_late_for_an_attempt_that_has_ended_is_removed_before_the_next() -> None:
    world = told(
        begun(type_name="container"),
        [
            "a user makes r1",
            "the operator begins to look at home",
            *["a reconcile of home goes on"] * 4,
            "the process loses the Lease",
            "the operator looks at everything",
            "a user deletes the Job of r1",
            "the cluster stops the pods that are to end",
            "the operator looks at r1",
        ],
    )
    assert world.run("r1")["status"]["attempts"]["current"] == 2
    told(world, ["the process has a late call arrive", "the cluster has 15 s pass", "the operator looks at r1"])
    told(world, ["the cluster has 15 s pass", "the operator looks at r1"]).comes_to_rest()
    assert world.run("r1")["status"]["attempts"]["current"] == 2
