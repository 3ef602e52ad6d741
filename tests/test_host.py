"""CPU quotas, in trees of control groups like those of containers, systemd and batch systems."""

import pytest

from seedlab import host

V2 = "29 23 0:26 {root} {at} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 31 0:30 {root} {at} rw shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct"
OTHER = "36 31 0:31 / {at} rw - cgroup cgroup rw,cpuset"


def quota(tmp_path, groups, mounts, limits):
  """`_cpu_quota` of a process in `groups`, where `limits` are {folder: cores}.

  None is no limit. The quota of a folder below "v1" is written as version 1 has it.
  """
  (tmp_path / "cgroup").write_text("".join(f"{line}\n" for line in groups))
  lines = ["22 1 254:0 / / rw,relatime - ext4 /dev/vda rw"]
  for line, root, at in mounts:
    lines.append(line.format(root=root, at=str(tmp_path / at).replace(" ", "\\040")))
  (tmp_path / "mountinfo").write_text("".join(f"{line}\n" for line in lines))
  for folder, cores in limits.items():
    place = tmp_path / folder
    place.mkdir(parents=True, exist_ok=True)
    if folder.startswith("v1"):
      (place / "cpu.cfs_quota_us").write_text(
        "-1\n" if cores is None else f"{cores * 50_000:.0f}\n"
      )
      (place / "cpu.cfs_period_us").write_text("50000\n")
    else:
      text = "max" if cores is None else f"{cores * 100_000:.0f}"
      (place / "cpu.max").write_text(f"{text} 100000\n")
  return host._cpu_quota(tmp_path)


SCOPE = "user.slice/user-7.slice/run-r1.scope"
STEP = "slurm/uid_7/job_12/step_0/task_0"


@pytest.mark.parametrize(
  ("groups", "mounts", "limits", "expected"),
  [
    # A container's own group is the root it sees.
    (["0::/"], [(V2, "/", "v2")], {"v2": 2}, 2),
    (["0::/"], [(V2, "/", "v2")], {"v2": None}, None),
    # systemd-run --scope -p CPUQuota=200%, and a slice that has less.
    ([f"0::/{SCOPE}"], [(V2, "/", "v2")], {f"v2/{SCOPE}": 2}, 2),
    ([f"0::/{SCOPE}"], [(V2, "/", "v2")], {"v2/user.slice": 1.5, f"v2/{SCOPE}": 2}, 1.5),
    # Another user's limit is none of ours.
    ([f"0::/{SCOPE}"], [(V2, "/", "v2")], {f"v2/{SCOPE}": 4, "v2/system.slice": 1}, 4),
    # A batch system limits the job; the step below has no limit of its own.
    (
      [f"4:cpuset:/{STEP}", f"3:cpu,cpuacct:/{STEP}"],
      [(OTHER, "/", "cpuset"), (V1, "/", "v1/cpu,cpuacct")],
      {"v1/cpu,cpuacct/slurm/uid_7/job_12": 2, f"v1/cpu,cpuacct/{STEP}": None, "cpuset": 1},
      2,
    ),
    # A container that sees its host's paths: what is mounted is its own group.
    (["3:cpuacct,cpu:/docker/abc"], [(V1, "/docker/abc", "v1")], {"v1": 3}, 3),
    (["3:cpu:/docker/abc/in"], [(V1, "/docker/abc", "v1")], {"v1/in": 0.5, "v1": 3}, 0.5),
    (["3:cpu:/docker/abc"], [(V1, "/docker/other", "v1")], {"v1": 3}, 3),
    # A process outside of its namespace's root.
    (["0::/../../other"], [(V2, "/", "v2")], {"v2": 2, "v2/other": 1}, 2),
    # Both versions: the smaller one holds.
    (
      ["3:cpu:/job", f"0::/{SCOPE}"],
      [(V1, "/", "v1"), (V2, "/", "v2")],
      {"v1/job": 4, f"v2/{SCOPE}": 2},
      2,
    ),
    (["3:cpu:/job", "0::/"], [(V1, "/", "v1"), (V2, "/", "v2")], {"v1/job": 4}, 4),
    # A blank in a mounted path is written in octal.
    (["0::/a"], [(V2, "/", "c groups")], {"c groups/a": 2}, 2),
    # Nothing mounted, and a controller that is not mounted.
    (["0::/a"], [], {}, None),
    (["3:cpu:/job"], [(OTHER, "/", "v1")], {"v1/job": 4}, None),
  ],
)
def test_the_smallest_quota_of_all_levels_counts(tmp_path, groups, mounts, limits, expected):
  assert quota(tmp_path, groups, mounts, limits) == expected


def test_a_system_without_control_groups_has_no_quota(tmp_path):
  assert host._cpu_quota(tmp_path) is None


@pytest.mark.parametrize("text", ["", "max", "100000 0", "many 100000"])
def test_a_quota_that_cannot_be_understood_is_none(tmp_path, text):
  (tmp_path / "cpu.max").write_text(text)
  assert host._quota(tmp_path) is None


@pytest.mark.parametrize(
  ("granted", "cores"), [(None, 8), (16.0, 8), (2.9, 2), (2.0, 2), (1.99, 1), (0.25, 1)]
)
def test_a_quota_is_rounded_down_to_whole_cores(monkeypatch, granted, cores):
  monkeypatch.setattr(host, "visible_cores", lambda: list(range(8)))
  monkeypatch.setattr(host, "_cpu_quota", lambda: granted)
  assert host.usable_cores() == list(range(cores))
