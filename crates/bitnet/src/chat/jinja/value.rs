//! The values that templates compute with, as Python has them.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

use super::meter::{Lease, Meter, Outcome};
use super::text::{Buffer, Glyph, Text};

/// Lists in lists: no deeper than this, so that a walk over them, and their end, fits any stack.
pub(super) const MAX_DEPTH: u16 = 100;

/// Work of one comparison.
const COMPARISON: usize = 4;

#[derive(Debug, Clone)]
pub(super) enum Value {
    Undefined,
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Text),
    List(Rc<List>),
    /// A list that prints as a tuple and formats as several arguments.
    Tuple(Rc<List>),
    Dict(Rc<Dict>),
    Namespace(Rc<Namespace>),
    Loop(Rc<Loop>),
    Macro(Rc<Macro>),
    /// A function of the environment, by its name.
    Function(&'static str),
    /// A method of a value that was named and not called.
    Method(Rc<(Value, String)>),
    Cycler(Rc<Cycler>),
    Joiner(Rc<Joiner>),
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) items: Vec<Value>,
    depth: u16,
    _lease: Lease,
}

/// Members in the order in which they were written.
#[derive(Debug)]
pub(super) struct Dict {
    pub(super) members: Vec<(Value, Value)>,
    depth: u16,
    _lease: Lease,
}

/// The one kind of value that changes. It can be in no other value, so that none contains itself.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) members: RefCell<Vec<(String, Value)>>,
    pub(super) lease: RefCell<Lease>,
}

/// What `loop` says in a loop.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) items: Rc<List>,
    pub(super) index: usize,
    pub(super) level: usize,
    /// The loop in the program, to be called again if it is recursive.
    pub(super) program: Option<usize>,
    /// What `loop.changed` was told last, in any turn.
    pub(super) seen: Rc<RefCell<Option<Value>>>,
}

/// A macro, or the body of a call block.
#[derive(Debug)]
pub(super) struct Macro {
    /// Which macro of the program.
    pub(super) program: usize,
    /// The variables around it, except those of the template itself.
    pub(super) around: Vec<(Arc<str>, Value)>,
    depth: u16,
    _lease: Lease,
}

impl Macro {
    /// A macro as a value. Macros that hold macros are bounded like lists in lists.
    pub(super) fn value(
        meter: &Rc<Meter>,
        program: usize,
        around: Vec<(Arc<str>, Value)>,
    ) -> Outcome<Value> {
        const DEEPEST: u16 = 20;
        let lease = meter.lease(64 + around.len() * size_of::<(Arc<str>, Value)>())?;
        let depth = around.iter().map(|(_, value)| match value {
            Value::Macro(inner) => inner.depth,
            _ => 0,
        });
        let depth = depth.max().unwrap_or(0) + 1;
        if depth > DEEPEST {
            return Err("macros in blocks hold one another too deep".into());
        }
        Ok(Value::Macro(Rc::new(Self {
            program,
            around,
            depth,
            _lease: lease,
        })))
    }
}

#[derive(Debug)]
pub(super) struct Cycler {
    pub(super) items: Rc<List>,
    pub(super) at: RefCell<usize>,
}

#[derive(Debug)]
pub(super) struct Joiner {
    pub(super) separator: Text,
    pub(super) used: RefCell<bool>,
}

impl Value {
    pub(super) fn text(meter: &Rc<Meter>, text: &str) -> Outcome<Self> {
        Text::written(meter, text).map(Self::Text)
    }

    pub(super) fn copy(meter: &Rc<Meter>, glyphs: &[Glyph]) -> Outcome<Self> {
        Text::copy(meter, glyphs).map(Self::Text)
    }

    fn list_of(meter: &Rc<Meter>, items: Vec<Value>) -> Outcome<Rc<List>> {
        meter.work(16 + items.len())?;
        let lease = meter.lease(64 + items.len() * size_of::<Value>())?;
        let depth = deeper(items.iter())?;
        Ok(Rc::new(List {
            items,
            depth,
            _lease: lease,
        }))
    }

    pub(super) fn list(meter: &Rc<Meter>, items: Vec<Value>) -> Outcome<Self> {
        Self::list_of(meter, items).map(Self::List)
    }

    pub(super) fn tuple(meter: &Rc<Meter>, items: Vec<Value>) -> Outcome<Self> {
        Self::list_of(meter, items).map(Self::Tuple)
    }

