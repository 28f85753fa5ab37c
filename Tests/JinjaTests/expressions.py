"""Small templates for the fixtures of JinjaTests: expressions, filters, tests, methods, statements and whitespace."""

# The variables of all of these.
VARIABLES = {
    "s": "Hello, World",
    "t": "  padded\t\n",
    "u": "Größe 中文 e\u0301 👩‍👩‍👧",
    "q": "it's \"q\" \\ \n\t\u0007\u00a0\u200b",
    "e": "",
    "n": None,
    "yes": True,
    "no": False,
    "i": 7,
    "j": -3,
    "x": 2.5,
    "big": 1e22,
    "small": 1.5e-7,
    "l": [3, 1, 2],
    "m": [],
    "w": ["b", "A", "a", "B", "c"],
    "d": {"b": 1, "a": {"z": None}, "C": [1, 2.0, "x"]},
    "f": {},
    "p": [{"name": "Bo", "age": 3}, {"name": "al", "age": 1, "tags": ["x"]}, {"name": "Cy", "age": 3}],
    "k": {"items": 1, "keys": 2, "get": 3, "role": "user"},
    "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}, {"role": "assistant", "content": "A"}],
}

# Expressions, each rendered as {{ … }}.
EXPRESSIONS = r"""
none
true
[none, true, 1, 1.0, 'a', "it's", (1,), (1, 2), {}, {'a': [1]}]
1.0
100.0
1e15
1e16
123456789012345678.0
1.5e-5
0.0001
1e-4
0.1 + 0.2
-0.0
big
small
i + 1
i - j
i * j
i / 2
i // 2
j // 2
i % 3
j % 3
i % j
-7 // 2
7.5 // 2
-7.5 // 2
7.5 % 2
-7.5 % 2
7.5 % -2
2 ** 10
2 ** -1
2 ** 0.5
-2 ** 2
2 ** 3 ** 2
true + true
'ab' * 3
3 * 'ab'
'ab' * -1
[1, 2] * 2
(1,) * 3
[1] + [2]
(1,) + (2,)
'a' + 'b'
'a' ~ 1 ~ none ~ [1] ~ missing
1 ~ 2 * 3
1 + 2 ~ 3 + 4
1 < 2
1 < 2 < 3
3 > 2 >= 2 != 1
1 < 3 < 2
'a' < 'b'
'Z' < 'a'
[1, 2] < [1, 3]
(1, 2) <= (1, 2)
1 == 1.0
1 == true
'1' == 1
none == false
missing == other
missing != none
[1, 'a'] == [1.0, 'a']
{'a': 1, 'b': 2} == {'b': 2, 'a': 1}
'é' == 'é'
not true
not not 1
not missing
1 and 2
0 and 2
0 or 'x'
'' or none or []
missing or 'default'
1 in [1, 2]
'b' in 'abc'
'' in ''
'x' not in 'abc'
'a' in d
'z' in d
1 in (1, 2)
missing in [1]
1 in missing
not 1 in [1]
1 if true else 2
1 if false else 2
1 if false
'a' if no else 'b' if no else 'c'
(1 if yes else 2) + 3
s[0]
s[-1]
s[99]
u[0] ~ u[6] ~ u[-1] ~ u[9]
u[2:9]
u[::-1]
s[1:4]
s[:5]
s[-5:]
s[::2]
s[::-1]
s[10:2:-3]
s[100:]
s[-100:3]
l[0]
l[-1]
l[5]
l[1:]
l[:-1]
l[::-1]
l[5:1]
(1, 2, 3)[1:]
l[true]
l['0']
l.0
d.a
d['a']
d.a.z
d['a']['z']
d.nope
d.nope is defined
d['nope']
d.C[2]
d.get('a')
d.get('q')
d.get('q', 5)
d.get('b', 5)
d.keys()
d.values()
d.items()
d.items() | list
d | items | list
d | list
d | length
k.role
k['items']
k.items()|list
d.keys() | list | sort
d['items'] is defined
k['items'] is number
missing
missing is defined
missing is undefined
missing | default('x')
missing.attr is defined
n.attr is defined
n | default('x')
n | default('x', true)
n | d('x', boolean=true)
e | default('x', true)
e | default('x')
missing | default
s | upper
s | lower
u | upper
'ΑΣ ΣΑΣ' | lower
'straße' | upper
'straße' | capitalize
'hELLO wORLD' | capitalize
'hELLO wORLD' | title
"it's a-test (of) [title] {x} <y>" | title
"it's a-test".title()
'ǆ'.title()
'ﬁne'.title()
'ﬁne' | title
'ﬁne'.capitalize()
t | trim
t | trim | length
'xxaxx' | trim('x')
'xyaxy' | trim('yx')
'\u00a0\u2003a\u3000' | trim
s | replace('l', 'L')
s | replace('l', 'L', 1)
s | replace('', '-')
'aaa' | replace('aa', 'b')
123 | replace(2, 'x')
s | length
u | length
l | length
s | count
s | first
s | last
l | first
l | last
m | first
m | first is defined
missing | first is defined
l | sort
l | sort(reverse=true)
w | sort
w | sort(case_sensitive=true)
w | unique | list
w | unique(true) | list
w | reverse | list
s | reverse
l | reverse | first
l | join
l | join(', ')
p | join(', ', attribute='name')
[none, true, 1.5, 'a'] | join('-')
missing | join
p | map(attribute='name') | list
p | map(attribute='tags.0') | list
p | map(attribute='tags', default='none') | list
w | map('upper') | list
w | map('replace', 'a', 'z') | join
[' a ', 'b '] | map('trim') | list
l | map('string') | list
m | map('upper') | list
none | map('upper') | list
l | select('odd') | list
l | reject('odd') | list
l | select('gt', 1) | list
l | select('in', [1, 2]) | list
[0, 1, '', 'a', none] | select | list
[0, 1, '', 'a', none] | reject | list
p | selectattr('age', 'equalto', 3) | map(attribute='name') | join(',')
p | selectattr('tags') | list | length
p | rejectattr('tags', 'defined') | list | length
p | selectattr('name', 'string') | list | length
p | sort(attribute='name') | map(attribute='name') | list
p | sort(attribute='age,name') | map(attribute='name') | list
p | sort(attribute='age', reverse=true) | map(attribute='name') | list
p | unique(attribute='age') | map(attribute='name') | list
p | min(attribute='age')
p | max(attribute='age')
l | min
l | max
m | min is defined
l | sum
p | sum(attribute='age')
l | sum(start=10)
[1.5, 2] | sum
d | dictsort
d | dictsort(true)
{'b': 1, 'a': 2} | dictsort(by='value')
{'b': 1, 'a': 2} | dictsort(reverse=true)
d | tojson
d | tojson(indent=2)
l | tojson(indent=4)
[] | tojson(indent=2)
{'a': []} | tojson(indent=2)
d | tojson(separators=(',', ':'))
d.a | tojson(indent=1, separators=(' ,', ' : '))
{'b': 1, 'a': 2} | tojson(sort_keys=true)
u | tojson
u | tojson(ensure_ascii=true)
q | tojson
'<a href="x">&\'</a>' | tojson
[1.0, 1e22, 1e-7, none, true, 0.1] | tojson
{1: 2, none: 3, true: 4, 1.5: 5} | tojson
(1, 2) | tojson
d | tojson('\t')
d | tojson(false, '--')
'a' | tojson | safe
q
[q]
{'q': q}
[u]
'7' | int
'7.9' | int
' 12 ' | int
'1_000' | int
'abc' | int
'abc' | int(5)
7.9 | int
-7.9 | int
true | int
none | int
'1e3' | int
'2.5' | float
'x' | float
'x' | float(1.5)
'.5' | float
'1.' | float
3 | float
i | string
x | string
none | string
[1] | string
missing | string
'abc' | list
-5 | abs
-2.5 | abs
2.5 | round
3.5 | round
2.4 | round(0, 'ceil')
-2.4 | round(method='floor')
7 | round
'a\nb\n\nc' | indent
'a\nb\n\nc' | indent(2)
'a\nb\n\nc' | indent(2, true)
'a\nb\n\nc' | indent(2, first=true, blank=true)
'a\nb' | indent('> ')
'a\n' | indent
'ab' | center(7)
'abc' | center(6)
'%s is %d' | format('x', 3)
'%s-%s' % (1, 'b')
'%s' % 'x'
'%s' % [1]
'100%%' % ()
'%r' % 'x'
'%i' % 3.9
s.upper()
s.lower().title()
s.split(', ')
s.split('l')
s.split('l', 1)
s.rsplit('l', 1)
'aaaa'.split('aa')
'aaaaa'.rsplit('aa', 1)
' a  b c '.split()
' a  b c '.split(None, 1)
' a  b c '.rsplit(none, 1)
''.split()
''.split(',')
'a,b,'.split(',')
t.strip()
t.lstrip()
t.rstrip()
'xxaxx'.strip('x')
'xxaxx'.lstrip('x')
'xxaxx'.rstrip('x')
'a'.strip(none)
s.startswith('He')
s.startswith(('x', 'H'))
s.endswith('ld')
s.replace('l', '')
s.replace('l', 'LL', 2)
'-'.join(['a', 'b'])
'-'.join('abc')
','.join(d)
s.find('o')
s.find('zz')
s.rfind('o')
u.find('中')
s.index('o')
s.count('l')
'aaa'.count('aa')
'abc'.count('')
'{} {}'.format(1, 'a')
'{0}{1}{0}'.format('a', 'b')
'{a}-{b}'.format(a=1, b=[1])
'{{}} {!r}'.format('x')
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'abc'.partition('x')
'abc'.removeprefix('a')
'abc'.removesuffix('c')
'abc'.ljust(5) ~ '|'
'abc'.rjust(5, '.')
'abc'.center(6, '*')
'abc'.center(8, '*')
'-7'.zfill(4)
'a\nb\r\nc'.splitlines()
'a\n'.splitlines(true)
'aBc'.swapcase()
'abc'.isalpha()
'a1'.isalnum()
'12'.isdigit()
'²'.isdigit()
'½'.isnumeric()
'AB1'.isupper()
'ab1'.islower()
''.islower()
' \n'.isspace()
'é'.isascii()
l.index(1)
l.count(3)
(1, 2, 1).count(1)
l.copy()
d.copy() == d
5 is odd
4 is even
9 is divisibleby 3
9 is divisibleby(2)
s is string
1 is number
true is number
1.5 is float
1 is integer
true is integer
true is boolean
1 is boolean
d is mapping
l is mapping
l is iterable
s is iterable
d is iterable
1 is iterable
missing is iterable
l is sequence
d is sequence
s is sequence
1 is sequence
d.keys() is sequence
none is none
missing is none
true is true
1 is true
false is false
0 is false
1 is sameas 1.0
true is sameas true
none is sameas none
'abc' is lower
'ABC' is upper
1 is eq 1
1 is ne 2
1 is lt 2
2 is ge 2
2 is == 2
1 is in [1, 2]
1 is not in [1, 2]
'a' is in 'abc'
s is not string
missing is not defined
raise_exception is defined
raise_exception is callable
range is callable
s.upper is callable
lipsum_ is callable
namespace() is callable
range(3)
range(3) | list
range(1, 10, 3) | list
range(5, 0, -2) | list
range(3)[1]
range(5) | length
2 in range(3)
range(0) | list
dict(a=1, b=2)
dict([('a', 1)], b=2)
dict({'a': 1}, a=3)
{'a': 1, 'a': 2}
{1: 'a', true: 'b', 1.0: 'c'}
{(1, 2): 'x'}[(1, 2)]
{none: 1}[none]
strftime_now('%Y-%m-%d')
strftime_now('%d %b %Y')
strftime_now('%A, %B %d, %Y %H:%M:%S')
strftime_now('%a %I:%M %p %y %e %%')
'a' 'b' "c"
"\x41\u00e9\U0001F600\101\n\d"
'\''
'\é\中\😀'
"\\n"
1_000
1_0.5
1e3
0
00
(1)
()
(1,)
[1,]
{'a': 1,}
[[1, [2, [3]]], {'a': {'b': {}}}]
(s | length) > 5 and s.startswith('H')
messages | selectattr('role', 'equalto', 'user') | list
(messages | first).role
messages[0].role
messages[-1]['content']
messages[1:] | map(attribute='content') | join(' ')
messages | map(attribute='role') | unique | list | length
messages | selectattr('role', 'in', ['user', 'assistant']) | map(attribute='content') | list
[1, 2, 3] | last
'abc' | last
d.C | map('string') | join
{'a': 1}.items() | list | tojson
[1, 2] | map('float') | sum
- 1 | abs
-1 | string | length
2 * 3 | string
'a' | upper ~ 'b' | upper
x is number and x > 2
not x is string
loop is defined
'<b>' | safe
('<b>' | safe) ~ '<i>'
['<b>' | safe] | join
'ab' | safe | length
''.join([])
'x' if s is string and s | length > 3 else 'y'
s.title().swapcase()[1:3]
k.items is callable
l.append is defined
d.update is defined
1.5 is sameas none
p | map(attribute='name') | sort
p | map(attribute='name') | map('lower') | sort(reverse=true) | join('/')
[3, 1] | sort | first
{'x': [1, 2]}.x[1]
{'x': {'y': 5}}['x']['y']
{'x': 1}.get('y', {}).get('z', 'deep')
'a' in {'a': 1}.keys()
1 in {'a': 1}.values()
"a" "b" ~ 'c'
[1, 2, 3][1:][0]
('a', 'b') | join
['a', ['b']] | string
[1.0, 2.50, -0.0, 1e100]
""".strip("\n").split("\n")

