# @title Set-up (run me first)
import importlib.util
import pathlib
import subprocess
import sys

ADDRESS = ""
if importlib.util.find_spec("moe_tutorial") is None:
    here = pathlib.Path.cwd()
    checkouts = [p for p in (here, here.parent) if (p / "moe_tutorial" / "__init__.py").exists()]
    if checkouts:
        sys.path.insert(0, str(checkouts[0]))
    elif ADDRESS and "google.colab" in sys.modules:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"git+{ADDRESS}"]
        subprocess.run(pip, check=True)
        importlib.invalidate_caches()
    else:
        raise ModuleNotFoundError(
            "moe_tutorial is not here: open this notebook inside a clone of the whole project. "
            "In Colab, open it from a copy that names its repository in _config.yml."
        )
