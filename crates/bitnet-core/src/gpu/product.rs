//! Products of activations with matrices: which kernel, over which parts.
//!
//! Few tokens go one at a time through the kernel that norms and rounds them itself; many are normed and rounded first,
//! and multiplied in tiles. Floats, of weights or of activations, go through the kernel of the head.

use super::kernel::{Epilogue, GEMM_TILE, Kernel, RowPlace, TableKind, Teams, TernaryRow};
use super::recording::Recording;
use super::rows::{Activation, Rows};
use super::scratch::Bound;
use super::weights::{Matrix, Shard};
use crate::{Activations, Result};

/// Tokens up to which each is multiplied by itself.
const FEW: usize = 4;
/// Tiles of 128 rows from which on a product is split into these, and not into tiles of 64.
const MANY_TILES: u32 = 400;
/// Matrices that one dispatch takes.
const TOGETHER: usize = 3;

/// A part of a matrix and where its products go.
#[derive(Clone, Copy)]
struct Piece<'a> {
    matrix: &'a Matrix,
    shard: &'a Shard,
    /// Column of its first row in the products.
    out: usize,
}

/// The products of `a` with each of `matrices`, side by side in one slot.
///
/// # Errors
/// As [`Recording::dispatch`].
pub(super) fn all<const N: usize>(
    recording: &mut Recording,
    a: &mut Activation,
    matrices: [&Matrix; N],
) -> Result<[Rows; N]> {
    let width: usize = matrices.iter().map(|matrix| matrix.rows).sum();
    let all = Rows::new(recording, width)?;
    let mut pieces = Vec::new();
    let mut out = 0;
    let rows = matrices.map(|matrix| {
        for shard in &matrix.shards {
            pieces.push(Piece {
                matrix,
                shard,
                out: out + shard.first,
            });
        }
        let mut rows = all.clone();
        rows.place = super::row_place(matrix.rows, width);
        rows.place.offset = out as u32;
        out += matrix.rows;
        rows
    });
    multiply(recording, a, &pieces, (all.bound(), width), None)?;
    Ok(rows)
}

/// `residual` and the product of `a` with `matrix`, added.
///
/// # Errors
/// As [`all`].
pub(super) fn added(
    recording: &mut Recording,
    a: &mut Activation,
    matrix: &Matrix,
    residual: &Rows,
) -> Result<Rows> {
    let sum = Rows::new(recording, matrix.rows)?;
    let pieces: Vec<Piece<'_>> = matrix
        .shards
        .iter()
        .map(|shard| Piece {
            matrix,
            shard,
            out: shard.first,
        })
        .collect();
    let out = (sum.bound(), matrix.rows);
    multiply(recording, a, &pieces, out, Some(residual))?;
    Ok(sum)
}

/// gate(`a`·gate)·(`a`·up) by one kernel, where there is one.
///
/// # Errors
/// As [`all`].
pub(super) fn gated(
    recording: &mut Recording,
    a: &mut Activation,
    [gate, up]: [&Matrix; 2],
    silu: bool,
) -> Result<Option<Rows>> {
    let (one, other) = (direct(recording, a, gate), direct(recording, a, up));
    let (Some(row), Some(other)) = (one, other) else {
        return Ok(None);
    };
    let split_alike = gate.shards.len() == up.shards.len() && gate.rows == up.rows;
    if row != other || !split_alike {
        return Ok(None);
    }
    let rows = Rows::new(recording, gate.rows)?;
    for (one, other) in gate.shards.iter().zip(&up.shards) {
        let pieces = [(gate, one), (up, other)].map(|(matrix, shard)| Piece {
            matrix,
            shard,
            out: shard.first,
        });
        let out = (rows.bound(), gate.rows);
        gemv(recording, a, row, &pieces, out, None, Some(silu))?;
    }
    Ok(Some(rows))
}

type Out<'a> = (Bound<'a>, usize);