# Expressions that both refuse.
REFUSED_EXPRESSIONS = r"""
1 + 'a'
'a' + 1
'a' + none
missing + 'a'
'a' + missing
missing.attr
missing['a']
missing[0]
missing()
missing.attr.more
d.nope.more
n.attr.more
n[0].more
1 < 'a'
none < 1
missing < 1
[1] < (1,)
d < d
1 / 0
1 // 0
1 % 0
0 ** -1
-'a'
-missing
none | length
5 | length
none | join
5 | list
5 in 5
1 in 'abc'
[] in {}
{[]: 1}
{{}: 1}
l.append(1)
d.update({})
d.pop('a')
s.nope()
l | sort(attribute='x.y')
[1, 'a'] | sort
[none, 1] | sort
5 | first
5 | reverse | list
'abc' | int | length
raise_exception('no')
raise_exception('no', 'more')
range(100001)
range(1, 2, 0)
range('a')
'%d' % 'a'
'%s %s' % 'a'
'%s' % (1, 2)
'{} {}'.format(1)
'{x}'.format(1)
'abc'.index('z')
'a'.split('')
'a'.join([1])
' '.join(missing_function())
missing | tojson
[missing] | tojson
range | tojson
{(1, 2): 3} | tojson
namespace(_x=1)
strftime_now()
l | map('nope') | list
l | select('nope') | list
p | selectattr | list
s | replace('a')
s | upper(1)
s is divisibleby
1 is sequence(2)
s | nope
s is nope
1 +
(1
[1
{'a'
{'a': }
1 2
a b
s.
s[
s['a'
s | 
s is
not
1 if
*
'abc
"abc
{'a': 1, 'a'}
f(a=1, a=2)
f(a=1, 2)
s.upper(1)
s.__class__.__mro__
''['__class__'].x
d.items.x.y
x is is
1 ~
..
a.5b
@
$
""".strip("\n").split("\n")

