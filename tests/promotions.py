"""A long history of promotions, written by one `git fast-import`."""

import hashlib
import re
import subprocess


def promotions(root, count):
    """Commits on HEAD of the small project, each with a model of its own, tagged as its version and as production."""
    lock = (root / "dvc.lock").read_text()
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout
    gates = ", ".join(f'{{"name": "gate{n}", "passed": true, "value": 0.5, "limit": "at least 0.1"}}' for n in range(8))
    stream = []
    for number in range(1, count + 1):
        md5 = hashlib.md5(str(number).encode()).hexdigest()
        own = re.sub(r"(    - path: out/m\.joblib\n      hash: md5\n      md5: )\w+", rf"\g<1>{md5}", lock)
        note = (
            f"Promote\n\nDovetail-Kind: promote\nDovetail-Version: {number}\nDovetail-Model-Md5: {md5}\n"
            f"Dovetail-Gates: [{gates}]\n"
        )
        who = f"Ada <ada@example.org> {1_700_000_000 + number} +0000\n"
        stream.append(f"commit refs/heads/promoted\nmark :{number}\ncommitter {who}{_data('model')}")
        stream.append(f"from {head}" if number == 1 else "")
        stream.append(f"M 100644 inline dvc.lock\n{_data(own)}\n")
        stream.append(f"tag m@v{number}.0.0\nfrom :{number}\ntagger {who}{_data('version')}")
        stream.append(f"tag m#production#{number}\nfrom :{number}\ntagger {who}{_data(note)}")
    subprocess.run(["git", "fast-import", "--quiet"], cwd=root, input="".join(stream).encode(), check=True)


def _data(text):
    return f"data {len(text.encode())}\n{text}\n"