/// The row layout of `matrix`, if `a` is multiplied by it one token at a time.
fn direct(recording: &Recording, a: &Activation, matrix: &Matrix) -> Option<TernaryRow> {
    let gpu = &recording.gpu;
    match matrix.kind {
        TableKind::Ternary(row)
            if a.activations == Activations::Int8
                && recording.tokens <= FEW
                && gpu.most_teams(row) > 1 =>
        {
            Some(row)
        }
        _ => None,
    }
}

fn multiply(
    recording: &mut Recording,
    a: &mut Activation,
    pieces: &[Piece<'_>],
    out: Out<'_>,
    residual: Option<&Rows>,
) -> Result<()> {
    let mut rest = pieces;
    while let Some(piece) = rest.first() {
        let kernel = MatmulKernel::of(recording, a, piece.matrix);
        let count = match kernel {
            MatmulKernel::Dense => 1,
            _ => {
                let alike =
                    |other: &&Piece<'_>| MatmulKernel::of(recording, a, other.matrix) == kernel;
                rest.iter().take(TOGETHER).take_while(alike).count()
            }
        };
        let (now, later) = rest.split_at(count);
        match kernel {
            MatmulKernel::Direct(row) => gemv(recording, a, row, now, out, residual, None)?,
            MatmulKernel::Tiled(row) => gemm(recording, a, row, now, out, residual)?,
            MatmulKernel::Dense => floats(recording, a, *piece, out, residual)?,
        }
        rest = later;
    }
    Ok(())
}

/// How an activation is multiplied by a matrix.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MatmulKernel {
    /// One token at a time, rounded on the way.
    Direct(TernaryRow),
    /// Rounded before, in tiles.
    Tiled(TernaryRow),
    /// As floats.
    Dense,
}

impl MatmulKernel {
    fn of(recording: &Recording, a: &Activation, matrix: &Matrix) -> Self {
        match (direct(recording, a, matrix), matrix.kind) {
            (Some(row), _) => Self::Direct(row),
            (None, TableKind::Ternary(row)) if a.activations == Activations::Int8 => {
                Self::Tiled(row)
            }
            _ => Self::Dense,
        }
    }
}

/// All tokens as floats.
fn floats(
    recording: &mut Recording,
    a: &mut Activation,
    piece: Piece<'_>,
    out: Out<'_>,
    residual: Option<&Rows>,
) -> Result<()> {
    let rows = a.normed(recording)?;
    let job = Dense {
        matrix: piece.matrix,
        shard: piece.shard,
        x: (rows.bound(), rows.place.stride),
        tokens: recording.tokens,
        column: piece.out,
    };
    dense(recording, job, out, residual)
}

/// A number of each of up to three pieces.
fn three(pieces: &[Piece<'_>], value: fn(&Piece<'_>) -> usize) -> [u32; 3] {
    [0, 1, 2].map(|index| pieces.get(index).map_or(0, |piece| value(piece) as u32))
}

fn epilogue(residual: Option<&Rows>) -> Epilogue {
    residual.map_or(Epilogue::Store, |residual| Epilogue::Add {
        offset: residual.place.offset,
        stride: residual.place.stride,
    })
}