# Whole templates.
STATEMENTS = [
    # if
    "{% if yes %}a{% endif %}",
    "{% if no %}a{% elif yes %}b{% else %}c{% endif %}",
    "{% if no %}a{% elif no %}b{% elif n %}d{% else %}c{% endif %}",
    "{% if missing %}a{% else %}b{% endif %}",
    "{% if l and d %}x{% endif %}{% if m or f %}y{% endif %}",
    "{% if 1, %}t{% endif %}",
    "{% if yes: %}colon{% endif %}",
    # for
    "{% for a in l %}{{ a }},{% endfor %}",
    "{% for a in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for a in m %}x{% else %}none{% endfor %}",
    "{% for a in l %}x{% else %}none{% endfor %}",
    "{% for a in missing %}x{% else %}none{% endfor %}",
    "{% for a in l if a > 1 %}{{ a }}{{ loop.index }}{{ loop.last }}{% endfor %}",
    "{% for a in l if a > 1 %}{{ loop.length }}{{ a }}{{ loop.revindex }}{% endfor %}",
    "{% for a in l if a > 9 %}x{% else %}none{% endfor %}",
    "{% for a, b in d.items() %}{{ a }}={{ b }};{% endfor %}",
    "{% for a, b in d | dictsort %}{{ a }};{% endfor %}",
    "{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a in d %}{{ a }}{% endfor %}",
    "{% for c in u %}[{{ c }}]{% endfor %}",
    "{% for a in l %}{{ loop.previtem }}<{{ a }}>{{ loop.nextitem }} {% endfor %}",
    "{% for a in l %}{{ loop.cycle('x', 'y') }}{% endfor %}",
    "{% for a in [1, 1, 2, 2, 1] %}{{ loop.changed(a) }} {% endfor %}",
    "{% for a in l %}{% for b in l %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}",
    "{% for a in l %}{% if loop.first %}{% continue %}{% endif %}{{ a }}{% endfor %}",
    "{% for a in l %}{% if a == 1 %}{% break %}{% endif %}{{ a }}{% endfor %}",
    "{% for a in l %}{% continue %}{% else %}e{% endfor %}",
    "{% for a in l %}{% break %}{% else %}e{% endfor %}",
    "{% for a in l %}{{ a }}{% for b in l %}{% if b == 1 %}{% break %}{% endif %}{{ b }}{% endfor %};{% endfor %}",
    "{% for a in range(3) %}{{ a }}{% endfor %}",
    "{% for a in 1, 2, 3 %}{{ a }}{% endfor %}",
    "{% for a in l | reverse %}{{ a }}{{ loop.last }}{% endfor %}",
    "{% for a in messages[1:] %}{{ a.role }}{% endfor %}",
    "{% for a in [1, [2, [3]]] recursive %}{{ loop(a) if a is iterable else a }}{{ loop.depth }}{% endfor %}",
    "{% for a in [{'n': 1, 'c': [{'n': 2, 'c': []}]}, {'n': 3}] recursive %}({{ a.n }}{{ loop.depth0 }}{{ loop(a.c) if a.c }}){% endfor %}",
    "{% for a in l %}{{ loop.index is odd }}{% endfor %}",
    "{% for a in l %}{% endfor %}{{ a is defined }}",
    "{% set ns = namespace(stop=false) %}{% for a in l if not ns.stop %}{{ a }}{% if a == 1 %}{% set ns.stop = true %}{% endif %}{% endfor %}",
    "{% for m in messages %}{% if loop.nextitem is defined and loop.nextitem.role == 'user' %}!{% endif %}{{ m.role }}{% endfor %}",
    # set and scopes
    "{% set a = 1 %}{{ a }}",
    "{% set a, b = 1, 2 %}{{ b }}{{ a }}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set (a, b) = [1, 2] %}{{ a }}{{ b }}",
    "{% set a %}x{{ i }}y{% endset %}{{ a }}|{{ a | length }}",
    "{% set a | upper %}x{{ i }}y{% endset %}{{ a }}",
    "{% set a | upper | replace('X', 'z') %}x{% endset %}{{ a }}",
    "{% set a = 1 %}{% for b in l %}{% set a = a + b %}{{ a }} {% endfor %}{{ a }}",
    "{% set a = 1 %}{% if yes %}{% set a = 2 %}{% endif %}{{ a }}",
    "{% if no %}{% set s = 'changed' %}{% endif %}{{ s }}",
    "{% for b in l %}{% if loop.first %}{% set s = 'changed' %}{% endif %}{{ s }} {% endfor %}{{ s }}",
    "{% for b in l %}{{ s }} {% endfor %}{% set s = 'later' %}{{ s }}",
    "{{ s }}{% set s = s ~ '!' %}{{ s }}",
    "{% set ns = namespace(a=1, b='x') %}{% for c in l %}{% set ns.a = ns.a + c %}{% endfor %}{{ ns.a }}{{ ns.b }}",
    "{% set ns = namespace() %}{% set ns.x = [] %}{% for a in l %}{% set ns.x = ns.x + [a * 2] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns['b'] }}{{ ns.c is defined }}",
    "{% set ns = namespace(n=none) %}{{ ns.n is none }}{{ ns.missing is defined }}",
    "{% set ns.x = 1 %}{{ ns }}",
    "{% set s.x = 1 %}",
    "{% set ns = namespace(a=1) %}{% set ns.a, b = 5, 6 %}{{ ns.a }}{{ b }}",
    "{% set a, b = 1 %}",
    "{% set a, b = [1, 2, 3] %}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
    "{% with a = 1 %}{% with a = a + 1 %}{{ a }}{% endwith %}{{ a }}{% endwith %}",
    "{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}",
    "{% filter upper %}a{{ s }}{% endfilter %}",
    "{% filter trim | replace('a', 'b') %}  a {% endfilter %}|",
    "{% print s %}{% print 1, 2 %}",
    # macros
    "{% macro f(a) %}<{{ a }}>{% endmacro %}{{ f(1) }}{{ f('x') }}",
    "{% macro f(a, b=2, c='z') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }} {{ f(1, 3) }} {{ f(1, c=4) }} {{ f(b=1, a=0) }}",
    "{% macro f(a) %}{{ a }}{{ a is defined }}{% endmacro %}{{ f() }}",
    "{% macro f(a, b=a) %}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, 2) }}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}",
    "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(a) %}{% endmacro %}{{ f(b=2) }}",
    "{% macro f() %}{{ caller() }}!{% endmacro %}{% call f() %}body {{ i }}{% endcall %}",
    "{% macro f() %}{% for a in l %}{{ caller(a) }}{% endfor %}{% endmacro %}{% call(x) f() %}[{{ x }}]{% endcall %}",
    "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}{% call f() %}{% endcall %}",
    "{% macro f() %}{% endmacro %}{% call f() %}{% endcall %}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% set g = 1 %}{% macro f() %}{{ g }}{{ s }}{% endmacro %}{% set g = 2 %}{{ f() }}",
    "{{ f() }}{% macro f() %}x{% endmacro %}",
    "{% macro f() %}{% set s = 'inner' %}{{ s }}{% endmacro %}{{ f() }}{{ s }}",
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ f('a') | upper }}{{ f('a') ~ f('b') }}{{ f is callable }}",
    "{% for a in l %}{% macro f() %}{{ a }}{% endmacro %}{{ f() }}{% endfor %}",
    "{% macro outer() %}{% macro inner() %}i{% endmacro %}{{ inner() }}{% endmacro %}{{ outer() }}",
    "{% macro f(a=[]) %}{{ a + [1] }}{% endmacro %}{{ f() }}{{ f() }}",
    "{% macro f(messages) %}{{ messages | length }}{% endmacro %}{{ f([1]) }}{{ messages | length }}",
    "{%- macro f() -%} x {%- endmacro -%} {{- f() -}} y",
    "{% macro f(caller='c') %}{{ caller }}{% endmacro %}{{ f() }}{{ f('d') }}",
    # generation
    "{% generation %}a{{ i }}{% endgeneration %}b",
    "{% for a in l %}{% generation %}{% set s = a %}{{ s }}{% endgeneration %}{{ s }}{% endfor %}",
    # raw and comments
    "{% raw %}{{ x }}{% if %}{% endraw %}",
    "{% raw -%}  a  {%- endraw %}b",
    "a {%- raw %} x {% endraw -%} b",
    "{# comment #}a{#- b -#} c {#+ d +#}\n",
    "a {# {{ x }} {% if %} #} b",
    "{# a #}\nb\n  {# c #}\nd",
    "{#\n multi\n line #}\nx",
    # whitespace
    "{% if yes %}\n  a\n{% endif %}\nb\n",
    "  {% if yes %}\n  a\n  {% endif %}\nb\n\n",
    "x  {% if yes %}\n  a\n  {% endif %}  y",
    "  {%+ if yes %}\n a{%+ endif %}",
    "{% if yes +%}\n a{% endif +%}\nb",
    "a  {%- if yes -%}  b  {%- endif -%}  c",
    "a\n\n{%- if yes %}\n\nb{% endif -%}\n\nc",
    "  {{ i }}\n  {{- i }}  {{ i -}}  \n x",
    "  {{ i }}{% if yes %}\n{% endif %}",
    "\n{{ i }}\n",
    "{{ i }}\n\n",
    "{{+ i }}",
    "a\r\nb\r{{ i }}\r\n",
    "\t{% set a = 1 %}\n\t{{ a }}",
    "{% for a in l %}\n  {{ a }}\n{% endfor %}\n",
    "{%for a in l%}{{a}}{%endfor%}",
    "{%-for a in l-%} {{-a-}} {%-endfor-%}",
    "{{i}}{{ -1 }}{{-1}}{{- 1 -}}",
    "\u00a0{%- if yes %}\u2003{%- endif %}",
    " \u00a0{% if yes %}a{% endif %}",
    "{{ '{{' }}{{ '%}' }}{{ '}}' }}{% set a = '%}' %}{{ a }}",
    "{{ {'a': {'b': 1}} }}",
    "{{ {'a': 1}['a'] }}{{ {} }}",
    "{ {a} } % } # } {",
    "{",
    "a{",
    "{{ i }}{",
    "",
    "\n",
    "\n\n",
    "   ",
    "{% if yes %}{% endif %}",
    "{{ \n i \n }}",
    "{% if\n yes\n %}a{%\nendif %}",
    "日本{% if yes %}語{% endif %}😀",
    "{% set größe = 1 %}{{ größe }}",
    "{%- set x = 'é' -%}\n{{ x }}",
    # quirks
    "{% set true_ = 1 %}{{ true_ }}",
    "{{ true }}{{ True }}{{ none }}{{ None }}{{ False }}",
    "{% set loop = 1 %}{{ loop }}",
    "{{ messages.0.role }}",
    "{% set a = [] %}{% if a.append(1) %}{% endif %}",
    "{% if 'x' is defined %}a{% endif %}",
    "{{ (1, 2)[0] }}{{ [1, 2].0 }}",
    "{% set a = (l | sort) %}{{ a }}{{ l }}",
    "{% set it = l | map('string') %}{{ it | join }}{{ it | join }}",
    "{% set it = l | map('string') %}{{ it | first }}{{ it | list }}",
    "{{ l | map('string') | length }}",
    "{% for a in p | selectattr('age', 'eq', 3) %}{{ loop.index }}/{{ loop.length }}{{ a.name }} {% endfor %}",
    "{% set ns = namespace(d={}) %}{% for m in messages %}{% set ns.d = dict(ns.d, **{m.role: 1}) %}{% endfor %}{{ ns.d }}",
    "{{ foo is defined and foo() }}",
    "{% if foo is defined %}{{ foo(1) }}{% endif %}ok",
]

