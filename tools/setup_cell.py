# @title Set-up (run me first)
import importlib.util
import pathlib
import subprocess
import sys

ADDRESS = ""
if importlib.util.find_spec("moe_tutorial") is None:
    here = pathlib.Path.cwd()
    places = [p for p in (here, here.parent) if [*p.glob("moe_tutorial/__init__.py")]]
    if places:
        sys.path.insert(0, str(places[0]))
    elif ADDRESS and "google.colab" in sys.modules:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, f"git+{ADDRESS}"], check=True)
        importlib.invalidate_caches()
    else:
        raise ModuleNotFoundError(
            "open this notebook inside a clone of the whole project; in Colab, "
            "from a copy that names its repository in _config.yml"
        )
