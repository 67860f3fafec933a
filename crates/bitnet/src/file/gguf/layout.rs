//! Where the tensors lie: their descriptions, and the checks that turn offsets into slices.

use super::GgufArchitecture;
use super::cursor::Cursor;
use super::tensor::q2_0_sizes;
use super::{GgmlType, Gguf, GgufTensor, LONGEST_NAME};
use crate::file::Pieces;
use crate::{Error, Result};

/// A tensor's description as the file states it.
pub(super) struct Info<'a> {
    pub(super) name: &'a str,
    ne: Vec<u64>,
    type_id: u32,
    offset: u64,
}

/// Reads `count` descriptions.
pub(super) fn read<'a>(cursor: &mut Cursor<'a>, count: usize) -> Result<Vec<Info<'a>>> {
    let mut infos = Vec::with_capacity(count);
    for index in 0..count {
        let name = cursor.name(LONGEST_NAME, format_args!("the name of tensor {index}"))?;
        let dims = cursor.u32(format_args!("the dimensions of {name}"))?;
        if !(1..=4).contains(&dims) {
            return Err(cursor.malformed(format_args!("the dimensions of {name}"), "1 to 4", dims));
        }
        let mut ne = Vec::with_capacity(dims as usize);
        for _ in 0..dims {
            ne.push(cursor.u64(format_args!("the shape of {name}"))?);
        }
        let type_id = cursor.u32(format_args!("the type of {name}"))?;
        let offset = cursor.u64(format_args!("the offset of {name}"))?;
        infos.push(Info {
            name,
            ne,
            type_id,
            offset,
        });
    }
    Ok(infos)
}

/// A description whose numbers hold together; the size of Q2_0 is still open.
struct Checked<'a> {
    info: Info<'a>,
    kind: GgmlType,
    rows: u64,
    size: u64,
}

/// Cuts the data section, which begins at the first aligned byte from `infos_end`, into tensors in the order of
/// `infos`.
pub(super) fn place(
    file: &Gguf,
    infos: Vec<Info<'_>>,
    bytes: &Pieces,
    infos_end: usize,
) -> Result<Vec<GgufTensor>> {
    if infos.is_empty() {
        return Ok(Vec::new());
    }
    let start = infos_end.next_multiple_of(file.alignment);
    let Some(available) = bytes.len().checked_sub(start) else {
        return Err(Error::malformed(
            file.name(),
            "the data section",
            format_args!("a start at byte {start}"),
            format_args!("a file of {} bytes", bytes.len()),
        ));
    };
    let available = available as u64;
    let ternary_siblings = has_ternary_siblings(file, &infos);
    let mut checked = infos
        .into_iter()
        .map(|info| check(file, info, ternary_siblings))
        .collect::<Result<Vec<_>>>()?;

    let mut order: Vec<u32> = (0..checked.len() as u32).collect();
    order.sort_unstable_by_key(|index| checked[*index as usize].info.offset);
    size_q2_0(file, &mut checked, &order, available)?;

    let mut end = 0;
    for index in &order {
        let Checked { info, size, .. } = &checked[*index as usize];
        let tensor_end = info
            .offset
            .checked_add(*size)
            .filter(|end| *end <= available)
            .ok_or_else(|| {
                let expected = format_args!("{size} bytes at offset {}", info.offset).to_string();
                let found = format_args!("a data section of {available} bytes").to_string();
                Error::tensor(file.name(), info.name, expected, found)
            })?;
        if info.offset < end {
            return Err(Error::tensor(
                file.name(),
                info.name,
                format_args!("an offset from {end}, where the tensor before ends"),
                info.offset,
            ));
        }
        end = tensor_end;
    }

    checked
        .into_iter()
        .map(
            |Checked {
                 info, kind, size, ..
             }| {
                // Offset and size were compared with the file's length above, so they fit a usize.
                let from = start + info.offset as usize;
                Ok(GgufTensor {
                    name: info.name.to_owned(),
                    ne: info.ne,
                    kind,
                    offset: info.offset,
                    data: bytes.slice(from..from + size as usize, info.name)?,
                })
            },
        )
        .collect()
}

