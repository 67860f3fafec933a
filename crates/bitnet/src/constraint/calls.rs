//! Grammars of calls: what a model writes to call tools, its arguments by their schemas.
//!
//! The marks of a call, its name and the names of its arguments are texts; values are JSON by the schema of their argument, but
//! for strings without quotes and constants of Python in the forms that have them. What is written so is what
//! [`ReplyParser`](crate::chat::ReplyParser) reads, as the call that the schema describes.

use super::{Grammar, argument, json_text, quoted};
use crate::Result;
use crate::chat::{CALL, CALL_END, CallFormat, Tool};
use llguidance::regex_to_lark;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Any text.
const ANY: &str = "/(?s:.*)/";
/// The keywords of an object's schema that name its properties, say nothing about them, or may be left unfollowed.
const KEYWORDS: [&str; 14] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "$defs",
    "definitions",
    "$schema",
    "$id",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "strict",
];

/// The text in which tools are called.
#[derive(Debug, Clone, PartialEq)]
pub struct Calls {
    /// The form of the calls.
    pub format: CallFormat,
    /// The tools that may be called. One without parameters takes no arguments.
    pub tools: Vec<Tool>,
    /// Whether several calls may follow each other.
    pub parallel: bool,
    /// The text that may come where no call is made.
    pub otherwise: Otherwise,
}

/// The text that may come where no call is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Otherwise {
    /// None: a call is demanded.
    Nothing,
    /// Any text, with calls in it where their form has marks. Where a call is the whole answer, the text does not begin as a call
    /// does: with a brace, or a bracket.
    Text,
    /// A text of this form.
    Form(Grammar),
}

/// The calls that a reply must have.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Demand {
    /// None, but there may be some.
    #[default]
    Nothing,
    /// A call of any tool.
    Any,
    /// A call of the tool of this name.
    Named(String),
}

impl Calls {
    /// The form of a reply in which `tools` may be called, or must be; `None` for any text. It is of the form `answer`, if there is
    /// one, or has calls.
    ///
    /// # Errors
    /// If a call is demanded of a tool that is not there.
    pub fn in_reply(
        format: CallFormat,
        tools: &[Tool],
        demand: &Demand,
        parallel: bool,
        answer: Option<Grammar>,
    ) -> Result<Option<Grammar>> {
        let is_meant = |tool: &&Tool| match demand {
            Demand::Named(name) => tool.name == *name,
            Demand::Any | Demand::Nothing => true,
        };
        let mut tools: Vec<Tool> = tools.iter().filter(is_meant).cloned().collect();
        let otherwise = match (demand, answer) {
            (Demand::Any | Demand::Named(_), _) if tools.is_empty() => {
                let expected = "none, or the name of a tool that is offered";
                return Err(argument("tool_choice", expected, format!("{demand:?}")));
            }
            (Demand::Any | Demand::Named(_), _) => Otherwise::Nothing,
            (Demand::Nothing, Some(answer)) if tools.is_empty() => return Ok(Some(answer)),
            (Demand::Nothing, Some(answer)) => Otherwise::Form(answer),
            (Demand::Nothing, None) if tools.iter().any(|tool| tool.strict) => Otherwise::Text,
            (Demand::Nothing, None) => return Ok(None),
        };
        if *demand == Demand::Nothing {
            for tool in tools.iter_mut().filter(|tool| !tool.strict) {
                tool.parameters = Some(json!({"type": "object"}));
            }
        }
        Ok(Some(Grammar::Calls(Box::new(Self {
            format,
            tools,
            parallel,
            otherwise,
        }))))
    }

    /// The rules of the text; the first one is called `name`.
    ///
    /// # Errors
    /// If there is no tool, or the form of calls cannot express a name or a schema.
    pub(super) fn rules(&self, name: &str) -> Result<String> {
        if self.tools.is_empty() {
            return Err(argument("tools", "at least one tool to call", "none"));
        }
        let marked = self.format.has_marks();
        // The mark is then part of the text before it.
        let in_text = marked && self.otherwise == Otherwise::Text;
        let mut rules = Rules::new(name);
        let mut bodies = Vec::with_capacity(self.tools.len());
        for tool in &self.tools {
            bodies.push(rules.call(self.format, tool)?);
        }
        let mut call = rules.add(&bodies.join(" | "));
        if marked && !in_text {
            call = rules.add(&format!("{} {call}", quoted(CALL)));
        }
        let mut calls = call.clone();
        if self.parallel {
            let between = match self.format {
                CallFormat::Hermes | CallFormat::Xml => "\n",
                CallFormat::Json => "; ",
                CallFormat::Pythonic => ", ",
            };
            calls = format!("{call} ({} {call})*", quoted(between));
        }
        if self.format == CallFormat::Pythonic {
            calls = format!("\"[\" {calls} \"]\"");
        }
        let text = match &self.otherwise {
            Otherwise::Nothing => calls,
            Otherwise::Form(grammar) => {
                let form = rules.next_name();
                rules.text += &grammar.rules(&form)?;
                format!("{calls} | {form}")
            }
            Otherwise::Text if marked => {
                let before = rules.add_until(CALL, ANY);
                let rest = rules.add_terminal(&format!("/(?s:.+)/ & {}", without(CALL)));
                let most = if self.parallel { '*' } else { '?' };
                format!("({before} {call}){most} {rest}?")
            }
            Otherwise::Text => {
                let first = if self.format == CallFormat::Json {
                    r"\{"
                } else {
                    r"\["
                };
                format!(r"{calls} | /[^\s{first}](?s:.*)/")
            }
        };
        Ok(format!("{name}: {text}\n{}", rules.text))
    }
}

