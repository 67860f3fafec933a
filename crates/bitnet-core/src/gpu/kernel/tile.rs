//! How products of many tokens are divided among workgroups, and these among their teams.

#[cfg(doc)]
use super::Kernel;
use super::{MATRIX_WORDS, TernaryRow};
use crate::gpu::lanes::Lanes;

/// The products that a workgroup of [`Kernel::Gemm`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::gpu) struct GemmTile {
    /// Rows of matrices.
    pub(super) rows: u32,
    /// Tokens.
    pub(super) tokens: u32,
    /// How they are multiplied, if as matrices of halves in WGSL.
    pub(super) teams: Option<GemmTeams>,
}

/// How teams share the products of a [`GemmTile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GemmTeams {
    /// Columns that are unpacked at a time.
    columns: u32,
    /// Rows that a team multiplies, with so many tokens. Teams for which the tile has no more of them share them by columns.
    rows: u32,
    tokens: u32,
    count: u32,
}

impl GemmTile {
    /// Rows of a block, of which a tile of integers has one or two, and its tokens.
    pub(super) const BLOCK: u32 = 64;
    /// Tiles of integers of two blocks from which on a product is split into these, and not into tiles of one.
    const MANY: u32 = 400;
    /// The same for large tiles of matrices, and for middling ones.
    const MANY_LARGE: u32 = 64;
    const MANY_MIDDLING: u32 = 100;

    /// The most bytes of workgroup memory that kernels with matrices of `side` rows take.
    pub(in crate::gpu) const fn memory(side: u32) -> u32 {
        if side > 8 { 48 << 10 } else { 32 << 10 }
    }

    /// Whether rows like these are multiplied as matrices of halves: exactly, in whole numbers.
    pub(in crate::gpu) fn multiplies_matrices(row: TernaryRow, lanes: Lanes) -> bool {
        lanes.matrices > 0 && row.group == 0 && row.words <= MATRIX_WORDS
    }

    /// The tile for `tokens` tokens and up to three matrices of `rows` rows.
    pub(in crate::gpu) fn of(row: TernaryRow, rows: [u32; 3], tokens: u32, lanes: Lanes) -> Self {
        let many = |tile: &Self, least: u32| {
            let [tiles, turns, _] = tile.groups(rows, tokens);
            tiles * turns >= least
        };
        if Self::multiplies_matrices(row, lanes) && !lanes.metal {
            let [large, middling, small] = Self::of_matrices(lanes);
            // A small tile is the quickest if there are few, but unpacks the most for each product.
            return if tokens > large.tokens / 2 && many(&large, Self::MANY_LARGE) {
                large
            } else if many(&middling, Self::MANY_MIDDLING) || !row.words.is_multiple_of(8) {
                middling
            } else {
                small
            };
        }
        let block = |blocks| Self {
            rows: blocks * Self::BLOCK,
            tokens: Self::BLOCK,
            teams: None,
        };
        // Larger tiles read less, where there are enough of them to keep the device busy.
        if many(&block(2), Self::MANY) {
            block(2)
        } else {
            block(1)
        }
    }

    /// A large, a middling and a small tile.
    pub(super) fn of_matrices(lanes: Lanes) -> [Self; 3] {
        let side = lanes.matrices;
        let tile = |[rows, tokens, columns]: [u32; 3], team: [u32; 2], count| Self {
            rows,
            tokens,
            teams: Some(GemmTeams {
                columns,
                rows: team[0],
                tokens: team[1],
                count,
            }),
        };
        [
            tile([8 * side, 8 * side, 64], [4 * side, 2 * side], 8),
            tile([64, 64, 64], [32, 32], 4),
            tile([32, 4 * side, 128], [32, 4 * side], 8),
        ]
    }

    /// Workgroups for up to three matrices of `rows` rows and `tokens` tokens.
    pub(in crate::gpu) fn groups(self, rows: [u32; 3], tokens: u32) -> [u32; 3] {
        let tiles = rows.map(|rows| rows.div_ceil(self.rows));
        [tiles.iter().sum(), tokens.div_ceil(self.tokens), 1]
    }

    /// Invocations of a workgroup.
    pub(super) fn threads(self, lanes: Lanes) -> u32 {
        self.teams
            .map_or(super::THREADS, |teams| teams.count * lanes.size)
    }

    /// The constants of a kernel of these teams, and what is repeated in its text, how often.
    pub(super) fn specialised(self, teams: GemmTeams, lanes: Lanes) -> (Constants, Repeats) {
        let threads = self.threads(lanes);
        let fetched = |count: u32| (count * teams.columns / 16).div_ceil(threads);
        let constants = [
            ("TILE_COLUMNS", teams.columns),
            ("TEAM_ROWS", teams.rows),
            ("TEAM_TOKENS", teams.tokens),
        ];
        let repeats = [
            ("//row ", '#', teams.rows / lanes.matrices),
            ("//token ", '@', teams.tokens / lanes.matrices),
            ("//word ", '#', fetched(self.rows)),
            ("//vector ", '@', fetched(self.tokens)),
        ];
        (constants, repeats)
    }
}

type Constants = [(&'static str, u32); 3];
type Repeats = [(&'static str, char, u32); 4];
