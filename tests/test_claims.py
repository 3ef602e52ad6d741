"""Claims: outcomes by hand, Holm against p-values, and rules that cannot change unseen."""

import dataclasses
import hashlib
import itertools
import json
import math

import numpy as np
import pytest
import scipy.special

from seedlab import claims
from seedlab.claims import Claim, Part, judge, judge_family
from seedlab.stats.single import Interval


def interval(low, high, level=0.95):
  return Interval((low + high) / 2, low, high, level, "by hand")


def claim(*parts, name="X1", precondition=""):
  return Claim(name, "B beats A.", parts, precondition, "demo")


LOWER = Part("mean B - mean A, points, new seeds", "lo > x", (0.5,))
UPPER = Part("ratio of sds", "hi < x", (0.5,))
WITHIN = Part("ratio of sds", "within [a, b]", (0.5, 1.25))


@pytest.mark.parametrize(
  ("part", "low", "high", "outcome"),
  [
    (LOWER, 0.6, 0.9, "shown"),
    (LOWER, 0.5, 0.9, "open"),
    (LOWER, 0.2, 0.5, "contradicted"),
    (LOWER, -math.inf, math.inf, "open"),
    (UPPER, 0.1, 0.4, "shown"),
    (UPPER, 0.1, 0.5, "open"),
    (UPPER, 0.5, 0.7, "contradicted"),
    (WITHIN, 0.5, 1.25, "shown"),
    (WITHIN, 0.4, 1.2, "open"),
    (WITHIN, 0.4, 1.5, "open"),
    (WITHIN, 1.25, 1.3, "open"),
    (WITHIN, 1.3, 1.4, "contradicted"),
    (WITHIN, 0.3, 0.5, "open"),
    (WITHIN, 0.3, 0.4, "contradicted"),
    (LOWER, math.nan, math.nan, "open"),
    (UPPER, math.nan, math.nan, "open"),
    (WITHIN, 0.6, math.nan, "open"),
  ],
)
def test_one_part(part, low, high, outcome):
  assert judge([interval(low, high)], claim(part), True) == outcome
  assert judge([interval(low, high)], claim(part), False) == "not testable here"


def test_a_p_value_shows_or_leaves_open_but_never_contradicts():
  tails = claim(Part("refit Monte Carlo p", "p < alpha"))
  assert judge([0.049], tails, True) == "shown"
  assert judge([0.049], tails, True, level=0.99) == "open"
  assert judge([1 - 0.95], tails, True) == "open"
  assert judge([1.0], tails, True) == "open"
  assert judge([math.nan], tails, True) == "open"


def test_all_parts_must_hold():
  both = claim(LOWER, UPPER)
  yes, maybe, no = interval(0.6, 0.9), interval(0.4, 0.9), interval(0.1, 0.4)
  assert judge([yes, no], both, True) == "shown"  # `no` lies below UPPER's bound
  assert judge([yes, maybe], both, True) == "open"
  assert judge([no, maybe], both, True) == "contradicted"
  assert judge([no, no], both, True) == "contradicted"


# Estimates of known standard error 1: normal intervals at any level.


def evidence(estimates):
  def at(estimate):
    def limits(level):
      half = scipy.special.ndtri((1 + level) / 2)
      return [interval(estimate - half, estimate + half, level)]

    return limits

  return {f"X{i}": at(estimate) for i, estimate in enumerate(estimates)}


def family(count, margin=0.0):
  return [claim(Part("mean", "lo > x", (margin,)), name=f"X{i}") for i in range(count)]


def outcomes(estimates, alpha=0.05):
  verdicts = judge_family(family(len(estimates)), evidence(estimates), {}, "laptop", alpha)
  return [verdict.outcome for verdict in verdicts]


def test_step_down_by_hand():
  """Of two: 2.24 standard errors settle the first, then 1.96 the second."""
  assert outcomes([3.0, 2.0]) == ["shown", "shown"]
  assert outcomes([2.2, 2.0]) == ["open", "open"]
  assert outcomes([-3.0, -2.0]) == ["contradicted", "contradicted"]
  assert outcomes([3.0, -2.0]) == ["shown", "open"]  # a claim shown does not help to contradict
  assert outcomes([2.0]) == ["shown"]


