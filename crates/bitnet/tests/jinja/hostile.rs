//! Templates that try to kill the process, to take its memory or never to end. All run on a stack of 512 KiB.

use bitnet::chat::{ChatTemplate, TemplateOptions};
use bitnet::{Cancel, ChatMessage, Error};
use std::time::{Duration, Instant};

/// What one template may take, on a busy machine without optimization.
const LIMIT: Duration = Duration::from_secs(10);

fn render(source: &str, options: &TemplateOptions) -> Result<String, Error> {
    ChatTemplate::new("test", source, "", "")
        .with_time(0, 0)
        .render(&[ChatMessage::user("hi")], options)
}

/// Runs `work` on a small stack.
fn on_small_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(512 << 10);
    let thread = thread.spawn(work).expect("a thread");
    thread.join().expect("no panic")
}

fn nested(open: &str, inner: &str, close: &str, times: usize) -> String {
    open.repeat(times) + inner + &close.repeat(times)
}

/// Templates that must end with an error.
fn refused() -> Vec<String> {
    let shared = "{% set n = namespace(x='a', y='a') %}{% for i in range(99) %}\
        {% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}";
    let doubled = |step: &str| {
        format!(
            "{{% set n = namespace(x='xy', l=[1]) %}}{{% for i in range(99) %}}{step}{{% endfor %}}"
        )
    };
    let mut templates = vec![
        format!("{{{{ {} 1 }}}}", "- ".repeat(30_000)),
        format!("{{{{ m{} }}}}", ".b".repeat(40_000)),
        format!("{{{{ m{} }}}}", "[0]".repeat(40_000)),
        format!("{{{{ m{} }}}}", "()".repeat(40_000)),
        format!("{{{{ {} }}}}", nested("(", "1", ")", 30_000)),
        format!("{{{{ {} }}}}", nested("[", "1", "]", 30_000)),
        format!("{{{{ {} }}}}", nested("{1:", "1", "}", 30_000)),
        format!("{{{{ {} }}}}", nested("f(", "1", ")", 30_000)),
        format!("{{{{ {} }}}}", nested("1 is eq(", "1", ")", 30_000)),
        format!(
            "{{% for {} in x %}}{{% endfor %}}",
            nested("(", "a", ")", 30_000)
        ),
        nested("{% if 1 %}", "x", "{% endif %}", 10_000),
        nested("{% for a in [1] %}", "x", "{% endfor %}", 10_000),
        nested("{% set a %}", "x", "{% endset %}", 10_000),
        nested("{% macro a() %}", "x", "{% endmacro %}", 10_000),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into(),
        format!(
            "{{% macro f() %}}{}{{% endmacro %}}{{{{ f() }}}}",
            nested(
                "{% for q in [1] %}{% set z %}",
                "{{ f() }}",
                "{% endset %}{% endfor %}",
                15
            )
        ),
        format!(
            "{{% macro f() %}}{{{{ {} }}}}{{% endmacro %}}{{{{ f() }}}}",
            nested("[", "f()", "]", 30)
        ),
        "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}".into(),
        "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}".into(),
        "{% macro g(c) %}{% macro f() %}{% endmacro %}{{ g(f) }}{% endmacro %}{{ g(1) }}".into(),
        format!(
            "{{% with %}}{}{{% endwith %}}",
            (0..5000)
                .map(|i| format!("{{% macro a{i}() %}}{{% endmacro %}}"))
                .collect::<String>()
        ),
        "{% set n = namespace(x=[]) %}{% for i in range(90000) %}{% set n.x = [n.x] %}{% endfor %}"
            .into(),
        "{% set n = namespace() %}{% set n.x = n %}".into(),
        "{% set n = namespace() %}{% set n.x = [n] %}".into(),
        "{% for i in [1, 2] %}{{ loop.changed(loop) }}{% endfor %}".into(),
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}".into(),
        "{% for i in range(100000) %}{{ 'x' * 1000000 }}{% endfor %}".into(),
        "{% for i in range(100000) %}{{ ('a' * 20000).find('ab') }}{% endfor %}".into(),
        "{{ range(100000)|list|unique|list }}".into(),
        "{{ range(100000)|list|tojson(separators=('a' * 100000, 'b')) }}".into(),
        "{{ ('a' * 60000).replace('a', 'b' * 60000) }}".into(),
        "{{ ('a' * 60000)|replace('', 'b' * 60000) }}".into(),
        "{{ ('a' * 1000000).strip('b' * 60 ~ 'a') }}".into(),
        "{{ ('a\\n' * 1000)|indent(1000000) }}".into(),
        "{{ [[[1] * 1000] * 1000]|sum(start=[])|sum(start=[]) }}".into(),
        "{{ 10 ** 1000000000 }}{{ 2 ** 2 ** 100 }}".into(),
        "{{ (-170141183460469231731687303715884105727 - 1) // -1 }}".into(),
        "{{ (-170141183460469231731687303715884105727 - 1) % -1 }}".into(),
        "{{ -(-170141183460469231731687303715884105727 - 1) }}".into(),
        "{{ (-170141183460469231731687303715884105727 - 1)|abs }}".into(),
        "{{ 1 is divisibleby 0 }}".into(),
        "{# ".repeat(10_000),
        "{% raw %}".repeat(10_000),
        format!("{{% raw %}}{}", "{%".repeat(100_000)),
        format!("{{{{ \"{}", "\\".repeat(99_999)),
        "{{".repeat(100_000),
    ];
    for step in [
        "{% set n.l = n.l + n.l %}",
        "{% set n.l = n.l * 2 %}",
        "{% set n.x = n.x + n.x %}",
        "{% set n.x = n.x ~ n.x %}",
        "{% set n.x = n.x * 2 %}",
        "{% set n.x = '%s%s' % (n.x, n.x) %}",
        "{% set n.x = '{0}{0}'.format(n.x) %}",
        "{% set n.x = [n.x, n.x]|join %}",
        "{% set n.x = n.x.join(['', '', '']) %}",
        "{% set n.x = n.x|replace('x', 'xx') %}",
        "{% set n.x = n.x|tojson|tojson %}",
        "{% set q %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = q %}",
    ] {
        templates.push(doubled(step));
    }
    for walk in [
        "n.x",
        "n.x ~ ''",
        "n.x == n.y",
        "n.x < n.y",
        "n.x in [n.y]",
        "n.x is eq n.y",
        "n.x|tojson",
        "n.x|tojson(indent=9)",
        "'%s' % [n.x]",
        "'{}'.format(n.x)",
        "[n.x, n.y]|unique|list",
        "[n.x, n.y]|sort",
        "[n.x, n.y]|max",
        "[n.x].index(n.y)",
        "[n.x].count(n.y)",
        "n.x|string",
        "{(n.x,): 1, (n.y,): 2}",
        "[n.x]|select('in', [n.y])|list",
        "n.x|indent",
        "[n.x]|join",
    ] {
        templates.push(format!("{shared}{{{{ {walk} }}}}"));
    }
    for wide in [
        "'{:>99999999999999}'.format(1)",
        "'{:.1000000000f}'.format(1.5)",
        "'%.1000000000f' % 1.5",
        "'%99999999999d' % 1",
        "'%*d' % (99999999999, 1)",
        "'{:{}}'.format('a', 99999999999)",
        "'x' * 100000000",
        "[1] * 100000000",
        "range(100000000)",
        "'a'|center(99999999999)",
        "'a'.ljust(99999999999)",
        "'a'.rjust(99999999999)",
        "'a'.zfill(99999999999)",
        "('\\t' * 1000).expandtabs(99999999)",
        "[1]|tojson(indent=1000000000)",
        "[1]|batch(99999999999, 'x')|list",
        "[1]|slice(99999999999)|list",
        "1|round(99)|center(10 ** 30)",
        "('a' * 1000000).split('a')",
        "('a' * 1000000)|list",
        "strftime_now('%c' * 3000000)",
    ] {
        templates.push(format!("{{{{ {wide} }}}}"));
    }
    templates
}