    /// A dictionary; the names must differ.
    pub(super) fn dict(meter: &Rc<Meter>, members: Vec<(Value, Value)>) -> Outcome<Self> {
        meter.work(16 + members.len())?;
        let lease = meter.lease(64 + members.len() * size_of::<(Value, Value)>())?;
        let depth = deeper(members.iter().flat_map(|(name, value)| [name, value]))?;
        Ok(Self::Dict(Rc::new(Dict {
            members,
            depth,
            _lease: lease,
        })))
    }

    /// A value of the input.
    pub(super) fn from_json(meter: &Rc<Meter>, json: &serde_json::Value) -> Outcome<Self> {
        Self::from_json_within(meter, json, MAX_DEPTH)
    }

    fn from_json_within(meter: &Rc<Meter>, json: &serde_json::Value, depth: u16) -> Outcome<Self> {
        meter.allow(16);
        let depth = depth.checked_sub(1).ok_or(TOO_DEEP)?;
        Ok(match json {
            serde_json::Value::Null => Self::None,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => number.as_i128().map_or_else(
                || Self::Float(number.as_f64().unwrap_or(f64::NAN)),
                Self::Int,
            ),
            serde_json::Value::String(text) => Self::input(meter, text)?,
            serde_json::Value::Array(items) => {
                let items: Outcome<Vec<Value>> = items
                    .iter()
                    .map(|item| Self::from_json_within(meter, item, depth))
                    .collect();
                Self::list(meter, items?)?
            }
            serde_json::Value::Object(members) => {
                let members: Outcome<Vec<(Value, Value)>> = members
                    .iter()
                    .map(|(name, member)| {
                        Ok((
                            Self::input(meter, name)?,
                            Self::from_json_within(meter, member, depth)?,
                        ))
                    })
                    .collect();
                Self::dict(meter, members?)?
            }
        })
    }

    fn input(meter: &Rc<Meter>, text: &str) -> Outcome<Self> {
        meter.allow(text.len());
        Self::foreign(meter, text)
    }

    /// Text that may come from the input, of which that is no longer known.
    pub(super) fn foreign(meter: &Rc<Meter>, text: &str) -> Outcome<Self> {
        let mut buffer = Buffer::new(meter)?;
        for c in text.chars() {
            buffer.push_glyph(Glyph::input(c))?;
        }
        Ok(Self::Text(buffer.finish()))
    }