def test_the_level_and_the_intervals_of_a_verdict_explain_its_outcome():
  first, second, third = judge_family(family(3), evidence([3, 2.0, 0.1]), {}, "paper")
  assert [v.outcome for v in (first, second, third)] == ["shown", "open", "open"]
  assert (first.level, second.level, third.level) == pytest.approx((1 - 0.05 / 3, 0.975, 0.975))
  assert first.evidence[0].low > 0 > second.evidence[0].low
  assert first.evidence[0].level == first.level
  assert judge(second.evidence, second.claim, True, second.level) == "open"


def closed_bonferroni(p_values) -> list[bool]:
  """What Holm's procedure rejects, by closed testing: every set with the claim is rejected."""
  sets = [
    chosen
    for size in range(1, len(p_values) + 1)
    for chosen in itertools.combinations(range(len(p_values)), size)
  ]
  kept = [chosen for chosen in sets if min(p_values[list(chosen)]) > 0.05 / len(chosen)]
  return [not any(number in chosen for chosen in kept) for number in range(len(p_values))]


def test_step_down_is_holm_on_p_values():
  rng = np.random.default_rng(0)
  shown = 0
  for estimates in rng.normal(1.5, 1.5, (300, 5)):
    p_values = np.where(estimates > 0, 2 * scipy.special.ndtr(-estimates), 1)
    got = [outcome == "shown" for outcome in outcomes(estimates)]
    assert got == closed_bonferroni(p_values)
    shown += sum(got)
  assert 300 < shown < 1000


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_false_verdicts_in_a_family_are_rare(shared):
  """Every claim false by a hair (shown in error), two shown rightly: at most 2.5 % err."""
  rng = np.random.default_rng(1)
  noise = math.sqrt(shared) * rng.normal(size=(2000, 1)) + math.sqrt(1 - shared) * rng.normal(
    size=(2000, 6)
  )
  truth = np.array([0, 0, 0, 0, 6, 6])
  wrong = np.mean(["shown" in outcomes(estimates)[:4] for estimates in noise + truth])
  bound = 0.025 + 3 * math.sqrt(0.025 * 0.975 / 2000)
  assert wrong < bound
  contradicted = np.mean(["contradicted" in outcomes(e)[:4] for e in noise - truth])
  assert contradicted < bound
  assert np.mean([max(e[:4]) > 1.96 for e in noise]) > bound  # uncorrected: too often


def test_a_claim_of_two_parts_is_contradicted_at_its_own_stricter_level():
  both = claim(LOWER, UPPER, name="X0")

  def limits(level):  # the first part is contradicted at 95 %, but not at 97.5 %
    return [interval(0, 0.5 if level < 0.96 else 0.6, level), interval(0, 1, level)]

  (verdict,) = judge_family([both], {"X0": limits}, {}, "laptop")
  assert verdict.outcome == "open"
  assert judge(limits(0.95), both, True) == "contradicted"


def test_a_claim_of_two_parts_is_shown_at_the_level_of_one():
  """All parts must hold, so that none needs a correction: each at 95 %, of two claims 97.5 %."""
  both = [claim(LOWER, UPPER, name=name) for name in ("X0", "X1")]

  def limits(level):  # shown up to 97.5 %
    return [interval(0.6 if level < 0.976 else 0.4, 1, level), interval(0, 0.4, level)]

  (alone,) = judge_family(both[:1], {"X0": limits}, {}, "laptop")
  assert (alone.outcome, alone.level) == ("shown", 0.95)
  found = judge_family(both, {"X0": limits, "X1": limits}, {}, "laptop")
  assert [v.outcome for v in found] == ["shown", "shown"]


def test_a_failed_precondition_still_counts_in_the_correction():
  family_of_two = [
    *family(1),
    dataclasses.replace(family(2)[1], precondition="80 % of the runs reach t*"),
  ]
  shown = judge_family(family_of_two, evidence([2.1, 9.0]), {"X1": True}, "laptop")
  assert [v.outcome for v in shown] == ["shown", "shown"]
  verdicts = judge_family(family_of_two, evidence([2.1]), {"X1": False}, "laptop")
  assert [v.outcome for v in verdicts] == ["open", "not testable here"]
  assert verdicts[1].reason == "precondition failed: 80 % of the runs reach t*"
  assert verdicts[1].evidence == () and math.isnan(verdicts[1].level)
  with pytest.raises(KeyError):  # nobody said whether it was met
    judge_family(family_of_two, evidence([2.1, 9.0]), {}, "laptop")