#[test]
fn hostile_templates_are_refused_in_time() {
    for source in refused() {
        let begin = Instant::now();
        let shown: String = source.chars().take(120).collect();
        let outcome = on_small_stack(move || render(&source, &TemplateOptions::default()));
        assert!(
            matches!(outcome, Err(Error::Template(_))),
            "{shown}: {outcome:.100?}"
        );
        assert!(begin.elapsed() < LIMIT, "{shown}: {:?}", begin.elapsed());
    }
}

#[test]
fn long_chains_are_no_nesting() {
    let chained = |part: &str| format!("{{{{ 1{} }}}}", part.repeat(30_000));
    for (source, right) in [
        (chained(" + 1"), "30001"),
        (chained(" and 1"), "1"),
        (chained(" if 0 else 1"), "1"),
        (chained("|int"), "1"),
        (chained(" is number"), "True"),
        (chained(" ** 1"), "1"),
        (format!("{{{{ {} 1 }}}}", "not ".repeat(30_001)), "False"),
        (
            format!(
                "{{% if 0 %}}{}{{% else %}}e{{% endif %}}",
                "{% elif 0 %}".repeat(30_000)
            ),
            "e",
        ),
    ] {
        let outcome = on_small_stack(move || render(&source, &TemplateOptions::default()));
        assert_eq!(outcome.expect("a text"), right);
    }
    for source in [
        nested("{% if 1 %}", "x", "{% endif %}", 38),
        nested("{% for a in [1] %}", "x", "{% endfor %}", 38),
        nested("{% set a %}", "x", "{% endset %}", 38) + "x",
        format!("{{{{ {} }}}}", nested("(", "'x'", ")", 38)),
    ] {
        let outcome = on_small_stack(move || render(&source, &TemplateOptions::default()));
        assert_eq!(outcome.expect("a text"), "x");
    }
}

