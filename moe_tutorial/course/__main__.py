"""The command: ``python -m moe_tutorial.course handout|otter|mark|leaderboard``."""

import argparse
import secrets
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from moe_tutorial.course import baseline_dense, baseline_sparse, packs
from moe_tutorial.course.grades import write_all
from moe_tutorial.course.marking import Marks, mark_all
from moe_tutorial.course.plan import Plan, PlanError, plan_of_chapters, read_plan
from moe_tutorial.course.project import compete


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the commands; 2 and a sentence if what was asked for cannot be done."""
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except PlanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    every = argparse.ArgumentParser("python -m moe_tutorial.course", description=__doc__)
    commands = every.add_subparsers(required=True, metavar="command")
    for name, what, run in (
        ("handout", "write notebooks for students, and course.toml to mark with", _handout),
        ("otter", "the same, and an archive for Gradescope", _otter),
    ):
        sub = commands.add_parser(name, help=what, description=what)
        sub.add_argument("what", nargs="+", help="numbers of chapters, or one course.toml")
        sub.add_argument("--seed", type=int, help="of the hidden inputs (drawn if left out)")
        sub.add_argument("--title", help="of the problem set")
        sub.add_argument("--hints", choices=("shown", "hidden"), help="shown if left out")
        sub.add_argument("--nbgrader", action="store_true", help="nbgrader's source as well")
        sub.add_argument("--out", type=Path, default=Path(name))
        sub.set_defaults(run=run)
        if name == "otter":
            sub.add_argument("--otter", default="otter", help="the command that runs Otter")
    sub = commands.add_parser("mark", help="mark what was handed in")
    sub.add_argument("plan", type=Path, help="course.toml")
    sub.add_argument("submissions", type=Path, help="a folder: a file or a folder a student")
    sub.add_argument("--seed", type=int, help="instead of the plan's")
    sub.add_argument("--out", type=Path, default=Path("marks"))
    sub.add_argument("--jobs", type=int, default=1, help="submissions at a time")
    sub.set_defaults(run=_mark)
    sub = commands.add_parser("leaderboard", help="train the entries of the term project")
    sub.add_argument("entries", type=Path, help="a folder of modules")
    sub.add_argument("--budget", type=float, default=1e12, help="FLOPs (default: %(default)g)")
    sub.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    sub.add_argument("--out", type=Path, default=Path("leaderboard"))
    sub.set_defaults(run=_leaderboard)
    return every


def _plan(options: argparse.Namespace) -> Plan:
    if _is_file(options):
        if len(options.what) > 1:
            raise PlanError("give numbers of chapters or one course.toml, not both")
        if any(it is not None for it in (options.seed, options.title, options.hints)):
            raise PlanError("seed, title and hints stand in course.toml: change them there")
        return read_plan(Path(options.what[0]))
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    title, hints = options.title or Plan.title, options.hints != "hidden"
    return plan_of_chapters(options.what, seed, title=title, hints=hints)


def _is_file(options: argparse.Namespace) -> bool:
    return str(options.what[0]).endswith(".toml")


def _handout(options: argparse.Namespace) -> Plan:
    plan = _plan(options)
    _refuse_blind_spots(plan)
    for file in packs.write_handout(plan, options.out):
        print(f"for students: {file}")
    # A plan that was read is its writer's: nothing of it is written anew.
    ours = options.what[0] if _is_file(options) else packs.write_marking(plan, options.out)
    print(f"for you:      {ours}")
    if options.nbgrader:
        for file in packs.write_nbgrader(plan, options.out):
            print(f"for nbgrader: {file}")
    return plan


def _otter(options: argparse.Namespace) -> None:
    plan = _handout(options)
    for file in packs.write_otter(plan, options.out, shlex.split(options.otter)):
        print(f"for Gradescope: {file}")


def _mark(options: argparse.Namespace) -> None:
    plan = read_plan(options.plan, seed=options.seed)
    _refuse_blind_spots(plan)

    def tell(marks: Marks) -> None:
        late = f", {marks.days_late} days late" if marks.days_late else ""
        print(f"{marks.student}: {marks.score:g} of {plan.total:g}{late}", flush=True)

    every = mark_all(options.submissions, plan, jobs=options.jobs, after_each=tell)
    for note in write_all(every, plan, options.out):
        print(f"note: {note}")
    print(f"written: {options.out}/grades.csv, canvas.csv, results/")


def _refuse_blind_spots(plan: Plan) -> None:
    if found := plan.blind_spots():
        raise PlanError(f"choose another seed than {plan.seed}: {found[0]}")


def _leaderboard(options: argparse.Namespace) -> None:
    from moe_tutorial.learning.documents import installed_documents
    from moe_tutorial.learning.text import corpus

    if not options.entries.is_dir():
        raise PlanError(f"there is no folder {options.entries}")
    own = sorted(options.entries.glob("*.py"))
    baselines = [Path(str(it.__file__)) for it in (baseline_dense, baseline_sparse)]
    # Without the languages, for which one more package would be needed.
    text = corpus(installed_documents(languages=()))
    compete([*baselines, *own], options.seeds, options.budget, text, options.out)
    print((options.out / "leaderboard.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