def test_smoke_judges_nothing():
  def never(level):
    raise AssertionError("no interval is computed")

  verdicts = judge_family(family(2), {"X0": never, "X1": never}, {}, "smoke")
  assert {(v.outcome, v.reason) for v in verdicts} == {
    ("not testable here", "smoke scale judges nothing")
  }


S1 = Claim("S1", "The spread is real.", (Part("sd", "lo > x", (0,)),), "", "seeds")


def test_hash_golden():
  """Written into the manifests of trained studies: a new value here disowns all of them."""
  text = (
    '{"family":"seeds","id":"S1","parts":[{"estimand":"sd","margin":[0.0],"rule":"lo > x"}],'
    '"precondition":"","sentence":"The spread is real."}'
  )
  assert claims.claim_hash(S1) == hashlib.sha256(text.encode()).hexdigest()
  assert claims.claim_hash(S1) == "562a13391ed6ab20b4cfe93737fc41cf1f184c3f46fa33e0c195a9505840169a"


def test_hash_is_of_the_content():
  as_float = dataclasses.replace(S1, parts=(Part("sd", "lo > x", (0.0,)),))
  assert claims.claim_hash(as_float) == claims.claim_hash(S1)
  others = [
    dataclasses.replace(S1, id="S2"),
    dataclasses.replace(S1, sentence="The spread is not real."),
    dataclasses.replace(S1, precondition="it trains"),
    dataclasses.replace(S1, family="worlds"),
    dataclasses.replace(S1, parts=(Part("sd", "lo > x", (0.1,)),)),
    dataclasses.replace(S1, parts=(Part("sd", "hi < x", (0,)),)),
    dataclasses.replace(S1, parts=S1.parts * 2),
  ]
  assert len({claims.claim_hash(other) for other in [S1, *others]}) == len(others) + 1


def test_a_rule_changed_after_training_is_reported():
  s2 = dataclasses.replace(S1, id="S2", parts=(WITHIN,))
  manifest = json.loads(json.dumps(claims.record([S1, s2])))
  assert claims.changes(manifest, [s2, S1]) == {}
  wider = dataclasses.replace(s2, parts=(dataclasses.replace(WITHIN, margin=(0.5, 1.5)),))
  assert claims.changes(manifest, [S1, wider]) == {"S2": "changed since training: parts"}
  new = dataclasses.replace(S1, id="S3")
  assert claims.changes(manifest, [S1, new]) == {
    "S2": "was dropped since training",
    "S3": "was added since training",
  }
  manifest[1]["parts"][0]["margin"] = [0.5, 1.5]  # the record bent to fit the new rule
  assert claims.changes(manifest, [S1, wider]) == {
    "S2": "its record was edited after training began"
  }


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: Part("sd", "lo >= x", (0,)), "rules: lo > x, hi < x, within"),
    (lambda: Part("sd", "lo > x"), "takes 1 finite margins"),
    (lambda: Part("sd", "within [a, b]", (0, math.inf)), "takes 2 finite margins"),
    (lambda: Part("sd", "within [a, b]", (1, 0.5)), "must ascend"),
    (lambda: Part("p", "p < alpha", (0.05,)), "takes 0 finite margins"),
    (lambda: claim(), "X1 has no parts"),
    (lambda: judge([], claim(LOWER), True), "needs 1 intervals, not 0"),
    (lambda: judge([0.01], claim(LOWER), True), "takes an interval, not 0.01"),
    (lambda: judge([interval(0, 1)], claim(Part("p", "p < alpha")), True), "takes a p-value"),
    (lambda: judge_family(family(1) * 2, {}, {}, "paper"), "X0 occurs more than once"),
    (lambda: judge_family([S1, claim(LOWER)], {}, {}, "paper"), r"\['demo', 'seeds'\]"),
    (lambda: claims.record([S1, S1]), "S1 occurs more than once"),
  ],
)
def test_refuses(call, message):
  with pytest.raises(ValueError, match=message):
    call()
