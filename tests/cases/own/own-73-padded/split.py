"""Cuts the corpus into parts. (--pad: names with leading zeros)"""
import pathlib, random, sys
r = random.Random(5)
out = pathlib.Path("parts"); out.mkdir(exist_ok=True)
for i in range(12):
    name = f"part-{i:02d}.txt" if "--pad" in sys.argv else f"part-{i}.txt"
    rows = []
    for _ in range(16):
        xs = [round(r.gauss(0, 1), 3) for _ in range(6)]
        rows.append(" ".join(map(str, xs)) + f" {int(sum(xs) > 0)}")
    (out / name).write_text("\n".join(rows) + "\n")