/// Rules of a grammar, in the notation of Lark.
struct Rules<'a> {
    /// The beginning of their names.
    prefix: &'a str,
    count: usize,
    text: String,
}

impl<'a> Rules<'a> {
    fn new(prefix: &'a str) -> Self {
        Self {
            prefix,
            count: 0,
            text: String::new(),
        }
    }

    fn next_name(&mut self) -> String {
        self.count += 1;
        format!("{}_{}", self.prefix, self.count)
    }

    /// Adds a rule; its name.
    fn add(&mut self, body: &str) -> String {
        let name = self.next_name();
        self.text += &format!("{name}: {body}\n");
        name
    }

    /// Adds a rule for what comes up to the first `end`, and for that.
    fn add_until(&mut self, end: &str, body: &str) -> String {
        let name = self.next_name();
        self.text += &format!("{name}[suffix={}]: {body}\n", quoted(end));
        name
    }

    /// Adds a terminal; its name.
    fn add_terminal(&mut self, body: &str) -> String {
        let name = self.next_name().to_uppercase();
        self.text += &format!("{name}: {body}\n");
        name
    }

    /// A call of `tool`, in the forms with marks from behind the first one.
    fn call(&mut self, format: CallFormat, tool: &Tool) -> Result<String> {
        let (name, schema) = (&tool.name, object_schema(tool)?);
        let written = json!(name).to_string();
        Ok(match format {
            CallFormat::Hermes => {
                let head = format!("\n{{\"name\": {written}, \"arguments\": ");
                let tail = format!("}}\n{CALL_END}");
                let arguments = self.add(&json_text(&Value::Object(schema)));
                format!("{} {arguments} {}", quoted(&head), quoted(&tail))
            }
            CallFormat::Json => {
                let head = format!("{{\"name\": {written}, \"parameters\": ");
                let arguments = self.add(&json_text(&Value::Object(schema)));
                format!("{} {arguments} \"}}\"", quoted(&head))
            }
            CallFormat::Xml => {
                check_name(
                    name,
                    |c| !c.is_whitespace() && !matches!(c, '<' | '>'),
                    "XML",
                )?;
                let head = format!("\n<function={name}>\n");
                let tail = format!("</function>\n{CALL_END}");
                let arguments = self.parameters(tool, &schema)?;
                format!("{} {arguments} {}", quoted(&head), quoted(&tail))
            }
            CallFormat::Pythonic => {
                check_name(
                    name,
                    |c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'),
                    "Python",
                )?;
                let head = format!("{name}(");
                let arguments = self.keywords(tool, &schema)?;
                format!("{} {arguments} \")\"", quoted(&head))
            }
        })
    }

