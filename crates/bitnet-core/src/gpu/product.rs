//! Products of activations with matrices: which kernel, over which parts.
//!
//! One token goes through the kernel that norms and rounds it itself. Several are normed and rounded first, by as many invocations
//! as that kernel has, so that a row has the same bits in every company; some then share each word of weights that is unpacked, and
//! many are multiplied in tiles. Floats, of weights or of activations, go through the kernel of the head.

use super::kernel::{Epilogue, GemmTile, Kernel, RowPlace, THREADS, TableKind, Teams, TernaryRow};
use super::recording::Recording;
use super::rows::{Activation, Rows};
use super::scratch::Bound;
use super::weights::{Matrix, Shard};
use crate::{Activations, Result};

/// Tokens up to which each is multiplied by itself, if weights have scales in groups.
const FEW: usize = 4;
/// Tokens up to which those that are unpacked together are not as many as a tile has.
const SOME: usize = 64;
/// The same where a device multiplies matrices: with fewer, their tiles are empty for the most part.
const SOME_OF_MATRICES: usize = 32;
/// The most tokens that a word of ternary weights is unpacked for.
const MOST_TERNARY: usize = 16;
/// The most tokens that a weight of another table is read for.
const MOST_DENSE: usize = 8;
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
    let (TableKind::Ternary(row), TableKind::Ternary(other)) = (gate.kind, up.kind) else {
        return Ok(None);
    };
    let split_alike = gate.shards.len() == up.shards.len() && gate.rows == up.rows;
    let is_direct = a.activations == Activations::Int8 && recording.gpu.most_teams(row) > 1;
    if row != other || !split_alike || !is_direct {
        return Ok(None);
    }
    // By this kernel or not: a row is rounded as it would be alone.
    let teams = teams(recording, row, gate.rows, true);
    a.threads = Some(teams.threads);
    let kernel = MatmulKernel::of(recording, a, gate);
    if let MatmulKernel::Tiled(_) | MatmulKernel::Dense = kernel {
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
        let job = Job {
            row,
            teams,
            pieces: &pieces,
            out,
            epilogue: Epilogue::Gate { silu },
            residual: None,
        };
        match kernel {
            MatmulKernel::Direct(_) => gemv(recording, a, &job)?,
            _ => gemv_rows(recording, a, &job)?,
        }
    }
    Ok(Some(rows))
}

type Out<'a> = (Bound<'a>, usize);

/// How single rows are dealt out that are multiplied by matrices of `rows` rows together.
fn teams(recording: &Recording, row: TernaryRow, rows: usize, gated: bool) -> Teams {
    let gpu = &recording.gpu;
    let most = gpu.most_teams(row);
    let teams = Teams::of(row, rows as u32, gated, gpu.lanes, most);
    match most {
        // No row is multiplied so: any number rounds it.
        0 | 1 => Teams {
            threads: THREADS,
            ..teams
        },
        _ => teams,
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
        let alike = |other: &&Piece<'_>| other.matrix.kind == piece.matrix.kind;
        let count = match kernel {
            MatmulKernel::Dense => 1,
            _ => rest.iter().take(TOGETHER).take_while(alike).count(),
        };
        let (now, later) = rest.split_at(count);
        rest = later;
        let (MatmulKernel::Direct(row) | MatmulKernel::Rows(row) | MatmulKernel::Tiled(row)) =
            kernel
        else {
            floats(recording, a, *piece, out, residual)?;
            continue;
        };
        // Of all pieces of a kind, so that the same activations are rounded once.
        let together = pieces.iter().filter(alike).map(|piece| piece.shard.rows);
        let job = Job {
            row,
            teams: teams(recording, row, together.sum(), false),
            pieces: now,
            out,
            epilogue: epilogue(residual),
            residual,
        };
        match kernel {
            MatmulKernel::Direct(_) => gemv(recording, a, &job)?,
            MatmulKernel::Rows(_) => gemv_rows(recording, a, &job)?,
            _ => gemm(recording, a, &job)?,
        }
    }
    Ok(())
}

/// How an activation is multiplied by a matrix.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MatmulKernel {
    /// One token at a time, rounded on the way.
    Direct(TernaryRow),
    /// Rounded before, some tokens with each word of weights.
    Rows(TernaryRow),
    /// Rounded before, in tiles.
    Tiled(TernaryRow),
    /// As floats.
    Dense,
}

impl MatmulKernel {
    fn of(recording: &Recording, a: &Activation, matrix: &Matrix) -> Self {
        let TableKind::Ternary(row) = matrix.kind else {
            return Self::Dense;
        };
        if a.activations != Activations::Int8 {
            return Self::Dense;
        }
        let most = if row.group == 0 { 1 } else { FEW };
        let some = if GemmTile::multiplies_matrices(row, recording.gpu.lanes) {
            SOME_OF_MATRICES
        } else {
            SOME
        };
        if recording.tokens <= most && recording.gpu.most_teams(row) > 1 {
            Self::Direct(row)
        } else if recording.tokens <= some && row.group == 0 {
            Self::Rows(row)
        } else {
            Self::Tiled(row)
        }
    }
}

/// A product with up to three matrices whose rows are alike.
struct Job<'a> {
    row: TernaryRow,
    /// How single rows are dealt out.
    teams: Teams,
    pieces: &'a [Piece<'a>],
    out: Out<'a>,
    epilogue: Epilogue,
    residual: Option<&'a Rows>,
}

impl<'a> Job<'a> {
    fn rows(&self) -> [u32; 3] {
        three(self.pieces, |piece| piece.shard.rows)
    }

