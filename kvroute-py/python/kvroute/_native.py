"""Which extension module there is: kvroute-io's, if that is installed, since all of kvroute's own is in
it, or kvroute's own. So a fleet's router is a :class:`kvroute.Router`."""

import importlib
import sys

try:
    importlib.import_module("kvroute_io")
except ModuleNotFoundError as error:
    # Anything else that is missing is news.
    if error.name != "kvroute_io":
        raise
else:
    sys.modules["kvroute._kvroute"] = importlib.import_module("kvroute_io._kvroute")