/// One token at a time.
fn gemv(
    recording: &mut Recording,
    a: &mut Activation,
    row: TernaryRow,
    pieces: &[Piece<'_>],
    (out, out_stride): Out<'_>,
    residual: Option<&Rows>,
    silu: Option<bool>,
) -> Result<()> {
    let rows = three(pieces, |piece| piece.shard.rows);
    let count = match silu {
        Some(_) => rows[0],
        None => rows.iter().sum(),
    };
    let lanes = recording.gpu.lanes;
    let most = recording.gpu.most_teams(row);
    let teams = Teams::of(row, count, silu.is_some(), lanes, most);
    let plain = match a.partials() {
        Some(_) => None,
        None => Some(a.plain(recording)?),
    };
    let (x, place, heads) = match (&plain, a.partials()) {
        (Some(plain), _) => (plain.bound(), plain.place, None),
        (None, Some(partials)) => (partials.bound(), partials.place(), Some(partials.heads)),
        (None, None) => return Ok(()),
    };
    let kernel = Kernel::Gemv {
        teams,
        x: place,
        pieces: heads,
        eps: a.eps(),
        row,
        rows,
        out: three(pieces, |piece| piece.out),
        out_stride: out_stride as u32,
        epilogue: match silu {
            Some(silu) => Epilogue::Gate { silu },
            None => epilogue(residual),
        },
    };
    let Some(first) = pieces.first() else {
        return Ok(());
    };
    let matrix = |index: usize| Bound::whole(&pieces.get(index).unwrap_or(first).shard.buffer);
    let bound = [
        x,
        a.norm_weight_or(x),
        matrix(0),
        matrix(1),
        matrix(2),
        residual.map_or(x, Rows::bound),
        out,
    ];
    let groups = count.div_ceil(teams.rows(lanes));
    let tokens = recording.tokens as u32;
    recording.dispatch(kernel, &bound, [groups, tokens, 1])
}

/// Many tokens.
fn gemm(
    recording: &mut Recording,
    a: &mut Activation,
    row: TernaryRow,
    pieces: &[Piece<'_>],
    (out, out_stride): Out<'_>,
    residual: Option<&Rows>,
) -> Result<()> {
    let Some(first) = pieces.first() else {
        return Ok(());
    };
    let rounded = a.rounded(recording, row.words)?;
    let scales = Bound::slot(&rounded.scales, rounded.scales_bytes);
    let rows = three(pieces, |piece| piece.shard.rows);
    let tokens = (recording.tokens as u32).div_ceil(GEMM_TILE);
    let tiles = |blocks: u32| -> u32 {
        let tiles = rows.map(|rows| rows.div_ceil(blocks * GEMM_TILE));
        tiles.iter().sum()
    };
    // Larger tiles read less, where there are enough of them to keep the device busy.
    let blocks = if tokens * tiles(2) >= MANY_TILES {
        2
    } else {
        1
    };
    let kernel = Kernel::Gemm {
        blocks,
        row,
        rows,
        out: three(pieces, |piece| piece.out),
        out_stride: out_stride as u32,
        epilogue: epilogue(residual),
    };
    let matrix = |index: usize| Bound::whole(&pieces.get(index).unwrap_or(first).shard.buffer);
    let bound = [
        Bound::slot(&rounded.q, rounded.q_bytes),
        scales,
        matrix(0),
        matrix(1),
        matrix(2),
        residual.map_or(scales, Rows::bound),
        out,
    ];
    let groups = [tiles(blocks), tokens, 1];
    recording.dispatch(kernel, &bound, groups)
}

/// Rows of floats times a part of a table.
pub(super) struct Dense<'a> {
    pub(super) matrix: &'a Matrix,
    pub(super) shard: &'a Shard,
    /// Rows with zeros up to their stride, and the stride.
    pub(super) x: (Bound<'a>, u32),
    pub(super) tokens: usize,
    /// Column of the first product.
    pub(super) column: usize,
}

/// Floats times floats.
///
/// # Errors
/// As [`Recording::dispatch`].
pub(super) fn dense(
    recording: &mut Recording,
    job: Dense<'_>,
    (out, out_stride): Out<'_>,
    residual: Option<&Rows>,
) -> Result<()> {
    let (x, stride) = job.x;
    let table = job.matrix.place(job.shard);
    let kernel = Kernel::Dense {
        table,
        x: RowPlace {
            cols: stride,
            offset: 0,
            stride,
        },
        out: job.column as u32,
        out_stride: out_stride as u32,
        epilogue: epilogue(residual),
    };
    let bound = [
        x,
        x,
        Bound::whole(&job.shard.buffer),
        residual.map_or(x, Rows::bound),
        out,
    ];
    let groups = table.rows.div_ceil(Kernel::dense_rows(recording.gpu.lanes));
    recording.dispatch(kernel, &bound, [groups, job.tokens as u32, 1])
}