    /// `<parameter=NAME>` with a value, for each argument.
    fn parameters(&mut self, tool: &Tool, schema: &Map<String, Value>) -> Result<String> {
        const END: &str = "</parameter>";
        let tail = quoted(&format!("\n{END}\n"));
        let Some(arguments) = arguments(tool, schema)? else {
            let value = self.add(&json_text(&json!({})));
            return Ok(format!("(/<parameter=[^<>\\s]+>\\n/ {value} {tail})*"));
        };
        let mut all = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let Argument { name, schema, .. } = &argument;
            check_name(
                name,
                |c| !c.is_whitespace() && !matches!(c, '<' | '>'),
                "XML",
            )?;
            let head = quoted(&format!("<parameter={name}>\n"));
            let value = if schema.get("type") != Some(&json!("string")) {
                format!("{} {tail}", self.add(&json_text(schema)))
            } else if let Some(texts) = choices(schema) {
                // One that closes the argument would be read as less.
                let texts = texts.iter().filter(|text| !text.contains(END));
                let texts: Vec<_> = texts.map(|text| quoted(text)).collect();
                format!("({}) {tail}", texts.join(" | "))
            } else if let Some(body) = raw_string(tool, name, schema)? {
                let body = format!("({body} & {}) \"\\n\"", without(END));
                format!("{} \"\\n\"", self.add_until(END, &body))
            } else {
                format!("{} \"\\n\"", self.add_until(END, ANY))
            };
            let rule = self.add(&format!("{head} {value}"));
            all.push(if argument.required { rule } else { rule + "?" });
        }
        Ok(all.join(" "))
    }

    /// `NAME=VALUE`, for each argument, with commas between them.
    fn keywords(&mut self, tool: &Tool, schema: &Map<String, Value>) -> Result<String> {
        let Some(arguments) = arguments(tool, schema)? else {
            let value = self.add(&json_text(&json!({})));
            let one = self.add(&format!("/[A-Za-z_][A-Za-z0-9_]*=/ {value}"));
            return Ok(format!("({one} (\", \" {one})*)?"));
        };
        // From the last to the first: the arguments that follow the first one, and those that follow none.
        let (mut more, mut first) = ("\"\"".to_owned(), "\"\"".to_owned());
        for argument in arguments.iter().rev() {
            let name = &argument.name;
            check_name(name, |c| c.is_alphanumeric() || c == '_', "Python")?;
            let value = python_text(&argument.schema);
            let one = self.add(&format!("{} ({value})", quoted(&format!("{name}="))));
            let begun = format!("{one} {more}");
            (more, first) = if argument.required {
                (format!("\", \" {begun}"), begun)
            } else {
                (
                    format!("(\", \" {one})? {more}"),
                    format!("{begun} | {first}"),
                )
            };
            more = self.add(&more);
            first = self.add(&first);
        }
        Ok(first)
    }
}

/// The schema of a tool's arguments, which are an object.
fn object_schema(tool: &Tool) -> Result<Map<String, Value>> {
    let Some(schema) = &tool.parameters else {
        let none = json!({"type": "object", "properties": {}, "additionalProperties": false});
        return Ok(none.as_object().cloned().unwrap_or_default());
    };
    let refused = || {
        let found = schema.to_string().chars().take(80).collect::<String>();
        argument(
            "tools",
            format!("the schema of an object as parameters of {}", tool.name),
            found,
        )
    };
    let mut schema = schema.as_object().cloned().ok_or_else(refused)?;
    let is_object = match schema.get("type") {
        None => true,
        Some(Value::String(kind)) => kind == "object",
        Some(Value::Array(kinds)) => kinds.contains(&json!("object")),
        Some(_) => false,
    };
    if !is_object {
        return Err(refused());
    }
    schema.insert("type".into(), "object".into());
    Ok(schema)
}

/// An argument of a tool.
struct Argument {
    name: String,
    schema: Value,
    required: bool,
}

/// The arguments by their names; `None` if any may be given.
///
/// # Errors
/// If the schema says more about the object than which properties it has.
fn arguments(tool: &Tool, schema: &Map<String, Value>) -> Result<Option<Vec<Argument>>> {
    let refused = |found: String| {
        let expected = format!(
            "parameters of {} that the model's form of calls can follow: properties by their names",
            tool.name
        );
        argument("tools", expected, found)
    };
    if let Some(other) = schema.keys().find(|key| !KEYWORDS.contains(&key.as_str())) {
        return Err(refused(other.clone()));
    }
    let definitions = ["$defs", "definitions"];
    if let Some(reference) = schema.values().find_map(outside_reference) {
        return Err(refused(format!("$ref {reference}")));
    }
    let required: Vec<&str> = match schema.get("required") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let none = Map::new();
    let properties = match schema.get("properties") {
        Some(Value::Object(properties)) => properties,
        None if schema.get("additionalProperties") != Some(&json!(false))
            && required.is_empty() =>
        {
            return Ok(None);
        }
        _ => &none,
    };
    let any = Value::Object(Map::new());
    let declared = properties
        .iter()
        .map(|(name, schema)| (name.as_str(), schema));
    let undeclared = required
        .iter()
        .filter(|name| !properties.contains_key(**name));
    let all = declared.chain(undeclared.map(|name| (*name, &any)));
    let mut arguments = Vec::new();
    for (name, property) in all {
        let is_required = required.contains(&name);
        let mut property = match property {
            Value::Bool(false) if !is_required => continue,
            Value::Bool(true) => any.clone(),
            other => other.clone(),
        };
        if let Value::Object(fields) = &mut property {
            for key in definitions {
                if let Some(defined) = schema.get(key) {
                    fields.entry(key).or_insert_with(|| defined.clone());
                }
            }
        }
        arguments.push(Argument {
            name: name.to_owned(),
            schema: property,
            required: is_required,
        });
    }
    Ok(Some(arguments))
}