fn check<'a>(file: &Gguf, info: Info<'a>, ternary_siblings: bool) -> Result<Checked<'a>> {
    let wrong =
        |expected: &str, found: String| Error::tensor(file.name(), info.name, expected, found);
    let kind = tensor_type(file, &info, ternary_siblings)?;
    let elements = info.ne.iter().try_fold(1u64, |product, n| {
        product.checked_mul(*n).filter(|product| *product > 0)
    });
    if elements.and_then(|n| isize::try_from(n).ok()).is_none() {
        return Err(wrong(
            "a shape without zeros whose product can be addressed",
            format!("{:?}", info.ne),
        ));
    }
    if !info.offset.is_multiple_of(file.alignment as u64) {
        return Err(wrong(
            "an offset that is a multiple of the alignment",
            format!("{} with alignment {}", info.offset, file.alignment),
        ));
    }
    let cols = info.ne.first().copied().unwrap_or(1);
    let rows = info.ne.iter().skip(1).product();
    let size = match kind {
        GgmlType::Q2_0 => q2_0_sizes(rows, cols)[0],
        _ => kind.data_bytes(rows, cols),
    };
    let Some(size) = size else {
        return Err(Error::tensor(
            file.name(),
            info.name,
            format_args!(
                "rows of a multiple of {} elements for {kind}",
                kind.block().0
            ),
            format_args!("rows of {cols}"),
        ));
    };
    Ok(Checked {
        info,
        kind,
        rows,
        size,
    })
}

/// The type of a tensor, or why it is not one.
fn tensor_type(file: &Gguf, info: &Info<'_>, ternary_siblings: bool) -> Result<GgmlType> {
    let table_lookup = |name: &str| Error::Unsupported {
        file: file.name().to_owned(),
        what: format!("tensor {} of type {name}", info.name),
        advice: format!(
            "{name} files depend on tile sizes that they do not carry; use the I2_S file of the same model"
        ),
    };
    match info.type_id {
        38 => Err(table_lookup("TL1")),
        39 | 42 if ternary_siblings => Err(table_lookup("TL2")),
        id => GgmlType::from_id(id).ok_or_else(|| {
            let removed = matches!(id, 4 | 5 | 31..=33 | 37);
            Error::tensor(
                file.name(),
                info.name,
                "a known tensor type",
                format_args!(
                    "type {id}{}",
                    if removed {
                        ", which is no longer in use"
                    } else {
                        ""
                    }
                ),
            )
        }),
    }
}

/// Types 39 and 42 have two meanings each. They are TL2 only in a BitNet file that keeps scales in separate tensors.
fn has_ternary_siblings(file: &Gguf, infos: &[Info<'_>]) -> bool {
    let architecture = file.string("general.architecture").ok().flatten();
    let known = architecture.and_then(GgufArchitecture::named);
    let bitnet = known.is_some_and(|known| known.model_type == "bitnet");
    bitnet
        && infos
            .iter()
            .any(|info| info.name.ends_with("_scale") || info.name.ends_with(".scale"))
}

/// Decides whether the Q2_0 tensors of a file come in groups of 64 or of 128 elements. Both were published under one
/// number and differ in size alone, so the room each tensor has until the next one decides, for all of them at once.
fn size_q2_0(
    file: &Gguf,
    checked: &mut [Checked<'_>],
    order: &[u32],
    available: u64,
) -> Result<()> {
    let alignment = file.alignment as u64;
    let mut possible = [true; 2];
    let mut last = None;
    for (position, index) in order.iter().enumerate() {
        let Checked {
            info, kind, rows, ..
        } = &checked[*index as usize];
        if *kind != GgmlType::Q2_0 {
            continue;
        }
        let next = order
            .get(position + 1)
            .map_or(available, |next| checked[*next as usize].info.offset);
        let room = next.saturating_sub(info.offset);
        let cols = info.ne.first().copied().unwrap_or(1);
        for (possible, size) in possible.iter_mut().zip(q2_0_sizes(*rows, cols)) {
            *possible &= size.is_some_and(|size| size <= room && room - size < alignment);
        }
        last = Some((info.name, room));
    }
    let Some((name, room)) = last else {
        return Ok(());
    };
    match possible {
        // Both fit where every tensor has less than 2048 elements, and then the group is that of today's files.
        [true, _] => Ok(()),
        [false, true] => {
            for Checked {
                info,
                kind,
                rows,
                size,
            } in checked
            {
                if *kind == GgmlType::Q2_0 {
                    let cols = info.ne.first().copied().unwrap_or(1);
                    *size = q2_0_sizes(*rows, cols)[1].unwrap_or(*size);
                }
            }
            Ok(())
        }
        [false, false] => Err(Error::tensor(
            file.name(),
            name,
            "room for Q2_0 in groups of 64 or of 128 elements",
            format_args!("{room} bytes"),
        )),
    }
}
