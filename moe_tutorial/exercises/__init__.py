"""Checks for the book's exercises: ``check("1.1", my_function)``, and ``progress()`` in them."""

import reprlib
from itertools import groupby
from typing import Any

from moe_tutorial.exercises import (
    chapter_00,
    chapter_01,
    chapter_02,
    chapter_03,
    chapter_04,
    chapter_05,
    chapter_06,
    chapter_07,
    chapter_08,
    chapter_09,
    chapter_10,
    chapter_11,
    chapter_12,
    chapter_13,
    chapter_14,
    chapter_15,
    chapter_16,
    chapter_17,
)
from moe_tutorial.exercises.grader import PUBLIC_SEED, Exercise, Mistake, Verdict
from moe_tutorial.exercises.hints import Hint, hint_of
from moe_tutorial.exercises.record import Progress, forget_progress, look_up, remember

EXERCISES: dict[str, Exercise] = {
    exercise.number: exercise
    for chapter in (
        chapter_00,
        chapter_01,
        chapter_02,
        chapter_03,
        chapter_04,
        chapter_05,
        chapter_06,
        chapter_07,
        chapter_08,
        chapter_09,
        chapter_10,
        chapter_11,
        chapter_12,
        chapter_13,
        chapter_14,
        chapter_15,
        chapter_16,
        chapter_17,
    )
    for exercise in chapter.EXERCISES
}


def check(number: str, answer: Any, *, seed: int = PUBLIC_SEED, hints: bool = True) -> Verdict:
    """Try an answer on inputs that its writer has not seen.

    Args:
        number: the exercise, such as ``"1.1"``.
        answer: the function that the exercise asks for.
        seed: of the inputs: whoever marks keeps another one to themselves.
        hints: whether the verdict says what looks wrong.

    Returns:
        The verdict, which prints itself: not attempted yet, correct, or wrong and why. Whatever
        the answer is, returns or raises, there is one, so a notebook runs to its end; what the
        answer prints or changes in torch's settings while it is checked does not get out.

    Raises:
        ValueError: there is no exercise of this number, or a seed that is no int of at least 0.
        KeyboardInterrupt: a person stopped the check.
    """
    verdict = _exercise(number).check(answer, seed)
    remember(number, verdict.status, answer)
    if verdict.status == "wrong" and not hints:
        return Verdict(number, "wrong")
    return verdict


def hint(number: str, step: int = 1) -> Hint:
    """A step towards an answer: first its form, then one by one what others were told.

    Args:
        number: the exercise, such as ``"1.1"``.
        step: from 1 on, each says a little more.

    Returns:
        The hint, which prints itself.

    Raises:
        ValueError: there is no exercise of this number, or no such step.
    """
    return hint_of(_exercise(number), step)


def _exercise(number: str) -> Exercise:
    if not isinstance(number, str) or number not in EXERCISES:
        chapters = [list(it) for _, it in groupby(EXERCISES, lambda it: it.split(".")[0])]
        known = ", ".join(f"{numbers[0]} to {numbers[-1]}" for numbers in chapters)
        raise ValueError(f"number must be one of {known}, got {reprlib.repr(number)}")
    return EXERCISES[number]


def progress() -> Progress:
    """Which of the book's exercises you have solved, tried or not yet tried, chapter by chapter.

    ``check`` notes what it finds of your own answers, never of the book's solutions, in one small
    file in your user's data folder, and nothing is sent anywhere. In Colab the file lives as long
    as the machine does. The environment variable ``MOE_TUTORIAL_PROGRESS`` names another file, or
    is ``off``; ``forget_progress()`` removes the file.
    """
    return look_up(EXERCISES)


__all__ = [
    "EXERCISES",
    "Exercise",
    "Hint",
    "Mistake",
    "Progress",
    "Verdict",
    "check",
    "forget_progress",
    "hint",
    "progress",
]
