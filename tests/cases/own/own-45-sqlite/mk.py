import sqlite3, random
r = random.Random(3)
c = sqlite3.connect("readings.db"); c.execute("create table r (id integer primary key, a real, b real, y real)")
for k in range(60):
    a, b = r.gauss(0, 1), r.gauss(0, 1); c.execute("insert into r values (?,?,?,?)", (k, a, b, a * b))
c.commit()
