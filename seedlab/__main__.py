"""`python -m seedlab`: the console command `seedlab`."""

import os
import sys

# Python puts the folder it is started in before all others, where a file of any name would be taken
# for the library of that name. A checkout of seedlab itself is where seedlab is found.
if sys.path[:1] in ([""], [os.getcwd()]) and not sys.flags.safe_path:
  if os.path.dirname(os.path.dirname(os.path.abspath(__file__))) != os.getcwd():
    del sys.path[0]

from seedlab import commands

commands.main()