#[test]
fn output_ends_where_it_is_told() {
    let options = |max_bytes| TemplateOptions {
        max_bytes,
        ..TemplateOptions::default()
    };
    let source = "{% for i in range(100) %}é{% endfor %}";
    assert_eq!(render(source, &options(200)).expect("a text").len(), 200);
    for max_bytes in [0, 99, 150, 199] {
        assert!(matches!(
            render(source, &options(max_bytes)),
            Err(Error::Template(_))
        ));
    }
}

#[test]
fn a_rendering_can_be_cancelled() {
    let endless =
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}";
    let cancel = Cancel::default();
    let options = TemplateOptions {
        cancel: cancel.clone(),
        ..TemplateOptions::default()
    };
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1));
        cancel.cancel();
    });
    // The work it may do takes some 50 ms at best.
    assert!(matches!(render(endless, &options), Err(Error::Cancelled)));
    other.join().expect("no panic");
    assert!(matches!(render("x", &options), Err(Error::Cancelled)));
}

/// Random numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn expression(&mut self, depth: usize, out: &mut String) {
        const ATOMS: [&str; 16] = [
            "1",
            "-7",
            "2.5",
            "'aB c'",
            "none",
            "true",
            "x",
            "n.x",
            "messages",
            "loop",
            "[]",
            "{}",
            "range(50)",
            "'é\\n<|x|>'",
            "undefined",
            "m",
        ];
        if depth == 0 {
            out.push_str(self.of(&ATOMS));
            return;
        }
        match self.below(9) {
            0 => {
                out.push('(');
                self.expression(depth - 1, out);
                out.push_str(self.of(&[
                    " + ", " ~ ", " * ", " - ", " / ", " // ", " % ", " ** ", " == ", " < ",
                    " in ", " and ", " or ", " not in ", ", ",
                ]));
                self.expression(depth - 1, out);
                out.push(')');
            }
            1 => {
                out.push('[');
                self.expression(depth - 1, out);
                out.push(',');
                self.expression(depth - 1, out);
                out.push(']');
            }
            2 => {
                out.push_str("{'k': ");
                self.expression(depth - 1, out);
                out.push('}');
            }
            3 | 4 => {
                self.expression(depth - 1, out);
                out.push('|');
                out.push_str(self.of(&[
                    "upper",
                    "list",
                    "join",
                    "tojson",
                    "length",
                    "first",
                    "last",
                    "sort",
                    "unique",
                    "reverse",
                    "string",
                    "int",
                    "float",
                    "round",
                    "abs",
                    "trim",
                    "title",
                    "indent",
                    "map('upper')",
                    "select",
                    "reject('odd')",
                    "batch(3, 1)",
                    "slice(2)",
                    "items",
                    "dictsort",
                    "sum",
                    "min",
                    "max",
                    "default(1)",
                    "replace('a', 'aa')",
                    "center(99)",
                    "truncate(3)",
                    "wordcount",
                    "groupby('k')",
                    "format(1, 2)",
                    "escape",
                    "urlencode",
                ]));
            }
            5 => {
                self.expression(depth - 1, out);
                out.push_str(self.of(&[
                    ".upper()",
                    ".split()",
                    ".strip('a')",
                    ".items()",
                    ".get('k')",
                    "[0]",
                    "[-1]",
                    "[::-1]",
                    "[1:3]",
                    ".format(1)",
                    ".k",
                    ".join(['a', 'b'])",
                    ".zfill(9)",
                    ".title()",
                    ".splitlines()",
                    ".partition('B')",
                    ".replace('', 'z')",
                    "()",
                    ".index('a')",
                ]));
            }
            6 => {
                self.expression(depth - 1, out);
                out.push_str(self.of(&[
                    " is defined",
                    " is not none",
                    " is iterable",
                    " is odd",
                    " is eq 1",
                    " is mapping",
                ]));
            }
            7 => {
                self.expression(depth - 1, out);
                out.push_str(" if ");
                self.expression(depth - 1, out);
                out.push_str(" else ");
                self.expression(depth - 1, out);
            }
            _ => {
                out.push_str(self.of(&[
                    "-",
                    "not ",
                    "+",
                    "f(",
                    "namespace(x=",
                    "dict(a=",
                    "cycler(",
                ]));
                self.expression(depth - 1, out);
                out.push(')');
            }
        }
    }

    fn statement(&mut self, depth: usize, out: &mut String) {
        let size = self.below(4);
        match self.below(if depth == 0 { 2 } else { 8 }) {
            0 => out.push_str(self.of(&["text\r\n", "  ", "{#- c -#}", "{% raw %}{{{% endraw %}"])),
            1 => {
                out.push_str("{{- ");
                self.expression(size, out);
                out.push_str(" }}");
            }
            2 => {
                out.push_str(self.of(&["{% set x = ", "{% set n.x = ", "{% set x, m = "]));
                self.expression(size, out);
                out.push_str(" %}");
            }
            3 => self.around("{% for x in ", " -%}", "{% endfor %}", depth, out),
            4 => self.around("{%- if ", " %}", "{% endif %}", depth, out),
            5 => self.around(
                "{% macro f(m, x=",
                ") %}",
                "{{ f(m) }}{% endmacro %}{{ f(x) }}",
                depth,
                out,
            ),
            6 => self.around("{% set x | default(", ") %}", "{% endset %}", depth, out),
            _ => self.around("{% call f(", ") %}", "{% endcall %}", depth, out),
        }
    }

    fn around(&mut self, open: &str, then: &str, close: &str, depth: usize, out: &mut String) {
        let size = self.below(3);
        out.push_str(open);
        self.expression(size, out);
        out.push_str(then);
        for _ in 0..=self.below(3) {
            self.statement(depth - 1, out);
        }
        out.push_str(close);
    }
}

#[test]
fn random_templates_end() {
    let begin = Instant::now();
    let (rendered, refused) = on_small_stack(move || {
        let (mut rendered, mut refused) = (0, 0);
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..4000 {
            let mut source = String::from("{% set n = namespace(x=1) %}");
            for _ in 0..=random.below(4) {
                random.statement(3, &mut source);
            }
            // Some are cut, and some have a part twice.
            if random.below(8) == 0 {
                let at = random.below(source.len());
                let at = (0..=at)
                    .rev()
                    .find(|at| source.is_char_boundary(*at))
                    .unwrap_or(0);
                source = source[..at].to_owned() + &source[at / 2 / at.max(1)..at];
            }
            let one = Instant::now();
            match render(&source, &TemplateOptions::default()) {
                Ok(_) => rendered += 1,
                Err(Error::Template(_)) => refused += 1,
                Err(error) => panic!("{source}: {error}"),
            }
            assert!(one.elapsed() < LIMIT, "{source}");
            if begin.elapsed() > Duration::from_secs(20) {
                break;
            }
        }
        (rendered, refused)
    });
    assert!(
        rendered > 20 && refused > 20,
        "{rendered} rendered, {refused} refused"
    );
}
