//! How deep grammars may be: what compiles them calls itself for each rule in a rule, and a stack has an end.

use super::argument;
use crate::Result;
use serde_json::{Deserializer, Value};

/// The most rules, and the most references of schemas.
pub(super) const MOST: usize = 1000;

/// Bytes of stack for as many rules in each other: 64 kB each.
#[cfg(not(target_family = "wasm"))]
const STACK: usize = MOST << 16;

/// Does `work` in a thread whose stack is deep enough for what [`check`] lets pass. Memory is only taken where it is used.
///
/// # Errors
/// If there is no thread to be had.
#[cfg(not(target_family = "wasm"))]
pub(super) fn on_a_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let thread = thread.spawn_scoped(scope, work);
        let thread = thread.map_err(|error| crate::Error::io("a thread for a grammar", error))?;
        match thread.join() {
            Ok(made) => Ok(made),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Does `work` on the stack that there is: a module has the one that its linker gave it, and whoever goes beyond it ends the module.
#[cfg(target_family = "wasm")]
pub(super) fn on_a_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    Ok(work())
}

/// Refuses what has more rules or references than a stack has room for, in whatever order they are. Brackets in each other are
/// counted by the compiler itself.
///
/// # Errors
/// If there is too much of one, which it names.
pub(super) fn check(lark: &str) -> Result<()> {
    let mut rest = lark;
    let mut rules = 0;
    let mut references = 0;
    while !rest.is_empty() {
        let (own, json) = rest.split_once("%json").unwrap_or((rest, ""));
        // Each rule has one behind its name. Those in texts are counted along.
        rules += own.matches(':').count();
        let mut values = Deserializer::from_str(json).into_iter::<Value>();
        rest = match values.next() {
            Some(Ok(value)) => {
                references += refers(&value);
                &json[values.byte_offset()..]
            }
            _ => json,
        };
    }
    for (what, found) in [("rules", rules), ("references", references)] {
        if found > MOST {
            let expected = format!("at most {MOST} {what}");
            return Err(argument("grammar", expected, found.to_string()));
        }
    }
    Ok(())
}

/// How many references a schema has. A parsed value is not deep.
fn refers(value: &Value) -> usize {
    match value {
        Value::Array(values) => values.iter().map(refers).sum(),
        Value::Object(fields) => {
            let of_field = |(name, value): (&String, &Value)| {
                usize::from(name.ends_with("Ref") || name.ends_with("ref")) + refers(value)
            };
            fields.iter().map(of_field).sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted() {
        let schema = r##"{"properties": {"a:b": {"$ref": "#/$defs/x"}}, "enum": ["(((", ":::"]}"##;
        let text = format!("start: a\na: %json {schema}\n");
        check(&text).expect("two rules, one reference");
        let many = format!("start: \"{}\"", ":".repeat(MOST));
        assert!(check(&many).is_err());
        let escaped = format!(
            r##"start: %json [{}{{}}]"##,
            r##"{"\u0024ref": "#"},"##.repeat(MOST + 1)
        );
        let error = check(&escaped).expect_err("too many").to_string();
        assert!(error.contains("at most 1000 references"), "{error}");
    }
}
