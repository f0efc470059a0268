-- Inserts, an index, a join, groups and a window: for programs.sh.
create table t(i integer primary key, a real, b text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 15000)
insert into t select i, i * 0.37, printf('%08x', i * 2654435761 % 4294967296) from n;
create index tb on t(b);
select count(*), sum(a), min(b), max(b) from t;
select substr(b, 1, 1) p, count(*), total(a) from t group by p order by p;
select sum(x.i * y.i) from t x join t y on x.b = y.b where x.i % 3 = 0;
select sum(r) from (select row_number() over (order by b) * i % 1000 r from t);
update t set b = upper(b) where i % 2 = 0;
select b from t order by b desc limit 5;
