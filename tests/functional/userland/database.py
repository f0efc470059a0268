"""Python's sqlite3 module, whose own tests Debian leaves out: types, functions, transactions."""

import hashlib
import math
import random
import sqlite3
import struct

random.seed(3)
db = sqlite3.connect("/tmp/module.db")
db.create_function("hex8", 1, lambda i: f"{i & 0xFFFFFFFF:08x}", deterministic=True)
db.create_collation("backwards", lambda a, b: (a[::-1] > b[::-1]) - (a[::-1] < b[::-1]))


class Geometric:
    def __init__(self):
        self.logs, self.count = 0.0, 0

    def step(self, value):
        self.logs, self.count = self.logs + math.log(value), self.count + 1

    def finalize(self):
        return math.exp(self.logs / self.count)


db.create_aggregate("geometric", 1, Geometric)
db.execute("create table t(i integer, x real, s text, b blob)")
rows = [
    (
        random.getrandbits(63),
        random.lognormvariate(0, 3),
        f"{i * 7919 % 5000:04}",
        random.randbytes(9),
    )
    for i in range(5000)
]
with db:
    db.executemany("insert into t values(?, ?, ?, ?)", rows)
print("back", sorted(rows) == sorted(db.execute("select * from t")))
for query in (
    "select geometric(x), total(x), max(i) from t",
    "select group_concat(h, '') from (select hex8(i) h from t order by i)",
    "select group_concat(s) from (select s from t order by s collate backwards limit 20)",
    "select substr(s, 4, 1), count(*), avg(x) from t group by 1 order by 1",
    "select count(*) from t where i between 1 << 61 and 1 << 62",
):
    found = db.execute(query).fetchall()
    print(hashlib.sha256(repr(found).encode()).hexdigest()[:16], repr(found)[:70])
try:
    with db:
        db.execute("delete from t")
        db.execute("insert into nowhere values(1)")
except sqlite3.OperationalError as err:
    print(err, db.execute("select count(*) from t").fetchone())
blob = b"".join(row[0] for row in db.execute("select b from t order by i"))
print(hashlib.sha256(blob).hexdigest(), struct.unpack_from("<3I", blob))
dump = "\n".join(db.iterdump())
print(len(dump), hashlib.sha256(dump.encode()).hexdigest())
