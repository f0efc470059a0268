-- Inserts, indices, sorting, windows, JSON and arithmetic.
create table t(i integer primary key, a real, b text, c blob);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
insert into t select i, sin(i) * exp(i / 5000.0), printf('%016x', i * 2654435761 % 4294967296),
    zeroblob(i % 50) from n;
create index tb on t(b);
create index ta on t(a);
select count(*), printf('%.17g', sum(a)), printf('%.17g', avg(a)), min(b), max(b) from t;
select b, printf('%.17g', a) from t order by b limit 20;
select i, printf('%.17e', a) from t order by a desc limit 20;
select substr(b, 1, 2) p, count(*), printf('%.10g', total(a)) from t group by p order by p;
select sum(x.i * y.i) from t x join t y on x.b = y.b where x.i % 7 = 0;
update t set a = a * a, b = upper(b) where i % 3 = 0;
delete from t where i % 11 = 0;
select count(*), printf('%.17g', sum(a)), length(group_concat(b)) from t;
select i, row_number() over (order by a), printf('%.12g', avg(a) over (order by i rows 5 preceding))
    from t where i < 40;
select json_group_array(json_object('i', i, 'a', round(a, 6))) from t where i < 10;
select printf('%.17g', sqrt(2)), printf('%.17g', ln(10)), printf('%.17g', pow(2, 0.3)),
    7 / 2, -7 % 3,    9223372036854775807 + 1, 1e308 * 10, 0.1 + 0.2;
vacuum;
pragma integrity_check;
