"""Input that nobody meant well: what is said of it stays readable."""

from seedlab import errors


def test_a_message_cuts_long_values_and_keeps_field_and_remedy():
  message = str(errors.UserError(f"width={'9' * 5000} is too large; choose at most 4096"))
  assert message.startswith("width=999") and message.endswith("choose at most 4096")
  assert "(5,006 characters)" in message and len(message) < 200


def test_a_message_cuts_long_quoted_text_with_blanks():
  message = str(errors.UserError(f"name={'a ' * 2500!r} is not known; choices: b"))
  assert message.endswith("is not known; choices: b") and len(message) < 200


def test_a_message_keeps_paths_whole():
  path = "/".join(["folder"] * 100)
  assert str(errors.UserError(f"{path!r}: no such file")) == f"{path!r}: no such file"
