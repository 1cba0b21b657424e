"""DVC repositories of many shapes, each a dvc.yaml with what it reads: what they make is known by running them."""

# name: (files, commands that are typed before the first commit)
SHAPES = {
    "chain": ({
        "dvc.yaml": """
stages:
  a: {cmd: cat src > a, deps: [src], outs: [a]}
  b: {cmd: cat a a > b, deps: [a], outs: [b]}
  c: {cmd: cat b b > c, deps: [b], outs: [c]}
""",
        "src": "1\n",
    }, ()),
    "diamond": ({
        "dvc.yaml": """
stages:
  join: {cmd: cat l r > j, deps: [l, r], outs: [j]}
  right: {cmd: cat top > r, deps: [top], outs: [r]}
  left: {cmd: cat top > l, deps: [top], outs: [l]}
  top: {cmd: cat src > top, deps: [src], outs: [top]}
""",
        "src": "1\n",
    }, ()),
    "foreach list": ({
        "dvc.yaml": """
stages:
  make:
    foreach: [a, b, c]
    do: {cmd: "echo ${item} | cat src - > ${item}.txt", deps: [src], outs: ["${item}.txt"]}
  all: {cmd: cat a.txt b.txt c.txt > all, deps: [a.txt, b.txt, c.txt], outs: [all]}
""",
        "src": "1\n",
    }, ()),
    "foreach params": ({
        "dvc.yaml": """
stages:
  make:
    foreach: ${things}
    do: {cmd: "echo ${item.n} | cat src - > ${key}.txt", deps: [src], params: ["things.${key}"], outs: ["${key}.txt"]}
""",
        "params.yaml": "things:\n  x: {n: 1}\n  y: {n: 2}\n",
        "src": "1\n",
    }, ()),
    "matrix": ({
        "dvc.yaml": """
stages:
  fit:
    matrix: {kind: [tree, line], seed: [1, 2]}
    cmd: echo ${item.kind} ${item.seed} | cat src - > ${item.kind}-${item.seed}
    deps: [src]
    outs: ["${item.kind}-${item.seed}"]
""",
        "src": "1\n",
    }, ()),
    "nested dvc.yaml": ({
        "dvc.yaml": "stages:\n  end: {cmd: cat sub/deep/x > end, deps: [sub/deep/x], outs: [end]}\n",
        "sub/deep/dvc.yaml": "stages:\n  x: {cmd: cat ../../src ../y > x, deps: [../../src, ../y], outs: [x]}\n",
        "sub/dvc.yaml": "stages:\n  y: {cmd: cat ../src > y, deps: [../src], outs: [y]}\n",
        "src": "1\n",
    }, ()),
    "wdir": ({
        "dvc.yaml": """
stages:
  a: {wdir: work, cmd: cat ../src > a, deps: [../src], outs: [a]}
  b: {wdir: work, cmd: cat a > b, deps: [a], outs: [b]}
""",
        "src": "1\n",
        "work/.keep": "",
    }, ()),
    "folders as outs": ({
        "dvc.yaml": """
stages:
  split: {cmd: mkdir -p parts && cp src parts/1 && cp src parts/2, deps: [src], outs: [parts]}
  one: {cmd: cat parts/1 > one, deps: [parts/1], outs: [one]}
  every: {cmd: cat parts/* > every, deps: [parts], outs: [every]}
""",
        "src": "1\n",
    }, ()),
    "outs below a dep": ({
        "dvc.yaml": """
stages:
  a: {cmd: mkdir -p made && cat src > made/a, deps: [src], outs: [made/a]}
  b: {cmd: mkdir -p made && cat src src > made/b, deps: [src], outs: [made/b]}
  all: {cmd: cat made/* > all, deps: [made], outs: [all]}
""",
        "src": "1\n",
    }, ()),
    "uncached metrics": ({
        "dvc.yaml": """
stages:
  score:
    cmd: 'echo "{\\"n\\": 1}" > m.json && cat src > s'
    deps: [src]
    outs: [s]
    metrics: [{m.json: {cache: false}}]
  report: {cmd: cat m.json s > report, deps: [m.json, s], outs: [report]}
""",
        "src": "1\n",
    }, ()),
    "plots and cached metrics": ({
        "dvc.yaml": """
stages:
  score:
    cmd: 'echo "{\\"n\\": 1}" > m.json && echo x,y > p.csv && mkdir -p plots && echo a,b > plots/q.csv'
    deps: [src]
    metrics: [m.json]
    plots: [p.csv, {plots: {x: a, y: b}}]
""",
        "src": "1\n",
    }, ()),
    "frozen": ({
        "dvc.yaml": """
stages:
  a: {cmd: cat src > a, deps: [src], outs: [a]}
  b: {cmd: cat a > b, deps: [a], outs: [b], frozen: true}
  c: {cmd: cat b > c, deps: [b], outs: [c]}
""",
        "src": "1\n",
    }, (("dvc", "repro", "-q", "a"), ("cp", "a", "b"), ("dvc", "commit", "-q", "-f", "b"))),
    "params in several files": ({
        "dvc.yaml": """
stages:
  a:
    cmd: cat params.yaml more.json src > a
    deps: [src]
    params: [n, {more.json: [m]}, {whole.toml: }]
    outs: [a]
""",
        "params.yaml": "n: 1\nunused: 2\n", "more.json": '{"m": 3}', "whole.toml": "k = 4\n", "src": "1\n",
    }, ()),
    "always changed": ({
        "dvc.yaml": """
stages:
  a: {cmd: cat src > a, deps: [src], outs: [a], always_changed: true}
  b: {cmd: cat a > b, deps: [a], outs: [b]}
""",
        "src": "1\n",
    }, ()),
    "without deps": ({
        "dvc.yaml": """
stages:
  a: {cmd: echo 1 > a, outs: [a]}
  b: {cmd: cat a > b, deps: [a], outs: [b]}
""",
    }, ()),
    "without outs": ({
        "dvc.yaml": """
stages:
  a: {cmd: cat src > a, deps: [src], outs: [a]}
  check: {cmd: test -s a, deps: [a]}
""",
        "src": "1\n",
    }, ()),
    "persist": ({
        "dvc.yaml": """
stages:
  a: {cmd: cat src >> a, deps: [src], outs: [{a: {persist: true}}]}
  b: {cmd: cat a > b, deps: [a], outs: [b]}
""",
        "src": "1\n",
    }, ()),
    "uncached outs": ({
        "dvc.yaml": """
stages:
  a: {cmd: cat src > a, deps: [src], outs: [{a: {cache: false}}]}
  b: {cmd: cat a > b, deps: [a], outs: [b]}
""",
        "src": "1\n",
    }, ()),
    "dvc add": ({
        "dvc.yaml": """
stages:
  a: {cmd: cat raw/data folder/* > a, deps: [raw/data, folder], outs: [a]}
""",
        "raw/data": "1\n", "folder/x": "2\n", "folder/y": "3\n",
    }, (("dvc", "add", "-q", "raw/data", "folder"),)),
    "several commands, code and variables": ({
        "dvc.yaml": """
vars: [{greeting: hello}, extra.yaml]
stages:
  a:
    desc: Two commands.
    cmd:
      - cat src > a
      - sh code/run.sh ${greeting} ${name} >> a
    deps: [src, code]
    outs: [{a: {desc: made, remote: store}}]
    meta: {owner: ada}
""",
        "extra.yaml": "name: world\n", "code/run.sh": "echo $1 $2\n", "code/note": "x\n", "src": "1\n",
        ".dvc/config": "['remote \"store\"']\n    url = ../store\n",
    }, ()),
}  # fmt: skip
