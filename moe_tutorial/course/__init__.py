"""Coursework from the book's exercises: handouts, marking and a term project, by one command.

``python -m moe_tutorial.course`` hands out notebooks without solutions, marks what comes back, each
answer in a process of its own, and trains what is handed in for the term project.

- ``plan``: one problem set: its exercises, points, seed and limits, as ``course.toml`` has them.
- ``handout``: a chapter's notebook as students get it.
- ``packs``: the folders to hand out, to upload and to mark with.
- ``answers``: what one answer needs of a notebook or a module, and nothing else.
- ``wire``: numbers between two processes that do not trust each other, without pickle.
- ``child``: what runs in the process of one answer.
- ``isolation``: starts that process, limits it, and listens.
- ``marking``: a result for each exercise of each submission.
- ``grades``: tables of results, for people, Gradescope and Canvas.
- ``project``: the term project: the lowest loss that a fixed number of FLOPs buys.
- ``baseline_dense``, ``baseline_sparse``: two entries to start from, and to beat.
"""
