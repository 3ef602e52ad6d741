"""Compares a store with its digests, trains a drawn sample again, and certifies both.

The certificate, DIR.certificate.json unless --out says where, is written if all is well (of digests
alone, --sample=0, with --out only); with --table=FILE, a table of the runs' digests too. With
--certificate=FILE a certificate is checked, against the store DIR (--sample=N also trains a sample
of your own again) or, without DIR, against such a table. docs/verify.md says what it proves.

Exit status 0: every digest holds and every drawn run is exact; 1: something is damaged, differs, is
forged or cannot be compared.
"""

import pathlib

from absl import flags

from seedlab import console
from seedlab.errors import UserError

_SAMPLE = flags.DEFINE_integer(
  "sample", None, "train so many runs again; else 20, with --certificate 0", lower_bound=0
)
_SEED = flags.DEFINE_string("seed", None, "text that draws them; else the root of the digests")
_CERTIFICATE = flags.DEFINE_string("certificate", None, "the certificate to check")
_TABLE = flags.DEFINE_string("table", None, "CSV of digests, to write or, without DIR, to read")
_OUT = flags.DEFINE_string("out", None, "where to write the certificate; else DIR.certificate.json")
_WORKERS = flags.DEFINE_integer("workers", None, "worker processes; else one a core or accelerator")
_DATA = flags.DEFINE_string("data_dir", None, "tensorflow-datasets directory; else SEEDLAB_DATA")
_TRUST = flags.DEFINE_bool("trust_code", False, "import the module of others that the store names")

POSITIONAL = ("[DIR]",)


def main(argv: list[str]) -> int:
  from seedlab import certificates  # after the flags: a mistake answers at once

  given = certificates.read(_CERTIFICATE.value) if _CERTIFICATE.value else None
  if len(argv) < 2:
    if given is None or not _TABLE.value:
      raise UserError("DIR is missing: name a store, or --certificate=FILE and --table=FILE")
    return _check_table(given, _TABLE.value)
  if given and _TABLE.value:
    raise UserError("--certificate is checked against DIR or against --table; give one of both")
  return _verify(argv[1], given)


def _check_table(given: dict, table: str) -> int:
  """Checks a certificate where there is a table of the digests alone."""
  from seedlab import certificates

  if _SAMPLE.value or _SEED.value or _OUT.value:
    raise UserError("--sample, --seed and --out need the store: name its directory")
  digests = certificates.read_table(table)
  expected = certificates.of_digests(digests, given["seed"], len(given["drawn"]))
  found = certificates.objections(given, expected)
  for one in found:
    console.write(f"FORGED      the certificate: {one}")
  if found:
    return 1
  console.write(f"root        {given['root']}: that of the table's {len(digests):,} digests")
  drawn = ", ".join(map(str, given["drawn"])) or "no run"
  console.write(f"drawn       {drawn}: by the root and the seed")
  console.write(f"unchecked   {', '.join(certificates.OF_THE_STORE)}, which need the store")
  console.write(_unchecked())
  return 0


def _verify(directory: str, given: dict | None) -> int:
  """Verifies a store and writes what was asked for."""
  from seedlab import certificates, verifying

  sample = _SAMPLE.value if _SAMPLE.value is not None else 0 if given else 20
  out = None
  if _OUT.value or (sample and not given):  # digests alone take no better certificate's place
    out = certificates.check_place(_OUT.value or _beside(directory), directory)
  if _TABLE.value:
    certificates.check_place(_TABLE.value, directory)
  if _SEED.value is not None and not sample:
    raise UserError("--seed draws a sample: say how large, as in --sample=20")
  found = verifying.verify(
    directory,
    sample,
    seed=_SEED.value,
    certificate=given,
    workers=_WORKERS.value,
    data_dir=_DATA.value,
    trust_code=_TRUST.value,
  )
  console.write(found.text())
  if given and found.passed:
    console.write(f"certificate {_CERTIFICATE.value} is right about this store\n{_unchecked()}")
  if out and found.certificate:
    certificates.write(out, certificates.as_text(found.certificate))
    console.write(f"certificate {out}")
  if _TABLE.value and found.certificate:
    digests = verifying.digests(directory)
    if certificates.root(digests) != found.root:
      raise UserError(f"{directory!r} changed meanwhile; verify it again when its sweep has ended")
    certificates.write(_TABLE.value, certificates.table(digests))
    console.write(f"table       {_TABLE.value}")
  return 0 if found.passed else 1


def _unchecked() -> str:
  return (
    "unchecked   its date, and that the drawn runs were trained again: --sample=N --seed=TEXT, with"
    " the store, trains a sample of yours"
  )


def _beside(directory: str) -> pathlib.Path:
  path = pathlib.Path(directory)
  path = path if path.name not in ("", "..") else path.resolve()
  return path.with_name(path.name + ".certificate.json")
