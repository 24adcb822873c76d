"""Checks for the book's exercises: ``check("1.1", my_function)``."""

import reprlib
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
)
from moe_tutorial.exercises.grader import Exercise, Mistake, Verdict

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
    )
    for exercise in chapter.EXERCISES
}


def check(number: str, answer: Any) -> Verdict:
    """Try an answer on inputs that its writer has not seen.

    Args:
        number: the exercise, such as ``"1.1"``.
        answer: the function that the exercise asks for.

    Returns:
        The verdict, which prints itself: not attempted yet, correct, or wrong and why. Whatever
        the answer is, returns or raises, there is one, so a notebook runs to its end; what the
        answer prints or changes in torch's settings while it is checked does not get out.

    Raises:
        ValueError: there is no exercise of this number.
        KeyboardInterrupt: a person stopped the check.
    """
    if not isinstance(number, str) or number not in EXERCISES:
        known = ", ".join(EXERCISES)
        raise ValueError(f"number must be one of {known}, got {reprlib.repr(number)}")
    return EXERCISES[number].check(answer)


__all__ = ["EXERCISES", "Exercise", "Mistake", "Verdict", "check"]