REFUSED_STATEMENTS = [
    "{% if yes %}",
    "{% if yes %}{% endfor %}",
    "{% endif %}",
    "{% else %}",
    "{% for a in l %}",
    "{% for a l %}{% endfor %}",
    "{% for 1 in l %}{% endfor %}",
    "{% for a in %}{% endfor %}",
    "{% for a in l %}{% endif %}",
    "{% for a in 5 %}{% endfor %}",
    "{% for a in none %}{% endfor %}",
    "{% for a, b in l %}{% endfor %}",
    "{% for a in l %}{% set loop = 1 %}{% endfor %}",
    "{% for loop in l %}{% endfor %}",
    "{% for a in l %}{{ loop.x.y }}{% endfor %}",
    "{% for a in l %}{{ loop(1) }}{% endfor %}",
    "{% for a in l %}{{ loop.cycle() }}{% endfor %}",
    "{% break %}",
    "{% continue %}",
    "{% for a in l %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}",
    "{% set %}",
    "{% set a %}",
    "{% set a = %}",
    "{% set 1 = 2 %}",
    "{% set a.b.c = 1 %}",
    "{% set a['b'] = 1 %}",
    "{% set true = 1 %}",
    "{% set = 1 %}",
    "{% macro %}{% endmacro %}",
    "{% macro f %}{% endmacro %}",
    "{% macro f(a=1, b) %}{% endmacro %}",
    "{% macro f(1) %}{% endmacro %}",
    "{% macro f() %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}",
    "{% call f %}{% endcall %}",
    "{% call 1 %}{% endcall %}",
    "{% call(x) missing() %}{% endcall %}",
    "{% filter %}{% endfilter %}",
    "{% filter nope %}{% endfilter %}",
    "{% nope %}",
    "{% 1 %}",
    "{% %}",
    "{{ }}",
    "{{",
    "{{ i",
    "{{ i }",
    "{{ i %}",
    "{% if yes }}",
    "{# a",
    "{% raw %}a",
    "{% raw %}{% endif %}",
    "{{ (i }} ) }}",
    "{{ i) }}",
    "{{ [i) }}",
    "{% generation %}",
    "{% for a in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "{% with a %}{% endwith %}",
    "{% include 'x' %}",
    "{% extends 'x' %}",
    "{% import 'x' as y %}",
    "{% from 'x' import y %}",
    "{% do x %}",
    "{% trans %}{% endtrans %}",
    "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "{% set ns = namespace() %}{{ ns.a.b }}",
]

STATEMENTS += [
    "{% macro f(a, b, c=3) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(*[1, 2]) }}{{ f(1, **{'b': 5}) }}{{ f(*(1, 2), **{'c': 0}) }}{{ f(1, c=2, *[9]) }}",
    "{{ dict(*[[('a', 1)]], **{'b': 2}) }}",
]
REFUSED_STATEMENTS += [
    "{{ dict(**{'a': 1}, b=2) }}",
    "{{ dict(**{'a': 1}, **{'b': 2}) }}",
    "{{ range(*[1], 2) }}",
    "{{ dict(a=1, **{'a': 2}) }}",
    "{{ range(*5) }}",
    "{{ dict(**5) }}",
]
