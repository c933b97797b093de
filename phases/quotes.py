"""What happens to the quotes of a schedule on its way from a page or a shell, and how to write them there.

`"[{'ep': 0, ...}]"`, double quotes outside and single ones inside, is one argument in sh, bash, zsh, PowerShell and
cmd. PowerShell up to 7.2 drops double quotes inside an argument (its manual, about_Parsing: "Passing arguments that
contain quote characters"); cmd does not know single quotes, and the C runtime of Windows drops the double ones.
"""

import re

TYPOGRAPHIC = "‘’‚‛“”„‟‹›«»′″´"
STRINGS = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
AROUND = re.compile(rf"\s*[\\`^]*[\"'{TYPOGRAPHIC}]+\s*[\[({{]")
DOUBLED = re.compile(r"(''|\"\")[A-Za-z_]\w*\1")
ESCAPED = re.compile(r"[\[{(,:]\s*[\\`^]+[\"']")
LOST = re.compile(r"[\[{]\s*[A-Za-z_]\w*\s*:")
CURLY = re.compile(rf"[{TYPOGRAPHIC}]")
ENTITY = re.compile(r"&(quot|apos|#39|#34|#x27|#x22);")
WRITE = "In a shell write \"[{'ep': 0, ...}]\", double quotes outside and single ones inside"
FILE = "or write the schedule to a file and give that: --phases FILE."


def quoting_fault(text: str) -> str:
    """Why the quotes of a text that is no schedule are not as they were typed, and what to do; "" for another fault."""
    if found := CURLY.search(STRINGS.sub("", text)):
        why = f"typographic quotes ({found[0]}), as word processors, chats and pages make. Type ' or \" instead"
    elif found := ENTITY.search(text):
        why = f"quotes of HTML ({found[0]}), as they stand in the source of a web page. Type ' or \" instead"
    elif found := DOUBLED.search(text):
        why = (
            f"doubled quotes ({found[0]}), as YAML and CSV write a quote inside a quoted text; here each is an empty "
            f"text. Write them single, or in YAML begin the text with >- on the line before"
        )
    elif AROUND.match(text):
        why = (
            "quotes around the whole list, which a shell takes away: cmd does not know '...', and a second pair or "
            f'\\" stays in all of them. {WRITE}'
        )
    elif ESCAPED.search(text):
        why = (
            "escaped quotes, as cmd needs them inside \"...\" and PowerShell up to 7.2 also inside '...'; "
            f"PowerShell 7.3, and sh and bash inside '...', keep the escape. {WRITE}"
        )
    elif LOST.search(STRINGS.sub("", text)):
        why = (
            "the quotes around the names are lost: sh and bash drop those of an unquoted list, cmd and PowerShell up "
            f"to 7.2 the double ones inside '...'. {WRITE}"
        )
    else:
        return ""
    return f"{why}, {FILE}"


def split_schedule(message: str) -> str:
    """What to add to argparse's message about words too many, when they are pieces of a schedule; "" otherwise."""
    if not message.startswith("unrecognized arguments") or not re.search(r"[\[\]{}]", message):
        return ""
    why = "These are pieces of a schedule: a shell splits it without quotes around it, cmd also inside '...'"
    return f"{why}. {WRITE}, {FILE}"
