# Holds records in dicts and in SQLite, writes and frees GARBAGE_MIB of random bytes, then reads FILES_MIB of files.
# `distinct` decides whether the random bytes repeat every MiB.
import os, random, sqlite3, sys, time

GARBAGE_MIB, FILES_MIB = 200, 175
distinct = sys.argv[1] == "distinct"
rng = random.Random(1)
words = [bytes(rng.choices(range(97, 123), k=rng.randrange(3, 11))).decode() for _ in range(4000)]
record = lambda i: {
    "id": i, "name": f"{rng.choice(words)} {rng.choice(words)}", "score": rng.random(),
    "tags": rng.sample(words, 3), "active": i % 3 == 0,
}
records = [record(i) for i in range(60_000)]
database = sqlite3.connect(":memory:")
database.execute("create table records (id integer primary key, name text, score real, tags text)")
rows = ((r["id"], r["name"], r["score"], ",".join(r["tags"])) for r in records)
database.executemany("insert into records values (?, ?, ?, ?)", rows)
database.execute("create index by_name on records (name)")
database.commit()

mib = os.urandom(1 << 20)
garbage = [os.urandom(1 << 20) if distinct else bytes(bytearray(mib)) for _ in range(GARBAGE_MIB)]
del garbage

left = FILES_MIB << 20
for top in ("/usr", "/var", "/opt"):
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            if left > 0 and os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    while piece := file.read(1 << 18):
                        left -= len(piece)

with open("/run/bench.read", "w") as file:
    file.write(str(FILES_MIB - (left >> 20)))
open("/run/bench.done", "w").close()
while True:
    time.sleep(3600)
