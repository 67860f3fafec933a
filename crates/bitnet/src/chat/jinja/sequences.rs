//! Filters of sequences.

use std::cmp::Ordering;
use std::rc::Rc;

use super::arguments::Arguments;
use super::meter::{Meter, Outcome};
use super::print::to_text;
use super::text::{Buffer, Text, plain};
use super::value::Value;
use super::{case, checks, filters, lookup, operators};

/// Sorts, and keeps the order of equals. Merging asks nothing of an order that ends with an error.
pub(super) fn sort_by<T: Clone>(
    meter: &Meter,
    items: &mut Vec<T>,
    compare: impl Fn(&T, &T) -> Outcome<Ordering>,
) -> Outcome<()> {
    let mut width = 1;
    while width < items.len() {
        meter.work(items.len())?;
        let mut merged = Vec::with_capacity(items.len());
        for pair in items.chunks(2 * width) {
            let (mut left, mut right) = pair.split_at(width.min(pair.len()));
            while let ([a, left_rest @ ..], [b, right_rest @ ..]) = (left, right) {
                if compare(a, b)?.is_le() {
                    merged.push(a.clone());
                    left = left_rest;
                } else {
                    merged.push(b.clone());
                    right = right_rest;
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        *items = merged;
        width *= 2;
    }
    Ok(())
}

/// Members as pairs.
pub(super) fn pairs(meter: &Rc<Meter>, members: &[(Value, Value)]) -> Outcome<Value> {
    let pairs: Outcome<Vec<Value>> = members
        .iter()
        .map(|(name, value)| Value::tuple(meter, vec![name.clone(), value.clone()]))
        .collect();
    Value::list(meter, pairs?)
}

/// What is compared: texts in lower case, unless their case counts.
fn key(meter: &Rc<Meter>, value: &Value, case_counts: bool) -> Outcome<Value> {
    match value {
        Value::Text(text) if !case_counts => case::lower(meter, text).map(Value::Text),
        other => Ok(other.clone()),
    }
}

/// The attribute that a filter is told, of a value: itself if there is none.
fn of(meter: &Rc<Meter>, value: &Value, attribute: Option<&Value>) -> Outcome<Value> {
    match attribute {
        None | Some(Value::None) => Ok(value.clone()),
        Some(attribute) => lookup::path(meter, value, attribute),
    }
}

type Keyed = (Vec<Value>, Value);

/// The items with what they are compared by.
fn keyed(
    meter: &Rc<Meter>,
    value: &Value,
    attribute: Option<&Value>,
    case_counts: bool,
) -> Outcome<Vec<Keyed>> {
    // Several attributes stand between commas.
    let attributes: Vec<Option<Value>> = match attribute {
        Some(Value::Text(names)) => plain(names)
            .split(',')
            .map(|name| Value::text(meter, name).map(Some))
            .collect::<Outcome<_>>()?,
        other => vec![other.cloned()],
    };
    let mut keyed = Vec::new();
    for item in &value.items(meter)?.items {
        let keys: Outcome<Vec<Value>> = attributes
            .iter()
            .map(|attribute| key(meter, &of(meter, item, attribute.as_ref())?, case_counts))
            .collect();
        keyed.push((keys?, item.clone()));
    }
    Ok(keyed)
}

fn compare_keys(meter: &Meter, a: &Keyed, b: &Keyed) -> Outcome<Ordering> {
    for (a, b) in a.0.iter().zip(&b.0) {
        let order = a.compare(meter, b)?;
        if order.is_ne() {
            return Ok(order);
        }
    }
    Ok(Ordering::Equal)
}

fn sorted(meter: &Meter, keyed: &mut Vec<Keyed>, reverse: bool) -> Outcome<()> {
    sort_by(meter, keyed, |a, b| {
        if reverse {
            compare_keys(meter, b, a)
        } else {
            compare_keys(meter, a, b)
        }
    })
}

/// The filter of that name; none if there is no such filter of sequences.
pub(super) fn apply(
    meter: &Rc<Meter>,
    name: &str,
    value: &Value,
    arguments: &mut Arguments,
) -> Outcome<Option<Value>> {
    let result = match name {
        "list" => Value::list(meter, value.items(meter)?.items.clone())?,
        "first" => value
            .items(meter)?
            .items
            .first()
            .cloned()
            .unwrap_or(Value::Undefined),
        "last" => value
            .items(meter)?
            .items
            .last()
            .cloned()
            .unwrap_or(Value::Undefined),
        "length" | "count" => Value::Int(match value {
            Value::Text(text) => text.len(),
            Value::Undefined => 0,
            Value::List(_) | Value::Tuple(_) | Value::Dict(_) => value.items(meter)?.items.len(),
            other => return Err(format!("object of type '{}' has no len()", other.kind()).into()),
        } as i128),
        "reverse" => match value {
            Value::Text(_) => {
                let bounds = [Value::None, Value::None, Value::Int(-1)];
                operators::slice(meter, value, bounds)?
            }
            other => {
                let items = other.items(meter)?;
                Value::list(meter, items.items.iter().rev().cloned().collect())?
            }
        },
        "join" => {
            let separator = match arguments.take("d")? {
                None => Text::written(meter, "")?,
                Some(value) => to_text(meter, &value)?,
            };
            let attribute = arguments.take("attribute")?;
            let mut buffer = Buffer::new(meter)?;
            for (index, item) in value.items(meter)?.items.iter().enumerate() {
                if index > 0 {
                    buffer.push(&separator)?;
                }
                super::print::print(&mut buffer, &of(meter, item, attribute.as_ref())?)?;
            }
            Value::Text(buffer.finish())
        }
        "items" => match value {
            Value::Dict(dict) => pairs(meter, &dict.members)?,
            Value::Undefined => Value::list(meter, Vec::new())?,
            _ => return Err("Can only get item pairs from a mapping.".into()),
        },
        "dictsort" => {
            let Value::Dict(dict) = value else {
                return Err("dictsort sorts dictionaries".into());
            };
            let case_counts = arguments.take_bool("case_sensitive")?;
            let by = arguments.take_name("by")?;
            let reverse = arguments.take_bool("reverse")?;
            let at = Value::Int(i128::from(by.as_deref() == Some("value")));
            let pairs = pairs(meter, &dict.members)?;
            let mut keyed = keyed(meter, &pairs, Some(&at), case_counts)?;
            sorted(meter, &mut keyed, reverse)?;
            Value::list(meter, keyed.into_iter().map(|(_, item)| item).collect())?
        }
        "sort" => {
            let reverse = arguments.take_bool("reverse")?;
            let case_counts = arguments.take_bool("case_sensitive")?;
            let attribute = arguments.take("attribute")?;
            let mut keyed = keyed(meter, value, attribute.as_ref(), case_counts)?;
            sorted(meter, &mut keyed, reverse)?;
            Value::list(meter, keyed.into_iter().map(|(_, item)| item).collect())?
        }
        "unique" => {
            let case_counts = arguments.take_bool("case_sensitive")?;
            let attribute = arguments.take("attribute")?;
            let mut seen: Vec<Value> = Vec::new();
            let mut items = Vec::new();
            for item in &value.items(meter)?.items {
                let key = key(meter, &of(meter, item, attribute.as_ref())?, case_counts)?;
                let known = seen.iter().try_fold(false, |known, other| {
                    Ok::<_, super::Fault>(known || key.equals(meter, other)?)
                })?;
                if !known {
                    seen.push(key);
                    items.push(item.clone());
                }
            }
            Value::list(meter, items)?
        }
        "min" | "max" => {
            let case_counts = arguments.take_bool("case_sensitive")?;
            let attribute = arguments.take("attribute")?;
            let mut best: Option<Keyed> = None;
            for item in keyed(meter, value, attribute.as_ref(), case_counts)? {
                let better = match &best {
                    None => true,
                    Some(best) if name == "min" => compare_keys(meter, &item, best)?.is_lt(),
                    Some(best) => compare_keys(meter, &item, best)?.is_gt(),
                };
                if better {
                    best = Some(item);
                }
            }
            best.map_or(Value::Undefined, |(_, item)| item)
        }
        "sum" => {
            let attribute = arguments.take("attribute")?;
            let mut sum = arguments.take("start")?.unwrap_or(Value::Int(0));
            for item in &value.items(meter)?.items {
                let item = of(meter, item, attribute.as_ref())?;
                sum = operators::calculate(meter, super::ast::Operator::Add, &sum, &item)?;
            }
            sum
        }
        "groupby" => {
            let attribute = arguments.need("attribute")?;
            let default = arguments.take("default")?;
            let case_counts = arguments.take_bool("case_sensitive")?;
            let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
            let mut items = Vec::new();
            for item in &value.items(meter)?.items {
                let mut found = of(meter, item, Some(&attribute))?;
                if let (Value::Undefined, Some(default)) = (&found, &default) {
                    found = default.clone();
                }
                items.push((vec![key(meter, &found, case_counts)?, found], item.clone()));
            }
            sort_by(meter, &mut items, |a: &Keyed, b| {
                a.0[0].compare(meter, &b.0[0])
            })?;
            for (mut keys, item) in items {
                let (shown, key) = (keys.pop(), keys.pop());
                let (Some(shown), Some(key)) = (shown, key) else {
                    continue;
                };
                match groups.last_mut() {
                    Some((last, _, members)) if last.equals(meter, &key)? => members.push(item),
                    _ => groups.push((key, shown, vec![item])),
                }
            }
            let groups: Outcome<Vec<Value>> = groups
                .into_iter()
                .map(|(_, shown, members)| {
                    let members = Value::list(meter, members)?;
                    Value::tuple(meter, vec![shown, members])
                })
                .collect();
            Value::list(meter, groups?)?
        }
        "batch" => {
            let count = arguments.take_count("linecount")?.unwrap_or(0);
            let fill = arguments.take("fill_with")?;
            if count == 0 {
                return Err("batch wants a count of at least 1".into());
            }
            let mut rows = Vec::new();
            for row in value.items(meter)?.items.chunks(count) {
                let mut row = row.to_vec();
                if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, Value::None)) {
                    let short = count - row.len();
                    meter.work(short)?;
                    drop(meter.lease(short.saturating_mul(size_of::<Value>()))?);
                    row.extend(std::iter::repeat_n(fill.clone(), short));
                }
                rows.push(Value::list(meter, row)?);
            }
            Value::list(meter, rows)?
        }
        "slice" => {
            let count = arguments.take_count("slices")?.unwrap_or(0);
            let fill = arguments.take("fill_with")?;
            let items = value.items(meter)?;
            let items = &items.items;
            if count == 0 {
                return Err("slice wants a count of at least 1".into());
            }
            let (each, longer) = (items.len() / count, items.len() % count);
            let mut at = 0;
            let mut columns = Vec::new();
            for index in 0..count {
                meter.work(64)?;
                let end = at + each + usize::from(index < longer);
                let mut column = items[at..end].to_vec();
                at = end;
                if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, Value::None))
                    && index >= longer
                    && longer > 0
                {
                    column.push(fill.clone());
                }
                columns.push(Value::list(meter, column)?);
            }
            Value::list(meter, columns)?
        }
        "map" => {
            let attribute = arguments.named.iter().any(|(name, _)| name == "attribute");
            let mut items = Vec::new();
            if attribute {
                let attribute = arguments.named.remove(0).1;
                let default = arguments.take("default")?;
                arguments.end()?;
                for item in &value.items(meter)?.items {
                    let found = lookup::path(meter, item, &attribute)?;
                    items.push(match (&found, &default) {
                        (Value::Undefined, Some(default)) => default.clone(),
                        _ => found,
                    });
                }
            } else {
                let filter = arguments.take_name("filter")?;
                let filter = filter.ok_or("map requires a filter argument")?;
                for item in &value.items(meter)?.items {
                    meter.work(2 * arguments.count())?;
                    items.push(filters::apply(meter, &filter, item, arguments.clone())?);
                }
            }
            *arguments = Arguments::default();
            Value::list(meter, items)?
        }
        "select" | "reject" | "selectattr" | "rejectattr" => {
            let attribute = if name.ends_with("attr") {
                Some(arguments.need("attribute")?)
            } else {
                None
            };
            let test = arguments.take_name("test")?;
            let mut items = Vec::new();
            for item in &value.items(meter)?.items {
                meter.work(2 * arguments.count())?;
                let tested = of(meter, item, attribute.as_ref())?;
                let passes = match &test {
                    None => tested.is_true(),
                    Some(test) => checks::check(meter, test, &tested, arguments.clone())?,
                };
                if passes == name.starts_with("select") {
                    items.push(item.clone());
                }
            }
            *arguments = Arguments::default();
            Value::list(meter, items)?
        }
        _ => return Ok(None),
    };
    arguments.end()?;
    Ok(Some(result))
}
