//! Turning, appending and attending.
//!
//! One token that is attended to right away is turned and appended by the kernel that attends.

use super::kernel::{HeadsPlace, Kernel, LEAST_PIECE, MOST_PIECES, TILE_QUERIES, TurnPlace};
use super::memory::GpuBuffer;
use super::recording::{Bound, Recording};
use super::rotations::GpuRotations;
use super::rows::{GpuRows, NormOf, Pieces, Rows};
use crate::{Error, Result};
use std::sync::Arc;

/// The most fours of positions that a team asks for at a time.
const MOST_FOURS: u32 = 4;
/// Tokens up to which each attends by itself.
const FEW: usize = 8;

/// Queries to be turned, keys to be turned and appended, and values to be appended.
pub(super) struct Turning {
    heads: HeadsPlace,
    turn: TurnPlace,
    /// q, k and v.
    rows: [Rows; 3],
    norms: Option<[NormOf; 2]>,
    turns: Arc<GpuBuffer>,
    cache: Arc<GpuBuffer>,
    tokens: usize,
    /// Where the turned queries go.
    queries: Rows,
}

impl Turning {
    fn gains(&self) -> [Bound<'_>; 2] {
        match &self.norms {
            Some(norms) => norms.each_ref().map(|norm| Bound::whole(&norm.gain)),
            None => [self.rows[0].bound(); 2],
        }
    }

    /// Does it, by a kernel of its own.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    pub(super) fn dispatch(&self, recording: &Recording) -> Result<()> {
        let kernel = Kernel::Rope {
            heads: self.heads,
            turn: self.turn,
        };
        let [q, k, v] = self.rows.each_ref().map(Rows::bound);
        let [q_gain, k_gain] = self.gains();
        let bound = [
            q,
            k,
            v,
            q_gain,
            k_gain,
            Bound::whole(&self.turns),
            self.queries.bound(),
            Bound::whole(&self.cache),
        ];
        let heads = self.heads.query + self.heads.kv;
        recording.dispatch(kernel, &bound, [heads, self.tokens as u32, 1])
    }

    /// Whether [`Kernel::Attend`] can do it along: it sees one token, and one buffer with all of q, k and v.
    fn suits_attention(&self) -> bool {
        let [q, k, v] = self.rows.each_ref().map(|rows| rows.slot.buffer().id());
        self.tokens == 1 && q == k && k == v
    }

    /// Whether these are the queries that it turns, and this is the cache that it appends to.
    fn is_of(&self, queries: &Rows, cache: &Arc<GpuBuffer>) -> bool {
        Arc::ptr_eq(&self.queries.slot, &queries.slot) && Arc::ptr_eq(&self.cache, cache)
    }
}

/// Norms the heads of q and k (if asked), turns both, and appends k and v to `layer`. Returns the queries.
///
/// # Errors
/// If widths differ, the cache is full, or its positions are not those of the batch.
pub(super) fn rope_append(
    recording: &Recording,
    rows: [Rows; 3],
    norms: Option<[NormOf; 2]>,
    rotations: &GpuRotations,
    layer: usize,
) -> Result<Rows> {
    let session = &recording.session;
    let heads = session.heads;
    let table = &rotations.table;
    let (cache, positions) = session.layer(layer)?;
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
    let queries = Rows {
        slot: recording.slot(bytes)?,
        bytes,
        place: super::row_place(width, width),
    };
    let turning = Turning {
        heads: session.place,
        turn: TurnPlace {
            half: table.half as u32,
            interleaved: table.interleaved,
            rows: rows.each_ref().map(|rows| rows.place),
            eps: norms
                .as_ref()
                .map(|norms| norms.each_ref().map(|norm| norm.eps.to_bits())),
        },
        rows,
        norms,
        turns: Arc::clone(&table.buffer),
        cache,
        tokens: recording.tokens,
        queries: queries.clone(),
    };
    if turning.suits_attention() {
        recording.put_off(turning)?;
    } else {
        turning.dispatch(recording)?;
    }
    session.appended(layer, positions + recording.tokens);
    Ok(queries)
}

/// Causal attention of the queries, the last rows appended to `layer`.
///
/// # Errors
/// If the rows were not appended.
pub(super) fn attention(recording: &Arc<Recording>, q: &Rows, layer: usize) -> Result<GpuRows> {
    let session = &recording.session;
    let (cache, positions) = session.layer(layer)?;
    let tokens = recording.tokens;
    if positions != recording.first + tokens {
        return Err(Error::Shape {
            what: format!("cache of layer {layer}"),
            expected: format!("{} positions", recording.first + tokens),
            found: format!("{positions} positions"),
        });
    }
    let heads = session.place;
    if tokens <= FEW {
        return few(recording, q, &cache, positions);
    }
    let slot = recording.slot(q.bytes)?;
    let rows = Rows {
        slot,
        bytes: q.bytes,
        place: q.place,
    };
    let groups = [heads.query, (tokens as u32).div_ceil(TILE_QUERIES), 1];
    recording.dispatch(
        Kernel::AttendTile { heads },
        &[q.bound(), Bound::whole(&cache), rows.bound()],
        groups,
    )?;
    Ok(GpuRows::here(recording, rows))
}

/// Positions of a piece, so that there are not too many.
fn piece_of(positions: u32) -> u32 {
    let mut piece = LEAST_PIECE;
    while positions.div_ceil(piece) > MOST_PIECES {
        piece *= 2;
    }
    piece
}

fn few(
    recording: &Arc<Recording>,
    q: &Rows,
    cache: &Arc<GpuBuffer>,
    positions: usize,
) -> Result<GpuRows> {
    let heads = recording.session.place;
    let (tokens, positions) = (recording.tokens as u32, positions as u32);
    let piece = piece_of(positions);
    recording.set(|step| step.piece = piece);
    let count = positions.div_ceil(piece);
    let bytes = (tokens * heads.query * count * (heads.dim4() + 1)) as usize * 16;
    let slot = recording.slot(bytes)?;
    let out = Bound::slot(&slot, bytes);
    let groups = [heads.query, tokens, count];
    // As many as the usual eight teams have of the smallest pieces.
    let fours = (piece / LEAST_PIECE).min(MOST_FOURS);
    let attend = |turn| Kernel::Attend { heads, fours, turn };
    match recording.take_put_off() {
        Some(turning) if turning.is_of(q, cache) => {
            let [q_gain, k_gain] = turning.gains();
            let bound = [
                turning.rows[0].bound(),
                Bound::whole(cache),
                out,
                q.bound(),
                q_gain,
                k_gain,
                Bound::whole(&turning.turns),
            ];
            recording.dispatch(attend(Some(turning.turn)), &bound, groups)?;
        }
        other => {
            if let Some(turning) = other {
                turning.dispatch(recording)?;
            }
            let bound = [q.bound(), Bound::whole(cache), out];
            recording.dispatch(attend(None), &bound, groups)?;
        }
    }
    Ok(GpuRows::pieces(
        recording,
        Pieces::new((slot, bytes), heads),
    ))
}
