"""What is said is typed: the words of a `next:`, and a second look at whether the same is said again."""

import re

EDITOR = "sed -i 1s/^/message/"  # for a `git commit` without a message


def alternatives(advice):
    """The commands that a `next:` names, one of which is enough, without the words around them."""
    words = r"^(to|if) [^:]+: |, if they are this repository's$|, then (run the same command|the same) again$"
    return [re.sub(words, "", one).replace(", then: ", " && ") for one in re.split(r", or:? |; or ", advice)]


def following(output, said):
    """The alternatives of the `next:` that stands behind the words, or in the lines below."""
    lines = output.splitlines()
    number = next(number for number, line in enumerate(lines) if said in line)
    return alternatives(re.search(r"(?:next|see): (.*)", "\n".join(lines[number : number + 3]))[1])


def typed(project, command, **env):
    """Type it as a user would; where that only shows a plan, what carries it out is typed, too."""
    done = project.run("bash", "-c", command, code=None, GIT_EDITOR=EDITOR, **env)
    if done.stderr.endswith("nothing is written; next: run the same command again with --yes\n"):
        done = project.run("bash", "-c", f"{command} --yes", code=None, **env)
    assert done.returncode in (0, 1), f"{command} → {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def ends(project, command, said, alternative=0, **env):
    """Type a command that says `said`, what it advises, and the command again: it does not say so any more.

    An error is one line. Returns the second look.
    """
    before = project.run("dovetail", *command.split(), code=None, **env)
    text = before.stdout + before.stderr
    assert said in text, text
    if before.returncode > 1:
        assert before.stderr.count("\n") == 1, before.stderr
    advice = following(text, said)[alternative]
    typed(project, advice, **env)
    after = project.run("dovetail", *command.split(), code=None, **env)
    assert said not in after.stdout + after.stderr, advice
    return after