/// A reference to something other than a definition, which a part of the schema would not have.
fn outside_reference(value: &Value) -> Option<&str> {
    match value {
        Value::Object(fields) => fields.iter().find_map(|(key, value)| match value {
            Value::String(reference) if key == "$ref" => {
                let inside = ["#/$defs/", "#/definitions/"];
                let is_inside = inside.iter().any(|place| reference.starts_with(place));
                (!is_inside).then_some(reference.as_str())
            }
            other => outside_reference(other),
        }),
        Value::Array(values) => values.iter().find_map(outside_reference),
        _ => None,
    }
}

/// The texts of which a string is one, if its schema lists them.
fn choices(schema: &Value) -> Option<Vec<&str>> {
    let listed = match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(values)), _) => values.as_slice(),
        (_, Some(value)) => std::slice::from_ref(value),
        _ => return None,
    };
    Some(listed.iter().filter_map(Value::as_str).collect())
}

/// The expression of a string without quotes; `None` for any string. Formats, such as that of a date, are notes for the reader.
///
/// # Errors
/// If its pattern is one that stands for the whole string in some of its alternatives only.
fn raw_string(tool: &Tool, name: &str, schema: &Value) -> Result<Option<String>> {
    let length = |key: &str| schema.get(key).and_then(Value::as_u64);
    let mut parts = Vec::new();
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        let inner = pattern.strip_prefix('^');
        let before = if inner.is_some() { "" } else { "(?s:.*)" };
        let inner = inner.unwrap_or(pattern);
        let open = inner.strip_suffix('$').filter(|rest| !rest.ends_with('\\'));
        let after = if open.is_some() { "" } else { "(?s:.*)" };
        let is_anchored = before.is_empty() || after.is_empty();
        let inner = open.unwrap_or(inner);
        if is_anchored && has_alternatives(inner) {
            return Err(argument(
                "tools",
                format!(
                    "a pattern of {name} of {} whose anchors stand around all of it",
                    tool.name
                ),
                pattern,
            ));
        }
        parts.push(format!(
            "/{before}(?:{}){after}/",
            regex_to_lark(inner, "dw")
        ));
    }
    if let (least, Some(most)) = (length("minLength").unwrap_or(0), length("maxLength")) {
        parts.push(format!("/(?s:.{{{least},{most}}})/"));
    } else if let Some(least) = length("minLength") {
        parts.push(format!("/(?s:.{{{least},}})/"));
    }
    Ok((!parts.is_empty()).then(|| parts.join(" & ")))
}

/// Whether a pattern has alternatives outside of its groups.
fn has_alternatives(pattern: &str) -> bool {
    let (mut depth, mut in_class, mut is_escaped) = (0, false, false);
    for c in pattern.chars() {
        if std::mem::take(&mut is_escaped) {
            continue;
        }
        match c {
            '\\' => is_escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => depth += 1,
            ')' if !in_class => depth -= 1,
            '|' if !in_class && depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// A value as Python writes it: JSON, but for the constants.
fn python_text(schema: &Value) -> String {
    let kind = |kind: &Value| {
        let mut one = schema.clone();
        one["type"] = kind.clone();
        python_text(&one)
    };
    match (schema.get("type"), schema.get("anyOf")) {
        _ if schema.get("enum").is_some() || schema.get("const").is_some() => json_text(schema),
        (Some(Value::String(kind)), None) if kind == "boolean" => "\"True\" | \"False\"".into(),
        (Some(Value::String(kind)), None) if kind == "null" => "\"None\"".into(),
        (Some(Value::Array(kinds)), None) => {
            let kinds: Vec<_> = kinds.iter().map(kind).collect();
            kinds.join(" | ")
        }
        (None, Some(Value::Array(schemas))) if !schemas.is_empty() => {
            let definitions = ["$defs", "definitions"].map(|key| (key, schema.get(key)));
            let texts = schemas.iter().map(|one| {
                let mut one = one.clone();
                for (key, defined) in definitions {
                    if let (Value::Object(fields), Some(defined)) = (&mut one, defined) {
                        fields.entry(key).or_insert_with(|| defined.clone());
                    }
                }
                python_text(&one)
            });
            texts.collect::<Vec<_>>().join(" | ")
        }
        _ => json_text(schema),
    }
}

/// The expression of texts that `mark` does not stand in.
fn without(mark: &str) -> String {
    format!("~/(?s:.*){}(?s:.*)/", regex_to_lark(mark, ""))
}

/// Refuses a name that a form of calls cannot write.
fn check_name(name: &str, allowed: impl Fn(char) -> bool, form: &str) -> Result<()> {
    if !name.is_empty() && name.chars().all(allowed) {
        return Ok(());
    }
    let expected = format!("a name that the model's form of calls, which is {form}, can write");
    Err(argument("tools", expected, format!("{name:?}")))
}