    /// The name of its type in Python.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Undefined => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Namespace(_) => "Namespace",
            Self::Loop(_) => "LoopContext",
            Self::Macro(_) => "Macro",
            Self::Function(_) | Self::Method(_) => "function",
            Self::Cycler(_) => "Cycler",
            Self::Joiner(_) => "Joiner",
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Undefined | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) | Self::Tuple(list) => !list.items.is_empty(),
            Self::Dict(dict) => !dict.members.is_empty(),
            Self::Loop(_) | Self::Macro(_) | Self::Function(_) | Self::Method(_) => true,
            Self::Namespace(_) | Self::Cycler(_) | Self::Joiner(_) => true,
        }
    }

    /// As an integer, which truth values are in Python.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Self::Bool(value) => Some((*value).into()),
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            _ => self.as_int().map(|value| value as f64),
        }
    }

    fn depth(&self) -> u16 {
        match self {
            Self::List(list) | Self::Tuple(list) => list.depth,
            Self::Dict(dict) => dict.depth,
            Self::Namespace(_) | Self::Loop(_) | Self::Macro(_) => MAX_DEPTH,
            Self::Method(_) | Self::Cycler(_) | Self::Joiner(_) => MAX_DEPTH,
            _ => 0,
        }
    }

    /// Whether it can be in other values.
    pub(super) fn is_plain(&self) -> bool {
        self.depth() < MAX_DEPTH || matches!(self, Self::List(_) | Self::Tuple(_) | Self::Dict(_))
    }

    /// What iterating over it gives.
    pub(super) fn items(&self, meter: &Rc<Meter>) -> Outcome<Rc<List>> {
        match self {
            Self::List(list) | Self::Tuple(list) => Ok(Rc::clone(list)),
            Self::Undefined => Self::list_of(meter, Vec::new()),
            Self::Text(text) => {
                let glyphs: Outcome<Vec<Value>> = text
                    .iter()
                    .map(|glyph| Self::copy(meter, &[*glyph]))
                    .collect();
                Self::list_of(meter, glyphs?)
            }
            Self::Dict(dict) => {
                let names = dict.members.iter().map(|(name, _)| name.clone());
                Self::list_of(meter, names.collect())
            }
            Self::Loop(state) => {
                let rest = state.items.items.get(state.index + 1..).unwrap_or_default();
                Self::list_of(meter, rest.to_vec())
            }
            other => Err(format!("'{}' object is not iterable", other.kind()).into()),
        }
    }

    /// The member `name`, if it is a dictionary that has one.
    pub(super) fn member(&self, meter: &Meter, name: &Value) -> Outcome<Option<Value>> {
        let Self::Dict(dict) = self else {
            return Ok(None);
        };
        for (candidate, value) in &dict.members {
            if candidate.equals(meter, name)? {
                return Ok(Some(value.clone()));
            }
        }
        Ok(None)
    }

    /// The member of that name, if it is a dictionary that has one.
    pub(super) fn named(&self, meter: &Meter, name: &str) -> Outcome<Option<Value>> {
        let Self::Dict(dict) = self else {
            return Ok(None);
        };
        meter.work(dict.members.len())?;
        let found = dict
            .members
            .iter()
            .find(|(candidate, _)| matches!(candidate, Self::Text(text) if text.is(name)));
        Ok(found.map(|(_, value)| value.clone()))
    }

    pub(super) fn equals(&self, meter: &Meter, other: &Value) -> Outcome<bool> {
        meter.work(COMPARISON)?;
        Ok(match (self, other) {
            (Self::Undefined, Self::Undefined) | (Self::None, Self::None) => true,
            (Self::Text(a), Self::Text(b)) => {
                a.len() == b.len() && {
                    meter.work(a.len() / 4)?;
                    **a == **b
                }
            }
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                if a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(meter, b)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Dict(a), Self::Dict(b)) => {
                if a.members.len() != b.members.len() {
                    return Ok(false);
                }
                for (name, value) in &a.members {
                    match other.member(meter, name)? {
                        Some(found) if value.equals(meter, &found)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Self::Namespace(a), Self::Namespace(b)) => Rc::ptr_eq(a, b),
            (Self::Macro(a), Self::Macro(b)) => Rc::ptr_eq(a, b),
            (Self::Loop(a), Self::Loop(b)) => Rc::ptr_eq(a, b),
            (Self::Function(a), Self::Function(b)) => a == b,
            _ => match (self.as_int(), other.as_int()) {
                (Some(a), Some(b)) => a == b,
                _ => matches!((self.as_float(), other.as_float()), (Some(a), Some(b)) if a == b),
            },
        })
    }

    /// Whether it is the same object, as far as values without addresses can tell.
    pub(super) fn is_same(&self, meter: &Meter, other: &Value) -> Outcome<bool> {
        match (self, other) {
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                Ok(Rc::ptr_eq(a, b))
            }
            (Self::Dict(a), Self::Dict(b)) => Ok(Rc::ptr_eq(a, b)),
            (a, b) => Ok(a.kind() == b.kind() && a.equals(meter, b)?),
        }
    }

    pub(super) fn compare(&self, meter: &Meter, other: &Value) -> Outcome<Ordering> {
        meter.work(COMPARISON)?;
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => {
                meter.work(a.len().min(b.len()) / 4)?;
                Ok(a.cmp(b))
            }
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(meter, b)? {
                        return a.compare(meter, b);
                    }
                }
                Ok(a.items.len().cmp(&b.items.len()))
            }
            _ => {
                let order = match (self.as_int(), other.as_int()) {
                    (Some(a), Some(b)) => Some(a.cmp(&b)),
                    _ => match (self.as_float(), other.as_float()) {
                        (Some(a), Some(b)) => Some(a.partial_cmp(&b).unwrap_or(Ordering::Equal)),
                        _ => None,
                    },
                };
                order.ok_or_else(|| {
                    format!(
                        "'<' not supported between instances of '{}' and '{}'",
                        self.kind(),
                        other.kind()
                    )
                    .into()
                })
            }
        }
    }
}

const TOO_DEEP: &str = "lists and dictionaries are nested too deep, or hold what can be in none";

/// The depth of a value that holds `items`.
fn deeper<'v>(items: impl Iterator<Item = &'v Value>) -> Outcome<u16> {
    let deepest = items.map(Value::depth).max().unwrap_or(0);
    if deepest >= MAX_DEPTH {
        return Err(TOO_DEEP.into());
    }
    Ok(deepest + 1)
}
