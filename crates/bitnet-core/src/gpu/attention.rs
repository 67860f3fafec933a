//! Rotating, appending and attending.

use super::kernel::{HeadsPlace, Kernel, MOST_PIECES, SPLIT, TILE_QUERIES};
use super::recording::{Bound, Recording};
use super::rotations::GpuRotations;
use super::rows::{NormOf, Rows};
use crate::{Error, Result};
use std::sync::Arc;

/// Tokens up to which each attends by itself.
const FEW: usize = 8;

/// Norms the heads of q and k (if asked), rotates both, and appends k and v to `layer`. Returns the queries.
///
/// # Errors
/// If widths differ, the cache is full, or its positions are not those of the batch.
pub(super) fn rope_append(
    recording: &Recording,
    rows: [&Rows; 3],
    head_norms: Option<[NormOf; 2]>,
    rotations: &GpuRotations,
    layer: usize,
) -> Result<Rows> {
    let session = &recording.session;
    let heads = session.heads;
    let table = &rotations.table;
    let (buffer, positions) = session.layer(layer)?;
    let batch = (recording.first, recording.tokens);
    if positions != batch.0 || (rotations.first, rotations.count) != batch {
        return Err(Error::Shape {
            what: format!("cache of layer {layer}"),
            expected: format!("{} positions, and rotations from there", batch.0),
            found: format!("{positions}, and rotations from {}", rotations.first),
        });
    }
    if 2 * table.half > heads.dim {
        return Err(Error::Shape {
            what: "rotating columns of a head".into(),
            expected: format!("at most {}", heads.dim),
            found: (2 * table.half).to_string(),
        });
    }
    let width = heads.query * heads.dim;
    let bytes = recording.tokens * width * 4;
    let slot = recording.slot(bytes)?;
    let kernel = Kernel::Rope {
        heads: session.place,
        half: table.half as u32,
        interleaved: table.interleaved,
        rows: rows.map(|rows| rows.place),
        eps: head_norms
            .as_ref()
            .map(|norms| norms.each_ref().map(|norm| norm.eps.to_bits())),
    };
    let [q, k, v] = rows.map(Rows::bound);
    let gains = match &head_norms {
        Some(norms) => norms.each_ref().map(|norm| Bound::whole(&norm.gain)),
        None => [q, q],
    };
    let bound = [
        q,
        k,
        v,
        gains[0],
        gains[1],
        Bound::whole(&table.buffer),
        Bound::slot(&slot, bytes),
        Bound::whole(&buffer),
    ];
    let groups = [(heads.query + heads.kv) as u32, recording.tokens as u32, 1];
    recording.dispatch(kernel, &bound, groups)?;
    session.appended(layer, positions + recording.tokens);
    Ok(Rows {
        slot,
        bytes,
        place: super::row_place(width, width),
    })
}

/// Causal attention of the queries, the last rows appended to `layer`.
///
/// # Errors
/// If the rows were not appended.
pub(super) fn attention(recording: &Arc<Recording>, q: &Rows, layer: usize) -> Result<Rows> {
    let session = &recording.session;
    let (buffer, positions) = session.layer(layer)?;
    let tokens = recording.tokens;
    if positions != recording.first + tokens {
        return Err(Error::Shape {
            what: format!("cache of layer {layer}"),
            expected: format!("{} positions", recording.first + tokens),
            found: format!("{positions} positions"),
        });
    }
    let bytes = q.bytes;
    let slot = recording.slot(bytes)?;
    let out = Bound::slot(&slot, bytes);
    let cache = Bound::whole(&buffer);
    let heads = session.place;
    if tokens > FEW {
        let groups = [heads.query, (tokens as u32).div_ceil(TILE_QUERIES), 1];
        recording.dispatch(
            Kernel::AttendTile { heads },
            &[q.bound(), cache, out],
            groups,
        )?;
    } else {
        few(recording, heads, [q.bound(), cache, out], positions)?;
    }
    Ok(Rows {
        slot,
        bytes,
        place: q.place,
    })
}

fn few(
    recording: &Recording,
    heads: HeadsPlace,
    [q, cache, out]: [Bound<'_>; 3],
    positions: usize,
) -> Result<()> {
    let tokens = recording.tokens as u32;
    let pieces = (positions as u32).div_ceil(SPLIT);
    if pieces == 1 || pieces > MOST_PIECES {
        let kernel = Kernel::Attend {
            heads,
            split: false,
        };
        return recording.dispatch(kernel, &[q, cache, out], [heads.query, tokens, 1]);
    }
    let floats = tokens * heads.query * pieces * (4 * heads.dim4() + 2);
    let bytes = floats as usize * 4;
    let slot = recording.slot(bytes)?;
    let parts = Bound::slot(&slot, bytes);
    let kernel = Kernel::Attend { heads, split: true };
    recording.dispatch(kernel, &[q, cache, parts], [heads.query, tokens, pieces])?;
    recording.dispatch(
        Kernel::Combine { heads },
        &[parts, out],
        [heads.query, tokens, 1],
    )
}