    fn columns(&self) -> [u32; 3] {
        three(self.pieces, |piece| piece.out)
    }

    /// Products of a token.
    fn count(&self) -> u32 {
        match self.epilogue {
            Epilogue::Gate { .. } => self.rows()[0],
            _ => self.rows().iter().sum(),
        }
    }

    /// The matrices, and for those that are not there others.
    fn matrices(&self) -> Option<[Bound<'a>; 3]> {
        let first = self.pieces.first()?;
        let bound = |index: usize| {
            let piece: &Piece<'a> = self.pieces.get(index).unwrap_or(first);
            Bound::whole(&piece.shard.buffer)
        };
        Some([bound(0), bound(1), bound(2)])
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
    let counts = recording.counts();
    let job = Dense {
        matrix: piece.matrix,
        shard: piece.shard,
        x: (rows.bound(), rows.place.stride),
        tokens: recording.tokens,
        counts: Bound::whole(&counts),
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
fn gemv(recording: &mut Recording, a: &mut Activation, job: &Job<'_>) -> Result<()> {
    let plain = match a.partials() {
        Some(_) => None,
        None => Some(a.plain(recording)?),
    };
    let (x, place, heads) = match (&plain, a.partials()) {
        (Some(plain), _) => (plain.bound(), plain.place, None),
        (None, Some(partials)) => (partials.bound(), partials.place(), Some(partials.heads)),
        (None, None) => return Ok(()),
    };
    let (out, out_stride) = job.out;
    let kernel = Kernel::Gemv {
        teams: job.teams,
        x: place,
        pieces: heads,
        eps: a.eps(),
        row: job.row,
        rows: job.rows(),
        out: job.columns(),
        out_stride: out_stride as u32,
        epilogue: job.epilogue,
    };
    let Some([one, two, three]) = job.matrices() else {
        return Ok(());
    };
    let residual = job.residual.map_or(x, Rows::bound);
    let bound = [x, a.norm_weight_or(x), one, two, three, residual, out];
    let groups = job.count().div_ceil(job.teams.rows(recording.gpu.lanes));
    let tokens = recording.tokens as u32;
    recording.dispatch(kernel, &bound, [groups, tokens, 1])
}

/// Tokens rounded before, and what else a kernel of such is bound to.
fn rounded(
    recording: &mut Recording,
    a: &mut Activation,
    job: &Job<'_>,
    kernel: Kernel,
    groups: [u32; 3],
) -> Result<()> {
    let threads = a.threads.unwrap_or(job.teams.threads);
    let rounded = a.rounded(recording, job.row.words, threads)?;
    let Some([one, two, three]) = job.matrices() else {
        return Ok(());
    };
    let scales = Bound::slot(&rounded.scales, rounded.scales_bytes);
    let bound = [
        Bound::slot(&rounded.q, rounded.q_bytes),
        scales,
        one,
        two,
        three,
        job.residual.map_or(scales, Rows::bound),
        job.out.0,
    ];
    recording.dispatch(kernel, &bound, groups)
}

/// Some tokens with each word of weights.
fn gemv_rows(recording: &mut Recording, a: &mut Activation, job: &Job<'_>) -> Result<()> {
    let lanes = recording.gpu.lanes;
    let tokens = recording.tokens.next_power_of_two().min(MOST_TERNARY) as u32;
    let together = match job.epilogue {
        Epilogue::Gate { .. } => 2,
        _ => 1,
    };
    // Activations that are read meet two rows; with few of them, more teams are better.
    let each = if tokens > 2 { 2 } else { together };
    let kernel = Kernel::GemvRows {
        tokens,
        each,
        row: job.row,
        rows: job.rows(),
        out: job.columns(),
        out_stride: job.out.1 as u32,
        epilogue: job.epilogue,
    };
    let rows = Kernel::rows_threads(lanes) / lanes.size * each;
    let groups = [
        (job.count() * together).div_ceil(rows),
        (recording.tokens as u32).div_ceil(tokens),
        1,
    ];
    rounded(recording, a, job, kernel, groups)
}

/// Many tokens.
fn gemm(recording: &mut Recording, a: &mut Activation, job: &Job<'_>) -> Result<()> {
    let rows = job.rows();
    let tokens = recording.tokens as u32;
    let tile = GemmTile::of(job.row, rows, tokens, recording.gpu.lanes);
    let kernel = Kernel::Gemm {
        tile,
        row: job.row,
        rows,
        out: job.columns(),
        out_stride: job.out.1 as u32,
        epilogue: job.epilogue,
    };
    rounded(recording, a, job, kernel, tile.groups(rows, tokens))
}

/// Rows of floats times a part of a table.
pub(super) struct Dense<'a> {
    pub(super) matrix: &'a Matrix,
    pub(super) shard: &'a Shard,
    /// Rows with zeros up to their stride, and the stride.
    pub(super) x: (Bound<'a>, u32),
    pub(super) tokens: usize,
    /// A list whose first word is their number.
    pub(super) counts: Bound<'a>,
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
    let tokens = job.tokens.next_power_of_two().min(MOST_DENSE);
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
        tokens: tokens as u32,
    };
    let bound = [
        x,
        x,
        Bound::whole(&job.shard.buffer),
        residual.map_or(x, Rows::bound),
        out,
        job.counts,
    ];
    let groups = table.rows.div_ceil(Kernel::dense_rows(recording.gpu.lanes));
    let turns = job.tokens.div_ceil(tokens) as u32;
    recording.dispatch(kernel, &bound, [groups, turns, 1])
}
