//! Changes to seeds: of JSON by its structure, of binary files by the places of their fields.

use arbitrary::{Result, Unstructured};
use serde_json::{Map, Number, Value};

/// Numbers that files lie with.
const LIES: [u64; 14] = [
    0,
    1,
    2,
    3,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    1 << 61,
    i64::MAX as u64,
    u64::MAX,
];

/// A number at a place of a binary file: a count, length, type, dimension or offset.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    pub(crate) at: usize,
    pub(crate) bytes: usize,
}

/// Changes up to four places of `file`, whose numbers are `fields` and whose description ends at `head`.
pub(crate) fn binary(
    file: &mut Vec<u8>,
    fields: &[Field],
    head: usize,
    u: &mut Unstructured<'_>,
) -> Result<()> {
    for _ in 0..u.int_in_range(1..=4)? {
        let head = head.min(file.len());
        match u.int_in_range(0..=7)? {
            0..=3 if !fields.is_empty() => {
                let field = u.choose(fields)?;
                let Some(place) = file.get_mut(field.at..field.at + field.bytes) else {
                    continue;
                };
                let mut now = [0; 8];
                now[..field.bytes].copy_from_slice(place);
                let now = u64::from_le_bytes(now);
                let number = match u.int_in_range(0..=3)? {
                    0 => *u.choose(&LIES)?,
                    1 => now.wrapping_add_signed(i64::from(u.arbitrary::<i8>()?)),
                    2 => now ^ 1 << u.int_in_range(0..=63)?,
                    _ => u.arbitrary()?,
                };
                place.copy_from_slice(&number.to_le_bytes()[..field.bytes]);
            }
            4 if head > 0 => file[u.choose_index(head)?] = u.arbitrary()?,
            5 if head > 0 => {
                // A name or a text, more or less the same.
                let from = u.choose_index(head)?;
                let count = usize::from(u.arbitrary::<u8>()?) % 32;
                file.drain(from..(from + count).min(head));
            }
            6 if head > 0 => {
                let at = u.choose_index(head)?;
                let count = usize::from(u.arbitrary::<u8>()?) % 32;
                let bytes = u.bytes(count.min(u.len()))?.to_vec();
                file.splice(at..at, bytes);
            }
            _ => {
                let end = u.int_in_range(0..=file.len())?;
                // Seldom, since nothing behind the end is looked at.
                if u.ratio(1, 8)? {
                    file.truncate(end);
                }
            }
        }
    }
    Ok(())
}

/// Changes up to four places of `value`. `parts` are values that may be put anywhere.
pub(crate) fn json(value: &mut Value, parts: &[Value], u: &mut Unstructured<'_>) -> Result<()> {
    for _ in 0..u.int_in_range(1..=4)? {
        change(value, parts, u, 0)?;
    }
    Ok(())
}

fn change(value: &mut Value, parts: &[Value], u: &mut Unstructured<'_>, depth: u32) -> Result<()> {
    let deeper = depth < 16 && u.ratio(7, 8)?;
    match value {
        Value::Object(map) if deeper && !map.is_empty() => {
            let index = u.choose_index(map.len())?;
            let key = map.keys().nth(index).cloned().unwrap_or_default();
            match u.int_in_range(0..=15)? {
                0 => drop(map.shift_remove(&key)),
                1 => {
                    let other = odd(parts, u)?;
                    map.insert(text(&key, u)?, other);
                }
                2 => {
                    let other = map.values().nth(u.choose_index(map.len())?).cloned();
                    map.insert(key, other.unwrap_or_default());
                }
                _ => change(&mut map[&key], parts, u, depth + 1)?,
            }
        }
        Value::Array(list) if deeper && !list.is_empty() => {
            let at = u.choose_index(list.len())?;
            match u.int_in_range(0..=11)? {
                0 => drop(list.remove(at)),
                1 => {
                    let times = *u.choose(&[1, 2, 9, 70])?;
                    let copies = vec![list[at].clone(); times];
                    list.splice(at..at, copies);
                }
                2 => list.insert(at, odd(parts, u)?),
                3 => {
                    let other = u.choose_index(list.len())?;
                    list.swap(at, other);
                }
                _ => change(&mut list[at], parts, u, depth + 1)?,
            }
        }
        Value::String(now) if u.ratio(2, 3)? => *now = text(now, u)?,
        Value::Number(number) if u.ratio(2, 3)? => {
            let now = number.as_i64().unwrap_or(0);
            *value = match u.int_in_range(0..=4)? {
                0 => now.wrapping_add(i64::from(u.arbitrary::<i8>()?)).into(),
                1 => now.wrapping_neg().into(),
                2 => now.wrapping_mul(1000).into(),
                3 => (*u.choose(&LIES)?).into(),
                _ => Number::from_f64(u.arbitrary()?).map_or(Value::Null, Value::Number),
            };
        }
        other => *other = odd(parts, u)?,
    }
    Ok(())
}

/// A value that does not belong where it is put.
fn odd(parts: &[Value], u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match u.int_in_range(0..=9)? {
        0 => Value::Null,
        1 => u.arbitrary::<bool>()?.into(),
        2 => u.arbitrary::<i32>()?.into(),
        3 => (*u.choose(&LIES)?).into(),
        4 => Number::from_f64(u.arbitrary()?).map_or(Value::Null, Value::Number),
        5 => u
            .arbitrary::<&str>()?
            .chars()
            .take(64)
            .collect::<String>()
            .into(),
        6 => Value::Array(Vec::new()),
        7 => Value::Object(Map::new()),
        _ if parts.is_empty() => "a".into(),
        _ => u.choose(parts)?.clone(),
    })
}

/// A text much like `now`.
fn text(now: &str, u: &mut Unstructured<'_>) -> Result<String> {
    let mut chars: Vec<char> = now.chars().collect();
    for _ in 0..u.int_in_range(1..=3)? {
        let at = u.int_in_range(0..=chars.len())?;
        match u.int_in_range(0..=3)? {
            0 if at < chars.len() => drop(chars.remove(at)),
            1 => chars.truncate(at.max(1)),
            2 if at < chars.len() => chars[at] = u.arbitrary()?,
            _ => chars.insert(at, u.arbitrary()?),
        }
    }
    Ok(chars.into_iter().collect())
}
